"""What an ensemble answers image by image: which are right, what is taken for what, how sure wrong answers are."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from mixmo_keras.metrics.differences import paired


def figures(member_logits: np.ndarray, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """What the answers are, for JSON.

    Args:
        member_logits: Of each member (n, M, K).
        logits: The ensemble's (n, K), calibrated.
        labels: The right classes (n,).
        names: Of the K classes.

    Returns:
        `right`, whether the ensemble's answer to each image is right, which `right_answers` unpacks; `mean_confidence`;
        `gain_over_members`, the ensemble's accuracy less that of its members on average, with its standard error over
        images, None of one member; `confused`, the ten most frequent wrong answers: `label`, `answer`, `images`.
    """
    answers = logits.argmax(-1)
    right = answers == labels
    several = member_logits.shape[1] > 1
    gain = paired(right, (member_logits.argmax(-1) == labels[:, None]).mean(1))._asdict()
    pairs, counts = np.unique(np.stack([labels, answers])[:, ~right], axis=1, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:10]
    return {
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
        "mean_confidence": float(softmax(logits.astype("float64"), axis=-1).max(-1).mean()),
        "gain_over_members": gain if several else None,
        "confused": [
            {"label": names[pairs[0, one]], "answer": names[pairs[1, one]], "images": int(counts[one])} for one in most
        ],
    }


def right_answers(evaluated: Mapping[str, Any]) -> np.ndarray | None:
    """Whether the answer to each test image is right (n,); None in figures that don't say so."""
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
