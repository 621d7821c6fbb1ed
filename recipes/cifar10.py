"""MixMo and its baselines on CIFAR-10 with WRN-28-10 (Ramé, Sun, Cord, ICCV 2021, table 1; Havasi et al., ICLR 2021).

    python recipes/cifar10.py                                                   97.52 %  Cut-MixMo
    python recipes/cifar10.py --msda cutmix                                     97.83 %  Cut-MixMo + CutMix
    python recipes/cifar10.py --method linear_mixmo                             96.88 %  Linear-MixMo
    python recipes/cifar10.py --method linear_mixmo --msda cutmix               97.73 %  Linear-MixMo + CutMix
    python recipes/cifar10.py --method mimo --num-members 2 --schedule mixmo    96.71 %  MIMO, on this schedule
    python recipes/cifar10.py --method single                                   96.37 %  vanilla
    python recipes/cifar10.py --method single --msda mixup                      97.07 %  MixUp
    python recipes/cifar10.py --method single --msda cutmix                     97.28 %  CutMix
    python recipes/cifar10.py --method mimo --epochs 250 --batch-size 512       96.40 %  MIMO's own settings
    python recipes/cifar10.py --backbone wrn10_2 --epochs 3                     a trial: minutes on a CPU

The percentages are the papers' test accuracies, trained on all 50,000 images; a tenth is held out here. Cost: 300 epochs of
45,000 images b times through WRN-28-10, b = 4 and for the single network 1: days on one GPU. reproduce.py runs them all.
"""

from recipe import Recipe, main

RECIPE = Recipe(dataset="cifar10")

if __name__ == "__main__":
    main(RECIPE, __doc__)
