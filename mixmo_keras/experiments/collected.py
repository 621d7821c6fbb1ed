"""Writes `known.json` from the library: `python -m mixmo_keras.experiments.collected`. Nothing imports it but a test."""

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

from mixmo_keras import datasets
from mixmo_keras.datasets import label_noise, resizing
from mixmo_keras.experiments import evaluating, pilot, search
from mixmo_keras.experiments.known import PATH
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS
from mixmo_keras.metrics import pooling
from mixmo_keras.mixing import augmentation, masks, msda, policies
from mixmo_keras.models import from_classifier, methods
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.training import distribution, losses, schedules, sharpness


def collected() -> dict[str, Any]:
    """What `known.json` holds."""
    values = {
        "datasets": list(datasets.DATASETS),
        "noise_kinds": label_noise.KINDS,
        "interpolations": resizing.INTERPOLATIONS,
        "pixel_augmentations": list(PIXEL_AUGMENTATIONS),
        "binary_masks": [name for name in masks.MASKS if name != "linear"],
        "msda": list(msda.METHODS),
        "policies": list(policies.BY_NAME),
        "averaging": pooling.AVERAGING,
        "strategies": distribution.STRATEGIES,
        "schedules": {name: published.rate for name, published in schedules.PUBLISHED.items()},
        "corrupted": evaluating.CORRUPTED,
        "tuners": list(search.TUNERS),
        "objectives": list(search.OBJECTIVES),
        "methods": {name: methods.defaults(name) for name in methods.METHODS},
        "space": {field.name: field.default for field in dataclasses.fields(search.Space)},
        "defaults": {
            "padding": _default_of(augmentation.PadCropFlip, "padding"),
            "flip": _default_of(augmentation.PadCropFlip, "flip"),
            "area": augmentation.AREA,
            "noise_kind": _default_of(label_noise.LabelNoise, "kind"),
            "backbone": _default_of(MixMo, "backbone"),
            "synchronized_batch_norm": _default_of(MixMo, "synchronized_batch_norm"),
            "encoder_noise": _default_of(from_classifier.from_classifier, "encoder_noise"),
            "msda_probability": msda.MSDA.probability,
            "msda_alpha": msda.MSDA.alpha,
            "adaptive_sam": sharpness.SAM.adaptive,
            "label_smoothing": _default_of(losses.CrossEntropy, "label_smoothing"),
            "strategy": _default_of(distribution.strategy, "name"),
            "search_batch_repetitions": _default_of(search.MixMoHyperModel, "batch_repetitions"),
            "search_objective": _default_of(search.tuner, "objective"),
            "search_seed": _default_of(search.tuner, "seed"),
            "pilot_seeds": _default_of(pilot.run, "seeds"),
        },
    }
    return json.loads(json.dumps(values))


def _default_of(owner: Callable, name: str) -> Any:
    """The default of an argument where it is defined."""
    return inspect.signature(owner).parameters[name].default


if __name__ == "__main__":
    PATH.write_text(json.dumps(collected(), indent=1, ensure_ascii=False) + "\n")
    print(PATH)
