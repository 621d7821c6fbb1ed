"""Cut-MixMo on Tiny ImageNet with PreActResNet-18-w (Ramé, Sun, Cord, ICCV 2021, table 3).

    python recipes/tiny_imagenet.py                                             the paper's run, w = 1
    python recipes/tiny_imagenet.py --backbone preact_resnet18_3                the widest
    python recipes/tiny_imagenet.py --method single --batch-repetitions 4       the network without members
    python recipes/tiny_imagenet.py --epochs 2 --schedule cosine                a trial

The data is the official zip: it is downloaded, or taken from <data-dir>/downloads/manual/tiny-imagenet-200.zip.

Cost: 1200 epochs of 4 × 90,000 rows of 64×64 pixels: weeks on one GPU. The paper reports, for w = 1, 2, 3, 64.32, 69.12 and
70.23 % for Cut-MixMo against 62.75, 64.91 and 65.84 % for the single network, on the official validation split after
training on all 100,000 images; here a tenth of them is held out, and the official validation split is the test.
"""

from recipe import Recipe, main

RECIPE = Recipe(
    dataset="tiny_imagenet",
    backbone="preact_resnet18_1",
    batch_repetitions=4,
    epochs=1200,
    batch_size=100,
    schedule="tiny_imagenet",  # a learning rate of 0.2/b
    l2=0.5e-4,  # weight decay 1e-4 in the gradient, which is 2 × l2
)

if __name__ == "__main__":
    main(RECIPE, __doc__)
