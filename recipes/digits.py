"""Cut-MixMo on scikit-learn's handwritten digits: needs no download, takes a minute on two CPU cores.

python recipes/digits.py                                            Cut-MixMo
python recipes/digits.py --method single                            the network without members
"""

from mixmo_keras.experiments import Recipe, main

RECIPE = Recipe(
    dataset="digits",  # 1,257 images to train on, 180 to validate, 360 to test
    crop="pad",
    padding=1,
    flip=False,  # a mirrored 2 is no digit
    method="cut_mixmo",
    backbone="wrn10_3",
    batch_repetitions=2,
    epochs=25,
    batch_size=32,  # rows: 16 images, twice
    learning_rate=0.05,
    schedule="cosine",
)

if __name__ == "__main__":
    main(RECIPE, __doc__)  # load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py
