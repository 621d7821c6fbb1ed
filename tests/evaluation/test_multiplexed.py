"""M images a pass in figures: accuracy beside the ensemble's, what partners do, how fast it is."""

import numpy as np
import pytest
import tiny
from scipy.special import softmax

from mixmo_keras import evaluation, metrics, report
from mixmo_keras.multiplexing import prediction
from mixmo_keras.multiplexing.figures import _effect, partner_figures

NAMES = [f"class {number}" for number in range(tiny.NUM_CLASSES)]
X, Y = tiny.data(30)
HELD_X, HELD_Y = tiny.data(60, seed=1)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def evaluated(model):
    held_out = iter([(HELD_X[:16], HELD_Y[:16]), (HELD_X[16:], HELD_Y[16:])])  # that come but once
    return evaluation.evaluate(model, [(X, Y)], NAMES, validation=held_out, temperature=True, multiplexed=True)


def test_figures(model, evaluated):
    figures = evaluated.figures["multiplexed"]
    logits = model.predict_multiplexed(X, seed=0)
    assert figures["images_a_pass"] == 2
    assert figures["temperature"] == {"before": 1.0, "value": model.multiplexed_temperature, "fitted_on": 60}
    assert figures["network"]["accuracy"] == metrics.accuracy(logits, Y)
    assert figures["network"]["nll"] == pytest.approx(metrics.negative_log_likelihood(logits, Y), rel=1e-4)
    assert figures["other_answer_than_ensemble"] == np.mean(logits.argmax(-1) != evaluated.logits.argmax(-1))
    speed = figures["images_per_second"]
    assert (speed["batch"], speed["device"]) == (30, "CPU")
    assert min(speed["ensemble"], speed["multiplexed"], speed["ratio"]) > 0


@pytest.mark.slow
def test_report(evaluated):
    table = report.table(evaluated.figures)
    assert "2 images a pass, T = " in table
    assert "an answer beside random partners" in table
    assert "    other class" in table
    assert "2 images a pass, T = " in report.page(evaluated)


class Sum:
    """In place of a network: a member's answer is its image's first pixel, and a hundredth of the others' in its pass."""

    def __init__(self, model, share):
        self.model, self.share = model, share

    def __call__(self, passes, **options):
        first = passes[:, :, 0, 0, 0].astype("float64") / 255
        value = first + self.share * (first.sum(1, keepdims=True) - first)
        return np.stack([value, 0.5 + 0 * value, *[value - 99] * 3], axis=-1)


def test_partners_are_of_their_kind(model, monkeypatch):
    labels = np.array([0] * 6 + [1] * 6 + [2])
    images = np.zeros((13, *tiny.SHAPE), "uint8") + (10 * labels[:, None, None, None]).astype("uint8")
    images[-1] = 255
    seen = []

    def noting(model, passes):
        seen.append(passes)
        return Sum(model, 0.0)(passes)

    monkeypatch.setattr(prediction, "predict_passes", noting)
    effects = partner_figures(model, images, labels, num_images=13, num_partners=20)
    assert list(effects) == ["any", "same_class", "other_class", "noise"]
    any_partner, same, other, noise = (part.reshape(13, 20, 2, -1)[..., 0] for part in seen)
    asked = np.random.default_rng(0).permutation(13)
    for row, index in enumerate(asked):
        seat = row % 2
        for kind, values in {"any": any_partner, "same": same, "other": other, "noise": noise}.items():
            assert (values[row, :, seat] == images[index, 0, 0, 0]).all(), kind
        if index != 12:  # which is alone in its class
            assert (same[row, :, 1 - seat] == images[index, 0, 0, 0]).all()
        assert (other[row, :, 1 - seat] != images[index, 0, 0, 0]).all()
        assert len(set(noise[row, :, 1 - seat])) > 10
    assert [effects[kind]["images"] for kind in effects] == [13, 12, 13, 13]
    for effect in effects.values():  # a partner without a share has no effect
        assert (effect["changed"], effect["ever_changed"]) == (0, 0)
        assert effect["confidence_spread"] == pytest.approx(0, abs=1e-12)


def test_noise_is_in_the_units_of_the_images(model, monkeypatch):
    seen = []
    answers = Sum(model, 0.0)
    monkeypatch.setattr(prediction, "predict_passes", lambda _, passes: seen.append(passes) or answers(passes))
    images = np.random.default_rng(3).uniform(-1, 2, (4, *tiny.SHAPE)).astype("float32")
    partner_figures(model, images, [0, 0, 1, 1], num_images=1, num_partners=3)
    noise = seen[-1]
    assert noise.dtype == "float32"
    assert images.min() <= noise.min() < -0.9
    assert 1.9 < noise.max() <= images.max()


def test_the_effect_by_hand():
    logits = np.array([[[2.0, 0], [2, 0], [0, 2], [2, 0]], [[0, 1], [0, 1], [0, 1], [0, 1]]])  # (images, draws, K)
    probabilities = softmax(logits, axis=-1)
    effect = _effect(probabilities, usual=np.array([0, 1]), labels=np.array([1, 1]))
    high, low = softmax([2.0, 0])
    expected = np.std([high, high, low, high]) / 2
    assert effect == {
        "images": 2,
        "accuracy": 5 / 8,
        "changed": 1 / 8,
        "ever_changed": 1 / 2,
        "confidence_spread": pytest.approx(expected),
    }
    nothing = _effect(np.full((1, 4, 2), np.nan), np.array([0]), np.array([0]))
    assert nothing["images"] == 0
    assert nothing["changed"] is None


def test_errors(model):
    with pytest.raises(ValueError, match="it has one member"):
        evaluation.evaluate(tiny.model(num_members=1), [(X, Y)], NAMES, multiplexed=True)
    with pytest.raises(ValueError, match="`multiplexed` must be True or False, got 2"):
        evaluation.evaluate(model, [(X, Y)], NAMES, multiplexed=2)
    with pytest.raises(ValueError, match="Partners are other images: `images` must be at least 2, got 1"):
        partner_figures(model, X[:1], Y[:1])
