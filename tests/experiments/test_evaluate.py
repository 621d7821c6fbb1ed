"""recipes/evaluate.py: on runs and files, as a deep ensemble, side by side; what it refuses."""

import csv
import json

import evaluate
import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny
from PIL import Image

import mixmo_keras
from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.datasets import manifest, registry
from mixmo_keras.experiments import Recipe, build, evaluating, shifted_data, splits
from mixmo_keras.multiplexing import wording

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two folders as the digits recipe leaves them, of networks that were not trained."""
    folder = tmp_path_factory.mktemp("runs")
    folders = []
    for seed in (0, 1):
        settings = Recipe(dataset="digits", method="cut_mixmo", backbone="tiny_4", seed=seed, output_dir=str(folder))
        settings = settings.resolved()
        files.write_json(settings.folder / "config.json", settings.settings())
        build(settings, datasets.info("digits")).save(settings.folder / "last.keras")
        folders.append(settings.folder)
    return folders


def main(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def test_a_run_with_everything(runs, capsys):
    figures = main(
        runs[0], "--temperature", "--save-calibrated", "--corruptions", "on_the_fly", "--corruption-images", 20
    )
    folder = runs[0] / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "metrics.csv",
        "report.html",
        "calibrated.keras",
    }
    assert json.loads((folder / "metrics.json").read_text()) == figures
    assert figures["images"] == {"test": 360, "validation": 180}
    assert "saturate" not in figures["corruptions"]["accuracy"]  # the digits are grey
    assert len(figures["corruptions"]["accuracy"]) == 11
    assert [one["name"] for one in figures["classes"]] == list("0123456789")
    printed = capsys.readouterr().out
    assert f"report: {folder / 'report.html'}" in printed
    calibrated = keras.models.load_model(folder / "calibrated.keras")
    assert calibrated.temperature == pytest.approx(figures["temperature"]["value"])
    images, labels = next(iter(datasets.batches(datasets.load("digits", "test"), 360).as_numpy_iterator()))
    assert calibrated.evaluate(images, labels, verbose=0)[0] == pytest.approx(figures["ensemble"]["nll"], rel=1e-3)


def test_corrupted_images_of_a_folder_are_of_every_class(tmp_path):
    """A folder is read class by class, so that its first images would be of one."""
    for name in ("cat", "dog", "owl"):
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{number}.png")
    _, _, batches = next(shifted_data.corrupted("on_the_fly", f"{tmp_path}@8", None, num_images=12))
    labels = np.concatenate([label for _, label in batches])
    assert len(labels) == 12
    assert set(labels) == {0, 1, 2}


def test_a_temperature_that_is_not_applied_is_not_saved(tmp_path, capsys):
    file, model = tmp_path / "calibrated.keras", tiny.model()
    file.write_text("an earlier evaluation's")
    why = "49 validation images are too few to fit it on, 50 are the least"
    evaluating._save_calibrated(model, {"value": 1.0, "not_applied": {"value": 2.0, "why": why}}, file)
    assert not file.exists()
    assert capsys.readouterr().out == f"calibrated.keras is not written: the temperature is not applied, {why}\n"
    evaluating._save_calibrated(model, {"value": 1.0}, file)
    assert keras.models.load_model(file).temperature == 1.0


@pytest.mark.slow
def test_other_images_are_brought_to_the_models_size(runs):
    with tfds.testing.mock_data(num_examples=30), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        figures = main(runs[0], "--ood", "cifar10", "--output-dir", runs[0].parent / "ood")
    assert figures["out_of_distribution"]["images"] == 30  # 32×32 in colour, shown as 8×8 grey
    assert set(figures["out_of_distribution"]["measures"]) == {
        "max_probability",
        "entropy",
        "energy",
        "mutual_information",
    }


@pytest.mark.slow
def test_cifar_10_c_by_tfds(tmp_path):
    model = mixmo_keras.CutMixMo("tiny_4", num_classes=10)
    model.save(tmp_path / "model.keras")
    with tfds.testing.mock_data(num_examples=4), pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_reachable", lambda url: True)
        versions = [("fog", severity) for severity in range(1, 6)]
        for module in (datasets.corrupted, datasets):
            patch.setattr(module, "corrupted_versions", lambda name, extra=False: versions)
        figures = main(
            tmp_path / "model.keras",
            "--dataset",
            "cifar10",
            "--corruptions",
            "cifar10_c",
            "--output-dir",
            tmp_path / "out",
        )
        assert list(figures["corruptions"]["accuracy"]) == ["fog"]
        assert figures["corruptions"]["images"] == 4
        with pytest.raises(ValueError, match="There is no 'snow' at severity 1 of cifar10"):
            datasets.load_corrupted("cifar10", "snow", 1)
        with pytest.raises(
            SystemExit, match="--corruptions imagenet_c has test images of imagenet2012, not of cifar10"
        ):
            main(
                tmp_path / "model.keras",
                "--dataset",
                "cifar10",
                "--corruptions",
                "imagenet_c",
                "--output-dir",
                tmp_path / "b",
            )


@pytest.mark.slow
def test_a_deep_ensemble_and_the_comparison(runs, tmp_path, capsys):
    for run in runs:
        main(run)
    figures = main(*runs, "--ensemble", "--output-dir", tmp_path / "deep")
    assert figures["name"] == "digits-cut_mixmo-tiny_4, 2 networks"
    assert len(figures["members"]) == 4
    text = main("--compare", *runs, tmp_path / "deep", "--output-dir", tmp_path / "comparison")
    assert text in capsys.readouterr().out
    printed = (tmp_path / "comparison/comparison.html").read_text()
    for said in (">tiny_4<", ">tiny_4, 2 networks<", "All: digits-cut_mixmo."):
        assert said in printed
    assert "Most accurate: " in printed
    assert "95 % intervals" in printed
    lines = (tmp_path / "comparison/comparison.md").read_text().splitlines()
    assert len(lines) == 4  # head, rule, the two seeds, the ensemble
    single = [json.loads((run / "evaluation/metrics.json").read_text())["ensemble"]["accuracy"] for run in runs]
    assert f"| {np.mean(single):.2%} ± {np.std(single, ddof=1):.2%} |" in lines[2]
    assert lines[2].endswith("| 2 |")
    rows = json.loads((tmp_path / "comparison/comparison.json").read_text())
    assert rows[0]["accuracy"] == pytest.approx(np.mean(single))
    other = tmp_path / "other"
    other.mkdir()
    content = json.loads((runs[0] / "evaluation/metrics.json").read_text())
    content["images"]["test"] = 7
    (other / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"different test sets, of \[7, 360\] images"):
        main("--compare", runs[0], other, "--output-dir", tmp_path / "no")


@pytest.mark.slow
def test_the_labels_that_a_run_learned_from(runs, tmp_path):
    folder, settings = tmp_path / "run", json.loads((runs[0] / "config.json").read_text())
    settings |= dict(train_images=100, label_noise=0.5, data_seed=4)
    files.write_json(folder / "config.json", settings)
    (folder / "last.keras").symlink_to((runs[0] / "last.keras").resolve())
    figures = main(folder, "--label-issues")
    recipe = Recipe(dataset="digits", train_images=100, label_noise=0.5, data_seed=4)
    noisy, right = splits.noisy_labels(recipe, "train")
    with open(folder / "evaluation/label_issues.csv", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    assert [int(row["labelled"]) for row in rows] == noisy.tolist()
    assert [int(row["right"]) for row in rows] == right.tolist()
    assert figures["label_issues"]["wrong"] == (noisy != right).sum()
    assert figures["images"] == {"test": 360, "validation": 14}
    with pytest.raises(SystemExit, match="learned from other images or labels"):
        main(folder, runs[0], "--ensemble", "--output-dir", tmp_path / "both")


def test_a_plain_keras_classifier_by_itself_and_beside_a_run(runs, tmp_path, capsys):
    layers = [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, activation="relu")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax")]
    plain = keras.Sequential(layers)
    plain.save(tmp_path / "mine.keras")
    figures = main(tmp_path / "mine.keras", "--dataset", "digits", "--output-dir", tmp_path / "alone")
    images, labels = next(datasets.batches(datasets.load("digits", "test"), 360).as_numpy_iterator())
    probabilities = plain.predict(images, verbose=0)
    assert figures["ensemble"]["accuracy"] == pytest.approx((probabilities.argmax(-1) == labels).mean())
    nll = -np.log(probabilities[np.arange(360), labels]).mean()
    assert figures["ensemble"]["nll"] == pytest.approx(nll, rel=1e-4)
    assert "mine.keras holds a plain Sequential, which is evaluated as a single network" in capsys.readouterr().out
    main(runs[0], "--output-dir", tmp_path / "run")  # a folder without settings, so that the data must be named
    table = main(
        "--compare", tmp_path / "run", tmp_path / "mine.keras", "--dataset", "digits", "--output-dir", tmp_path / "both"
    )
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        f"| {runs[0].name[: -len('-seed0')]}",
        "| mine",
    ]
    assert json.loads((tmp_path / "both" / "mine" / "metrics.json").read_text())["ensemble"] == figures["ensemble"]
    assert (tmp_path / "both" / "comparison.html").exists()
    with pytest.raises(SystemExit, match=r"error: --compare evaluates a \.keras file on the test images of a run"):
        main("--compare", tmp_path / "run", tmp_path / "mine.keras", "--output-dir", tmp_path / "both")


def test_corrupted_images_of_a_folder_are_of_all_classes(tmp_path):
    """A folder's images come class by class: the first ones would be of one class alone."""
    for number in range(60):
        path = tmp_path / "photos" / ("cat" if number < 30 else "dog") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, "uint8")).save(path)
    _, _, corrupted = next(shifted_data.corrupted("on_the_fly", f"{tmp_path / 'photos'}@8", None, 8))
    labels = np.concatenate([labels for _, labels in corrupted])
    assert len(labels) == 8
    assert set(labels) == {0, 1}


def test_what_is_refused(runs, tmp_path):
    tiny.model(num_classes=10).save(tmp_path / "colour.keras")
    tiny.model(num_classes=3, input_shape=(8, 8, 1)).save(tmp_path / "three.keras")
    out = ("--output-dir", tmp_path / "out")
    for arguments, message in [
        ((tmp_path / "nothing",), "There is no .*nothing"),
        ((runs[0], runs[1]), "Several paths are one deep ensemble with --ensemble"),
        ((runs[0], runs[1], "--ensemble"), "Name the report's folder with --output-dir"),
        ((runs[0], "--save-calibrated"), "pass both"),
        ((tmp_path / "colour.keras", *out), "The paths name 0 datasets: pass one with --dataset"),
        (
            (tmp_path / "colour.keras", "--dataset", "digits", *out),
            r"images \(8, 8, 3\), those of digits are \(8, 8, 1\)",
        ),
        ((tmp_path / "three.keras", "--dataset", "digits", *out), "The dataset has 10 classes, the model 3"),
        ((runs[0], "--corruptions", "tfds"), "No corrupted images of digits were published"),
        (("--compare", tmp_path, *out), "holds no evaluation"),
        ((tmp_path, "--dataset", "digits", *out), "There is no .*last.keras: pass a folder that a recipe finished"),
    ]:
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            main(*arguments)
    assert not (tmp_path / "out").exists()
    zero = (runs[0], "--corruptions", "on_the_fly", "--corruption-images", 0)
    for arguments in (("--compare", runs[0], "--temperature"), (runs[0], "--corruption-images", 5), zero):
        with pytest.raises(SystemExit, match="2"):
            main(*arguments)


@pytest.fixture
def photos(tmp_path):
    """A folder of ten images in each of two classes, and the file of a network of theirs that lies in no run."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (8, 8, 3))
            keras.utils.save_img(tmp_path / "photos" / name / f"{number}.png", pixels, scale=False)
    dataset = f"{tmp_path / 'photos'}@8"
    recipe = Recipe(dataset=dataset, method="cut_mixmo", backbone="tiny_4", seed=0).resolved()
    build(recipe, datasets.info(dataset)).save(tmp_path / "model.keras")
    return tmp_path / "photos"


def test_a_lone_file_knows_its_classes(photos, tmp_path):
    arguments = (tmp_path / "model.keras", "--dataset", f"{photos}@8", "--output-dir", tmp_path / "out")
    (photos / "dog").rename(photos / "ant")
    with pytest.raises(SystemExit, match=r"model.keras numbers the classes .*classes were added \(ant\)"):
        main(*arguments)
    (photos / "cat").rename(photos / "dog")
    (photos / "ant").rename(photos / "cat")  # which can't be known from names
    recipe = Recipe(dataset=f"{photos}@8", backbone=str(tmp_path / "model.keras"), method="cut_mixmo", seed=0)
    (photos / "cat").rename(photos / "zebra")
    with pytest.raises(ValueError, match=r"model.keras learned the classes in another order \(dog was 1, and is 0\)"):
        build(recipe.resolved(), datasets.info(recipe.dataset))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_answers_to_a_folder_name_its_files(photos, tmp_path):
    arguments = (tmp_path / "model.keras", "--dataset", f"{photos}@8")
    figures = main(*arguments, "--label-issues", "--output-dir", tmp_path / "before")
    now = manifest.of(f"{photos}@8")
    for file, split in (("answers.csv", "test"), ("label_issues.csv", "train")):
        with open(tmp_path / "before" / file, newline="") as lines:
            assert sorted(row["file"] for row in csv.DictReader(lines)) == sorted(now.names(split))
    (photos / now.names("test")[0]).write_bytes((photos / now.names("train")[0]).read_bytes())
    assert main(*arguments, "--output-dir", tmp_path / "after")["test_set"] != figures["test_set"]
    with pytest.raises(SystemExit, match="different test images, of other datasets or of a folder that has changed"):
        main("--compare", tmp_path / "before", tmp_path / "after", "--output-dir", tmp_path / "comparison")


def test_files_of_a_recipe_with_few_images(photos):
    recipe, now = Recipe(dataset=f"{photos}@8", train_images=5, data_seed=2), manifest.of(f"{photos}@8")
    images = [image.numpy() for image, _ in splits.load(recipe, "train")]
    names = splits.image_names(recipe, now)
    assert len(names) == 5
    for name, image in zip(names, images, strict=True):
        np.testing.assert_array_equal(keras.utils.img_to_array(keras.utils.load_img(photos / name)), image)


def test_the_card_of_both_modes():
    ensemble = {"accuracy": 0.9876, "nll": 0.12345}
    speed = {"ensemble": 1234.5, "multiplexed": 2200.0, "device": "CPU", "batch": 64}
    multiplexed = {"images_a_pass": 2, "network": {"accuracy": 0.9, "nll": 0.3}, "images_per_second": speed}
    sections = wording.card_sections({"ensemble": ensemble, "multiplexed": multiplexed})
    assert sections["2 images a pass"] == {
        "accuracy, ensemble": "98.76%",
        "accuracy, multiplexed": "90.00%",
        "NLL, ensemble": "0.1235",
        "NLL, multiplexed": "0.3000",
        "images per second, ensemble": "1,234",
        "images per second, multiplexed": "2,200",
        "measured": "where it was evaluated, on CPU, 64 images at once",
    }


def test_a_report_names_what_its_run_learned_from(tmp_path):
    config = {"dataset": "photos@96", "train_split": "train", "train_images": 1200, "label_noise": 0.4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert evaluating.of_run([tmp_path], "photos@96").data == (
        "Learned from 1,200 of its train images of photos@96, a rate of 0.4 of their labels drawn anew."
    )


def test_a_model_is_called_as_its_run_and_runs_as_what_their_seeds_leave(tmp_path):
    run, alone = tmp_path / "digits-1000images-noise0.4-data3-single-wrn10_2-seed3", tmp_path / "mine.keras"
    run.mkdir()
    (run / "config.json").write_text("{}")
    named = [evaluating.name_of(path) for path in (run, run / "last.keras", run / "best.keras", alone)]
    assert named == [run.name, run.name, f"{run.name}, best", "mine"]
    common = "digits-1000images-noise0.4-single-wrn10_2"
    assert [evaluating.without_seed(name) for name in named] == [common, common, f"{common}, best", "mine"]
    assert evaluating.without_seed("my-data1_64-single-wrn10_2-seed0-of2") == "my-data1_64-single-wrn10_2-of2"
