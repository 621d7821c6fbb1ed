"""MIMO on ImageNet with ResNet-50 (Havasi et al., ICLR 2021, table 2).

    python recipes/imagenet.py                                          77.5 %  MIMO, M = 2, on all GPUs of a machine
    python recipes/imagenet.py --method single --batch-repetitions 2    76.1 %  the network without members
    python recipes/imagenet.py --dtype mixed_bfloat16                   on tensor cores
    python recipes/imagenet.py --scale 0.05                             a trial of 8 epochs

The data is TensorFlow Datasets' imagenet2012, whose archives have to be downloaded by hand into
<data-dir>/downloads/manual/. Training takes a random part of each whole image, resized to 224×224 pixels, and draws flips
for each copy. A hundredth of the training images is held out. The official validation split is the test: the middle 224×224
pixels of images whose shorter side is resized to 256.

The percentages are the paper's. Cost: 150 epochs of 2 × 1.27 million rows through ResNet-50, in steps of 4,096 rows: days on
eight GPUs.
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
)

if __name__ == "__main__":
    main(RECIPE, __doc__)  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/run.py
