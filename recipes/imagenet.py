"""MIMO on ImageNet with ResNet-50 (Havasi et al., ICLR 2021, table 2).

    python recipes/imagenet.py                                                                         77.5 %  MIMO, M = 2
    python recipes/imagenet.py --method single --batch-repetitions 1 --epochs 90 --schedule imagenet   76.1 %  single
    python recipes/imagenet.py --dtype mixed_bfloat16             on tensor cores, as the paper's code
    python recipes/imagenet.py --normalization unit               pixels from 0 to 1, as the paper's code has them
    python recipes/imagenet.py --scale 0.05                       a trial of 8 epochs

The data is TensorFlow Datasets' imagenet2012, whose archives have to be downloaded by hand into
<data-dir>/downloads/manual/. Training takes a random part of each whole image, resized to 224×224 pixels; its copies share
the part and the flip. The official validation split is the test: the middle 224×224 pixels of images whose shorter side is
resized to 256. A hundredth of the training images is held out, unless `--train-split train+validation` is added.

The percentages are the paper's, trained on all images on 32 cores of 128 rows: batch norm and pairing are each device's, on
eight of them over 512 rows. Cost: 150 epochs of 2 × 1.27 million rows through ResNet-50, in steps of 4,096 rows, days on
eight GPUs; the single network takes 0.3 of it.
"""

from mixmo_keras.experiments import Recipe, main

RECIPE = Recipe(
    dataset="imagenet2012",
    method="mimo",
    backbone="resnet50",
    num_members=2,
    input_repetition=0.6,
    batch_repetitions=2,
    epochs=150,
    batch_size=4096,  # 2,048 images
    schedule="mimo_imagenet",  # a learning rate of 0.8: 0.1 for 256 images
    l2=1e-4,
    l2_normalization=False,
    crop="whole",
    smallest_area=0.1,  # their code asks for parts of at least .08 of the area that show .1 of it
    interpolation="bicubic",
    shared_augmentation=True,  # the copies of an image have the same flip
)

if __name__ == "__main__":
    main(RECIPE, __doc__)  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py
