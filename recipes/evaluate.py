"""Evaluates what a recipe trained, or any saved model: a table, and a report to open in a browser.

    python recipes/evaluate.py runs/cifar10-cut_mixmo-wrn16_2-seed0 --data-dir .data --temperature
    python recipes/evaluate.py RUN --data-dir .data --ood tiny_imagenet --corruptions on_the_fly
    python recipes/evaluate.py RUN RUN --ensemble --output-dir runs/deep-ensemble --data-dir .data
    python recipes/evaluate.py model.keras --dataset cifar10 --data-dir .data --output-dir runs/mine
    python recipes/evaluate.py RUN --temperature --export saved_models/digits
    python recipes/evaluate.py --compare EVALUATION EVALUATION ... --output-dir runs/comparison

A RUN is a folder that a recipe wrote; its last.keras is evaluated on its dataset's test split, and metrics.json, metrics.csv
and report.html are written into RUN/evaluation/, or into --output-dir. --compare reads such folders, trains and evaluates
nothing, and sets them side by side, with mean ± standard deviation over runs that differ in their seed alone.
"""

import argparse
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from recipe import write_json

import mixmo_keras
from mixmo_keras import corruptions, datasets, evaluation, files, report
from mixmo_keras.datasets import resizing
from mixmo_keras.models.ensemble import Ensemble

COMPARED = ("accuracy", "nll", "brier", "ece", "errors_auroc", "aurc")


def load(paths: list[Path], ensemble: bool) -> tuple[Ensemble, str]:
    """The model of the paths and its name."""
    found = [path / "last.keras" if path.is_dir() else path for path in paths]
    for file in found:
        if not file.is_file():
            raise FileNotFoundError(f"There is no {file}: pass a folder that a recipe finished, or a .keras file.")
    models = [keras.models.load_model(file, compile=not ensemble) for file in found]
    for model, file in zip(models, found, strict=True):
        if not isinstance(model, Ensemble):
            raise ValueError(
                f"{file} holds a {type(model).__name__}, which has no members: evaluate a model of mixmo_keras."
            )
    names = [path.name if path.is_dir() else path.stem for path in paths]
    if not ensemble:
        return models[0], names[0]
    seedless = {re.sub(r"-seed\d+$", "", name) for name in names}
    name = f"{seedless.pop()}, {len(names)} networks" if len(seedless) == 1 else " + ".join(names)
    return mixmo_keras.DeepEnsemble(models), name


def dataset_of(paths: list[Path], given: str | None) -> str:
    """The dataset that the runs say they were trained on, or the one given."""
    said = {
        json.loads((path / "config.json").read_text())["dataset"] for path in paths if (path / "config.json").is_file()
    }
    if given:
        return given
    if len(said) != 1:
        raise ValueError(f"The paths name {len(said)} datasets: pass one with --dataset.")
    return said.pop()


def corrupted(source: str, dataset: str, data_dir: str | None, images: int) -> Iterator:
    """The test images under every corruption at every severity."""
    if source == "on_the_fly":
        test = datasets.batches(datasets.load(dataset, "test", data_dir).take(images), 256)
        channels = datasets.info(dataset, data_dir).image_shape[-1]
        names = [name for name in corruptions.CORRUPTIONS if channels == 3 or name != "saturate"]
        yield from evaluation.corrupted_batches(test, names)
        return
    for name, severity in datasets.corrupted_versions(dataset):
        test = datasets.load_corrupted(dataset, name, severity, data_dir)
        yield name, severity, datasets.batches(test.take(images), 256)


def out_of_distribution(name: str, shape: tuple[int, int, int], data_dir: str | None):
    """Batches of another dataset's test images, in the size and with the channels that a model takes."""
    fit = resizing.to_shape(shape)
    batches = datasets.batches(datasets.load(name, "test", data_dir), 256)
    return batches.map(lambda images, labels: (fit(images), labels))


def compare(folders: list[Path], output: Path) -> str:
    """The table of several evaluations in Markdown; also written as comparison.md, .csv and .json."""
    groups: dict[str, list[dict]] = {}
    for folder in folders:
        file = next((f for f in (folder / "evaluation/metrics.json", folder / "metrics.json") if f.is_file()), None)
        figures = json.loads(file.read_text()) if file else {}
        if "ensemble" not in figures:
            raise FileNotFoundError(f"{folder} holds no evaluation: run recipes/evaluate.py on it first.")
        groups.setdefault(re.sub(r"-seed\d+", "", figures["name"]), []).append(figures)
    sizes = {figures["images"]["test"] for group in groups.values() for figures in group}
    if len(sizes) > 1:
        raise ValueError(
            f"The evaluations are of different test sets, of {sorted(sizes)} images: they can't be compared."
        )

    def values_of(figures: dict) -> dict[str, float | None]:
        shown = {report.COLUMNS[key][0]: figures["ensemble"][key] for key in COMPARED}
        shown["NLL_c"] = figures["nll_c"]
        shown["ratio of errors"] = figures["diversity"]["ratio_of_errors"]
        if found := figures.get("out_of_distribution"):
            shown[f"AUROC {found['dataset']}"] = found["measures"]["entropy"]["auroc"]
        if found := figures.get("corruptions"):
            shown["corrupted accuracy"] = found["mean_accuracy"]
        shown["parameters"] = figures["parameters"]
        return shown

    columns = list(dict.fromkeys(key for group in groups.values() for figures in group for key in values_of(figures)))
    means, lines = [], ["| model | " + " | ".join(columns) + " | runs |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, group in groups.items():
        cells, row = [], {"model": name, "runs": len(group)}
        for column in columns:
            values = [value for figures in group if (value := values_of(figures).get(column)) is not None]
            form = "{:,.0f}" if column == "parameters" else "{:.2%}" if "accuracy" in column else "{:.4f}"
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            row[column], row[f"{column} ±"] = float(np.mean(values)) if values else None, spread
            cell = report.text(row[column], form)
            cells.append(cell if spread is None or column == "parameters" else f"{cell} ± {form.format(spread)}")
        means.append(row)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(group)} |")
    files.write_text(output / "comparison.md", "\n".join(lines) + "\n")
    write_json(output / "comparison.json", means)
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(means[0]))
    writer.writeheader()
    writer.writerows(means)
    files.write_text(output / "comparison.csv", file.getvalue())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict | str:
    """Evaluates or compares, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="folders of runs, or .keras files")
    parser.add_argument("--ensemble", action="store_true", help="take the networks of all paths as one deep ensemble")
    parser.add_argument("--compare", action="store_true", help="set evaluations side by side")
    parser.add_argument("--dataset", help="a name or a folder (default: the run's own)")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    parser.add_argument("--temperature", action="store_true", help="calibrate on the validation split")
    parser.add_argument("--save-calibrated", action="store_true", help="save the calibrated model beside the report")
    parser.add_argument("--export", type=Path, metavar="PATH", help="export it with its figures: mixmo_keras.export")
    parser.add_argument("--coverage", type=float, help="of conformal sets (default: 0.9)")
    parser.add_argument("--ood", metavar="NAME", help="dataset of images from elsewhere")
    parser.add_argument("--corruptions", choices=("on_the_fly", "tfds"), help="made here, or CIFAR-10-C through TFDS")
    parser.add_argument("--corruption-images", type=int, help="of the test split (default: 2000)")
    parser.add_argument("--output-dir", type=Path, help="default: the run's evaluation/")
    options = parser.parse_args(arguments)
    given = [name for name, value in vars(options).items() if value not in (None, False)]
    if options.compare and (unused := set(given) - {"paths", "compare", "output_dir"}):
        parser.error(f"--compare evaluates nothing, and has no use for: {', '.join(sorted(unused))}")
    if options.corruption_images is not None and not (options.corruptions and options.corruption_images > 0):
        parser.error("--corruption-images needs --corruptions, and an image at least")
    try:
        if options.compare:
            text = compare(options.paths, options.output_dir or Path("runs/comparison"))
            print(text)
            return text
        return _evaluate(options)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


def model_card(figures: dict, info: datasets.Info) -> dict:
    """What an exported model's card says of its evaluation."""
    ensemble, images = figures["ensemble"], figures["images"]
    fitted = figures["temperature"]["fitted_on"]
    calibration = f"temperature {figures['temperature']['value']:.4f}"
    return {
        "Data": f"{info.name}: tested on {images['test']:,} images of its test split"
        + (f"; {calibration} fitted on {fitted:,} validation images." if fitted else "."),
        "Figures": {title: report.text(ensemble[key], form) for key, (title, form, _) in report.COLUMNS.items()},
        "Name": figures["name"],
    }


def _evaluate(options) -> dict:
    if missing := [path for path in options.paths if not path.exists()]:
        raise FileNotFoundError(f"There is no {missing[0]}.")
    if len(options.paths) > 1 and not options.ensemble:
        raise ValueError("Several paths are one deep ensemble with --ensemble, or evaluations with --compare.")
    if options.save_calibrated and not options.temperature:
        raise ValueError("--save-calibrated saves a model with its --temperature: pass both.")
    folder = options.output_dir
    if folder is None:
        if options.ensemble or not options.paths[0].is_dir():
            raise ValueError("Say where the report belongs with --output-dir: there is no run that it is of.")
        folder = options.paths[0] / "evaluation"
    name = dataset_of(options.paths, options.dataset)
    model, model_name = load(options.paths, options.ensemble)
    info = datasets.info(name, options.data_dir)
    if model.image_shape != info.image_shape:
        raise ValueError(f"The model takes images {model.image_shape}, those of {name} are {info.image_shape}.")
    test, validation = (datasets.batches(datasets.load(name, s, options.data_dir), 256) for s in ("test", "validation"))
    found = evaluation.evaluate(
        model,
        test,
        info.class_names,
        validation=validation,
        temperature=options.temperature,
        coverage=options.coverage,
        out_of_distribution=options.ood and out_of_distribution(options.ood, model.image_shape, options.data_dir),
        out_of_distribution_name=options.ood,
        corrupted=options.corruptions
        and corrupted(options.corruptions, name, options.data_dir, options.corruption_images or 2000),
        name=model_name,
    )
    page = report.write(found, folder)
    if options.save_calibrated:
        model.save(folder / "calibrated.keras")
    print(report.table(found.figures))
    print(f"report: {page}")
    if options.export:
        card = model_card(found.figures, info)
        print(f"exported: {model.export(options.export, class_names=info.class_names, card=card)}")
    return found.figures


if __name__ == "__main__":
    main()
