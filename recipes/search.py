"""Searches members, width and root of the loss weights with KerasTuner; or says whether two members pay at all.

    python recipes/search.py --dataset cifar10 --data-dir .data --max-trials 12 --epochs 3
    python recipes/search.py --dataset cifar10 --tuner hyperband --epochs 27 --max-parameters 2e6
    python recipes/search.py --dataset cifar10 --data-dir .data --pilot --widths 1 2 --epochs 4

A search goes on where it was stopped when the same command is given again. It writes into <output-dir>/<dataset>-search/:
results.json, results.md and results.png, tensorboard/ with the hyper-parameters, and KerasTuner's own files. With the
environment variables of KerasTuner's distributed search (docs/search.md) the same command is a chief or a worker.
"""

import argparse
import json
import os
from pathlib import Path

import keras
from recipe import write_json

from mixmo_keras import augmentation, datasets, files, pilot, plots, search

LISTS = {  # option: type and what it is
    "members": (int, "numbers of members M"),
    "widths": (int, "widths of the network"),
    "weight-roots": (float, "roots r of the loss weights"),
    "alphas": (float, "α of the mixing ratios (default: not searched)"),
    "probabilities": (float, "p of the binary mask (default: not searched)"),
    "masks": (str, "binary masks (default: not searched)"),
    "batch-repetitions": (int, "b; several are searched"),
    "learning-rates": (float, "the least and the greatest (default: not searched)"),
    "l2": (float, "the least and the greatest (default: not searched)"),
}
# what is not given; the parser's own defaults tell it apart from what is
DEFAULTS = {"members": [1, 2, 3], "widths": [1, 2, 4], "weight_roots": [1.0, 2.0, 3.0, 5.0], "batch_repetitions": [2]}
DEFAULTS |= {"tuner": "random", "objective": "nll", "seed": 0, "seeds": [0, 1]}
SEARCH_ONLY = (
    "members",
    "weight_roots",
    "alphas",
    "probabilities",
    "masks",
    "learning_rates",
    "l2",
    "tuner",
    "objective",
)
SEARCH_ONLY += ("max_trials", "max_parameters", "max_flops", "seed")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help=", ".join(datasets.DATASETS) + ", or DIR@SIZE")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    parser.add_argument("--tuner", choices=list(search.TUNERS))
    parser.add_argument("--max-trials", type=int, help="default: 20; not with hyperband")
    parser.add_argument("--objective", choices=list(search.OBJECTIVES), help="on validation data")
    parser.add_argument("--epochs", type=int, default=10, help="of a trial; with hyperband the most")
    parser.add_argument("--rows", type=int, default=64, help="rows of a step, whatever M and b")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--backbone", default="wrn10", help="network without its width: wrn10, wrn28, preact_resnet18")
    for name, (kind, text) in LISTS.items():
        parser.add_argument(f"--{name}", type=kind, nargs="+", help=text)
    parser.add_argument("--max-parameters", type=float, help="leave larger networks out")
    parser.add_argument("--max-flops", type=float, help="leave out networks of more FLOPs an image")
    parser.add_argument("--pilot", action="store_true", help="one member against two, at every width")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the pilot")
    parser.add_argument("--seed", type=int, help="of the search")
    parser.add_argument("--output-dir", default="runs", type=Path)
    parser.add_argument("--fresh", action="store_true", help="start over")
    options = parser.parse_args(arguments)
    for name in SEARCH_ONLY if options.pilot else ("seeds",):
        if getattr(options, name) is not None:
            meaningless = f"--{name.replace('_', '-')} has no meaning"
            parser.error(f"{meaningless} {'with' if options.pilot else 'without'} --pilot")
    if options.pilot and len(options.batch_repetitions or [2]) > 1:
        parser.error("a pilot has one --batch-repetitions")
    if options.tuner == "hyperband" and options.max_trials is not None:
        parser.error("--max-trials has no meaning with --tuner hyperband, which has a rule of its own")
    for name, value in {**{name.replace("-", "_"): [] for name in LISTS}, **DEFAULTS}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main(arguments: list[str] | None = None) -> list[dict] | dict:
    """Searches, or pilots, and returns the results."""
    options = parse(arguments)
    try:
        info = datasets.info(options.dataset, options.data_dir)
        train, validation = (datasets.load(options.dataset, s, options.data_dir) for s in ("train", "validation"))
        train = train if options.images is None else train.take(options.images)
        model = dict(
            num_classes=info.num_classes,
            input_shape=info.image_shape,
            normalization=info.normalization,
            augmentation=None if options.dataset == "digits" else augmentation.PadCropFlip(),
        )
        return (_pilot if options.pilot else _search)(options, train, validation, model)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def _search(options, train, validation, model: dict) -> list[dict]:
    space = search.Space(
        num_members=tuple(options.members),
        widths=tuple(options.widths),
        weight_roots=tuple(options.weight_roots),
        alphas=tuple(options.alphas),
        probabilities=tuple(options.probabilities),
        masks=tuple(options.masks),
        batch_repetitions=tuple(options.batch_repetitions) if len(options.batch_repetitions) > 1 else (),
        learning_rates=tuple(options.learning_rates),
        l2=tuple(options.l2),
    )
    hypermodel = search.MixMoHyperModel(
        lambda width: f"{options.backbone}_{width}",
        space=space,
        rows=options.rows,
        batch_repetitions=options.batch_repetitions[0],
        max_parameters=options.max_parameters,
        max_flops=options.max_flops,
        seed=options.seed,
        **model,
    )
    if left_out := sorted(set(space.widths) - set(hypermodel.widths)):
        print(f"too costly and left out: widths {', '.join(map(str, left_out))}")
    folder = options.output_dir / f"{_name(options)}-search"
    settings = {
        name: value
        for name, value in vars(options).items()
        if name not in ("output_dir", "fresh", "data_dir", "max_trials")
    }
    worker = os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief"
    if not worker:
        _same_settings(folder / "settings.json", settings, options.fresh)
    tuner = search.tuner(
        hypermodel,
        options.tuner,
        folder / "trials",
        max_trials=options.max_trials,
        objective=options.objective,
        max_epochs=options.epochs if options.tuner == "hyperband" else None,
        seed=options.seed,
        fresh=options.fresh and not worker,
    )
    epochs = {} if options.tuner == "hyperband" else {"epochs": options.epochs}
    tuner.search(train, validation, callbacks=[keras.callbacks.TensorBoard(str(folder / "tensorboard"))], **epochs)
    if worker:
        return []  # the chief has the results
    rows = search.results(tuner, options.objective)
    write_json(folder / "results.json", rows)
    text = search.table(rows, options.objective)
    files.write_text(folder / "results.md", text + "\n")
    print(f"\n{text}")
    if rows and rows[0]["score"] is not None:
        plots.save(search.plot(rows, options.objective), folder / "results.png")
        own = options.dataset in datasets.DATASETS
        recipe = f"recipes/{options.dataset}.py" if own else f"recipes/images.py {options.dataset}"
        backbone = f"{options.backbone}_{rows[0]['width']}"
        fixed = {"batch_repetitions": options.batch_repetitions[0]} | {
            "batch_size": options.rows,
            "schedule": "cosine",
            "seed": options.seed,
        }
        fixed = {name: value for name, value in fixed.items() if name not in rows[0]}
        print(f"\nbest: {search.command(recipe, rows[0], backbone, **fixed)}")
    print(f"results: {folder}/")
    return rows


def _name(options) -> str:
    return Path(options.dataset).name.replace("@", "_")


def _same_settings(path: Path, settings: dict, fresh: bool) -> None:
    """Keeps a search from going on with another one's trials."""
    settings = json.loads(json.dumps(settings))
    if path.exists() and not fresh:
        before = json.loads(path.read_text())
        if changed := [
            f"{name} {before.get(name)!r} → {now!r}" for name, now in settings.items() if before.get(name) != now
        ]:
            raise ValueError(
                f"{path.parent} holds a search with other settings ({', '.join(changed)}). Pass another --output-dir, or "
                "--fresh to start over in its place."
            )
    write_json(path, settings)


def _pilot(options, train, validation, model: dict) -> dict:
    folder = options.output_dir / f"{_name(options)}-pilot"
    found = pilot.run(
        lambda width: f"{options.backbone}_{width}",
        train,
        validation,
        widths=options.widths,
        epochs=options.epochs,
        seeds=options.seeds,
        rows=options.rows,
        batch_repetitions=options.batch_repetitions[0],
        folder=folder,
        fresh=options.fresh,
        **model,
    )
    write_json(folder / "pilot.json", found)
    plots.save(pilot.plot(found), folder / "pilot.png")
    print("\n" + pilot.table(found))
    print("\n" + pilot.verdict(found))
    print(f"results: {folder}/")
    return found


if __name__ == "__main__":
    main()
