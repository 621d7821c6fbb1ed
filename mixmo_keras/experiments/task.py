"""The task of a run: what the data say, or what is asked for."""

import dataclasses

from mixmo_keras import datasets, tasks
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.tasks import Task


def task_of(recipe: Recipe, info: datasets.Info) -> Task:
    """The task of a recipe on its data.

    Raises:
        ValueError: the data's targets are of another task than what is asked for; options that are about classes.
    """
    task = _with_decoder(recipe, _of_data(recipe.task, info))
    task.names(info.class_names)  # raises what is wrong
    if not task.columns:
        raise ValueError(f"{task} has no columns for reports, which a recipe writes: train its model by `fit`.")
    if task.why_only_classes():
        for name in ("label_noise", "label_smoothing", "class_weights"):
            if value := getattr(recipe, name):
                raise ValueError(f"`{name}` (={value}) is about one class an image, and the task is {task}.")
    elif recipe.label_noise and info.target_kind != "classes":
        raise ValueError("`label_noise` draws other classes for images of one class each, not for shares of classes.")
    return task


def _with_decoder(recipe: Recipe, task: Task) -> Task:
    """The task with the decoder that the recipe asks for."""
    if recipe.decoder is recipe.decoder_width is None:
        return task
    if not isinstance(task, tasks.Segmentation):
        raise ValueError(f"`decoder` and `decoder_width` are about segmentations, and the task is {task}.")
    return dataclasses.replace(task, decoder=recipe.decoder or task.decoder, width=recipe.decoder_width or task.width)


def _of_data(asked: str | None, info: datasets.Info) -> Task:
    if info.task is not None:
        if asked not in (None, info.task.name):
            raise ValueError(
                f"`task` (={asked}) must be {info.task.name} for {info.name}, whose targets are those of {info.task}, or "
                "left out."
            )
        return info.task
    asked = asked or "classification"
    if tasks.BY_NAME[asked].are_maps:
        raise ValueError(
            f"`task` (={asked}) needs label maps, and {info.name} has none: pass a folder of `images` and `masks`."
        )
    are_classes = asked == "classification"
    if are_classes and info.target_kind == "numbers":
        others = " or ".join(
            name for name, kind in tasks.BY_NAME.items() if name != "classification" and not kind.are_maps
        )
        raise ValueError(
            f"{info.name} has numbers for each image ({', '.join(info.class_names)}), which are neither classes nor shares "
            f"of classes that sum to one: say what they are by `task`, {others}."
        )
    if not are_classes and info.target_kind == "classes":
        raise ValueError(f"`task` (={asked}) needs numbers for each image, and {info.name} has one class for each.")
    return tasks.BY_NAME[asked].of_names(info.class_names)
