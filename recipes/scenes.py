"""Every task on scenes of handwritten digits: needs no download, takes minutes on two CPU cores.

python recipes/scenes.py                              which digits are there: several labels
python recipes/scenes.py --task binary                whether a 3 is there
python recipes/scenes.py --task regression            by how many degrees they are tilted
python recipes/scenes.py --task segmentation          which digit each pixel is of: slower, some minutes an epoch
python recipes/scenes.py --dataset digit_scenes_count     how many digits there are, another regression
python recipes/scenes.py --task binary --method single    the network without members
"""

import dataclasses

from mixmo_keras.common.console import unbreakable
from mixmo_keras.experiments import Recipe, run
from mixmo_keras.experiments.command_line import errors_in_one_line, parse

OF_TASK = {"regression": "angle"}  # what is asked of the scenes, where that isn't the task's name

RECIPE = Recipe(
    dataset="digit_scenes_multi_label",  # 4,000 scenes to train on, 500 to validate, 1,000 to test
    crop="pad",
    padding=2,
    flip=False,  # in a mirror, angles have another sign
    method="cut_mixmo",
    backbone="wrn10_2",
    batch_repetitions=2,
    epochs=15,
    batch_size=64,  # rows: 32 images, twice
    learning_rate=0.05,
    schedule="cosine",
)


@unbreakable()
def main(arguments: list[str] | None = None) -> dict:
    """Load → build → fit → evaluate → save → export: mixmo_keras/experiments/running.py."""
    recipe = parse(RECIPE, __doc__, arguments)
    if recipe.task is not None and recipe.dataset == RECIPE.dataset:
        dataset = f"digit_scenes_{OF_TASK.get(recipe.task, recipe.task)}"
        recipe = dataclasses.replace(recipe, dataset=dataset, task=None)
    with errors_in_one_line():
        return run(recipe)


if __name__ == "__main__":
    main()
