"""A network that is trained to its end, and then members that begin as it: the second recipe, and which network is kept."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.special import log_softmax

from mixmo_keras.common import trained
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.metrics import differences
from mixmo_keras.models import temperatures
from mixmo_keras.models.ensemble import Ensemble

RULE = "kept is what has the lower NLL on the validation images, each network with its own temperature where one helps"


class Kept(NamedTuple):
    """Which of two networks is kept.

    Attributes:
        members: Whether it is the members.
        figures: For metrics.json: NLL of both, of how many images, the difference and its standard error.
    """

    members: bool
    figures: dict[str, Any]

    def sentence(self, more_epochs: int) -> str:
        """What is kept, by how much, by what rule, and that members were trained for so many epochs more."""
        single, members = self.figures["single_nll"], self.figures["members_nll"]
        ours, theirs = (members, single) if self.members else (single, members)
        names = ["the single network that members began as", "the members"]
        kept, other = names[self.members], names[not self.members]
        error, images = self.figures["error"], self.figures["images"]
        chance = "" if differences.Difference(theirs - ours, error).is_sure else ", which may be chance"
        epochs = f"{more_epochs} epoch{'' if more_epochs == 1 else 's'}"
        of_length = f"The members lost although they were trained for {epochs} more."
        if self.members:
            of_length = (
                f"They were trained for {epochs} more: a single network that goes on for as long may gain as much, which "
                "isn't known here."
            )
        return (
            f"kept: {kept}, NLL {ours:.4f} on {images:,} validation images against {theirs:.4f} of {other}, "
            f"{theirs - ours:.4f} ± {error:.4f} lower{chance} ({RULE}; test images have no part in it). {of_length}"
        )


def members_after(recipe: Recipe) -> Recipe:
    """The recipe of members that begin as what `recipe.with_method("single")` trained, in a folder inside of its folder.

    A network of others was trained with a core slower than its head. Members go on with all of it at half the core's rate,
    which is what docs/classifiers.md measured; other networks go on at the rate that trained them.
    """
    single = recipe.with_method("single")
    changes: dict[str, Any] = {
        "backbone": str(single.folder / f"{recipe.keep}.keras"),
        "output_dir": str(single.folder),
        "pretrained": True,
        "warm_start": None,
    }
    if recipe.begins_trained and trained.is_of_others(recipe.backbone):
        before: Any = single.resolved()  # mypy can't know that its options have their values
        changes |= {name: getattr(before, name) for name in ("optimizer", "freeze_batch_norm", "l2")}
        changes |= {"learning_rate": before.learning_rate * (before.core_rate or 1) / 2}
        changes |= {"core_rate": None, "freeze_epochs": None}
    return dataclasses.replace(recipe, **changes)


def choose(single: Path, members: Path, validation: tf.data.Dataset) -> Kept:
    """Which of two trained networks has the lower NLL on validation images, as it would be exported.

    Args:
        single: The file of a network.
        members: The file of the members that began as it.
        validation: Batches of images and labels that neither was trained on.
    """
    before, after = (_losses(keras.models.load_model(path), validation) for path in (single, members))
    lower = differences.paired(before, after)
    figures = {"single_nll": float(before.mean()), "members_nll": float(after.mean()), "images": len(before)}
    return Kept(lower.mean > 0, figures | {"difference": lower.mean, "error": lower.error})


def _losses(model: Ensemble, validation: tf.data.Dataset) -> np.ndarray:
    """The NLL of each image (n,), under the temperature that an evaluation would fit and apply."""
    member_logits, labels = model.predict_with_labels(validation)
    temperatures.fit(model, (member_logits, labels), None)
    shares = labels if labels.ndim == 2 else np.eye(model.num_classes)[labels]
    return -(shares * log_softmax(model.pooled(member_logits).astype("float64"), axis=-1)).sum(-1)
