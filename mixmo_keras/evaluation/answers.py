"""An ensemble's answers, image by image: which are right, which classes are confused, which wrong answers are the surest."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from mixmo_keras.metrics.differences import paired


def figures(member_logits: np.ndarray, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The figures about answers, ready for JSON.

    Args:
        member_logits: The members' logits (n, M, K).
        logits: The ensemble's calibrated logits (n, K).
        labels: The right classes (n,).
        names: The names of the K classes.

    Returns:
        `right`: whether the ensemble's answer to each image is right, packed; `right_answers` unpacks it.
        `mean_confidence`: the mean probability of the answers.
        `gain_over_members`: the ensemble's accuracy less the mean accuracy of its members, with its standard error over
        images; `None` of one member.
        `confused`: the ten most frequent wrong answers, each as `label`, `answer` and the number of `images`.
    """
    answers = logits.argmax(-1)
    right = answers == labels
    several = member_logits.shape[1] > 1
    gain = paired(right, (member_logits.argmax(-1) == labels[:, None]).mean(1))._asdict()
    pairs, counts = np.unique(np.stack([labels, answers])[:, ~right], axis=1, return_counts=True)
    most_frequent = np.argsort(-counts, kind="stable")[:10]
    return {
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
        "mean_confidence": float(softmax(logits.astype("float64"), axis=-1).max(-1).mean()),
        "gain_over_members": gain if several else None,
        "confused": [
            {"label": names[pairs[0, pair]], "answer": names[pairs[1, pair]], "images": int(counts[pair])}
            for pair in most_frequent
        ],
    }


def right_answers(evaluated: Mapping[str, Any]) -> np.ndarray | None:
    """Whether the answer to each test image is right (n,); `None` where the figures of an older version don't have it."""
    packed = evaluated.get("answers", {}).get("right")
    if packed is None:
        return None
    bits = np.frombuffer(base64.b64decode(packed), "uint8")
    return np.unpackbits(bits, count=evaluated["images"]["test"]).astype(bool)


def confidently_wrong(logits: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """The indices of the wrong answers, the surest first."""
    wrong = np.flatnonzero(logits.argmax(-1) != labels)
    confidence = softmax(logits[wrong].astype("float64"), axis=-1).max(-1)
    return wrong[np.argsort(-confidence, kind="stable")][:most]
