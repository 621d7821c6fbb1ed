"""Searches members, width and root of the loss weights with KerasTuner; or says whether two members pay at all.

    python recipes/search.py --dataset cifar10 --data-dir .data --max-trials 12 --epochs 3
    python recipes/search.py --dataset cifar10 --tuner hyperband --epochs 27 --max-parameters 2e6
    python recipes/search.py --dataset cifar10 --data-dir .data --pilot --widths 1 2 --epochs 4
    python recipes/search.py --dataset photos@64 --pilot --backbone classifier.keras --core-rate 0.1 --freeze-epochs 1
    python recipes/search.py --dataset cifar10 --data-dir .data --pilot --label-noise 0.4    labels made wrong, to try it

A search goes on where it was stopped when the same command is given again. It writes into <output-dir>/<dataset>-search/,
of labels made wrong <dataset>-noise<rate>-search/: results.json, results.md and results.png, tensorboard/ with the
hyper-parameters, and KerasTuner's own files. With the environment variables of KerasTuner's distributed search
(docs/search.md) the same command is a chief or a worker.
"""

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

import mixmo_keras
from mixmo_keras import tasks
from mixmo_keras.common import arguments as check
from mixmo_keras.common import files, trained
from mixmo_keras.common.console import say, unbreakable
from mixmo_keras.datasets import manifest, views
from mixmo_keras.datasets.label_noise import KINDS, LabelNoise
from mixmo_keras.experiments import splits
from mixmo_keras.experiments.option_defaults import default_of
from mixmo_keras.experiments.recipe import Recipe, dataset_label
from mixmo_keras.experiments.results import refuse_other_settings
from mixmo_keras.experiments.search import OBJECTIVES, TUNERS, MixMoHyperModel, Space
from mixmo_keras.experiments.task import task_of

RECIPES = {"imagenet2012": "imagenet"}  # of datasets whose recipe has another name
LISTS = {  # option: its type, what it is, and its name in `search.Space`
    "members": (int, "numbers of members M", "num_members"),
    "widths": (int, "widths of the network", "widths"),
    "weight_roots": (float, "roots r of the loss weights", "weight_roots"),
    "alphas": (float, "α of the mixing ratios (default: not searched)", "alphas"),
    "probabilities": (float, "p of the binary mask (default: not searched)", "probabilities"),
    "masks": (str, "binary masks (default: not searched)", "masks"),
    "batch_repetitions": (int, "b; several are searched", "batch_repetitions"),
    "learning_rates": (float, "the least and the greatest (default: not searched)", "learning_rates"),
    "l2": (float, "the least and the greatest (default: not searched)", "l2"),
}
# what is not given; the parser's own defaults tell it apart from what is
DEFAULTS: dict[str, Any] = {name: list(getattr(Space, field)) for name, (_, _, field) in LISTS.items()}
DEFAULTS |= {"batch_repetitions": [default_of(MixMoHyperModel, "batch_repetitions")]}
DEFAULTS |= {"tuner": "random", "objective": default_of(mixmo_keras.search.tuner, "objective")}
DEFAULTS |= {"noise_kind": LabelNoise.kind}
DEFAULTS |= {
    "seed": default_of(mixmo_keras.search.tuner, "seed"),
    "seeds": list(default_of(mixmo_keras.pilot.run, "seeds")),
}
OF_BOTH = ("widths", "batch_repetitions")
SEARCH_ONLY = [name for name in LISTS if name not in OF_BOTH]
PILOT_ONLY = ("seeds", "core_rate", "freeze_epochs")
SEARCH_ONLY += ["tuner", "objective", "max_trials", "max_parameters", "max_flops", "seed"]
# a search may go on with others of these; wrong labels are in the name of its folder
NO_SETTINGS = ("output_dir", "fresh", "data_dir", "max_trials", "trained", "label_noise", "noise_kind", *PILOT_ONLY[1:])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with defaults for what is not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help=", ".join(mixmo_keras.datasets.DATASETS) + ", or DIR@SIZE")
    parser.add_argument("--task", choices=tasks.BY_NAME, help="what is predicted (default: the dataset's)")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    parser.add_argument("--tuner", choices=TUNERS)
    parser.add_argument("--max-trials", type=int, help="default: 20; not with hyperband")
    parser.add_argument("--objective", choices=OBJECTIVES, help="on validation data")
    parser.add_argument("--epochs", type=int, default=10, help="of a trial; with hyperband the most")
    parser.add_argument("--rows", type=int, default=64, help="rows of a step, whatever M and b")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument(
        "--label-noise", type=float, default=0.0, help="rate at which labels are made wrong, as in recipes"
    )
    parser.add_argument("--noise-kind", choices=KINDS, help="of those wrong labels")
    network = "network without its width: wrn10, wrn28, preact_resnet18; or one that was trained already: "
    network += "a classifier's .keras file, efficientnet_lite0, keras:MobileNetV3Small, hub:PRESET"
    parser.add_argument("--backbone", default="wrn10", help=network)
    for name, (kind, text, _) in LISTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", help=text)
    parser.add_argument("--max-parameters", type=float, help="leave larger networks out")
    parser.add_argument("--max-flops", type=float, help="leave out networks of more FLOPs an image")
    parser.add_argument("--pilot", action="store_true", help="one member against two, at every width")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the pilot")
    of_trained = "of a trained backbone, in the pilot: "
    parser.add_argument(
        "--core-rate", type=float, help=of_trained + "its core's share of the learning rate, such as 0.1"
    )
    parser.add_argument("--freeze-epochs", type=int, help=of_trained + "first epochs in which its core stays as it is")
    parser.add_argument("--seed", type=int, help="of the search")
    parser.add_argument("--output-dir", default="runs", type=Path)
    parser.add_argument("--fresh", action="store_true", help="start over")
    options = parser.parse_args(arguments)
    for name in SEARCH_ONLY if options.pilot else PILOT_ONLY:
        if getattr(options, name) is not None:
            meaningless = f"--{name.replace('_', '-')} has no meaning"
            parser.error(f"{meaningless} {'with' if options.pilot else 'without'} --pilot")
    if options.pilot and len(options.batch_repetitions or [2]) > 1:
        parser.error("a pilot has one --batch-repetitions")
    if options.tuner == "hyperband" and options.max_trials is not None:
        parser.error("--max-trials has no meaning with --tuner hyperband, which has a rule of its own")
    if options.noise_kind is not None and not options.label_noise:
        parser.error("--noise-kind has no meaning without --label-noise")
    options.trained = Recipe(backbone=options.backbone).begins_trained
    if options.trained and options.widths is not None:
        parser.error(f"--widths has no meaning with --backbone {options.backbone}, which has the width that it has")
    if options.trained:
        options.widths = [1]
    elif (options.core_rate, options.freeze_epochs) != (None, None):
        parser.error(f"--core-rate and --freeze-epochs are for a trained backbone, not for {options.backbone}")
    for name, value in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


@unbreakable()
def main(arguments: list[str] | None = None) -> list[dict] | dict:
    """Searches, or pilots, and returns the results."""
    options = parse(arguments)
    try:
        info = mixmo_keras.datasets.info(options.dataset, options.data_dir)
        keep_manifest(options)
        check.integer("epochs", options.epochs, least=1)
        check.number("label_noise", options.label_noise, least=0, most=1)
        train, validation = (splits.load(_data(options), split, options.data_dir) for split in ("train", "validation"))
        if options.images is not None:
            train = views.subset(train, of_images(options.images, train))
        task = task_of(_data(options), info)
        if options.pilot and (reason := task.why_only_classes()):
            raise ValueError(f"--pilot compares accuracies: {reason}. Search without --pilot.")
        model = dict(
            **({"num_classes": None, "task": task} if task.why_only_classes() else {"num_classes": info.num_classes}),
            input_shape=info.image_shape,
            normalization=info.normalization,
            augmentation=_augmentation(options.dataset),
        )
        return (run_pilot if options.pilot else run_search)(options, train, validation, model)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def _augmentation(dataset: str) -> mixmo_keras.augmentation.PadCropFlip | None:
    """Random crops and mirror images; of digits, which have another meaning in a mirror, none."""
    return None if dataset.startswith("digit") else mixmo_keras.augmentation.PadCropFlip()


def keep_manifest(options) -> None:
    """Says what was understood of the data, and keeps it; raises where a search or pilot would go on with others."""
    if os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief":
        return
    say(mixmo_keras.datasets.describe(options.dataset, options.data_dir))
    kind = "pilot" if options.pilot else "search"
    folder, now = _folder(options, kind), manifest.of(options.dataset, options.data_dir)
    if not options.fresh and any(folder.glob("*.json")):
        manifest.check_resumed(folder, now, kind)
    now.write(folder)


def _data(options) -> Recipe:
    """The recipe of the images and labels that are searched on."""
    return Recipe(
        dataset=options.dataset, task=options.task, label_noise=options.label_noise, noise_kind=options.noise_kind
    )


def _folder(options, kind: str) -> Path:
    """The folder of a search or a pilot: one for each set of images and labels."""
    wrong = _data(options).wrong_labels
    return options.output_dir / "-".join([dataset_label(options.dataset), *([wrong] if wrong else []), kind])


def backbone_of(options, width: int) -> str:
    """The name of the network of a width; one that was trained already has its own."""
    return options.backbone if options.trained else f"{options.backbone}_{width}"


def of_images(images: int, train) -> int:
    """The number of training images to take, if there are as many."""
    return check.integer("images", images, least=1, most=mixmo_keras.datasets.steps_per_epoch(train, 1))


def run_search(options, train, validation, model: dict) -> list[dict]:
    """Searches in its folder and returns the trials; of several workers the chief has them."""
    space = {field: tuple(getattr(options, name)) for name, (_, _, field) in LISTS.items()}
    if len(options.batch_repetitions) == 1:
        space["batch_repetitions"] = ()  # there is nothing to choose from
    hypermodel = mixmo_keras.search.MixMoHyperModel(
        lambda width: backbone_of(options, width),
        space=mixmo_keras.search.Space(**space),
        rows=options.rows,
        batch_repetitions=options.batch_repetitions[0],
        max_parameters=options.max_parameters,
        max_flops=options.max_flops,
        seed=options.seed,
        **model,
    )
    for repetitions in options.batch_repetitions:
        mixmo_keras.pilot.check_rows(train, options.rows, repetitions)
    if left_out := sorted(set(space["widths"]) - set(hypermodel.widths)):
        say(f"too costly and left out: widths {', '.join(map(str, left_out))}")
    folder = _folder(options, "search")
    worker = os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief"
    if not worker:
        write_settings(options, folder)
    hyperband = options.tuner == "hyperband"
    tuner = mixmo_keras.search.tuner(
        hypermodel,
        options.tuner,
        folder / "trials",
        max_trials=options.max_trials,
        objective=options.objective,
        max_epochs=options.epochs if hyperband else None,
        seed=options.seed,
        fresh=options.fresh and not worker,
    )
    import keras  # after mixmo_keras, which keeps TensorFlow's notes from being printed

    epochs = {} if hyperband else {"epochs": options.epochs}
    tuner.search(train, validation, callbacks=[keras.callbacks.TensorBoard(str(folder / "tensorboard"))], **epochs)
    return [] if worker else write_results(options, folder, mixmo_keras.search.results(tuner, options.objective))


def write_settings(options, folder: Path) -> None:
    """Writes settings.json; raises where it would let a search go on with another one's trials."""
    settings = {name: value for name, value in vars(options).items() if name not in NO_SETTINGS}
    if options.backbone.endswith(".keras"):
        settings["backbone_sha256"] = files.digest(options.backbone)
    if trained.is_of_others(options.backbone):
        settings["further"] = trained.further(options.epochs)  # earlier versions trained such networks by SGD
    path = folder / "settings.json"
    if path.exists() and not options.fresh:
        before = files.read_json_object(path, "start over with --fresh, or pass another --output-dir")
        refuse_other_settings(folder, "search", before, settings)
    files.write_json(path, settings)


def write_results(options, folder: Path, rows: list[dict]) -> list[dict]:
    """Writes and prints what a search found, and the command that trains with the best of it."""
    files.write_json(folder / "results.json", rows)
    text = mixmo_keras.search.table(rows, options.objective)
    files.write_text(folder / "results.md", text + "\n")
    say(f"\n{text}")
    if rows and rows[0]["score"] is not None:
        mixmo_keras.plots.save(mixmo_keras.search.plot(rows, options.objective), folder / "results.png")
        fixed = {
            "batch_repetitions": options.batch_repetitions[0],
            "batch_size": options.rows,
            "schedule": "cosine",
            "seed": options.seed,
        }
        fixed = {name: value for name, value in fixed.items() if name not in rows[0]}
        backbone = backbone_of(options, rows[0]["width"])
        say(f"\nbest: {mixmo_keras.search.command(shlex.join(_recipe(options)), rows[0], backbone, **fixed)}")
    say(f"results: {folder}/")
    return rows


def _recipe(options) -> list[str]:
    """The recipe of a dataset, and what names the dataset and its wrong labels to it."""
    name = mixmo_keras.datasets.registry.path_and_size(options.dataset)[0]
    if name.startswith("digit_scenes_"):
        return ["recipes/scenes.py", "--dataset", options.dataset, *_wrong_labels(options)]
    own = f"{RECIPES.get(options.dataset, options.dataset)}.py"
    exists = Path(__file__).with_name(own).exists()
    return [*([f"recipes/{own}"] if exists else ["recipes/images.py", options.dataset]), *_wrong_labels(options)]


def _wrong_labels(options) -> list[str]:
    """The options that make the same labels wrong."""
    kind = [] if options.noise_kind == DEFAULTS["noise_kind"] else ["--noise-kind", options.noise_kind]
    return ["--label-noise", f"{options.label_noise:g}", *kind] if options.label_noise else []


def _of_variant(variant: str) -> list[str]:
    """The options that train a variant of a pilot: all of them, since recipes have defaults of their own."""
    changes = mixmo_keras.pilot.VARIANTS[variant]
    repetition = changes.get("input_repetition")
    return ["--method", changes["method"], *([] if repetition is None else ["--input-repetition", f"{repetition:g}"])]


def next_command(options, advice: "mixmo_keras.pilot.Advice") -> str:
    """The command that a pilot advises."""
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    if advice.action == "train":
        command: list[Any] = [*_recipe(options), "--backbone", backbone_of(options, advice.width)]
        command += _of_variant(advice.variant)
        command += ["--batch-size", options.rows, "--batch-repetitions", options.batch_repetitions[0]]
        command += [] if advice.epochs is None else ["--epochs", advice.epochs]
    else:
        command = ["recipes/search.py", "--dataset", options.dataset, "--pilot", "--epochs", advice.epochs]
        command += [] if options.trained else ["--widths", *options.widths]
        command += ["--seeds", *range(advice.seeds), "--backbone", options.backbone]
        command += ["--rows", options.rows, "--batch-repetitions", options.batch_repetitions[0]]
        command += [] if options.images is None else ["--images", options.images]
        command += _wrong_labels(options)
    for name in ("core_rate", "freeze_epochs"):
        value = getattr(options, name)
        command += [] if value is None else [f"--{name.replace('_', '-')}", f"{value:g}"]
    return shlex.join(map(str, ["python", *command, *data]))


def fine_tuning_of(options) -> mixmo_keras.FineTuning | None:
    """What a pilot's command line says of the core, with a recipe's values for what it leaves out."""
    asked = {name: getattr(options, name) for name in PILOT_ONLY[1:] if getattr(options, name) is not None}
    if not asked:
        return None
    defaults = trained.further(options.epochs) if trained.is_of_others(options.backbone) else {}
    return mixmo_keras.FineTuning.of(*((defaults | asked).get(name) for name in trained.OF_CORE))


def run_pilot(options, train, validation, model: dict) -> dict:
    """Pilots in its folder and returns the learning curves."""
    folder = _folder(options, "pilot")
    curves = mixmo_keras.pilot.run(
        lambda width: backbone_of(options, width),
        train,
        validation,
        widths=options.widths,
        epochs=options.epochs,
        seeds=options.seeds,
        rows=options.rows,
        batch_repetitions=options.batch_repetitions[0],
        folder=folder,
        fresh=options.fresh,
        fine_tuning=fine_tuning_of(options),
        **model,
    )
    files.write_json(folder / "pilot.json", curves)
    mixmo_keras.plots.save(mixmo_keras.pilot.plot(curves), folder / "pilot.png")
    say("\n" + mixmo_keras.pilot.table(curves))
    say("\n" + mixmo_keras.pilot.verdict(curves))
    advice = mixmo_keras.pilot.advice(curves)
    took = "" if advice.seconds is None else f" (about {max(advice.seconds / 60, 1):.0f} min)"
    say(f"next{took}: {next_command(options, advice)}")
    say(f"results: {folder}/")
    return curves


if __name__ == "__main__":
    main()
