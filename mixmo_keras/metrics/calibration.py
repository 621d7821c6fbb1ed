"""Calibration of an ensemble on held-out data: one temperature, and conformal prediction sets.

`logits` is (n, K), of the ensemble, `member_logits` (n, M, K), `labels` (n,), (n, 1) or one-hot (n, K).
"""

import contextlib
import dataclasses
import logging

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from mixmo_keras.common import arguments, class_labels, logs
from mixmo_keras.metrics.correctness import negative_log_likelihood

_logger = logging.getLogger(__name__)


def trying() -> contextlib.AbstractContextManager[None]:
    """Silences the warnings of fits whose temperature is not kept."""
    return logs.only_errors(_logger)


TEMPERATURES = (0.01, 100.0)  # the least and the greatest that is fitted


def fit_temperature(logits, labels) -> float:
    """The temperature T that minimises the NLL of softmax(logits / T) (Guo et al., 2017).

    The NLL is convex in 1/T, so that its derivative has at most one root. Without a root, T is the nearest end of
    `TEMPERATURES`, and a warning is logged. Where all answers are right, no T is the best: it stays at 1. Labels may be
    shares of the classes (n, K) too.
    """
    logits = arguments.logits("logits", logits)
    labels = class_labels.integers_or_shares("labels", labels, num_classes=logits.shape[-1], count=len(logits))
    soft = labels.ndim == 2
    if not soft and _all_right(logits, labels):
        return 1.0
    logits = logits - logits.max(-1, keepdims=True)
    of_label = (labels * logits).sum(-1) if soft else logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        return float(np.mean(np.sum(softmax(np.exp(log_inverse) * logits, axis=-1) * logits, axis=-1) - of_label))

    low, high = (float(-np.log(temperature)) for temperature in reversed(TEMPERATURES))
    if slope(low) >= 0 or slope(high) <= 0:
        temperature = TEMPERATURES[1 if slope(low) >= 0 else 0]
        _logger.warning("The best temperature lies beyond %s: the labels are not what these logits say.", temperature)
        return temperature
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


def fit_member_temperature(member_logits, labels) -> float:
    """The temperature that minimises the NLL of mean_m softmax(logits_m / T): before probabilities are pooled.

    The NLL isn't convex here. T is found within `TEMPERATURES` by golden section; it is 1 if that is no worse, or if all
    members are always right.
    """
    member_logits = arguments.logits("member_logits", member_logits, True)
    num_images, _, num_classes = member_logits.shape
    labels = class_labels.integers_or_shares("labels", labels, num_classes, num_images)
    if labels.ndim == 1 and _all_right(member_logits, labels[:, None]):
        return 1.0

    def nll(log_temperature: float) -> float:
        logs = log_softmax(member_logits / np.exp(log_temperature), axis=-1)
        return negative_log_likelihood(logsumexp(logs, axis=1), labels)

    best = minimize_scalar(nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(best.x)) if best.fun < nll(0.0) else 1.0


def fit_temperature_under_noise(logits, labels, label_noise: float | None = None) -> tuple[float, float]:
    """The temperature T and the rate ε of wrong labels that minimise the NLL of (1 − ε) softmax(logits / T) + ε / K.

    This is the distribution of held-out labels of which a share ε was drawn anew among all K classes: the forward correction
    of Patrini et al. (2017, arXiv:1609.03683), applied to calibration. A temperature that is fitted as if all labels were
    right makes the network as unsure as the labels are.

    With few images, every error of the network could be explained by a wrong label, and the fit would make the network
    endlessly sure of itself. To prevent that, the fit counts one imaginary image whose right label is the network's second
    choice; the margin between its first and second choice is the median of all images' margins.

    Where ε is not given, errors of the network that look like wrong labels raise it. T is searched within `TEMPERATURES`: on
    a grid of log T in steps of 0.2, then by golden section.

    Args:
        logits: (n, K).
        labels: (n,), of which some are wrong.
        label_noise: ε where it is known, within [0, 1). Defaults to the one that fits best.

    Returns:
        T and ε, two floats.
    """
    logits, labels = _checked(logits, labels)
    num_classes = logits.shape[-1]
    if label_noise is not None:
        label_noise = arguments.number("label_noise", label_noise, least=0, below=1)

    second, first = np.sort(logits, axis=-1)[:, -2:].T
    middle = int(np.argsort(first - second)[len(labels) // 2])

    def of_label(log_temperature: float) -> np.ndarray:
        return softmax(logits / np.exp(log_temperature), axis=-1)[np.arange(len(labels)), labels]

    def nll(rate: float, probabilities: np.ndarray) -> float:
        return float(-np.log(np.maximum((1 - rate) * probabilities + rate / num_classes, 1e-300)).sum())

    def best_rate(probabilities: np.ndarray) -> float:
        if label_noise is not None:
            return label_noise
        return float(minimize_scalar(nll, bounds=(0, 1), args=(probabilities,), method="bounded").x)

    def objective(log_temperature: float) -> float:
        probabilities = of_label(log_temperature)
        of_second = np.sort(log_softmax(logits[middle] / np.exp(log_temperature)))[-2]
        return nll(best_rate(probabilities), probabilities) - of_second

    lowest, highest = np.log(TEMPERATURES)
    grid = np.arange(lowest, highest, 0.2)
    nearest = grid[int(np.argmin([objective(place) for place in grid]))]
    refined = minimize_scalar(objective, bounds=(nearest - 0.2, nearest + 0.2), method="bounded")
    return float(np.exp(refined.x)), best_rate(of_label(refined.x))


def calibrated_negative_log_likelihood(logits, labels, seed: int = 0) -> float:
    """NLL_c of the MixMo paper: of each half of the images under the temperature fitted on the other half.

    For comparing networks apart from their calibration (Ashukha et al., 2020). The halves are drawn at random.
    """
    logits = arguments.logits("logits", logits)
    labels = class_labels.integers_or_shares("labels", labels, num_classes=logits.shape[-1], count=len(logits))
    if len(labels) < 2:
        raise ValueError("NLL_c splits the images in two halves: it needs at least two.")
    seed = arguments.integer("seed", seed, least=0)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
    total = 0.0
    for fitted, tested in (halves, halves[::-1]):
        with trying():
            temperature = fit_temperature(logits[fitted], labels[fitted])
        total += negative_log_likelihood(logits[tested] / temperature, labels[tested]) * len(tested)
    return total / len(labels)


CONFORMAL_METHODS = ("thr", "aps")


@dataclasses.dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that hold the right one with a chosen probability, whatever the network.

    Attributes:
        method: `"thr"`, all classes whose probability is high enough (Sadinle et al., 2019): the smallest sets on average;
            or `"aps"`, the most probable classes until their probabilities add up (Romano et al., 2020): larger sets for
            harder images.
        coverage: The probability asked for.
        threshold: Of a class's score; classes up to it are in the set.
    """

    method: str
    coverage: float
    threshold: float

    def __post_init__(self):
        arguments.choice("method", self.method, CONFORMAL_METHODS)
        coverage = arguments.number("coverage", self.coverage, above=0, below=1)
        threshold = self.threshold  # infinite where there are too few images: all classes belong to each set
        if not (isinstance(threshold, float) and threshold == float("inf")):
            threshold = arguments.number("threshold", threshold, otherwise=", or infinity")
        object.__setattr__(self, "coverage", coverage)
        object.__setattr__(self, "threshold", threshold)

    @classmethod
    def fit(cls, logits, labels, coverage: float = 0.9, method: str = "aps", seed: int = 0) -> "ConformalSets":
        """From held-out images: the ⌈(n + 1)·coverage⌉-th smallest score of a right class; every class where n is too small.

        Args:
            logits: (n, K), of the ensemble.
            labels: (n,), (n, 1) or one-hot (n, K).
            coverage: The probability asked for, within (0, 1). Defaults to 0.9.
            method: `"thr"` or `"aps"`. Defaults to `"aps"`.
            seed: Of what `"aps"` draws. Defaults to 0.
        """
        arguments.choice("method", method, CONFORMAL_METHODS)
        coverage = arguments.number("coverage", coverage, above=0, below=1)
        logits, labels = _checked(logits, labels)
        scores = np.sort(_scores(logits, method, seed)[np.arange(len(labels)), labels])
        rank = int(np.ceil((len(labels) + 1) * coverage - 1e-9))
        return cls(method, coverage, float(scores[rank - 1]) if rank <= len(labels) else float("inf"))

    def sets(self, logits, seed: int = 1) -> np.ndarray:
        """Whether each class belongs to an image's set: booleans (n, K).

        `"aps"` draws whether the last class of a set is kept, so that the coverage is not above the one asked for; its sets
        may be empty where a network is sure of most images.
        """
        return _scores(arguments.logits("logits", logits), self.method, seed) <= self.threshold


def _scores(logits, method: str, seed: int) -> np.ndarray:
    """How unlikely each class is, (n, K)."""
    probabilities = softmax(logits, axis=-1)
    if method == "thr":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=-1)
    falling = np.take_along_axis(probabilities, order, axis=-1)
    drawn = np.random.default_rng(arguments.integer("seed", seed, least=0)).random((len(logits), 1))
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.cumsum(falling, axis=-1) - drawn * falling, axis=-1)
    return scores


def fit(logits, labels, label_noise: float | str | None = None) -> float:
    """The temperature of logits (n, K) on labels (n,) that are right, or some of them wrong.

    Args:
        logits: (n, K), without temperature.
        labels: As in `fit_temperature`.
        label_noise: The rate of the labels that were drawn anew among all classes, or `"estimate"`. Defaults to none.
    """
    if label_noise is None:
        return fit_temperature(logits, labels)
    if label_noise == "estimate":
        return fit_temperature_under_noise(logits, labels)[0]
    rate = arguments.number("label_noise", label_noise, least=0, below=1, otherwise=', "estimate" or None')
    return fit_temperature_under_noise(logits, labels, rate)[0]


def _all_right(logits, labels) -> bool:
    right = (logits.argmax(-1) == labels).all()
    if right:
        _logger.warning("All %d answers are right, which no temperature is too low for: it is left at 1.", len(labels))
    return bool(right)


def _checked(logits, labels, of_members: bool = False) -> tuple[np.ndarray, np.ndarray]:
    logits = arguments.logits("member_logits" if of_members else "logits", logits, of_members)
    return logits, class_labels.integers("labels", labels, num_classes=logits.shape[-1], count=len(logits))
