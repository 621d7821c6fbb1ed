"""Every table and figure of the three papers that has numbers, as experiments: recipes with the published figures.

`reproduce.py` runs them. A figure is None where the paper's text or plot, as we have it, gives no number.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import cifar10
import cifar100
import cosub
import imagenet
import mimo
import tiny_imagenet

from mixmo_keras.experiments import Recipe

MIXMO, MIMO, COSUB = "MixMo (ICCV 2021)", "MIMO (ICLR 2021)", "cosub (CVPR 2023)"
SAM = "SAM (ICLR 2021)"

LINEAR, CUT = dict(method="linear_mixmo"), dict(method="cut_mixmo")
CUTMIX, MIXUP = dict(msda="cutmix", msda_probability=0.5), dict(msda="mixup", msda_probability=0.5)
# our MSDA mixes half of the images, as MixMo's does; the papers' baselines likewise
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": dict(method="single"),
    "MixUp": dict(method="single", **MIXUP),
    # as in MixMo's code, which averages logits for all, and has an encoder of its own fan-in for each member
    "MIMO": dict(method="mimo", num_members=2, averaging="logits", schedule="mixmo", joint_fan_in=False),
    "CutMix": dict(method="single", **CUTMIX),
    "Linear-MixMo": LINEAR,
    "Cut-MixMo": CUT,
    "Linear-MixMo + CutMix": {**LINEAR, **CUTMIX},
    "Cut-MixMo + CutMix": {**CUT, **CUTMIX},
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment and what its paper has of it.

    Attributes:
        published: The paper's top-1 accuracy in percent; `None` where there is no number.
        recipe: The recipe.
        others: The paper's other figures, by the names of `metrics.network_figures`: nll, ece, top5.
        shifts: The paper's figures out of distribution: by name of the test set, accuracy in percent, nll and ece.
        networks: Of how many networks, trained from other seeds, it is a deep ensemble.
        after: The experiment of the table whose weights it begins with.
    """

    published: float | None
    recipe: Recipe
    others: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shifts: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    networks: int = 1
    after: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table or figure of a paper.

    Attributes:
        source: The paper, and where in it.
        needs: What running it at full scale needs.
        rows: The experiments.
        note: What a reader must know to compare.
        curve: Of a figure over a setting, the words for the setting and what gives its value in an experiment.
    """

    source: str
    needs: str
    rows: dict[str, Experiment]
    note: str = ""
    curve: tuple[str, Callable[[Experiment], float | None]] | None = None


def all_images(recipe: Recipe, **changes) -> Recipe:
    """A recipe on all training images, as the papers' runs are: none is held out."""
    return dataclasses.replace(recipe, train_split="train+validation", **changes)


def _cifar(base: Recipe, published: dict[str, float]) -> dict[str, Experiment]:
    return {name: Experiment(value, all_images(base, devices=1, **METHODS[name])) for name, value in published.items()}


def _tiny(published: dict[str, tuple]) -> dict[str, Experiment]:
    return {
        f"{name}-w{width}": Experiment(
            value,
            all_images(tiny_imagenet.RECIPE, devices=1, backbone=f"preact_resnet18_{width}", **_tiny_method(name)),
        )
        for name, values in published.items()
        for width, value in enumerate(values, start=1)
    }


def _tiny_method(name: str) -> dict:
    once = dict(batch_repetitions=1) if METHODS[name]["method"] == "single" else {}
    return METHODS[name] | once


def _sam(base: Recipe, radius: float, published: dict[str, float]) -> dict[str, Experiment]:
    """The single network with SAM, as its code trains it: 256 images a step, a decay of 5e-4, cosine."""
    settings: dict[str, Any] = dict(
        batch_size=256, batch_repetitions=1, learning_rate=0.1, schedule="cosine", l2=2.5e-4
    )
    plain = all_images(base.with_method("single"), devices=1, epochs=200, **settings)
    sharp = dataclasses.replace(plain, sam=radius, policy="auto_augment_cifar10")
    recipes = {
        "SGD": plain,
        "SAM + AutoAugment": sharp,
        "SAM + AutoAugment, long": dataclasses.replace(sharp, epochs=1800),
    }
    return {name: Experiment(value, recipes[name]) for name, value in published.items()}


def _setting(name: str) -> Callable[[Experiment], float | None]:
    """What gives the value of a recipe's setting, for a curve over it."""
    return lambda row: getattr(row.recipe, name)


def _width(row: Experiment) -> float:
    return int(row.recipe.backbone.rpartition("_")[2])


def _training_time(row: Experiment) -> float:
    """Training time in that of a single network: rows a training image makes in an epoch, of all networks."""
    repetitions = row.recipe.batch_repetitions
    return row.networks * (repetitions if isinstance(repetitions, int) else 1)  # a single network's b is 1


def _best(recipe: Recipe) -> dict[str, Experiment]:
    return {"ours, --best": Experiment(None, all_images(recipe, devices=1))}


def _varied(base: Recipe, name: str, values: Mapping[Any, float | None], **others) -> dict[str, Experiment]:
    """An experiment for each value of an option of Cut-MixMo on CIFAR-100."""
    return {
        f"{name}={value}": Experiment(published, all_images(base, devices=1, **{name: value}, **others))
        for value, published in values.items()
    }


def _mimo_rows(recipe: Recipe, single: Recipe, figures: Mapping[str, tuple], shifts: Mapping) -> dict[str, Experiment]:
    """MIMO's tables: the single network, MIMO, and four single networks; accuracy, NLL and ECE."""
    recipes = {"deterministic": (single, 1), "MIMO": (recipe, 1), "ensemble of 4": (single, 4)}
    return {
        name: Experiment(
            accuracy, recipes[name][0], dict(nll=nll, ece=ece), shifts.get(name, {}), networks=recipes[name][1]
        )
        for name, (accuracy, nll, ece) in figures.items()
    }


def _mimo_single(dataset: str) -> Recipe:
    single = mimo.RECIPE.with_method("single")
    return all_images(single, dataset=dataset, batch_repetitions=1, batch_size=128, schedule="mimo")


_IMAGENET_SINGLE = all_images(
    imagenet.RECIPE.with_method("single"), batch_repetitions=1, epochs=90, schedule="imagenet"
)
_COSUB = {"vit_small": 83.1, "vit_base": None, "vit_large": None, "vit_huge": None}
_COSUB_SECOND = {"vit_base_224": 86.3, "vit_large_224": 87.5, "vit_huge_224": 88.0}
_COSUB_OTHERS = {"swin_base": 86.2, "regnety_16gf": 84.2, "pit_base": 85.8, "convnext_base": 85.8}
_ENCODERS_AND_HEADS: dict[str, dict[str, Any]] = {
    "1 encoder, 1 head: manifold MixUp": LINEAR | dict(share_encoders=True, share_heads=True, weight_root=1.0),
    "1 encoder, 1 head: manifold CutMix": CUT | dict(share_encoders=True, share_heads=True, weight_root=1.0),
    "1 encoder, 2 heads": CUT | dict(share_encoders=True, predominant_first=True),
    "2 encoders, 1 head": CUT | dict(share_heads=True),
    "2 encoders, 2 heads": CUT,
}

PAPER_TABLES: dict[str, Table] = {
    "cifar100": Table(
        f"{MIXMO}, table 1",
        "a GPU",
        _cifar(
            cifar100.RECIPE,
            {
                "vanilla": 81.79,
                "MixUp": 83.43,
                "CutMix": 83.95,
                "MIMO": 82.92,
                "Linear-MixMo": 82.96,
                "Cut-MixMo": 85.52,
                "Linear-MixMo + CutMix": 85.36,
                "Cut-MixMo + CutMix": 85.77,
            },
        ),
        "Of the best run the paper has top-5 97.36, NLL .518, ECE .0229, heads 84.29 and 83.88, ratio of errors .862.",
    ),
    "cifar10": Table(
        f"{MIXMO}, table 1",
        "a GPU",
        _cifar(
            cifar10.RECIPE,
            {
                "vanilla": 96.37,
                "MixUp": 97.07,
                "CutMix": 97.28,
                "MIMO": 96.71,
                "Linear-MixMo": 96.88,
                "Cut-MixMo": 97.52,
                "Linear-MixMo + CutMix": 97.73,
                "Cut-MixMo + CutMix": 97.83,
            },
        ),
    ),
    "tiny_imagenet": Table(
        f"{MIXMO}, section 4.6",
        "a GPU",
        _tiny(
            {
                "vanilla": (62.75, 64.91, 65.84),
                "MixUp": (None, None, None),
                "CutMix": (None, None, None),
                "Linear-MixMo": (62.91, 67.03, 68.36),
                "Cut-MixMo": (64.32, 69.12, 70.23),
            }
        ),
        "The paper compares with MixUp and CutMix too; we have no numbers of these.",
        curve=("width", _width),
    ),
    "cifar100_widths": Table(
        f"{MIXMO}, section 4.1, figure over widths",
        "a GPU",
        {
            f"{name}-w{width}": Experiment(
                published, all_images(cifar100.RECIPE, devices=1, backbone=f"wrn28_{width}", **METHODS[name])
            )
            for name, curve in {
                "vanilla": {2: 76.4, 3: 77.9, 4: 78.8, 5: 79.7, 7: 81.1, 10: 81.6},
                "Cut-MixMo": {2: 75.6, 3: 79.8, 4: 81.7, 5: 83.1, 7: 84.3, 10: 85.4},
            }.items()
            for width, published in curve.items()
        },
        curve=("width", _width),
    ),
    "ensembles": Table(
        f"{MIXMO}, section 4.1, deep ensembles",
        "a GPU",
        {
            "2 × vanilla, CIFAR-100": Experiment(
                83.17, all_images(cifar100.RECIPE, devices=1, method="single"), networks=2
            ),
            "2 × vanilla, CIFAR-10": Experiment(
                96.67, all_images(cifar10.RECIPE, devices=1, method="single"), networks=2
            ),
            "2 × vanilla, Tiny ImageNet, w3": Experiment(
                68.38,
                all_images(tiny_imagenet.RECIPE, devices=1, backbone="preact_resnet18_3", **_tiny_method("vanilla")),
                networks=2,
            ),
            "3 × Cut-MixMo + CutMix, CIFAR-100": Experiment(
                86.81, all_images(cifar100.RECIPE, devices=1, **METHODS["Cut-MixMo + CutMix"]), networks=3
            ),
        },
    ),
    "training_time": Table(
        f"{MIXMO}, section 4.2, figure over training time",
        "a GPU",
        {
            **_varied(cifar100.RECIPE, "batch_repetitions", {1: None, 2: None, 4: 85.52}),
            "2 × vanilla": Experiment(83.17, all_images(cifar100.RECIPE, devices=1, method="single"), networks=2),
        },
        "One epoch takes b times as long. The paper shows Cut-MixMo ahead of deep ensembles at equal training time.",
        curve=("training time, in that of a single network", _training_time),
    ),
    "masks": Table(
        f"{MIXMO}, section 4.3, masks",
        "a GPU",
        {
            "MixUp": Experiment(82.5, all_images(cifar100.RECIPE, devices=1, batch_repetitions=2, **LINEAR)),
            **_varied(
                cifar100.RECIPE,
                "mask",
                {"horizontal": 82.78, "patchup": 84.16, "fmix": 83.76, "cow": 84.17, "cutmix": 84.38},
                batch_repetitions=2,
            ),
        },
        "The figures are below those of b = 4, so b = 2 is assumed. Concatenation (82.78) is taken to be horizontal.",
    ),
    "mask_probability": Table(
        f"{MIXMO}, section 4.3, figure over p",
        "a GPU",
        _varied(cifar100.RECIPE, "probability", {0.0: None, 0.25: None, 0.5: 85.52, 0.75: None, 1.0: None}),
        "The paper finds p = .5 best.",
        curve=("p, the share of mixes by a mask", _setting("probability")),
    ),
    "weight_root": Table(
        f"{MIXMO}, section 4.4, figure over r",
        "a GPU",
        _varied(cifar100.RECIPE, "weight_root", {1.0: None, 2.0: None, 3.0: 85.52, 4.0: None, 6.0: None, None: None}),
        "The paper finds r from 3 to 6 best.",
        curve=("r, the root of the loss's weights", _setting("weight_root")),
    ),
    "encoders_and_heads": Table(
        f"{MIXMO}, section 4.5, encoders and heads",
        "a GPU",
        {
            name: Experiment(None, all_images(cifar100.RECIPE.with_method(options["method"]), devices=1, **options))
            for name, options in _ENCODERS_AND_HEADS.items()
        },
        "The paper finds two of both best.",
    ),
    "mimo_cifar10": Table(
        f"{MIMO}, table 1, CIFAR-10 and CIFAR-10-C",
        "8 devices",
        _mimo_rows(
            all_images(mimo.RECIPE, dataset="cifar10"),
            _mimo_single("cifar10"),
            {
                "deterministic": (96.0, 0.159, 0.023),
                "MIMO": (96.4, 0.123, 0.010),
                "ensemble of 4": (96.6, 0.114, 0.010),
            },
            {"MIMO": {"cifar10_c": (76.6, 0.927, 0.112)}},
        ),
        "The single network has MIMO's schedule here; its own in the paper isn't known to us.",
    ),
    "mimo_cifar100": Table(
        f"{MIMO}, table 1, CIFAR-100 and CIFAR-100-C",
        "8 devices",
        _mimo_rows(
            all_images(mimo.RECIPE, dataset="cifar100"),
            _mimo_single("cifar100"),
            {
                "deterministic": (79.8, 0.875, 0.086),
                "MIMO": (82.0, 0.690, 0.022),
                "ensemble of 4": (82.7, 0.666, 0.021),
            },
            {"MIMO": {"cifar100_c": (53.7, 2.28, 0.129)}},
        ),
        "The single network has MIMO's schedule here; its own in the paper isn't known to us.",
    ),
    "imagenet": Table(
        f"{MIMO}, table 2, ImageNet, -C, -A and -V2",
        "GPUs and ImageNet",
        _mimo_rows(
            all_images(imagenet.RECIPE),
            _IMAGENET_SINGLE,
            {
                "deterministic": (76.1, 0.943, 0.039),
                "MIMO": (77.5, 0.887, 0.037),
                "ensemble of 4": (77.5, 0.877, 0.031),
            },
            {
                "MIMO": {
                    "imagenet_c": (43.3, 3.03, 0.106),
                    "imagenet_a": (1.4, 7.84, 0.437),
                    "imagenet_v2": (65.4, 1.53, 0.088),
                }
            },
        ),
        "The paper's mCE of MIMO is 71.7.",
    ),
    "mimo_members": Table(
        f"{MIMO}, figure over M",
        "8 devices",
        {
            f"M={number}": Experiment(
                82.0 if number == 3 else None, all_images(mimo.RECIPE, dataset="cifar100", num_members=number)
            )
            for number in (1, 2, 3, 4, 5)
        },
        "The paper finds M from 2 to 4 best.",
        curve=("M, the members", _setting("num_members")),
    ),
    "mimo_repetition": Table(
        f"{MIMO}, figure over ρ",
        "GPUs and ImageNet",
        {
            f"ρ={share:g}": Experiment(
                77.5 if share == 0.6 else None, all_images(imagenet.RECIPE, input_repetition=share)
            )
            for share in (0.0, 0.2, 0.4, 0.6, 0.8)
        },
        curve=("ρ, the share of rows with one image for all members", _setting("input_repetition")),
    ),
    "cosub": Table(
        f"{COSUB}, accuracies at 224 pixels",
        "GPUs and ImageNet",
        {
            **{name: Experiment(value, cosub.SETTINGS[name]) for name, value in (_COSUB | _COSUB_OTHERS).items()},
            **{
                name: Experiment(value, cosub.SETTINGS[name], after=name.removesuffix("_224"))
                for name, value in _COSUB_SECOND.items()
            },
        },
        "ViT-M has 85.0, whose settings aren't known to us. Which rows were first trained on ImageNet-21k is not stated "
        "where we read them: those trained here are not.",
    ),
    # Foret et al. 2021, table 1; the long runs have a table of their own, since runs are named by their method
    "sam_cifar100": Table(
        f"{SAM}, table 1",
        "a GPU",
        _sam(cifar100.RECIPE, 0.1, {"SGD": 81.2, "SAM + AutoAugment": 86.4}) | _best(cifar100.BEST),
    ),
    "sam_cifar100_long": Table(
        f"{SAM}, table 1", "a GPU", _sam(cifar100.RECIPE, 0.1, {"SAM + AutoAugment, long": 87.2})
    ),
    "sam_cifar10": Table(
        f"{SAM}, table 1",
        "a GPU",
        _sam(cifar10.RECIPE, 0.05, {"SGD": 96.5, "SAM + AutoAugment": 97.9}) | _best(cifar10.BEST),
    ),
    "sam_cifar10_long": Table(
        f"{SAM}, table 1", "a GPU", _sam(cifar10.RECIPE, 0.05, {"SAM + AutoAugment, long": 98.4})
    ),
}
