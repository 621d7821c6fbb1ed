"""Wrong labels, drawn: what a method makes of data of which some labels are wrong, where it is known which."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mixmo_keras import seeds
from mixmo_keras.common import arguments, class_labels

KINDS = ("symmetric", "asymmetric")
# what people and classifiers take each other for, in CIFAR-10 (Patrini et al. 2017, arXiv:1609.03683, section 5)
CONFUSED = {
    "cifar10": {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"},
}


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Labels that are changed with some probability, each for itself, in a way that follows from a seed.

    The images that are changed at one rate are among those that are changed at a higher rate.

    Args:
        rate: The probability that a label is drawn anew (symmetric) or taken for another (asymmetric), within [0, 1].
        kind: `"symmetric"` draws among all K classes, so that a share of (K - 1) / K of the drawn labels are wrong.
            `"asymmetric"` takes the class that it is confused with: for CIFAR-10 truck → automobile, bird → airplane, deer →
            horse, cat ↔ dog, the other five classes staying right; for other datasets the next class, and the first for the
            last.
        seed: The seed of what is changed.

    Raises:
        ValueError: a rate outside [0, 1], an unknown kind, a negative seed.
    """

    rate: float
    kind: str = KINDS[0]
    seed: int = 0

    def __post_init__(self):
        values = dict(
            rate=arguments.number("rate", self.rate, least=0, most=1),
            kind=arguments.choice("kind", self.kind, KINDS),
            seed=arguments.integer("seed", self.seed, least=0),
        )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def labels(self, labels, class_names: Sequence[str], dataset: str = "", split: str = "train") -> np.ndarray:
        """The labels (n,) as somebody who errs would give them, as int64.

        Args:
            labels: The right classes (n,), integers below K.
            class_names: The K classes' names.
            dataset: The dataset's name, which decides what asymmetric noise confuses.
            split: The split that the labels are of: others have other errors.
        """
        num_classes = len(class_names)
        labels = class_labels.integers("labels", labels, num_classes)
        changes, draws = (np.random.default_rng([seeds.derive(self.seed, split), stream]) for stream in (0, 1))
        changed = changes.random(len(labels)) < self.rate
        if self.kind == "symmetric":
            others = draws.integers(0, num_classes, len(labels))
        else:
            others = confused_with(class_names, dataset)[labels]
        return np.where(changed, others, labels)


def confused_with(class_names: Sequence[str], dataset: str = "") -> np.ndarray:
    """The class (K,) that asymmetric noise takes each of K classes for."""
    if dataset not in CONFUSED:
        return np.roll(np.arange(len(class_names)), -1)
    return np.array([class_names.index(CONFUSED[dataset].get(name, name)) for name in class_names])
