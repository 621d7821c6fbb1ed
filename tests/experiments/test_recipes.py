"""Recipes: the command line, the resolved settings, and a whole run on the digits and on (mock) CIFAR."""

import contextlib
import csv
import dataclasses
import io
import json
import re
import shlex
import types
from pathlib import Path

import cifar10
import cifar100
import demo
import digits
import evaluate
import imagenet
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tiny

from mixmo_keras import SAM, datasets, version
from mixmo_keras.common import files
from mixmo_keras.datasets import registry
from mixmo_keras.experiments import Recipe, build, logs, main, parse, results, run, splits
from mixmo_keras.experiments.option_defaults import Default
from mixmo_keras.experiments.pixel_augmentation import PIXEL_AUGMENTATIONS
from mixmo_keras.experiments.running import Splits, training_batches, why_partners_of_the_step
from mixmo_keras.models.methods import METHODS, defaults

RECIPES = Path(cifar100.__file__).parent
TINY = dict(backbone="tiny_4", epochs=2)
IN_FEW_STEPS = dict(batch_size=256, epochs=1)


def test_the_best_model_is_kept_in_a_folder_whose_name_looks_like_a_template(tmp_path):
    folder = tmp_path / "{epoch} {x} %s [b]"
    keeping = logs.callbacks(folder, [])[-1]
    keeping.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    keeping.on_epoch_end(0, {"val_accuracy": 0.5})
    assert [path.name for path in folder.iterdir()] == ["best.keras"]


@pytest.mark.parametrize("module", [digits, cifar10, cifar100])
def test_help_names_every_option(module, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(module.RECIPE, module.__doc__, ["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(Recipe):
        assert "--" + field.name.replace("_", "-") in text
    assert module.__doc__.splitlines()[0] in text


def test_the_papers_settings_are_the_defaults():
    resolved = cifar100.RECIPE.resolved()
    assert (resolved.backbone, resolved.epochs, resolved.batch_size) == ("wrn28_10", 300, 64)
    assert (resolved.num_members, resolved.batch_repetitions, resolved.l2) == (2, 4, 3e-4)
    assert (resolved.alpha, resolved.weight_root, resolved.probability) == (2.0, 3.0, 0.5)
    assert resolved.learning_rate == pytest.approx(0.0125)  # 0.1/(2b)
    single = dataclasses.replace(cifar100.RECIPE, method="single").resolved()
    assert (single.batch_repetitions, single.num_members) == (1, Default.METHOD)
    assert single.settings()["num_members"] is None
    assert single.learning_rate == pytest.approx(0.05)


def test_the_command_line_changes_the_recipe():
    changed = parse(
        digits.RECIPE,
        "",
        shlex.split("--method linear_mixmo --num-members 3 --alpha 1.5 --no-flip --epochs 7 --data-dir d"),
    )
    assert changed == dataclasses.replace(
        digits.RECIPE, method="linear_mixmo", num_members=3, alpha=1.5, flip=False, epochs=7, data_dir="d"
    )


def test_none_is_a_value_where_it_means_something():
    """Equal weights are no root; the method's own root is what is not given."""
    equal = parse(digits.RECIPE, "", shlex.split("--weight-root none --alpha None --learning-rate none"))
    assert (equal.weight_root, equal.alpha, equal.learning_rate) == (None, None, None)
    assert equal.num_members is Default.METHOD
    resolved = equal.resolved()
    assert (resolved.weight_root, resolved.alpha, resolved.num_members) == (None, None, 2)
    assert resolved.settings()["weight_root"] is None
    assert resolved.resolved() == resolved
    mixing = build(dataclasses.replace(resolved, backbone="wrn10_1"), datasets.info("digits")).batching.mixing
    assert (mixing.weight_root, mixing.alpha, mixing.probability) == (None, None, 0.5)
    assert digits.RECIPE.resolved().weight_root == 3.0
    without = parse(Recipe(method="cosub", msda="cutmix"), "", shlex.split("--co-training none --msda none"))
    assert (without.co_training, without.msda) == (None, None)
    with pytest.raises(SystemExit, match="2"):
        parse(digits.RECIPE, "", ["--num-members", "none"])


def test_a_run_with_equal_weights_is_another_run_than_one_with_a_root(tmp_path):
    equal = dataclasses.replace(digits.RECIPE, weight_root=None, output_dir=str(tmp_path))
    config = tmp_path / equal.name / "config.json"
    files.write_json(config, equal.resolved().settings())
    results.check_folder(equal.resolved())
    with pytest.raises(ValueError, match=r"other settings \(weight_root None → 3.0\)"):
        results.check_folder(dataclasses.replace(equal, weight_root=3.0).resolved())
    figures = {"test": {"images": 360, "ensemble": dict(accuracy=0.9, nll=0.5, ece=0.1)}}
    assert results.card(equal.resolved(), figures, 1257)["Training"]["weight_root"] == "none"


def test_numbers_of_numpy_become_pythons():
    numbers = dict(epochs=np.int64(3), ema=np.float32(0.5), num_members=np.int64(2), alpha=np.float32(2), drop_path=0)
    resolved = dataclasses.replace(digits.RECIPE, **numbers, flip=np.bool_(False)).resolved()
    assert [type(getattr(resolved, name)) for name in (*numbers, "flip")] == [int, float, int, float, float, bool]
    json.dumps(resolved.settings())


def test_defaults_are_the_librarys(capsys):
    """Each stands in one place, and the help prints it."""
    for method in METHODS:
        resolved, own = Recipe(method=method).resolved(), defaults(method)
        for name in ("num_members", "weight_root", "alpha", "mask", "drop_path", "co_training", "l2", "teaching"):
            assert getattr(resolved, name) == own.get(name, Default.METHOD)
    with pytest.raises(SystemExit, match="0"):
        parse(digits.RECIPE, "", ["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "(default: the method's: cut_mixmo 2, linear_mixmo 2, mimo 3)" in printed
    assert "λ of L2 regularisation (default: 0.0003)" in printed
    assert "cosine (default: cosine)" in printed  # of the schedules; the digits' own


def test_another_method_drops_a_recipes_values_of_options_that_it_lacks():
    single = parse(imagenet.RECIPE, "", shlex.split("--method single"))
    assert (single.num_members, single.input_repetition) == (Default.METHOD, Default.METHOD)
    assert single.batch_repetitions == 2
    assert single.resolved().epochs == 150
    given = parse(imagenet.RECIPE, "", shlex.split("--method single --num-members 2"))
    with pytest.raises(ValueError, match=r"`num_members` \(=2\) has no meaning for method 'single'"):
        given.resolved()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(method="single", num_members=2), r"`num_members` \(=2\) has no meaning for method 'single'"),
        (dict(method="linear_mixmo", probability=0.5), "`probability` .* has no meaning for method 'linear_mixmo'"),
        (dict(method="cosub", averaging="logits"), r"`averaging` \(=logits\) has no meaning for method 'cosub'"),
        (dict(method="mimo", mask="cow"), r"`mask` \(=cow\) has no meaning for method 'mimo'"),
        (dict(adaptive_sam=True), "`adaptive_sam` has no meaning without `sam`"),
        (dict(sam=0.0), "`sam` must be a positive number, got 0"),
        (dict(average_from=1.0), r"`average_from` must be a number within \[0, 1\), got 1"),
        (dict(ema=0.9, average_from=0.5), "`ema` and `average_from` are two averages of the weights: choose one"),
        (dict(ema=1.5), r"`ema` must be a number within \(0, 1\), got 1.5"),
        (dict(batch_repetitions=0), "`batch_repetitions` must be an integer of at least 1, got 0"),
        (dict(mask="linear"), "`mask` must be one of cutmix, .*, got 'linear'"),
        (dict(alpha=float("inf")), "`alpha` must be a positive number, or None for equal ratios, got inf"),
        (dict(method="single", weight_root=None), r"`weight_root` \(=None\) has no meaning for method 'single'"),
        (dict(keep="first"), "`keep` must be one of last, best, got 'first'"),
        (dict(early_stopping=0), "`early_stopping` must be an integer of at least 1, got 0"),
        (dict(keep="best", train_split="train+validation"), "`keep='best'` needs validation images"),
        (dict(early_stopping=3, train_split="train+validation"), "`early_stopping` needs validation images"),
        (dict(keep="best", strategy="multi_worker"), "`keep='best'` is for one machine"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(digits.RECIPE, **changes).resolved()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@dataclasses.dataclass
class Demonstrated:
    """What the demo leaves: its runs' recipes and figures by method, and what it printed."""

    recipes: dict[str, Recipe]
    figures: dict[str, dict]
    printed: str


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """The demo with a smaller network, two epochs and one of its methods."""

    def in_a_process_of_its_own(command, **_):
        return tiny.run(command[1:])

    folder = tmp_path_factory.mktemp("demo")
    folders = dict(output_dir=str(folder / "runs"), export_dir=str(folder / "served"))
    changes = dict(batch_size=digits.RECIPE.batch_size, train_images=200)
    recipe = dataclasses.replace(demo.RECIPE, **folders, **TINY, **changes)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(demo, "subprocess", types.SimpleNamespace(run=in_a_process_of_its_own))
        shown = demo.demo(recipe, ("Cut-MixMo",)).values()
    recipes = {one.recipe.method: one.recipe for one in shown}
    figures = {one.recipe.method: one.trained for one in shown}
    return Demonstrated(recipes, figures, printed.getvalue())


def test_the_demo_runs_from_training_to_serving(demonstrated):
    assert set(demonstrated.figures) == {"cut_mixmo"}
    assert re.search(r"with TensorFlow alone:\na handwritten \d is served as .*\ndemo: ", demonstrated.printed)
    assert "members' mean" in demonstrated.printed
    recipe = demonstrated.recipes["cut_mixmo"]
    noisy, right = splits.noisy_labels(recipe, "train")
    assert f"{(noisy != right).sum()} of 200 training labels are wrong, none of 360" in demonstrated.printed
    assert (Path(recipe.output_dir) / "suspicious_labels.png").stat().st_size > 1000


def test_a_whole_run(demonstrated):
    check_run(demonstrated.recipes["cut_mixmo"], demonstrated.figures["cut_mixmo"], demonstrated.printed)


@pytest.mark.slow  # tests/models trains, saves and exports every method; test_reproduce.py runs the single network
@pytest.mark.parametrize("method", [method for method in METHODS if method != "cut_mixmo"])
def test_a_whole_run_of_other_methods(tmp_path, capsys, method):
    # the tiny network has no paths that cosub could drop
    changes = {"backbone": "wrn10_1"} if method == "cosub" else {}
    small = in_folder(tmp_path, method=method, **changes)
    check_run(small, run(small), capsys.readouterr().out)


def check_run(small, figures, printed):
    folder = Path(small.output_dir) / small.name
    files = {"config.json", "manifest.json", "metrics.json", "log.csv", "tensorboard", "last.keras"}
    files |= {"best.keras", "checkpoints"}
    assert files == {path.name for path in folder.iterdir()}
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == small.method
    assert config["learning_rate"] == pytest.approx(0.05)
    assert config["versions"]["keras"] == keras.__version__
    assert config["versions"]["commit"] == version.commit()
    assert json.loads((folder / "metrics.json").read_text()) == figures

    with open(folder / "log.csv") as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["0", "1"]
    assert float(log[1]["loss"]) < float(log[0]["loss"])

    # the figures, from the saved model with NumPy
    images, labels = (np.stack(part) for part in zip(*datasets.load("digits", "test").as_numpy_iterator(), strict=True))
    loaded = keras.models.load_model(folder / "last.keras")
    probabilities = softmax(loaded.predict(images, verbose=0))
    assert figures["test"]["ensemble"]["accuracy"] == pytest.approx(np.mean(probabilities.argmax(-1) == labels))
    nll = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert figures["test"]["ensemble"]["nll"] == pytest.approx(nll, abs=1e-5)
    members = softmax(loaded.predict_members(images, verbose=0)).argmax(-1)
    for member, score in enumerate(figures["test"]["members"]):
        assert score["accuracy"] == pytest.approx(np.mean(members[:, member] == labels))
    served = tf.saved_model.load(figures["saved_model"]).signatures["serving_default"]
    answer = served(images=tf.constant(images, "float32"))
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-5)

    table = re.search(rf"{small.name}: 360 test images(.*?)trained in", printed, re.DOTALL)[1]
    assert f"{figures['test']['ensemble']['accuracy']:.2%}" in table
    assert ("member 1" in table) == (small.method not in ("single", "cosub"))


def in_folder(folder, **changes):
    folders = dict(output_dir=str(folder / "runs"), export_dir=str(folder / "served"))
    return dataclasses.replace(digits.RECIPE, **folders, **TINY | changes)


AVERAGES = [dict(ema=0.9), dict(average_from=0.5, sam=0.05)]


@pytest.mark.slow
@pytest.mark.parametrize("averaged", AVERAGES, ids=["moving average", "mean and SAM"])
def test_a_killed_run_goes_on_with_every_option(averaged, tmp_path, capsys):
    options = dict(**averaged, clip_norm=1.0, accumulation=2, checkpoint_steps=30, epochs=3, msda="cutmix")
    whole, broken = (in_folder(tmp_path / name) for name in ("whole", "broken"))
    whole, broken = (dataclasses.replace(one, **options) for one in (whole, broken))
    figures = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(broken, callbacks=[tiny.Die(100)])
    assert "epoch-0001-step-000000" in str(list((tmp_path / "broken").glob("runs/*/checkpoints/*")))
    log = next((tmp_path / "broken").glob("runs/*/log.csv"))
    log.write_text(log.read_text() + "1,0.5,half a ro")  # as if it had died a little later
    capsys.readouterr()
    again = run(broken)
    assert "goes on after epoch 1, step 0" in capsys.readouterr().out
    assert again["test"] == figures["test"]
    assert again["validation"] == figures["validation"]
    for name in ("last.keras", "best.keras"):
        models = [keras.models.load_model(Path(one.output_dir) / one.name / name) for one in (whole, broken)]
        assert all(np.array_equal(a, b) for a, b in zip(*(model.get_weights() for model in models), strict=True))
    assert log.read_text() == (Path(whole.output_dir) / whole.name / "log.csv").read_text()

    # ended: nothing to train; without its log: refused; --fresh: from the start
    assert run(broken)["test"] == figures["test"]
    log.unlink()
    with pytest.raises(ValueError, match=r"log.csv has 0 epochs, but the newest checkpoint is after 3. Pass --fresh"):
        run(broken)
    capsys.readouterr()
    fresh = run(dataclasses.replace(broken, fresh=True))
    assert "goes on" not in capsys.readouterr().out
    assert fresh["validation"] == figures["validation"]


def test_options_reach_the_optimizer_and_the_model():
    one = dataclasses.replace(digits.RECIPE, ema=0.9, clip_norm=1.5, accumulation=2, jit_compile=True, **TINY)
    one = dataclasses.replace(one, synchronized_batch_norm=True)
    model = build(one.resolved(), datasets.info("digits"))
    optimizer = model.optimizer
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.9)
    assert (optimizer.global_clipnorm, optimizer.gradient_accumulation_steps) == (1.5, 2)
    assert model.jit_compile
    assert model.synchronized_batch_norm
    assert (model.average_from, model.sharpness) == (None, None)
    other = dataclasses.replace(digits.RECIPE, average_from=0.75, sam=0.5, adaptive_sam=True, **TINY).resolved()
    assert "-adaptive_sam0.5-" in other.name
    model = build(other, datasets.info("digits"))
    assert (model.average_from, model.sharpness) == (0.75, SAM(0.5, adaptive=True))
    assert model.optimizer.use_ema
    plain = build(dataclasses.replace(digits.RECIPE, **TINY).resolved(), datasets.info("digits"))
    assert not plain.optimizer.use_ema
    assert not plain.jit_compile  # no GPU here


def test_what_the_ensemble_averages_is_a_setting():
    averaged = {method: defaults(method).get("averaging") for method in METHODS}
    assert averaged == dict(cut_mixmo="logits", linear_mixmo="logits", mimo="probabilities", single=None, cosub=None)
    for method, value in (("mimo", "logits"), ("cut_mixmo", "probabilities")):
        one = dataclasses.replace(digits.RECIPE, method=method, averaging=value, **TINY).resolved()
        assert build(one, datasets.info("digits")).average.averaging == value
    assert defaults("mimo")["shared_augmentation"] is False
    alike = dataclasses.replace(digits.RECIPE, shared_augmentation=True, **TINY).resolved()
    assert build(alike, datasets.info("digits")).batching.shared_augmentation


# -- partners of MSDA --------------------------------------------------------------------------------------------------


def data_of(train) -> Splits:
    return Splits(datasets.info("digits"), None, train, None, None)


@pytest.mark.parametrize(("method", "members"), [("cut_mixmo", 2), ("mimo", 3), ("single", 1)])
def test_partners_come_from_all_training_images(method, members):
    mixed = dataclasses.replace(digits.RECIPE, method=method, msda="cutmix", **TINY).resolved()
    data = data_of(datasets.load("digits", "train"))
    assert why_partners_of_the_step(mixed, data) is None
    images, labels = next(iter(training_batches(mixed, data)))
    assert images["images"].shape == (16, 8, 8, 1)
    assert images["partner_images"].shape == (16, 2 * members, 8, 8, 1)
    assert images["partner_labels"].shape == (16, 2 * members)
    assert labels.shape == (16,)
    plain, _ = next(iter(training_batches(dataclasses.replace(mixed, msda=None), data)))
    np.testing.assert_array_equal(plain, images["images"])


@pytest.mark.usefixtures("without_export")
@pytest.mark.slow  # two whole runs, of a warning
def test_where_partners_come_from_the_step_the_run_says_so(tmp_path, capsys):
    mixed = dataclasses.replace(digits.RECIPE, msda="mixup", **TINY).resolved()
    train = datasets.load("digits", "train")
    too_many = tf.data.Dataset.range(10**8).map(lambda n: (tf.zeros((8, 8, 1), tf.uint8), n))
    for changes, images, reason in (
        (dict(pixel_augmentation="augmix"), train, "the CPU augments the images alone"),
        (dict(crop="whole", padding=4, smallest_area=0.08, interpolation="bilinear"), train, "not kept in memory"),
        ({}, too_many, "not kept in memory"),
    ):
        recipe = dataclasses.replace(mixed, **changes)
        assert reason in why_partners_of_the_step(recipe, data_of(images))
    whole = in_folder(tmp_path, msda="mixup", crop="whole", padding=Recipe.padding)
    run(dataclasses.replace(whole, **IN_FEW_STEPS))
    assert (
        "partners of mixup are drawn from the images of each step: the images are not kept" in capsys.readouterr().out
    )


# -- all training images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [cifar10, cifar100], ids=lambda module: module.__name__)
def test_the_best_is_chosen_by_a_flag_and_changed_like_any_other(module, monkeypatch):
    ran = []
    monkeypatch.setattr("mixmo_keras.experiments.command_line.run", ran.append)
    for options in (["--best"], ["--epochs", "3", "--best", "--sam", "none"], []):
        main(module.RECIPE, "", options, best=module.BEST)
    best, changed, plain = ran
    assert best == module.BEST
    assert changed == dataclasses.replace(module.BEST, epochs=3, sam=None)
    assert plain == module.RECIPE
    name = best.resolved().name
    assert f"-cut_mixmo-auto_augment_cifar10-msda_cutmix-sam{best.sam:g}-wrn28_10-" in name
    with pytest.raises(SystemExit):
        main(digits.RECIPE, "", ["--best"])  # which has none


@pytest.mark.slow  # a whole run and three evaluations
def test_a_run_on_all_images_chooses_and_calibrates_nothing(tmp_path, capsys):
    whole = dataclasses.replace(in_folder(tmp_path, train_split="train+validation", msda="cutmix"), **IN_FEW_STEPS)
    figures = run(whole)
    printed = capsys.readouterr().out
    assert "trains on the validation images too" in printed
    assert "validation: none, its images were trained on" in printed
    assert "partners of" not in printed  # they come from all training images
    assert {path.name for path in whole.folder.iterdir()} == {
        "config.json", "manifest.json", "metrics.json", "log.csv", "tensorboard", "last.keras", "checkpoints"
    }  # fmt: skip
    assert (figures["train_split"], figures["validation"]) == ("train+validation", None)
    assert json.loads((whole.folder / "config.json").read_text())["train_split"] == "train+validation"
    assert set(logs.read(whole.folder / "log.csv")[0]) == {"epoch", "accuracy", "loss"}
    card = (whole.saved_model / "assets.extra" / "model_card.md", whole.saved_model / "model_card.md")
    text = next(path for path in card if path.exists()).read_text()
    assert "trained on 1,437 images of its train and validation splits (nothing was held out" in text

    # its own validation images calibrate nothing; those of another dataset may
    for model in (whole.folder, whole.folder / "last.keras"):
        for option in (["--temperature"], ["--coverage", "0.8"]):
            out = ["--dataset", "digits", "--output-dir", str(tmp_path / "no")]
            with pytest.raises(
                SystemExit, match=rf"error: {option[0]} is fitted on the validation images of digits, which"
            ):
                evaluate.main([str(model), *option, *out])
    assert not (tmp_path / "no").exists()
    evaluated = evaluate.main([str(whole.folder)])
    assert evaluated["images"] == {"test": 360, "validation": 0}
    assert "conformal" not in evaluated
    said = "trained on the validation images too, so that nothing was fitted on them"
    assert said in capsys.readouterr().out
    assert said in (whole.folder / "evaluation" / "report.html").read_text()
    assert json.loads((whole.folder / "evaluation" / "metrics.json").read_text())["trained_on_validation"]


@pytest.mark.usefixtures("eagerly")
def test_a_run_that_diverges_names_its_last_good_checkpoint(tmp_path):
    diverging = dataclasses.replace(in_folder(tmp_path), learning_rate=1e9, checkpoint_steps=1)
    with pytest.raises(FloatingPointError, match=r"at step \d+ .*Last good checkpoint: .*npz; --warm-start takes it"):
        run(diverging)


@pytest.mark.usefixtures("without_export")
def test_a_warm_start_begins_with_the_weights_of_another_run(tmp_path, demonstrated):
    first = demonstrated.recipes["cut_mixmo"]
    (checkpoint,) = (Path(first.output_dir) / first.name).glob("checkpoints/epoch-0002-*.npz")
    warm = in_folder(tmp_path, warm_start=str(checkpoint), learning_rate=1e-9)
    warm = dataclasses.replace(warm, **IN_FEW_STEPS)
    run(warm)
    models = [keras.models.load_model(one.folder / "last.keras") for one in (first, warm)]
    for before, after in zip(*(model.trainable_variables for model in models), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)
    log = logs.read(next(tmp_path.glob("runs/*/log.csv")))
    assert [row["epoch"] for row in log] == [0]  # from the start, not after the other's epochs


def test_a_run_with_other_settings_is_not_replaced_in_silence(tmp_path):
    small = dataclasses.replace(digits.RECIPE, output_dir=str(tmp_path), epochs=2)
    folder = tmp_path / small.name
    folder.mkdir()
    before = dataclasses.replace(small, epochs=3).resolved()
    files.write_json(folder / "config.json", before.settings())
    with pytest.raises(ValueError, match=r"holds a run with other settings \(epochs 3 → 2\)"):
        run(small)
    with pytest.raises(ValueError, match=r"\(epochs 3 → 7\)"):  # a comparison has runs of one length
        results.finished(_with_figures(dataclasses.replace(small, epochs=7)))
    results.check_folder(dataclasses.replace(small, fresh=True).resolved())
    results.check_folder(before)
    # a run from before an option was there had its default
    known = json.loads((folder / "config.json").read_text())
    del known["drop_path"], known["l2"]
    files.write_json(folder / "config.json", known)
    results.check_folder(before)
    with pytest.raises(ValueError, match=r"l2 0.0003 → 0.1"):
        results.check_folder(dataclasses.replace(before, l2=0.1))


def _with_figures(recipe):
    files.write_json(recipe.folder / "metrics.json", {})
    return recipe


@pytest.mark.usefixtures("without_export", "eagerly")
def test_a_finished_run_can_be_given_more_epochs(tmp_path, capsys):
    short = dataclasses.replace(in_folder(tmp_path, train_images=200), **IN_FEW_STEPS)
    first = run(short)
    assert first["saved_model"]
    run(dataclasses.replace(short, epochs=3), saved_model=False)
    printed = capsys.readouterr().out
    assert "goes on after epoch 1, step 0" in printed
    said = (
        "3 epochs in place of 1: the schedule 'cosine' is stretched over all of them, so that the learning rate goes on"
    )
    assert re.search(rf"{said} at 0\.039\d*, where it was 0\.", printed)
    assert "SavedModel" not in printed.partition("3 epochs in place of 1")[2]
    folder = tmp_path / "runs" / first["name"]
    assert json.loads((folder / "config.json").read_text())["epochs_before"] == [1]
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 3
    log = logs.read(folder / "log.csv")
    assert [row["epoch"] for row in log] == [0, 1, 2]
    assert {"val_member_0_accuracy", "val_member_1_accuracy"} <= set(log[-1])
    with pytest.raises(ValueError, match=r"epochs 3 → 2"):
        run(dataclasses.replace(short, epochs=2))


def test_a_folder_that_another_run_writes_into_is_refused(tmp_path):
    small = in_folder(tmp_path)
    with files.locked(small.folder), pytest.raises(ValueError, match="is being written by another run: wait for it"):
        run(small)
    assert not small.folder.exists()
    assert not list(Path(small.output_dir).iterdir())


def test_names_tell_methods_apart():
    changes = (
        {},
        dict(mask="cow"),
        dict(msda="mixup"),
        dict(unmixing=True),
        dict(co_training=0.5, drop_path=0.1),
        dict(drop_path=0.1),
        dict(seed=1),
        dict(method="mimo"),
        dict(pixel_augmentation="augmix"),
        dict(train_split="train+validation"),
    )
    changed = [dataclasses.replace(digits.RECIPE, **change) for change in changes]
    assert len({recipe.name for recipe in changed}) == len(changes)
    assert [recipe.resolved().name for recipe in changed] == [recipe.name for recipe in changed]


@pytest.mark.parametrize("augmentation", list(PIXEL_AUGMENTATIONS))
def test_pixel_augmentation_gives_each_copy_its_own_draw(augmentation):
    transform = PIXEL_AUGMENTATIONS[augmentation]()
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
    augmented = transform(tf.constant(np.repeat(image, 16, axis=0))).numpy()
    assert len({copy.tobytes() for copy in augmented}) > 8  # not one draw for the batch
    assert augmented.min() >= 0
    assert augmented.max() <= 255.001  # keras-cv rounds in float32


@pytest.mark.slow
def test_a_run_with_pixel_augmentation(tmp_path):
    arguments = "--pixel-augmentation randaugment --msda cutmix --backbone wrn10_1 --epochs 1 --no-flip"
    with tfds.testing.mock_data(num_examples=32), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        patch.chdir(tmp_path)
        figures = main(cifar10.RECIPE, "", arguments.split())
    assert figures["name"] == "cifar10-cut_mixmo-randaugment-msda_cutmix-wrn10_1-seed0"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path):
    weights = []
    for seed, folder in ((3, "a"), (3, "b"), (4, "c")):
        small = dataclasses.replace(
            digits.RECIPE, seed=seed, output_dir=str(tmp_path / folder), export_dir=str(tmp_path / folder), **TINY
        )
        run(small)
        weights.append(keras.models.load_model(tmp_path / folder / small.name / "last.keras").get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


@pytest.mark.usefixtures("eagerly")
def test_cifar100_through_mock_data(tmp_path):
    with tfds.testing.mock_data(num_examples=48), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        arguments = ["--backbone", "tiny_4", "--epochs", "1", "--output-dir", "runs", "--export-dir", "served"]
        patch.chdir(tmp_path)
        figures = main(cifar100.RECIPE, cifar100.__doc__, arguments)
        assert len(figures["test"]["members"]) == 2
        served = tf.saved_model.load(figures["saved_model"]).signatures["serving_default"]
        assert served(images=tf.zeros((2, 32, 32, 3)))["probabilities"].shape == (2, 100)


def test_cifar100_without_data_ends_in_one_line(tmp_path):
    ended = tiny.run([RECIPES / "cifar100.py", "--data-dir", tmp_path], tmp_path, HOME=str(tmp_path))
    if ended.returncode == 0:
        pytest.skip("CIFAR-100 could be downloaded here")
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Dataset 'cifar100' is not prepared in")
    assert "--data-dir" in last
    assert "Traceback" not in ended.stderr
