"""Trains on your own images and masks: an ensemble that gives each pixel a class. Ends with a report and an exported model.

    python recipes/segmentation.py DIR                      DIR/images/NAME.jpg and DIR/masks/NAME.png, at 64×64 pixels
    python recipes/segmentation.py DIR@128 --msda cutmix    ... at 128×128, with CutMix inside each member's image
    python recipes/segmentation.py ADE20K@512 --crop resize --backbone convnext_tiny --decoder upernet --batch-size 16
    python recipes/segmentation.py DIR --backbone runs/NAME/best.keras     the core of a classifier
    python recipes/scenes.py --task segmentation            scenes of digits, which need no download

AdamW, whose rate rises and then falls by half a cosine; padded crops and flips. Tests and exports the best epoch by the
validation images' mIoU. The classifier may be of this package or of Keras; its core has a tenth of the rate, unless
--core-rate or --layer-decay says otherwise. Takes all options of the recipes, and goes on where it was stopped.
"""

import dataclasses

import images

from mixmo_keras.common.console import unbreakable
from mixmo_keras.experiments import Recipe
from mixmo_keras.experiments.command_line import errors_in_one_line, parse_with

RECIPE = Recipe(
    task="segmentation",
    method="cut_mixmo",
    backbone="wrn10_2",
    batch_repetitions=1,
    epochs=20,
    batch_size=32,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    schedule="cosine",
    keep="best",
)
CORE_RATE = 0.1  # of a classifier's core
FOLDER = "folder of `images` and `masks`, or of ADE20K, or DIR@SIZE or DIR@HEIGHTxWIDTH (default: @64)"


@unbreakable()
def main(arguments: list[str] | None = None) -> dict:
    """Load → build → fit → evaluate → save, then the report, then the export; returns the figures."""
    recipe, _ = parse_with(RECIPE, __doc__, arguments, folder=FOLDER)
    with errors_in_one_line():
        if recipe.begins_trained and recipe.core_rate is None and recipe.layer_decay is None:
            recipe = dataclasses.replace(recipe, core_rate=CORE_RATE)
        return images.train(recipe)


if __name__ == "__main__":
    main()
