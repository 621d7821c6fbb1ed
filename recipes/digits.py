"""Cut-MixMo on scikit-learn's handwritten digits: needs no download, takes a minute on two CPU cores.

python recipes/digits.py                                            Cut-MixMo
python recipes/digits.py --method single                            the network without members
"""

from recipe import Recipe, main

RECIPE = Recipe(
    dataset="digits",
    backbone="wrn10_3",
    batch_repetitions=2,
    epochs=25,
    batch_size=32,
    learning_rate=0.05,
    schedule="cosine",
    padding=1,
    flip=False,  # a mirrored 2 is no digit
)

if __name__ == "__main__":
    main(RECIPE, __doc__)
