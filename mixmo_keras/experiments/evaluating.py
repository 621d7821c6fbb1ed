"""Evaluates what recipes trained, or any saved models: what recipes/evaluate.py does."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mixmo_keras import datasets, evaluation
from mixmo_keras.common import arguments, files
from mixmo_keras.common.console import say
from mixmo_keras.datasets import manifest
from mixmo_keras.evaluation import report
from mixmo_keras.evaluation.summary import Run
from mixmo_keras.experiments import logs, results, shifted_data, splits
from mixmo_keras.experiments.options import Data
from mixmo_keras.experiments.recipe import Recipe, checked, method_options
from mixmo_keras.experiments.task import task_of
from mixmo_keras.models import by_name
from mixmo_keras.models.deep_ensemble import DeepEnsemble
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE, Ensemble
from mixmo_keras.models.from_classifier import from_classifier, loaded
from mixmo_keras.models.temperatures import LEAST_IMAGES
from mixmo_keras.multiplexing import wording
from mixmo_keras.serving import versions


def evaluate_runs(
    paths: Sequence[Path],
    ensemble: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    temperature: bool = False,
    multiplexed: bool = False,
    save_calibrated: bool = False,
    export: Path | None = None,
    before_export: Callable[[], Any] | None = None,
    coverage: float | None = None,
    threshold: bool = False,
    ood: str | None = None,
    corruptions: str | None = None,
    corruption_images: int | None = None,
    label_issues: bool = False,
    label_noise: float | str | None = None,
    output_dir: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Evaluates a run, a saved model, or several as one deep ensemble; writes the report and returns its figures.

    Args:
        paths: Folders of runs, or .keras files, which may hold plain Keras classifiers.
        ensemble: Whether to take the networks of all paths as one deep ensemble.
        dataset: A dataset's name or a folder. Defaults to the runs' own.
        data_dir: Folder of TensorFlow Datasets.
        temperature: Whether to calibrate on the validation split, which must not be trained on.
        multiplexed: Whether to evaluate M images a pass too.
        save_calibrated: Whether to save the calibrated model beside the report.
        export: Folder to export the model to, with its figures. Defaults to none.
        before_export: Is called when the report is written, before the export. Defaults to nothing.
        coverage: Coverage of the conformal sets. Defaults to that of `evaluation.evaluate`.
        threshold: Whether what is saved or exported names the second of two classes from a probability on that is chosen on
            the validation images, for the highest balanced accuracy.
        ood: Name of a dataset of other images, to be told from the test images, such as `"svhn"`. Of one with the model's
            classes, such as `"imagenet_a"`, also accuracy, NLL and ECE.
        corruptions: `"on_the_fly"` corrupts the test images here, `"published"` reads CIFAR-10-C and its like, which can
            also be named: `"cifar10_c"`, `"cifar100_c"`, `"imagenet_c"`.
        corruption_images: Number of test images to corrupt. Defaults to 2000.
        label_issues: Whether to rank the labels that the run was trained on by how suspicious they are.
        label_noise: The rate of wrong labels among those that the temperature is fitted on, or `"estimate"`.
        output_dir: Folder of the report. Defaults to the run's evaluation/.
        overwrite: Whether the export may replace a version that is there.
    """
    logs.quiet()
    folder = _report_folder(paths, ensemble, output_dir)
    if save_calibrated and not temperature:
        raise ValueError("--save-calibrated saves a model with its --temperature: pass both.")
    if coverage is not None:
        arguments.number("coverage", coverage, above=0, below=1)
    name = dataset or dataset_of(paths)
    model, model_name = load(paths, ensemble)
    info = _info(name, data_dir, model)
    now = _check_data(paths, model, name, data_dir)
    if export is not None:
        versions.check(Path(export), overwrite)  # before all is evaluated, not after
    num_corrupted = 2000 if corruption_images is None else arguments.integer("corruption_images", corruption_images, 1)
    at_once = model.task.at_once(model.image_shape, EVALUATED_AT_ONCE)
    data = _data(paths, now, data_dir, label_issues, at_once)
    if data["validation"] is None and (temperature or coverage is not None):
        raise ValueError(
            f"{'--temperature' if temperature else '--coverage'} is fitted on the validation images of {name}, which were "
            "trained on here (train_split train+validation). Train with --train-split train to hold them out."
        )
    evaluated = evaluation.evaluate(
        model,
        class_names=info.class_names,
        temperature=temperature,
        multiplexed=multiplexed,
        coverage=coverage,
        out_of_distribution=None if ood is None else shifted_data.out_of_distribution(ood, model.image_shape, data_dir),
        out_of_distribution_name=ood,
        other_test_sets=shifted_data.other_test_set(ood, info, data_dir),
        reference_errors=datasets.ALEXNET_ERRORS if shifted_data.is_imagenet_c(corruptions, name) else None,
        corrupted=None if corruptions is None else shifted_data.corrupted(corruptions, name, data_dir, num_corrupted),
        name=model_name,
        label_noise=label_noise,
        **data,
    )
    evaluated.figures["trained_on_validation"] = data["validation"] is None
    evaluated.figures.update(test_set=now.test_set(), dataset=name)
    if threshold:
        _apply_threshold(model, evaluated.figures)
    run = of_run(paths, name)
    if run.settings and not model.task.why_only_classes():
        run = dataclasses.replace(run, before=_before(paths, data["test"], info))
    page = report.write(evaluated, folder, run)
    say(report.table(evaluated.figures, run))
    say(f"report: {page}")
    if save_calibrated:
        _save_calibrated(model, evaluated.figures["temperature"], folder / "calibrated.keras")
    if before_export is not None:
        before_export()
    if export is not None:
        card = model_card(evaluated.figures, info) | _training_card(paths)
        say(f"exported: {model.export(export, class_names=info.class_names, card=card, overwrite=overwrite)}")
    return evaluated.figures


def _check_data(paths: Sequence[Path], model: Ensemble, name: str, data_dir: str | None) -> manifest.Manifest:
    """Says what was understood of other data than a run's own, and what has changed; raises where figures would be wrong."""
    now = manifest.of(name, data_dir)
    if any(config.get("dataset") != name for config in _configs(paths)) or not _configs(paths):
        say(datasets.describe(name, data_dir))
    for path in paths:
        if note := manifest.check_met_again(path if path.is_dir() else path.absolute().parent, now):
            say(note)
    if model.class_names is not None:  # of a file that lies beside no manifest
        manifest.check_classes(model.class_names, now, ", ".join(map(str, paths)))
    return now


def _apply_threshold(model: Ensemble, figures: dict[str, Any]) -> None:
    if "threshold" not in figures:
        raise no_threshold(len(figures.get("classes", ())), figures["images"]["validation"])
    model.average.threshold = figures["threshold"]["value"]
    figures["threshold"]["applied"] = True


def no_threshold(num_classes: int, num_images: int) -> ValueError:
    """The error of so many classes and validation images that no threshold is chosen."""
    return ValueError(
        f"--threshold is chosen for two classes on {LEAST_IMAGES} validation images or more, of both classes: there are "
        f"{num_classes} classes and {num_images} such images."
    )


def check_threshold(recipe: Recipe) -> None:
    """Raises `ValueError` before a training where a threshold can't be chosen after it."""
    info, num_images = datasets.info(recipe.dataset, recipe.data_dir), 0
    num_classes = 0 if task_of(recipe, info).why_only_classes() else info.num_classes
    if recipe.holds_out:
        num_images = datasets.steps_per_epoch(splits.load(recipe, "validation", recipe.data_dir), 1)
    if num_classes != 2 or num_images < LEAST_IMAGES:
        raise no_threshold(num_classes, num_images)


def _save_calibrated(model: Ensemble, temperature: Mapping[str, Any], file: Path) -> None:
    """Saves the model with what was fitted; where that is nothing, says so, and leaves no file of an earlier one."""
    not_applied = temperature.get("not_applied")
    if not_applied and "also_fitted" not in temperature:
        file.unlink(missing_ok=True)
        say(f"{file.name} is not written: the temperature is not applied, {not_applied['why']}")
        return
    with files.replacing(file) as part:
        model.save(part)


def _data(
    paths: Sequence[Path], now: manifest.Manifest, data_dir: str | None, label_issues: bool, at_once: int
) -> dict[str, Any]:
    """The data to evaluate on: test; validation, None where it was trained on; labels to be ranked; and names of files."""
    name = now.dataset
    trained_on = data_settings(paths, name)

    def batches(split: str) -> tf.data.Dataset:
        return datasets.batches(splits.load(trained_on, split, data_dir), at_once)

    data: dict[str, Any] = {"test": batches("test"), "test_names": now.names("test"), "validation": None}
    if not trained_on_validation(paths, name):
        data["validation"] = batches("validation")
    if label_issues:
        data["labelled"] = batches(trained_on.train_split)
        data["labelled_names"] = splits.image_names(trained_on, now)
        data["right_labels"] = splits.right_labels(trained_on, trained_on.train_split, data_dir)
    return data


def of_run(paths: Sequence[Path], dataset: str) -> Run:
    """The report's metadata of the evaluated run; few for several runs, or for a file that belongs to no run.

    The single network stands beside a run's last epoch on its own data alone.
    """
    folders = [path if path.is_dir() else path.parent for path in paths]
    if len(folders) != 1 or not (folders[0] / "config.json").is_file():
        return Run()
    folder, (config,) = folders[0], _configs(paths)
    trained = folder / "metrics.json"
    seconds = (
        files.read_json_object(trained, "run the recipe again").get("training_seconds") if trained.is_file() else None
    )
    of_what = (
        "its train and validation images" if config.get("train_split") == "train+validation" else "its train images"
    )
    some = f"{config['train_images']:,} of " if config.get("train_images") else ""
    wrong = f", a rate of {config['label_noise']:g} of their labels drawn anew" if config.get("label_noise") else ""
    settings = {name: value for name, value in config.items() if name != "versions"} | config.get("versions", {})
    return Run(
        settings=settings,
        log=logs.read(folder / "log.csv"),
        seconds=seconds,
        data=f"Learned from {some}{of_what} of {config.get('dataset')}{wrong}.",
        single=_single_beside(folder, config) if paths[0].is_dir() and dataset == config.get("dataset") else None,
    )


def _before(paths: Sequence[Path], test, info: datasets.Info) -> dict[str, Any] | None:
    """The figures of the classifier as which a run began, on the run's classes.

    None where it didn't begin as one, or where the file is another by now or knows other classes.
    """
    (config,) = _configs(paths)
    file = Path(config.get("backbone") or "")
    if results.DIGEST not in config or not file.is_file() or files.digest(file) != config[results.DIGEST]:
        return None
    if by_name.other_classes(loaded(file), info.num_classes):
        return None
    options: dict[str, Any] = dict(num_classes=info.num_classes, input_shape=info.image_shape, verbose=False)
    classifier = by_name.model_of("single", str(file), **options)
    return evaluation.evaluate(classifier, test, class_names=info.class_names, name=file.name).figures


def _single_beside(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation of the single network that lies beside a run of several members, trained alike: None without one."""
    if config.get("method") in (None, "single", "cosub"):
        return None
    advice = "remove it, or evaluate that run again"
    # a rate follows from the images of a step, of which members have fewer
    own = method_options() | {"method", "learning_rate", "schedule", "versions", "epochs_before"}
    for beside in sorted(folder.resolve().parent.glob("*-single-*")):
        found, settings = beside / "evaluation" / "metrics.json", beside / "config.json"
        if not (found.is_file() and settings.is_file()):
            continue
        others = files.read_json_object(settings, advice)
        alike = (config.keys() | others.keys()) - own
        if others.get("method") == "single" and all(others.get(name) == config.get(name) for name in alike):
            figures = files.read_json_object(found, advice)
            return figures if "answers" in figures else None
    return None


def _report_folder(paths: Sequence[Path], ensemble: bool, output_dir: Path | None) -> Path:
    if missing := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(f"There is no {missing[0]}.")
    if len(paths) > 1 and not ensemble:
        raise ValueError("Several paths are one deep ensemble with --ensemble, or evaluations with --compare.")
    arguments.different("paths", [path.resolve() for path in paths])
    if output_dir is not None:
        if (output_dir / "config.json").exists():
            raise ValueError(
                f"--output-dir {output_dir} holds a run, whose metrics.json the report would replace: pass another folder."
            )
        return output_dir
    if ensemble or not paths[0].is_dir():
        raise ValueError("Name the report's folder with --output-dir: what is evaluated has no run folder of its own.")
    return paths[0] / "evaluation"


def _info(name: str, data_dir: str | None, model: Ensemble) -> datasets.Info:
    info = datasets.info(name, data_dir)
    if model.image_shape != info.image_shape:
        raise ValueError(f"The model takes images {model.image_shape}, those of {name} are {info.image_shape}.")
    return info


def load(paths: Sequence[Path], ensemble: bool) -> tuple[Ensemble, str]:
    """The model of the paths and its name."""
    saved = [results.kept_file(path) if path.is_dir() else path for path in paths]
    for file in saved:
        if not file.is_file():
            raise FileNotFoundError(f"There is no {file}: pass a folder that a recipe finished, or a .keras file.")
    models = [_model_in(file, compile=not ensemble) for file in saved]
    names = [name_of(path) for path in paths]
    if not ensemble:
        return models[0], names[0]
    seedless = {without_seed(name) for name in names}
    name = f"{seedless.pop()}, {len(names)} networks" if len(seedless) == 1 else " + ".join(names)
    return DeepEnsemble(models), name


def _model_in(file: Path, compile: bool) -> Ensemble:
    """The ensemble in a file; of a plain Keras classifier the single network that gives its answers."""
    model = keras.models.load_model(file, compile=compile)
    if isinstance(model, Ensemble):
        return model
    say(f"{file} holds a plain {type(model).__name__}, which is evaluated as a single network")
    return from_classifier(model, method="single", verbose=False)


def name_of(path: Path) -> str:
    """The name of a run, of which one file is the model, or of a file."""
    if path.is_dir():
        return path.resolve().name
    if not (path.parent / "config.json").is_file():
        return path.stem
    run = path.resolve().parent.name
    return run if path.stem == "last" else f"{run}, {path.stem}"


def trained_on_validation(paths: Sequence[Path], dataset: str) -> bool:
    """Whether one of the runs was trained on the validation images of a dataset; a .keras file is its folder's run's."""
    settings = _configs(paths)
    on_all = {
        datasets.registry.path_and_size(one.get("dataset", ""))[0]
        for one in settings
        if one.get("train_split") == "train+validation"
    }
    return datasets.registry.path_and_size(dataset)[0] in on_all  # the same images in whatever size


def dataset_of(paths: Sequence[Path]) -> str:
    """The dataset that the runs say they were trained on."""
    configs = _configs(paths)
    if not all(isinstance(config.get("dataset"), str) for config in configs):
        raise ValueError("A config.json beside the model is damaged, it names no dataset: pass one with --dataset.")
    names = {config["dataset"] for config in configs}
    if len(names) != 1:
        raise ValueError(f"The paths name {len(names)} datasets: pass one with --dataset.")
    return names.pop()


def data_settings(paths: Sequence[Path], dataset: str) -> Data:
    """The settings about the dataset that the runs were trained on; without runs, or of another dataset, the defaults.

    Raises:
        ValueError: several runs with other images or labels each.
    """
    configs = _configs(paths)
    names = [field.name for field in dataclasses.fields(Data)]
    settings = [Data(**{name: config[name] for name in names if name in config}) for config in configs]
    settings = [Data(**checked(one)) for one in settings if one.dataset == dataset]
    if len({(one.train_images, one.label_noise, one.noise_kind, one.data_seed) for one in settings}) > 1:
        raise ValueError("The runs learned from other images or labels: evaluate each by itself.")
    return settings[0] if settings else Data(dataset=dataset)


def _configs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The settings of runs, and of those that .keras files lie in; nothing of files that are no run's."""
    found = [(path if path.is_dir() else path.parent) / "config.json" for path in paths]
    advice = "pass the .keras file from another folder, with --dataset"
    return [files.read_json_object(file, advice) for file in found if file.is_file()]


def without_seed(name: str) -> str:
    """What runs that differ in their seeds alone, that of training and that of the data, have in common."""
    return re.sub(r"-(seed|data)\d+(?=\W|$)", "", name)


def model_card(figures: Mapping[str, Any], info: datasets.Info) -> dict[str, Any]:
    """What an exported model's card says of its evaluation."""
    ensemble, images, temperature = figures["ensemble"], figures["images"], figures["temperature"]
    calibration = f"; temperature {temperature['value']:.4f} fitted on {temperature['fitted_on']:,} validation images."
    columns = report.of_task(figures["task"]) if "task" in figures else report.COLUMNS
    card = {
        "Data": f"{info.name}: tested on {images['test']:,} images of its test split"
        + (calibration if temperature["fitted_on"] else ".")
        + (" Trained on its validation split too." if figures.get("trained_on_validation") else ""),
        "Figures": {column.title: report.formatted(ensemble[name], column.form) for name, column in columns.items()},
        "Name": figures["name"],
    }
    return card | wording.card_sections(figures)


def _training_card(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The model card's text on the training of one run; empty for several runs, or for a file that belongs to no run."""
    configs = _configs(paths)
    if len(configs) != 1 or len(paths) != 1:
        return {}
    left_out = ("versions", "epochs_before")
    return {"Training": {name: value for name, value in configs[0].items() if value and name not in left_out}}
