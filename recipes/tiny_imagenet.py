"""MixMo on Tiny ImageNet with PreActResNet-18-w (Ramé, Sun, Cord, ICCV 2021, table 3).

    python recipes/tiny_imagenet.py                                             64.32 %  Cut-MixMo, w = 1
    python recipes/tiny_imagenet.py --backbone preact_resnet18_2                69.12 %
    python recipes/tiny_imagenet.py --backbone preact_resnet18_3                70.23 %
    python recipes/tiny_imagenet.py --method linear_mixmo                       62.91 %  Linear-MixMo; w = 2, 3: 67.03, 68.36
    python recipes/tiny_imagenet.py --method single --batch-repetitions 1       62.75 %  vanilla; w = 2, 3: 64.91, 65.84
    python recipes/tiny_imagenet.py --epochs 2 --schedule cosine                a trial

The data is the official zip: it is downloaded, or taken from <data-dir>/downloads/manual/tiny-imagenet-200.zip.

The percentages are the paper's accuracies on the official validation split, which is the test here, after training on all
100,000 images on one GPU: add `--train-split train+validation`, and `--devices 1` where there are several GPUs. Without it a
tenth of the images is held out. Cost: 1200 epochs of 4 × 90,000 rows of 64×64 pixels, weeks on one GPU.
"""

from mixmo_keras.experiments import Recipe, main

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
    main(RECIPE, __doc__)  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py
