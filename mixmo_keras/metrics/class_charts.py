"""Charts of classes: how far confidence can be trusted, of images as of pixels."""

from collections.abc import Mapping, Sequence

import numpy as np

from mixmo_keras.metrics.calibration_error import reliability
from mixmo_keras.metrics.ranking import risk_coverage
from mixmo_keras.metrics.shown import Chart, Series

MOST_POINTS = 500  # of a curve


def charts(
    logits: Mapping[str, np.ndarray], labels: np.ndarray, members: Sequence[np.ndarray] = (), what: str = "images"
) -> list[Chart]:
    """Reliability, and errors by coverage.

    Args:
        logits: By name, such as "T = 1", logits (n, K); those that count are the last.
        labels: (n,).
        members: The logits of members (n, K), for thin curves beside them.
        what: What the rows are.
    """
    bins = {name: reliability(values, labels) for name, values in logits.items()}
    full = {name: found[found[:, 0] > 0] for name, found in bins.items()}
    last = list(logits)[-1]
    middles = (np.arange(len(bins[last])) + 0.5) / len(bins[last])
    curves = [Series("members" if not number else "", *_risk(one, labels)) for number, one in enumerate(members)]
    return [
        Chart(
            "Reliability",
            "How often answers of a confidence are right, in 15 bins; on the dashed line confidence is accuracy, below it "
            f"the model is too sure. The bars below count {what}.",
            ("confidence", "accuracy"),
            [Series(name, found[:, 1], found[:, 2]) for name, found in full.items()],
            diagonal=True,
            counts=Series(what, middles, bins[last][:, 0]),
        ),
        Chart(
            "Risk and coverage",
            f"Share of errors if only the most confident {what} are answered: who leaves the others to a person sees here "
            "what is won.",
            ("coverage", "share of errors"),
            [*curves, Series(last, *_risk(logits[last], labels))],
            members=len(curves),
        ),
    ]


def _risk(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk at up to `MOST_POINTS` places, evenly spaced."""
    coverage, risk = risk_coverage(logits, labels)
    shown = np.unique(np.linspace(0, len(coverage) - 1, MOST_POINTS).astype(int))
    return coverage[shown], risk[shown]
