"""Cut-MixMo on CIFAR-10 with WRN-28-10 (Ramé, Sun, Cord, ICCV 2021, table 1).

    python recipes/cifar10.py                                           the paper's run
    python recipes/cifar10.py --backbone wrn10_2 --epochs 3             minutes on a CPU
    python recipes/cifar10.py --method single                           the network without members

Cost: 300 epochs of 4 × 45,000 rows through WRN-28-10, days on one GPU. The paper reports 97.5 % for Cut-MixMo and 96.4 %
for the single network, trained on all 50,000 images; a tenth is held out here.
"""

from recipe import Recipe, main

RECIPE = Recipe(dataset="cifar10")

if __name__ == "__main__":
    main(RECIPE, __doc__)
