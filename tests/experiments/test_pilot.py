"""Pilots: gains by hand, verdicts that say what the numbers say, runs that go on."""

import json
import shlex

import keras
import numpy as np
import pytest
import search as search_recipe
from tiny_search import TRAIN, VALIDATION, backbone

import mixmo_keras
from mixmo_keras import pilot
from mixmo_keras.experiments import Recipe, parse
from mixmo_keras.experiments.pilot import runs

pytestmark = pytest.mark.usefixtures("eagerly")


def made(finals: dict, images=(1000, 400)):
    """Findings whose last accuracies by (variant, width) are given, one for each seed."""
    runs = [
        dict(variant=variant, width=width, seed=seed, accuracy=[value / 2, value], nll=[2.0, 1.0])
        for (variant, width), values in finals.items()
        for seed, value in enumerate(values)
    ]
    return {"images": list(images), "epochs": 2, "runs": runs}


def of(single, two, half_alike, width):
    return {
        ("one member", width): single,
        ("two members", width): two,
        ("two members, ρ = 0.5", width): half_alike,
    }


def test_of_a_trained_network_no_width_is_said():
    for finals in (of([0.6, 0.6], [0.8, 0.8], [0.7, 0.7], 1), of([0.1, 0.1], [0.1, 0.1], [0.1, 0.1], 1)):
        found = made(finals) | {"trained": True}
        found["runs"] = [run | {"num_classes": 10} for run in found["runs"]]
        assert "width" not in pilot.verdict(found)
        assert ("This holds for further training of this length" in pilot.verdict(found)) == (
            0.8 in finals["two members", 1]
        )


def test_gains_by_hand():
    found = made(of([0.6, 0.62], [0.5, 0.54], [0.61, 0.61], 1))
    apart, half_alike = pilot.gains(found)
    assert apart["gain"] == pytest.approx(0.52 - 0.61)
    of_images = (0.52 * 0.48 + 0.61 * 0.39) / 400
    of_seeds = (0.0008 + 0.0002) / 2  # variances of the seeds over their number
    assert apart["error"] == pytest.approx(np.sqrt(of_images + of_seeds))
    assert half_alike["gain"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("finals", "parts"),
    [
        (
            of([0.6, 0.6], [0.4, 0.4], [0.5, 0.5], 1),
            ["Two members do not pay here: at best -10.0", "a second width would show"],
        ),
        (of([0.6, 0.6], [0.8, 0.8], [0.7, 0.7], 1), ["Two members pay here: +20.0", "(400"]),
        (of([0.6, 0.6], [0.6, 0.61], [0.6, 0.6], 1), ["It can't be said: +0.5"]),
        (
            of([0.6] * 2, [0.4] * 2, [0.4] * 2, 1) | of([0.7] * 2, [0.6] * 2, [0.6] * 2, 2),
            # the gain goes from −20 to −10 points in one doubling: one more doubling
            [
                "each doubling of the width changes the gain by +10.0 ±",
                "even at a width of about 4 (3 to",
                "not a measurement",
            ],
        ),
        (
            of([0.6] * 2, [0.5] * 2, [0.5] * 2, 1) | of([0.7] * 2, [0.5] * 2, [0.5] * 2, 2),
            ["no sure sign that a wider network would help"],
        ),
        (of([0.9] * 2, [0.5] * 2, [0.5] * 2, 1), ["From epoch 1 to epoch 2", "longer training helps one member more"]),
        (of([0.6] * 2, [0.59] * 2, [0.6] * 2, 1), ["a change within the error of"]),
        (
            of([0.5] * 2, [0.9] * 2, [0.5] * 2, 1),
            ["went from +20.0 to +40.0 points: longer training helps two members"],
        ),
        (of([0.6], [0.4], [0.5], 1), ["With one seed the errors count validation images alone"]),
    ],
)
def test_verdicts(finals, parts):
    text = pilot.verdict(made(finals))
    for part in parts:
        assert part.replace("(400", "judged on 400") in text, text


def taken(found: dict, seconds: float = 30.0, num_classes: int = 4) -> dict:
    for one in found["runs"]:
        one.update(seconds=seconds, num_classes=num_classes)
    return found


def test_a_pilot_that_has_learned_nothing_says_so_and_no_more():
    found = taken(made(of([0.26, 0.27], [0.25, 0.24], [0.25, 0.25], 1)))
    text = pilot.verdict(found)
    assert text.startswith("Nothing was learned yet")
    assert (
        "(one member, width 1) have 26.5% of 400 images right after 2 epochs, and guessing one of 4 classes 25.0%"
        in text
    )
    assert "pay" not in text
    assert pilot.advice(found) == ("longer", 8, 2, 4 * 6 * 30.0, "two members, ρ = 0.5", 1)
    learned = taken(made(of([0.36, 0.37], [0.25, 0.24], [0.25, 0.25], 1)))
    assert "Two members do not pay here" in pilot.verdict(learned)
    assert "and always answering the most frequent class 36.0%." in pilot.verdict(learned | {"most_frequent": 0.36})


def test_accuracy_that_fell_is_said():
    found = made(of([0.6, 0.6], [0.6, 0.6], [0.6, 0.6], 1))
    found["runs"][0]["accuracy"] = found["runs"][1]["accuracy"] = [0.8, 0.6]
    (line,) = [line for line in pilot.verdict(found).splitlines() if "fell" in line]
    assert line.startswith("One member, width 1: validation accuracy fell from 80.0% in epoch 1 to 60.0%.")
    worse = made(of([0.6, 0.6], [0.3, 0.3], [0.3, 0.3], 1))
    assert pilot.advice(worse)[:2] == ("train", None)
    worse["runs"][0]["accuracy"] = worse["runs"][1]["accuracy"] = [0.8, 0.6]
    assert pilot.advice(worse)[:2] == ("train", 1)  # no longer than it helped


def with_label_noise(found: dict, *rates: float | None) -> dict:
    for one, rate in zip(found["runs"], rates, strict=True):
        one["label_noise"] = rate
    return found


def test_wrong_labels_are_estimated_and_a_short_pilot_does_not_decide_on_them():
    behind = taken(made(of([0.6], [0.4], [0.5], 1)))
    assert pilot.label_noise(behind) is None  # of an earlier version
    assert "labels look" not in pilot.verdict(behind)
    with_label_noise(behind, 0.25, None, 0.5)
    assert pilot.label_noise(behind) == (0.375, 0.25, 0.5)
    with_label_noise(behind, 0.25, 0.2, 0.5)
    text = pilot.verdict(behind)
    assert "About 25% of the validation labels look drawn at random (20% to 50% by run)." in text
    assert "members with ρ = 0.5 learned them by heart" in text
    assert "members with ρ = 0.5 learned" not in pilot.verdict(behind | {"trained": True})
    assert "otherwise a longer pilot would tell." in text
    assert pilot.advice(behind)[:2] == ("longer", 8)

    ahead = with_label_noise(taken(made(of([0.6], [0.8], [0.7], 1))), 0.25, 0.2, 0.5)
    assert "otherwise a longer pilot" not in pilot.verdict(ahead)
    assert pilot.advice(ahead)[0] == "train"
    behind["runs"][0]["accuracy"] = [0.8, 0.6]  # one member knows its images by heart
    assert "otherwise a longer pilot" not in pilot.verdict(behind)
    assert pilot.advice(behind)[:2] == ("train", 1)
    few = with_label_noise(taken(made(of([0.6], [0.4], [0.5], 1))), 0.02, 0.0, 0.05)
    assert "no sign of many validation labels drawn at random: about 2% (0% to 5% by run)." in pilot.verdict(few)
    assert pilot.advice(few)[0] == "train"


@pytest.mark.parametrize(
    ("finals", "changes", "action"),
    [
        (of([0.6], [0.4], [0.5], 1), {"trained": True}, "train"),  # may know them by heart already
        (of([0.6], [0.4], [0.5], 1), {"epochs": 200}, "train"),  # long enough
        (of([0.6], [0.6], [0.59], 1), {}, "seeds"),  # nobody is surely ahead
    ],
)
def test_where_wrong_labels_call_for_no_longer_pilot(finals, changes, action):
    found = with_label_noise(taken(made(finals)), 0.4, 0.4, 0.4) | changes
    assert pilot.advice(found)[0] == action
    assert "otherwise a longer pilot" not in pilot.verdict(found)


def test_a_broken_training_estimates_nothing(monkeypatch):
    def broken(self, *arguments, **options):
        raise FloatingPointError("no numbers")

    monkeypatch.setattr(mixmo_keras.MixMo, "predict_with_labels", broken)
    found = pilot.run(backbone, TRAIN, VALIDATION, [1], epochs=1, seeds=[0], rows=16, num_classes=10, augmentation=None)
    assert [one["label_noise"] for one in found["runs"]] == [None] * 3
    assert pilot.label_noise(found) is None


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        (of([0.6] * 2, [0.8] * 2, [0.7] * 2, 1), ("train", None, 2, None, "two members", 1)),
        (
            of([0.9] * 2, [0.6] * 2, [0.6] * 2, 1) | of([0.8] * 2, [0.6] * 2, [0.6] * 2, 2),
            ("train", None, 2, None, "one member", 1),
        ),
        (of([0.6] * 2, [0.61] * 2, [0.6] * 2, 1), ("seeds", 2, 4, 2 * 6 * 30.0, "two members", 1)),
    ],
)
def test_what_to_do_next(finals, expected):
    assert pilot.advice(taken(made(finals))) == expected
    assert pilot.advice(made(finals))[3] is None  # runs of earlier versions were not timed


@pytest.mark.parametrize(
    ("dataset", "advice", "command"),
    [
        (
            "cifar10",
            ("train", None, 2, None, "one member", 4),
            "python recipes/cifar10.py --backbone wrn10_4 --method single --batch-size 32 --batch-repetitions 2",
        ),
        (
            "my photos@64",
            ("train", 5, 2, None, "two members, ρ = 0.5", 1),
            "python recipes/images.py 'my photos@64' --backbone wrn10_1 --method cut_mixmo --input-repetition 0.5 "
            "--batch-size 32 --batch-repetitions 2 --epochs 5",
        ),
        (
            "cifar10_n",
            ("train", None, 2, None, "two members", 1),
            "python recipes/images.py cifar10_n --backbone wrn10_1 --method cut_mixmo --input-repetition 0 ",
        ),
        (
            "digits",
            ("longer", 8, 2, 60.0, "two members", 1),
            "--pilot --epochs 8 --widths 1 2 --seeds 0 1 --backbone wrn10 --rows 32",
        ),
    ],
)
def test_the_next_command_is_one_that_runs(dataset, advice, command):
    options = search_recipe.parse(
        ["--dataset", dataset, "--pilot", "--widths", "1", "2", "--rows", "32", "--images", "16"]
    )
    said = search_recipe.next_command(options, pilot.Advice(*advice))
    assert command in said
    program, *arguments = shlex.split(said)[1:]
    if program == "recipes/search.py":
        assert search_recipe.parse(arguments).epochs == 8
    else:
        arguments = ["--dataset", *arguments] if "images" in program else arguments
        assert parse(Recipe(), "", arguments).backbone.startswith("wrn10_")


def test_the_next_command_names_the_repetition_of_members_that_begin_as_a_classifier(tmp_path):
    classifier = tmp_path / "classifier.keras"
    classifier.touch()
    options = search_recipe.parse(["--dataset", "digits", "--pilot", "--backbone", str(classifier)])
    found = {}
    for variant in pilot.VARIANTS:
        said = search_recipe.next_command(options, pilot.Advice("train", None, 2, None, variant, 1))
        recipe = parse(Recipe(), "", shlex.split(said)[2:]).resolved()
        found[variant] = (recipe.method, recipe.input_repetition)
    assert found["one member"][0] == "single"
    assert found["two members"] == ("cut_mixmo", 0.0)  # their default is another
    assert found["two members, ρ = 0.5"] == ("cut_mixmo", 0.5)


def test_rates_by_group_of_a_pilot(tmp_path, monkeypatch):
    classifier = tmp_path / "classifier.keras"
    classifier.touch()
    rates = ["--core-rate", "0.1", "--freeze-epochs", "1"]
    options = search_recipe.parse(["--dataset", "digits", "--pilot", "--backbone", str(classifier), *rates])
    said = search_recipe.next_command(options, pilot.Advice("train", None, 2, None, "two members", 1))
    recipe = parse(Recipe(), "", shlex.split(said)[2:])
    assert (recipe.core_rate, recipe.freeze_epochs) == (0.1, 1)

    trained_with = []
    monkeypatch.setattr(runs, "_learning_curve", lambda model, *_: trained_with.append(model.fine_tuning) or made_curve)
    made_curve = {"accuracy": [0.5], "nll": [1.0], "label_noise": None}
    tuning = mixmo_keras.FineTuning(0.1, 1)
    pilot.run(backbone, TRAIN, VALIDATION, [1], 1, [0], 16, num_classes=10, augmentation=None, fine_tuning=tuning)
    assert trained_with == [tuning] * 3


def test_a_pilot_trains_networks_of_others_as_recipes_do(tmp_path, monkeypatch):
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(images))
    mine = str(tmp_path / "mine.keras")
    keras.Model(images, keras.layers.Dense(7)(keras.layers.GlobalMaxPooling2D()(x))).save(mine)
    found = []

    def learning_curve(model, *_):
        optimizer = model.optimizer.get_config()
        name = type(model.optimizer).__name__.lower()
        found.append((name, optimizer["learning_rate"]["config"]["base"], model.l2.rate, model.fine_tuning))
        return {"accuracy": [0.5] * 8, "nll": [1.0] * 8, "label_noise": None}

    monkeypatch.setattr(runs, "_learning_curve", learning_curve)
    options = dict(num_classes=10, input_shape=(8, 8, 1), augmentation=None, folder=tmp_path, report=len)
    pilot.run(lambda width: mine, TRAIN, VALIDATION, [1], 8, [0], 16, **options)
    recipe = Recipe(backbone=mine, method="single", batch_size=16, batch_repetitions=2, epochs=8).resolved()
    tuning = mixmo_keras.FineTuning(recipe.core_rate, recipe.freeze_epochs, recipe.freeze_batch_norm)
    assert found == [(recipe.optimizer, recipe.learning_rate, recipe.l2, tuning)] * 3
    monkeypatch.setattr(runs.trained, "FURTHER", runs.trained.FURTHER | {"learning_rate": 0.1})
    with pytest.raises(ValueError, match="other arguments of the models or an older version"):  # by another rate
        pilot.run(lambda width: mine, TRAIN, VALIDATION, [1], 8, [0], 16, **options)


def test_what_a_pilots_command_line_leaves_out_of_the_core_is_a_recipes(tmp_path):
    (tmp_path / "mine.keras").touch()
    for words, expected in (
        ([], None),
        (["--core-rate", "0.1"], mixmo_keras.FineTuning(0.1, 2, True)),
        (["--freeze-epochs", "1"], mixmo_keras.FineTuning(0.3, 1, True)),
    ):
        command = [
            "--dataset",
            "digits",
            "--pilot",
            "--backbone",
            str(tmp_path / "mine.keras"),
            "--epochs",
            "8",
            *words,
        ]
        assert search_recipe.fine_tuning_of(search_recipe.parse(command)) == expected


def test_what_a_command_line_says_of_the_core_reaches_the_pilot(tmp_path, monkeypatch):
    given = {}

    def run(*_, **options):
        given.update(options)
        raise ValueError("nothing is trained")

    (tmp_path / "mine.keras").touch()
    monkeypatch.setattr(mixmo_keras.pilot, "run", run)
    command = ["--dataset", "digits", "--pilot", "--backbone", str(tmp_path / "mine.keras"), "--core-rate", "0.1"]
    with pytest.raises(SystemExit, match="nothing is trained"):
        search_recipe.main([*command, "--epochs", "8", "--output-dir", str(tmp_path)])
    assert given["fine_tuning"] == mixmo_keras.FineTuning(0.1, 2, True)


def test_the_next_command_makes_the_same_labels_wrong():
    words = ["--dataset", "digits", "--pilot", "--label-noise", "0.4", "--noise-kind", "asymmetric"]
    options = search_recipe.parse(words)
    train = pilot.Advice("train", None, 2, None, "two members", 1)
    _, program, *arguments = shlex.split(search_recipe.next_command(options, train))
    recipe = parse(Recipe(), "", arguments).resolved()
    assert (program, recipe.label_noise, recipe.noise_kind) == ("recipes/digits.py", 0.4, "asymmetric")
    _, _, *arguments = shlex.split(search_recipe.next_command(options, train._replace(action="longer", epochs=8)))
    again = search_recipe.parse(arguments)
    assert (again.label_noise, again.noise_kind) == (0.4, "asymmetric")


def test_settings_of_kept_runs():
    def digest(network="wrn10_1", **options):
        return runs._digest(network, options)

    def own(width):
        images = keras.Input((8, 8, 1))
        features = keras.layers.Conv2D(width, 3)(images)
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(features))

    augmentations = [mixmo_keras.augmentation.PadCropFlip(padding) for padding in (1, 1, 2)]
    one, same, other = (digest(augmentation=augmentation) for augmentation in augmentations)
    assert one == same != other
    assert digest(own(2)) == digest(own(2)) != digest(own(3))
    different = [digest(), digest(l2=0.1), digest(normalization=None), digest(normalization=(0.5, 0.5)), digest(own(2))]
    assert len(set(different)) == len(different)


def run(tmp_path, lines, **options):
    return pilot.run(
        backbone,
        TRAIN,
        VALIDATION,
        widths=[1, 2],
        epochs=2,
        seeds=[0],
        rows=16,
        folder=tmp_path,
        report=lines.append,
        num_classes=10,
        augmentation=None,
        **options,
    )


@pytest.mark.slow
def test_runs_and_goes_on(tmp_path, monkeypatch):
    lines: list[str] = []
    found = run(tmp_path, lines)
    assert len(lines) == 6
    assert lines[0].startswith("one member, width 1, seed 0: accuracy ")
    assert found["images"] == [16, 64]
    assert [len(one["accuracy"]) for one in found["runs"]] == [2] * 6
    files = sorted(tmp_path.iterdir())
    files[0].unlink()  # as if a kill had come before it
    again = run(tmp_path, lines)
    assert [one["seconds"] > 0 for one in again["runs"]] == [True] * 6
    for one in (*found["runs"], *again["runs"]):
        del one["seconds"]
    assert again == found  # the same numbers from the same seeds
    assert len(lines) == 7
    with pytest.raises(ValueError, match=r"one_member.*\.json is of another network, other arguments .* or an older"):
        run(tmp_path, lines, l2=0.1)
    with monkeypatch.context() as patch:
        patch.setitem(pilot.VARIANTS, "one member", dict(method="mimo", num_members=1))
        with pytest.raises(
            ValueError,
            match=r"one_member.*\.json is of another network, other arguments .* or an older",
        ):
            run(tmp_path, lines)
    text = pilot.table(found)
    assert len(text.splitlines()) == 4
    figure = pilot.plot(found)
    assert [axis.get_title() for axis in figure.axes] == ["width 1", "width 2"]
    assert [len(axis.lines) for axis in figure.axes] == [3, 3]


def test_errors():
    for name, value in (("input_repetition", 0.9), ("method", "mimo")):
        with pytest.raises(ValueError, match=f"`{name}` is what the variants of a pilot differ in"):
            pilot.run(str, TRAIN, VALIDATION, [1], **{name: value})


def test_recipe(tmp_path, capsys):
    arguments = ["--dataset", "digits", "--pilot", "--widths", "1", "--seeds", "0", "--rows", "32"]
    arguments += ["--images", "16", "--epochs", "1"]
    found = search_recipe.main([*arguments, "--output-dir", str(tmp_path)])
    folder = tmp_path / "digits-pilot"
    assert json.loads((folder / "pilot.json").read_text()) == found
    assert (folder / "pilot.png").exists()
    assert pilot.verdict(found) in capsys.readouterr().out
    assert all(0 <= one["label_noise"] < 1 for one in found["runs"])
