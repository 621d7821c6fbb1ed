"""What an evaluation says of classes of different sizes: figures by class, a threshold, guessing, advice."""

import numpy as np
import pytest
import tiny
from keras import ops
from scipy.special import softmax

from mixmo_keras.evaluation import answers, classes, summary
from mixmo_keras.evaluation.report import details, sentences
from mixmo_keras.metrics.summaries import network_figures
from mixmo_keras.tasks import Classification

NAMES = ("functional", "defective")


def logits_of(confusions):
    """Logits and labels of two classes with these numbers of images by class and answer, and probabilities of .3 and .7."""
    labels = np.repeat([0, 0, 1, 1], np.ravel(confusions))
    answers_ = np.repeat([0, 1, 0, 1], np.ravel(confusions))
    high = np.log(0.7 / 0.3)
    return np.stack([np.zeros(len(labels)), np.where(answers_ == 1, high, -high)], axis=-1), labels


def evaluated(confusions, held_out=None):
    """The figures that the report's sentences need."""
    logits, labels = logits_of(confusions)
    return {
        "name": "mine",
        "images": {"test": len(labels), "validation": 0 if held_out is None else len(held_out[1])},
        "ensemble": network_figures(logits, labels),
        "members": [{}],
        "answers": answers.figures(logits[:, None], logits, labels, NAMES),
        "temperature": {"before": 1.0, "value": 1.0, "fitted_on": 0},
        **classes.figures(logits, labels, NAMES, held_out),
    }


def test_confusions_tell_from_guessing_where_accuracy_does_not():
    """Right on 68 %, where the larger class alone is 67 %."""
    figures = evaluated([[55, 25], [13, 27]])
    assert figures["ensemble"]["accuracy"] < figures["classes"][0]["images"] / 120 + 0.02
    assert summary.summarize(figures).learned
    assert not any("can't be told from guessing" in sentence for sentence in sentences.advice(figures))
    del figures["by_chance"]  # of an earlier version
    assert not summary.summarize(figures).learned
    of_one_class = evaluated([[80, 0], [40, 0]])
    assert of_one_class["by_chance"] == 1
    assert sentences.advice(of_one_class)[0].startswith("It can't be told from guessing")


def test_advice_on_a_rare_class_is_not_more_images():
    figures = evaluated([[190, 10], [30, 30]])
    (advice,) = [sentence for sentence in sentences.advice(figures) if "defective" in sentence]
    assert advice.startswith(
        "defective is rare, 60 images to 200 of functional, and is found in 50.0% of them, to 95.0%."
    )
    assert "--class-weights balanced, or name it from a lower probability" in advice
    run = summary.Run({"class_weights": "balanced"})
    assert not any("is rare" in sentence for sentence in sentences.advice(figures, run))
    alike = evaluated([[190, 10], [3, 57]])
    assert not any("is rare" in sentence for sentence in sentences.advice(alike))


def test_figures_by_class_and_their_lines():
    figures = evaluated([[190, 10], [30, 30]])
    assert figures["balanced"]["balanced_accuracy"] == pytest.approx((0.95 + 0.5) / 2)
    rare = figures["classes"][1]
    assert (rare["images"], rare["accuracy"], rare["precision"]) == (60, 0.5, 0.75)
    assert rare["f1"] == pytest.approx(0.6)
    lines = details.lines(figures | {"nll_c": None})
    assert lines[0].startswith(
        "classes alike: balanced accuracy 72.50%, F1 0.7524, AUROC 0.7250; as many right answers by"
    )
    assert lines[3].split() == ["60", "50.0%", "75.0%", "0.600", "0.725", "defective"]
    assert len(lines[3]) == len(lines[1].replace("class", "defective")) == 46  # what a phone shows


def test_a_threshold_of_validation_images_is_judged_on_test_images():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 0, 0, 1] * 50, 2)
    # at one half few of class 1 are found
    logits = np.stack([np.zeros(400), random.normal(size=400) + 2 * labels - 2], axis=-1)
    figures = classes.figures(logits[::2], labels[::2], NAMES, (logits[1::2], labels[1::2]))
    found = figures["threshold"]
    assert (found["class"], found["fitted_on"]) == ("defective", 200)
    assert found["value"] < 0.4
    assert found["balanced_accuracy"] > figures["balanced"]["balanced_accuracy"] + 0.03
    assert any(line.startswith("threshold 0.") for line in details._classes(figures))
    assert not any("answers by it" in line for line in details._classes(figures))
    applied = figures | {"threshold": found | {"applied": True}}
    assert any(line.endswith("by the most probable class") for line in details._classes(applied))
    for few in ((logits[:49], labels[:49]), (logits[labels == 0], labels[labels == 0]), None):
        assert "threshold" not in classes.figures(logits, labels, NAMES, few)


def test_what_is_served_follows_the_threshold():
    logits = np.float32([[0, -1], [0, 0.2], [0, -0.5]])
    probabilities = softmax(logits, axis=-1)
    task = Classification(2)
    plain, shifted = (task.served_of_logits(ops.convert_to_tensor(logits), threshold) for threshold in (None, 0.35))
    assert ops.convert_to_numpy(plain["label"]).tolist() == [0, 1, 0]
    assert ops.convert_to_numpy(shifted["label"]).tolist() == [0, 1, 1]
    np.testing.assert_allclose(shifted["confidence"], probabilities[[0, 1, 2], [0, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(shifted["probabilities"], probabilities, rtol=1e-6)


def test_a_model_keeps_its_threshold():
    model = tiny.model(num_classes=2)
    assert "threshold" not in model.get_config()
    model.average.threshold = 0.25
    assert type(model).from_config(model.get_config()).average.threshold == 0.25
    with pytest.raises(ValueError, match="`threshold` must be"):
        model.average.threshold = 1.5
