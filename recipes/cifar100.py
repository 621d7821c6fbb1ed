"""MixMo and its baselines on CIFAR-100 with WRN-28-10 (Ramé, Sun, Cord, ICCV 2021, table 1).

    python recipes/cifar100.py                                                 85.52 %  Cut-MixMo
    python recipes/cifar100.py --msda cutmix                                   85.77 %  Cut-MixMo + CutMix
    python recipes/cifar100.py --method linear_mixmo                           82.96 %  Linear-MixMo
    python recipes/cifar100.py --method linear_mixmo --msda cutmix             85.36 %  Linear-MixMo + CutMix
    python recipes/cifar100.py --method mimo --num-members 2 --averaging logits --schedule mixmo --no-joint-fan-in   82.92 %
    python recipes/cifar100.py --method single                                 81.79 %  vanilla
    python recipes/cifar100.py --method single --msda mixup                    83.43 %  MixUp
    python recipes/cifar100.py --method single --msda cutmix                   83.95 %  CutMix
    python recipes/cifar100.py --best                                           none published; see below
    python recipes/cifar100.py --backbone wrn16_2 --epochs 12                  a trial: hours on a CPU

The percentages are the paper's test accuracies, trained on all 50,000 images on one GPU: add
`--train-split train+validation`, and `--devices 1` where there are several GPUs. Otherwise a tenth of them is held out, to
choose and to calibrate by. Cost: 300 epochs of 45,000 images b times through WRN-28-10, b = 4 and for the single
network 1: days on one GPU. reproduce.py runs them all; mimo.py is MIMO with its own settings.

`--best` puts together what raised accuracy each on its own, and which nobody has published together: Cut-MixMo with CutMix
inside its members, sharpness-aware minimisation at its paper's radius for this data, AutoAugment's pairs for CIFAR, and the
mean of the weights over the last quarter. A single network with SAM and AutoAugment has 87.2 % after 1,800 epochs (Foret
et al., 2021). SAM takes twice the time of a step. Not run yet: 88.0 % is our goal, no result.
"""

import dataclasses

from mixmo_keras.experiments import Recipe, main

RECIPE = Recipe(
    dataset="cifar100",  # 45,000 images to train on, 5,000 to validate, 10,000 to test; or 50,000 and 10,000
    crop="pad",  # random crops after padding, left-right flips: each of an image's b copies has its own
    padding=4,
    flip=True,
    method="cut_mixmo",  # its M, b, mask, α, r, p and L2 are the paper's; --help lists every method's
    backbone="wrn28_10",
    epochs=300,
    batch_size=64,  # rows: 64/b images, b times; the learning rate is that of as many images, 0.1/(2b), in steps
)

BEST = dataclasses.replace(
    RECIPE,
    msda="cutmix",  # half of the images, as in the paper's best row
    sam=0.1,  # radius
    policy="auto_augment_cifar10",
    average_from=0.75,
)

if __name__ == "__main__":
    # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py
    main(RECIPE, __doc__, best=BEST)
