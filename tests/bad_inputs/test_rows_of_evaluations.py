"""The recipe `evaluate`: evaluations side by side, and runs that were damaged."""

import json
import shutil

import evaluate
import pytest
from bad_inputs.damaged_files import CONTENTS, VALUES, at
from bad_inputs.harness import LossError, Row, check, each

from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.experiments import Recipe, build

pytestmark = pytest.mark.slow

# -- evaluations side by side ------------------------------------------------------------------------------------------

EVALUATION = {
    "name": "run-seed0",
    "images": {"test": 360, "validation": 180},
    "parameters": 1000,
    "ensemble": dict(accuracy=0.9, nll=0.5, brier=0.1, ece=0.1, errors_auroc=0.8, aurc=0.1),
    "nll_c": 0.5,
    "diversity": {"ratio_of_errors": 1.0},
}
ELSEWHERE = {"out_of_distribution": {"dataset": "cifar10", "measures": {"entropy": {"auroc": 0.9}}}}
CORRUPTED = {"corruptions": {"mean_accuracy": 0.7}}


def side_by_side(content, *words, sound=True):
    """Compares a sound evaluation with one that has something else in its file."""

    def call(here):
        first, second = here.folder / "first", here.folder / "second" / "evaluation"
        for folder in (first, second):
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps(EVALUATION))
        (second / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content))
        paths = [*([str(first)] if sound else []), str(second.parent)]
        return evaluate.main(["--compare", *paths, *words, "--output-dir", str(here.folder / "out")])

    return call


def refused(*words, pattern):
    return Row(f"evaluate.py {' '.join(words)}", side_by_side(EVALUATION, *words), pattern)


COMPARED = [
    *[
        Row(f"--compare, metrics.json of {kind}", side_by_side(content), r"metrics\.json .*damaged|holds no evaluation")
        for kind, content in CONTENTS.items()
    ],
    *[
        Row(
            f"--compare, {value!r} at {place}",
            side_by_side(at(EVALUATION, place, value)),
            "damaged|holds no evaluation",
        )
        for place in (
            "name",
            "images",
            "images/test",
            "ensemble",
            "ensemble/accuracy",
            "ensemble/aurc",
            "diversity",
            "parameters",
        )
        for value in ("absent", *(one for one in VALUES if one is not None))
        if not (place == "name" and value == "x")
    ],
    *[
        Row(
            f"--compare, {value!r} in the detection at {place}",
            side_by_side(at(EVALUATION | ELSEWHERE, place, value)),
            "damaged",
        )
        for place in (
            "out_of_distribution/dataset",
            "out_of_distribution/measures",
            "out_of_distribution/measures/entropy/auroc",
        )
        for value in ("absent", [], True)
    ],
    *[
        Row(
            f"--compare, {value!r} in the corruptions",
            side_by_side(at(EVALUATION | CORRUPTED, "corruptions/mean_accuracy", value)),
            "damaged",
        )
        for value in ("absent", "x", [])
    ],
    Row("--compare, another test set", side_by_side(at(EVALUATION, "images/test", 7)), "different test sets"),
    Row("--compare, sound", side_by_side(EVALUATION)),
    Row("--compare, one alone", side_by_side(EVALUATION, sound=False)),
    *[
        refused(*words, pattern="evaluates nothing, and has no use for")
        for words in (["--temperature"], ["--multiplexed"], ["--ensemble"], ["--dataset=digits"], ["--coverage=0.9"])
    ],
    *[
        refused(*words, pattern="evaluates nothing, and has no use for")
        for words in (
            ["--ood=cifar10"],
            ["--label-issues"],
            ["--export=x"],
            ["--save-calibrated"],
            ["--label-noise=0.1"],
        )
    ],
    refused("--corruptions=nonsense", pattern="invalid choice"),
    Row("--compare, twice the same", lambda here: twice(here), "twice|different"),
    Row("--compare (nothing)", lambda here: evaluate.main(["--compare"]), "required"),
    Row(
        "--compare (no such folder)",
        lambda here: evaluate.main(["--compare", str(here.folder / "no")]),
        "holds no evaluation",
    ),
]


def twice(here):
    side_by_side(EVALUATION)(here)
    first = str(here.folder / "first")
    return evaluate.main(["--compare", first, first, "--output-dir", str(here.folder / "out")])


@each(COMPARED)
def test_evaluations_side_by_side(row, here, record_property):
    check(row, here, record_property)


# -- a run that is evaluated -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that was not trained."""
    settings = Recipe(dataset="digits", backbone="tiny_4", output_dir=str(tmp_path_factory.mktemp("run"))).resolved()
    files.write_json(settings.folder / "config.json", settings.settings())
    build(settings, datasets.info("digits")).save(settings.folder / "last.keras")
    return settings.folder


@pytest.fixture
def of_trained(here, trained):
    here.trained = trained
    return here


def evaluated(*words, change=lambda folder: None):
    """Evaluates a copy of the run in which something was changed; nothing of the run may be lost."""

    def call(here):
        folder = here.folder / here.trained.name
        shutil.copytree(here.trained, folder)
        change(folder)
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        try:
            return evaluate.main([str(folder), *map(str, words)])
        finally:
            if [path for path, content in before.items() if not path.exists() or path.read_bytes() != content]:
                raise LossError("files of the run have changed")

    return call


def with_config(**changes):
    def change(folder):
        path = folder / "config.json"
        settings = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in settings.items() if value != "absent"}))

    return change


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(folder):
    path = folder / "last.keras"
    path.write_bytes(path.read_bytes()[:2000])


EVALUATED = [
    *[
        Row(
            f"evaluate.py RUN, config.json of {kind}",
            evaluated(change=written("config.json", content)),
            r"config\.json .*damaged|name 0 datasets|dataset",
        )
        for kind, content in CONTENTS.items()
    ],
    *[
        Row(
            f"evaluate.py RUN, {name} {value!r} in config.json",
            evaluated(change=with_config(**{name: value})),
            f"config.json .*damaged|`{name}`",
        )
        for name, values in {
            "dataset": ("absent", 3, None, [], "nonsense"),
            "train_images": ("x", 0, -1, 1.5),
            "label_noise": ("x", -1, 2, None),
            "noise_kind": ("x", 3),
            "data_seed": ("x", -1),
            "train_split": ("x", 3, None),
        }.items()
        for value in values
    ],
    *[
        Row(f"evaluate.py RUN, last.keras {kind}", evaluated(change=change), r"error: .*last\.keras")
        for kind, change in {
            "of nothing": written("last.keras", b""),
            "of text": written("last.keras", "no model"),
            "cut off": cut,
            "gone": lambda folder: (folder / "last.keras").unlink(),
            "a folder": lambda folder: [(folder / "last.keras").unlink(), (folder / "last.keras").mkdir()],
        }.items()
    ],
    *[
        Row(f"evaluate.py RUN --coverage={value}", evaluated(f"--coverage={value}"), "`coverage`")
        for value in (0, 1, -1, 2, "nan")
    ],
    *[
        Row(
            f"evaluate.py RUN --label-noise={value}",
            evaluated(f"--label-noise={value}", "--temperature"),
            "`label_noise`|invalid",
        )
        for value in (-0.1, 1, 2, "nan", "guess")
    ],
    Row(
        "evaluate.py RUN --label-noise without --temperature",
        evaluated("--label-noise=0.1"),
        "label.noise.*temperature",
    ),
    *[
        Row(
            f"evaluate.py RUN --corruption-images={value}",
            evaluated("--corruptions=on_the_fly", f"--corruption-images={value}"),
            "--corruption-images|corruption_images|invalid int",
        )
        for value in (0, -1, 1.5, "x")
    ],
    Row(
        "evaluate.py RUN --corruptions tfds",
        evaluated("--corruptions=tfds"),
        "No corrupted images of digits were",
    ),
    *[
        Row(f"evaluate.py RUN --ood={value}", evaluated(f"--ood={value}"), "`dataset`")
        for value in ("nonsense", "", "/no/such")
    ],
    *[
        Row(f"evaluate.py RUN --dataset={value}", evaluated(f"--dataset={value}"), "`dataset`|`size`")
        for value in ("nonsense", "digits@0", "no@8")
    ],
    Row("evaluate.py RUN --dataset digits@16", evaluated("--dataset=digits@16"), r"takes images \(8, 8, 1\)"),
    Row("evaluate.py RUN --save-calibrated", evaluated("--save-calibrated"), "pass both"),
    Row("evaluate.py RUN --export /proc", evaluated("--export=/proc/x/1"), "can't be written into"),
    Row("evaluate.py RUN --export FILE", evaluated("--export", __file__), "can't be written into|must be"),
    Row("evaluate.py RUN --output-dir FILE", evaluated("--output-dir", __file__), "error: .*"),
    Row("evaluate.py RUN RUN", lambda here: evaluate.main([str(here.trained)] * 2), "with --ensemble"),
    Row(
        "evaluate.py RUN RUN --ensemble (the same twice)",
        lambda here: evaluate.main([*[str(here.trained)] * 2, "--ensemble", "--output-dir", str(here.folder)]),
        "twice",
    ),
]


@each(EVALUATED)
def test_evaluated_runs(row, of_trained, record_property):
    check(row, of_trained, record_property)
