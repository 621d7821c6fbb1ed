"""Figures of label maps against loops over pixels, some of which are ignored; and Keras' metrics against them."""

import numpy as np
import pytest
from scipy.special import log_softmax

from mixmo_keras.metrics import pixels

RANDOM = np.random.default_rng(0)
K, IGNORE = 4, 255
LABELS = RANDOM.choice([0, 1, 2, IGNORE], (5, 6, 7))  # class 3 never occurs
LOGITS = RANDOM.normal(0, 2, (5, 6, 7, K)).astype("float32") + 2 * np.eye(K)[np.minimum(LABELS, K - 1)]
LOGITS[..., 3] -= 10  # nor is it predicted


def by_loops() -> dict:
    logs, right, confidences, losses = log_softmax(LOGITS.astype("float64"), -1), [], [], []
    intersection, union = np.zeros(K), np.zeros(K)
    for place in np.ndindex(LABELS.shape):
        if LABELS[place] == IGNORE:
            continue
        predicted, label = int(logs[place].argmax()), LABELS[place]
        right.append(predicted == label)
        confidences.append(np.exp(logs[place].max()))
        losses.append(-logs[place][label])
        for name in {predicted, label}:
            union[name] += 1
        intersection[label] += predicted == label
    bins = np.minimum((np.ceil(np.array(confidences) * 15) - 1).astype(int), 14)
    gaps = [abs(np.sum((np.array(confidences) - right)[bins == one])) for one in range(15)]
    ious = [i / u for i, u in zip(intersection, union, strict=True) if u]
    return {
        "miou": np.mean(ious),
        "accuracy": np.mean(right),
        "nll": np.mean(losses),
        "ece": np.sum(gaps) / len(right),
    }


def statistics(*parts) -> pixels.PixelStatistics:
    made = pixels.PixelStatistics(K, IGNORE)
    for part in parts:
        made.update(LOGITS[part], LABELS[part])
    return made


def test_against_loops_and_batch_by_batch():
    figures = statistics(slice(0, 2), slice(2, 3), slice(3, 5)).figures()
    for name, value in by_loops().items():
        assert figures[name] == pytest.approx(value, rel=1e-9), name
    whole = statistics(slice(None)).figures()["classes"]
    for name, values in figures["classes"].items():
        np.testing.assert_allclose(values, whole[name], err_msg=name)
    assert np.isnan(figures["classes"]["iou"][3])
    assert figures["classes"]["share"][3] == 0


def test_by_hand():
    made = pixels.PixelStatistics(2, None)
    labels = np.array([[[0, 0], [1, 1]]])
    made.update(np.log(np.array([[[[0.8, 0.2], [0.4, 0.6]], [[0.4, 0.6], [0.4, 0.6]]]])), labels)
    figures = made.figures()
    assert figures["classes"]["iou"] == pytest.approx([1 / 2, 2 / 3])
    assert figures["miou"] == pytest.approx(7 / 12)
    assert figures["accuracy"] == 0.75
    assert figures["nll"] == pytest.approx(-np.log([0.8, 0.4, 0.6, 0.6]).mean())
    assert figures["ece"] == pytest.approx((0.2 + abs(1.8 - 2)) / 4)
    assert figures["classes"]["ece"] == pytest.approx([0.2, 0.2 / 3])


def test_nothing_counts():
    made = pixels.PixelStatistics(K, IGNORE)
    made.update(LOGITS, np.full(LABELS.shape, IGNORE))
    assert all(np.isnan(made.figures()[name]) for name in ("miou", "accuracy", "nll", "ece"))


@pytest.mark.parametrize(("kind", "name"), [(pixels.PixelAccuracy, "accuracy"), (pixels.MeanIoU, "miou")])
def test_metrics_of_keras(kind, name):
    metric = kind.from_config(kind(K, IGNORE).get_config())
    for part in (slice(0, 2), slice(2, 5)):
        metric.update_state(LABELS[part], LOGITS[part])
    assert float(metric.result()) == pytest.approx(by_loops()[name], rel=1e-5)
    metric.reset_state()
    assert np.isnan(float(metric.result()))  # no pixel counts
    metric.update_state(LABELS, LOGITS, sample_weight=[1, 1, 0, 0, 0])
    assert float(metric.result()) == pytest.approx(statistics(slice(0, 2)).figures()[name], rel=1e-5)
