"""A recipe of each task: run, evaluated with its report, exported; what its data refuse."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import scenes
import tensorflow as tf
import tiny

from mixmo_keras import datasets, tasks
from mixmo_keras.experiments import logs, run
from mixmo_keras.experiments.evaluating import evaluate_runs
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.experiments.task import task_of

SMALL = ["--backbone", "tiny_4", "--epochs", "2", "--train-images", "480", "--batch-size", "240"]
ASKED = {name: ["--task", name] for name in ("multi_label", "binary", "regression", "segmentation")} | {
    "multi_label": []
}


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", ASKED)
def test_from_data_to_report(name, tmp_path, capsys):
    folders = ["--output-dir", str(tmp_path / "runs"), "--export-dir", str(tmp_path / "served")]
    figures = scenes.main([*SMALL, *ASKED[name], *folders])
    (folder,) = (tmp_path / "runs").iterdir()
    task = tasks.BY_NAME[name]
    log = logs.read(folder / "log.csv")
    assert {f"val_{task.watched}", "val_member_1_" + task.watched, task.monitor[0]} <= log[0].keys()
    best = {"min": min, "max": max}[task.monitor[1]](log, key=lambda row: row[task.monitor[0]])
    assert figures["validation"]["best"]["epoch"] == best["epoch"] + 1
    assert (folder / "best.keras").is_file()

    exported, was_exported = tmp_path / "exported", []
    evaluated = evaluate_runs(
        [folder],
        temperature=True,
        save_calibrated=True,
        before_export=lambda: was_exported.append(exported.exists()),
        export=exported,
    )
    assert was_exported == [False]
    temperature, calibrated = evaluated["temperature"], folder / "evaluation" / "calibrated.keras"
    assert calibrated.exists() == (temperature["fitted_on"] > 0 or bool(task.also_fitted))
    model = keras.models.load_model(calibrated if calibrated.exists() else folder / "last.keras")
    assert evaluated["task"] == name == model.task.name
    assert temperature["fitted_on"] == (0 if "not_applied" in temperature else evaluated["images"]["validation"])
    if task.also_fitted:
        assert temperature["also_fitted"] == {"what": task.also_fitted, "on": evaluated["images"]["validation"]}
    assert json.loads((folder / "evaluation" / "metrics.json").read_text()) == evaluated
    page = (folder / "evaluation" / "report.html").read_text()
    titles = [column.title for column in task.columns.values()]
    for part in (*evaluated["headline"], *evaluated["names"], *titles, "Images of most doubt"):
        assert part in page
    assert evaluated["headline"][0] in capsys.readouterr().out

    dataset = datasets.load(f"digit_scenes_{scenes.OF_TASK.get(name, name)}", "test")
    images = np.stack([image for image, _ in dataset.take(4).as_numpy_iterator()])
    served = tf.saved_model.load(str(exported / "1")).signatures["uint8"](images=tf.constant(images))
    answers = model.answers(images)
    assert served["names"].numpy()[0].tolist() == [name.encode() for name in evaluated["names"]]
    for answer, values in ((answer, values) for answer, values in served.items() if answer != "names"):
        np.testing.assert_allclose(values, answers[answer], rtol=1e-4, atol=1e-4, err_msg=answer)


NAMES = ("cat", "dog", "cow")


@pytest.mark.parametrize(
    ("asked", "of_data", "expected"),
    [
        (None, "classes", tasks.Classification(3)),
        (None, "shares", tasks.Classification(3)),
        ("classification", "classes", tasks.Classification(3)),
        ("multi_label", "shares", tasks.MultiLabel(NAMES)),
        ("regression", "numbers", tasks.Regression(NAMES)),
        (None, tasks.MultiLabel(3), tasks.MultiLabel(3)),
        ("multi_label", tasks.MultiLabel(3), tasks.MultiLabel(3)),
    ],
)
def test_the_task_is_that_of_the_data_or_what_is_asked_for(asked, of_data, expected):
    said = {"target_kind": of_data} if isinstance(of_data, str) else {"task": of_data}
    info = datasets.Info("pets", tiny.SHAPE, NAMES, **said)
    assert task_of(Recipe(task=asked), info) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(task="regression"), r"`task` \(=regression\) must be multi_label for pets, whose targets are those of"),
        (dict(label_noise=0.2), r"`label_noise` \(=0.2\) is about one class an image, and the task is MultiLabel"),
        (dict(label_smoothing=0.1), r"`label_smoothing` \(=0.1\) is about one class an image"),
    ],
)
def test_what_other_tasks_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        task_of(Recipe(**options), datasets.Info("pets", tiny.SHAPE, NAMES, task=tasks.MultiLabel(3)))


def test_classes_are_no_numbers():
    with pytest.raises(
        ValueError, match=r"`task` \(=regression\) needs numbers for each image, and pets has one class for each"
    ):
        task_of(Recipe(task="regression"), datasets.Info("pets", tiny.SHAPE, NAMES))


def test_ways_of_averaging_that_a_task_lacks_are_refused(tmp_path):
    recipe = dataclasses.replace(
        scenes.RECIPE, dataset="digit_scenes_angle", averaging="logits", output_dir=str(tmp_path)
    )
    with pytest.raises(ValueError, match="averaging='logits' is about classes and labels"):
        run(recipe)
    assert not list(tmp_path.iterdir())


def test_numbers_are_no_label_maps():
    info = datasets.Info("pets", tiny.SHAPE, NAMES, target_kind="numbers")
    with pytest.raises(ValueError, match=r"`task` \(=segmentation\) needs label maps, and pets has none"):
        task_of(Recipe(task="segmentation"), info)
