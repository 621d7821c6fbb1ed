"""Cut-MixMo on CIFAR-100 with WRN-28-10 (Ramé, Sun, Cord, ICCV 2021, table 1).

    python recipes/cifar100.py                                          the paper's run
    python recipes/cifar100.py --backbone wrn16_2 --epochs 12           a smaller one
    python recipes/cifar100.py --method single                          the network without members

Cost: 300 epochs of 4 × 45,000 rows through WRN-28-10, days on one GPU. The paper reports 85.5 % for Cut-MixMo and 81.8 %
for the single network, trained on all 50,000 images; a tenth is held out here.
"""

from recipe import Recipe, main

RECIPE = Recipe(dataset="cifar100")

if __name__ == "__main__":
    main(RECIPE, __doc__)
