"""What a report says in words, and what it suggests: sentences for figures that are made up."""

import base64
import copy
import html
import re

import numpy as np
import pytest
import tiny
from matplotlib.figure import Figure

from mixmo_keras import evaluation, metrics, multiplexing, report, tasks
from mixmo_keras.evaluation import answers, summary
from mixmo_keras.evaluation.report import charts, sentences
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.metrics import calibration
from mixmo_keras.models import temperatures
from mixmo_keras.multiplexing import wording
from mixmo_keras.networks.member_average import MemberAverage


def packed(right) -> str:
    return base64.b64encode(np.packbits(np.asarray(right, bool)).tobytes()).decode()


def figures(right: int = 80, count: int = 100, **changes) -> dict:
    """Of three classes; the answers to the first images are right."""
    made = {
        "name": "mine",
        "images": {"test": count, "validation": 100},
        "ensemble": {"accuracy": right / count},
        "members": [{}, {}],
        "temperature": {"before": 1.0, "value": 1.0, "fitted_on": 0},
        "answers": {
            "right": packed(np.arange(count) < right),
            "mean_confidence": right / count,
            "gain_over_members": {"mean": 0.03, "error": 0.01},
            "confused": [
                {"label": "cat", "answer": "dog", "images": 9},
                {"label": "dog", "answer": "cat", "images": 1},
            ],
        },
        "classes": [
            {"name": "cat", "images": 40, "accuracy": 0.5},
            {"name": "dog", "images": 30, "accuracy": 0.9},
            {"name": "bird", "images": 0, "accuracy": None},
        ],
    }
    return {**made, **changes}


def test_the_headline():
    said = sentences.headline(figures())
    assert said == [
        "Right on 80.0% of 100 test images; on images like these, between 71.1% and 86.7% (95 % interval). Always "
        "answering the most frequent class would be right on 57.1%.",  # 40 of 70 of known class
        "Calibrated on average: its confidence is 80.0% on average, its accuracy 80.0%, a difference that may be chance.",
        "Worst class: cat, right on 50.0% of 40 images (35% to 65%), most often taken for dog (9 times).",
        "The ensemble helps: +3.0 ± 1.0 points against its members on average.",
    ]


@pytest.mark.parametrize(("by_it", "worse"), [(0.75, False), (0.65, True)])
def test_the_headline_of_an_export_with_a_threshold(by_it, worse):
    threshold = {"class": "dog", "value": 0.612, "accuracy": 0.71, "balanced_accuracy": by_it, "applied": True}
    given = figures(balanced={"balanced_accuracy": 0.7}, threshold=threshold)
    said = (
        f"What is exported answers dog from a probability of 0.612 on: right on 71.0%, balanced accuracy {by_it:.1%}, to "
        "70.0% by the most probable class."
    )
    said += " On these test images it gains nothing: leave --threshold out." if worse else ""
    assert sentences.headline(given)[1] == said
    del threshold["applied"]
    assert not any("exported" in one for one in sentences.headline(given))


@pytest.mark.parametrize(
    ("confidence", "said"),
    [
        (0.95, "Not calibrated, too sure of itself: its confidence is 95.0% on average, its accuracy 80.0%."),
        (0.60, "Not calibrated, too modest"),
        (0.87, "Calibrated on average"),  # within two standard errors, 8 points
    ],
)
def test_calibration_in_words(confidence, said):
    made = figures()
    made["answers"]["mean_confidence"] = confidence
    assert sentences.headline(made)[1].startswith(said)
    advised = any("Fit a temperature" in line for line in sentences.advice(made))
    assert advised == said.startswith("Not")
    made["temperature"]["fitted_on"] = 100
    assert not any("temperature" in line for line in sentences.advice(made))


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.03, 0.01), "The ensemble helps"),
        ((0.01, 0.01), "Whether the ensemble helps can't be said"),
        ((-0.03, 0.01), "The ensemble does harm"),
    ],
)
def test_whether_members_help(gain, said):
    made = figures()
    made["answers"]["gain_over_members"] = dict(zip(("mean", "error"), gain, strict=True))
    assert sentences.headline(made)[-1].startswith(said)
    made["answers"]["gain_over_members"] = None  # a single network
    assert "Worst class" in sentences.headline(made)[-1]


def test_the_single_network_beside_it_image_by_image():
    ours, single = figures(right=80), figures(right=70)
    gain, error = summary.accuracy_gain([ours], [single])
    assert (gain, error) == (pytest.approx(0.1), pytest.approx(np.sqrt(0.1 * 0.9 / 99)))  # ten of a hundred differ
    run = Run(single=single)
    assert "10.0 ± 3.0 points more accurate than the single network that was trained alike (70.0%)." in (
        sentences.headline(ours, run)
    )
    said = sentences.headline(figures(right=71), run)[-1]
    assert said.startswith(
        "It can't be told from the single network that was trained alike (70.0%): 1.0 ± 1.0 points more"
    )
    assert any("Use the single network" in line for line in sentences.advice(single, Run(single=ours)))
    del single["answers"]["right"]  # of an earlier version: less sure
    assert summary.accuracy_gain([ours], [single]).error == pytest.approx(np.sqrt((0.8 * 0.2 + 0.7 * 0.3) / 100))


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9],
            "still rising in the last 2 epochs: the same command with --epochs 16",
        ),
        ([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5], "fell from 90.0% in epoch 2 to 50.0% at the end: best.keras"),
        ([0.7, 0.8, 0.8, 0.79, 0.8, 0.81, 0.8, 0.8], None),
    ],
)
def test_whether_to_train_longer(curve, said):
    run = Run(log=[{"epoch": number, "val_accuracy": value} for number, value in enumerate(curve)])
    found = [line for line in sentences.advice(figures(), run) if "Validation accuracy" in line]
    assert [said in line for line in found] == ([True] if said else [])


def test_what_has_learned_nothing_is_told_one_thing():
    said = "It can't be told from guessing: it has learned next to nothing. Train longer {} before anything else."
    assert sentences.advice(figures(right=40)) == [said.format("(--epochs)")]
    run = Run({"epochs": 30}, seconds=90)
    assert sentences.advice(figures(right=40), run) == [
        said.format("(the same command with --epochs 120, about 6 min)")
    ]


def test_what_has_learned_little_is_told_how_to_learn_more():
    """And not which classes need more images: that is chance until it knows them."""
    run = Run(settings={"epochs": 30, "backbone": "wrn10_2"}, seconds=90)
    first, *rest = sentences.advice(figures(right=650, count=1000), run)
    assert first == (
        "It has learned little: 65.0% is 18% of the way from guessing to being always right. Train longer (the same command "
        "with --epochs 120, about 6 min), on more images, or begin with a network that was trained already (--backbone "
        "keras:MobileNetV3Small); the other statements here may change then."
    )
    assert not any("is worse than the rest" in line for line in rest)
    for backbone in ("mine.keras", "keras:MobileNet", "hub:resnet"):
        (said, *_) = sentences.advice(figures(right=650, count=1000), Run(settings={"backbone": backbone}))
        assert "(--epochs), on more images; the other" in said
    fell = [{"val_accuracy": value} for value in (0.5, 0.9, 0.9, 0.5)]
    assert not any("learned little" in line for line in sentences.advice(figures(right=650, count=1000), Run(log=fell)))
    assert not any("learned little" in line for line in sentences.advice(figures(right=700, count=1000), run))


def test_few_test_images_and_a_bad_class_are_said():
    said = " ".join(sentences.advice(figures()))
    assert "With 100 test images the accuracy is known to ± 8 points only" in said
    assert "cat is worse than the rest, more than chance explains" in said
    many = figures(right=8000, count=10000)
    many["classes"][0]["accuracy"] = 0.78
    said = " ".join(sentences.advice(many))
    assert "points only" not in said
    assert "worse than the rest" not in said


def test_answers_by_hand():
    labels = np.array([0, 1, 2, 2, 1])
    logits = np.eye(3)[[0, 2, 2, 1, 2]] * np.array([[1], [2], [3], [4], [5]])
    found = answers.figures(logits[:, None], logits, labels, "abc")
    assert found["confused"] == [dict(label="b", answer="c", images=2), dict(label="c", answer="b", images=1)]
    assert found["gain_over_members"] is None
    packed_figures = {"images": {"test": 5}, "answers": found}
    assert answers.right_answers(packed_figures).tolist() == [True, False, True, False, False]
    assert answers.right_answers({"images": {"test": 5}}) is None
    assert answers.confidently_wrong(logits, labels, 2).tolist() == [4, 3]  # the surest first
    members = np.stack([logits, np.roll(logits, 1, axis=1)], axis=1)
    gain = answers.figures(members, logits, labels, "abc")["gain_over_members"]
    right = np.stack([member.argmax(-1) == labels for member in (members[:, 0], members[:, 1])])
    assert gain["mean"] == pytest.approx(0.4 - right.mean())


class Fixed:
    """In place of a model: what `temperatures.fit` asks of one."""

    task, _member_logits = tasks.Classification(4), np.zeros((1, 1, 4))

    def __init__(self):
        self.average = MemberAverage()

    @property
    def temperature(self):
        return self.average.temperature

    @temperature.setter
    def temperature(self, value):
        self.average.temperature = value

    def apply_temperature_to(self, applies_to):
        assert applies_to == "ensemble"

    def fitted(self, member_logits, labels):
        return calibration.fit_temperature(member_logits[:, 0], labels)


def held_out(count: int, scale: float):
    """Logits whose confidence is right at scale 1."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, 1, 4)) * 2
    p = np.exp(logits[:, 0] - logits[:, 0].max(-1, keepdims=True))
    labels = [random.choice(4, p=row / row.sum()) for row in p]
    return logits * scale, np.array(labels)


def test_a_temperature_that_helps_is_applied():
    model, data = Fixed(), held_out(400, 3.0)
    found = temperatures.fit(model, data, None)
    assert found["fitted_on"] == 400
    assert found["value"] == model.temperature == pytest.approx(3.0, rel=0.2)
    before, after = (metrics.negative_log_likelihood(data[0][:, 0] / t, data[1]) for t in (1, model.temperature))
    assert after < before


def test_one_that_was_fitted_on_few_images_is_said_and_not_applied():
    model = Fixed()
    found = temperatures.fit(model, held_out(49, 3.0), None)
    assert (found["value"], found["fitted_on"], model.temperature) == (1.0, 0, 1.0)
    assert found["not_applied"]["value"] > 1.5
    assert found["not_applied"]["why"] == "49 validation images are too few to fit it on, 50 are the least"


def test_one_that_makes_the_other_half_worse_is_said_and_not_applied(monkeypatch):
    model = Fixed()
    monkeypatch.setattr(tasks.Classification, "calibrate", lambda *_: 5.0)  # a fit gone wrong
    found = temperatures.fit(model, held_out(200, 1.0), None)
    assert (found["value"], found["fitted_on"], model.temperature) == (1.0, 0, 1.0)
    assert found["not_applied"]["value"] == 5.0
    assert "a higher NLL under the other half's temperature" in found["not_applied"]["why"]


class FixedMultiplexed(Fixed):
    multiplexed_temperature = 1.0


def calibrate_on(model, logits, labels, label_noise=None):
    """In place of `multiplexing.calibrate_on`."""
    model.multiplexed_temperature = model.fitted(logits[:, None], labels)


def test_that_of_several_images_a_pass_is_held_to_the_same(monkeypatch):
    monkeypatch.setattr(multiplexing, "calibrate_on", calibrate_on)
    logits, labels = held_out(400, 3.0)
    model = FixedMultiplexed()
    found = temperatures.fit_multiplexed(model, logits[:, 0], (None, labels), None)
    assert found == {"before": 1.0, "value": model.multiplexed_temperature, "fitted_on": 400}
    assert model.multiplexed_temperature == pytest.approx(3.0, rel=0.2)

    class GoneWrong(FixedMultiplexed):
        def fitted(self, *_):
            return 9.0

    model, (logits, labels) = GoneWrong(), held_out(200, 1.0)
    found = temperatures.fit_multiplexed(model, logits[:, 0], (None, labels), None)
    assert (found["value"], found["fitted_on"], model.multiplexed_temperature) == (1.0, 0, 1.0)
    assert found["not_applied"]["value"] == 9.0
    assert "a higher NLL under the other half's temperature" in found["not_applied"]["why"]
    assert wording.temperature_lines(found) == [
        f"temperature of several images a pass 9.000 not applied: {found['not_applied']['why']}"
    ]


@pytest.fixture(scope="module")
def evaluated():
    x, y = tiny.data(60)
    names = tuple(f"class {number}" for number in range(tiny.NUM_CLASSES))
    return evaluation.evaluate(tiny.model(), [(x, y)], names, name="mine-seed0", num_disagreements=4)


def test_the_page_has_headline_curves_settings_and_meanings(evaluated, tmp_path):
    log = [{"epoch": e, "loss": 1.0, "accuracy": 0.2, "val_accuracy": 0.3, "val_loss": 1.1} for e in range(3)]
    single = copy.deepcopy(evaluated.figures) | {"name": "single-seed0"}
    run = Run({"epochs": 3, "drop_path": None}, log, 200.0, "Learned from its train images of <mine>.", single)
    page = report.write(evaluated, tmp_path, run).read_text()
    for line in sentences.headline(evaluated.figures, run):
        assert line in html.unescape(page)
    assert "single network: single-seed0" in page
    assert "Learned from its train images of &lt;mine&gt;. Trained for 3 min." in page
    assert "<td>epochs</td><td>3</td>" in page
    assert "drop_path" not in page
    for title in ("Training", "Confusion", "Confidently wrong images", "Most disputed images"):
        assert f"<h2>{title}</h2>" in page
    assert "<dt>ECE</dt><dd>expected calibration error" in page
    assert "<dt>ratio of errors</dt><dd>errors of one member alone" in page
    assert "<dt>conformal</dt>" not in page  # of which there is no line
    assert "top-5" not in page  # of five classes it is always 100 %


def test_the_page_fits_a_phone(evaluated, tmp_path):
    """What a table or a gallery needs for that: looked at in a browser of 390 pixels, which a test hasn't."""
    page = report.write(evaluated, tmp_path).read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert (
        page.count("<table") == len(re.findall(r"<div class=scroll>\s*<table", page)) > 0
    )  # the page itself isn't wider
    assert "@media (max-width: 40rem)" in page
    for images in ("gallery", "strips"):  # as many a row as there is room for
        assert re.search(rf"^\.{images} {{ display: grid; .*auto-fill", page, re.MULTILINE)


def test_a_matrix_of_many_classes_is_a_list(evaluated, monkeypatch):
    assert isinstance(charts.confusion(evaluated), Figure)
    counts = [int(text.get_text()) for text in charts.confusion(evaluated).axes[0].texts]
    assert sum(counts) == 60
    monkeypatch.setattr(charts, "WHOLE_MATRIX", 4)
    bars = charts.confusion(evaluated).axes[0].patches
    assert [bar.get_width() for bar in bars][::-1] == [
        one["images"] for one in evaluated.figures["answers"]["confused"]
    ]


def test_a_run_that_is_none_is_refused(evaluated, tmp_path):
    with pytest.raises(ValueError, match="`run` must be a Run or None, got 'mine'"):
        report.write(evaluated, tmp_path, "mine")
