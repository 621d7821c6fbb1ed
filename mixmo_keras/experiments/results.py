"""A run's figures: measured, shown, and read back from its folder."""

import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mixmo_keras import datasets
from mixmo_keras.common import files
from mixmo_keras.common.console import say
from mixmo_keras.evaluation import report
from mixmo_keras.experiments import logs
from mixmo_keras.experiments.recipe import Recipe
from mixmo_keras.metrics.summaries import for_json
from mixmo_keras.models.ensemble import EVALUATED_AT_ONCE, Ensemble
from mixmo_keras.models.methods import defaults as method_defaults
from mixmo_keras.tasks import Classification, Task
from mixmo_keras.version import __version__, commit

DIGEST = "backbone_sha256"  # in config.json, where the backbone is a classifier's file
OF_RUN = {"config.json", "log.csv", "checkpoints", "last.keras", "metrics.json"}  # one of which each run's folder has
OF_ENSEMBLE: dict[str, Callable[[Any], bool]] = {  # what each metrics.json has, and whether it is of its kind
    "test/ensemble/accuracy": files.is_share,
    "test/ensemble/nll": files.is_number,
    "test/ensemble/ece": files.is_share,
}


# -- measuring ---------------------------------------------------------------------------------------------------------


def validation_figures(log: Sequence[Mapping[str, float]], task: Task | type[Task] = Classification) -> dict[str, Any]:
    """The last epoch and the best one in a run's log."""
    (monitor, mode), watched = task.monitor, task.watched
    best = {"max": max, "min": min}[mode](log, key=lambda row: row[monitor])
    return {
        "last": {"epoch": len(log), watched: log[-1][f"val_{watched}"], "nll": log[-1]["val_loss"]},
        "best": {"epoch": int(best["epoch"]) + 1, watched: best[f"val_{watched}"]},
    }


def test_figures(model: Ensemble, test: tf.data.Dataset, views: int) -> dict[str, Any]:
    """The figures of each member, their mean and the ensemble, and the members' diversity, as in an evaluation."""
    counts = []

    def counted():
        for outputs, targets in model.outputs_by_batch(test, None, EVALUATED_AT_ONCE, None, views):
            counts.append(len(targets))
            yield outputs, targets

    figures = for_json(model.task.figures_of_batches(model.average, counted()))
    of_task = {"task": model.task.name} if model.task.why_only_classes() else {}
    return {"images": sum(counts), **of_task, **figures}


def origin(recipe: Recipe) -> dict[str, Any]:
    """What a run's config.json says besides its settings: versions, and the digest of the classifier that it began as."""
    return {"versions": versions()} | ({DIGEST: files.digest(recipe.backbone)} if recipe.begins_as_classifier else {})


def versions() -> dict[str, str | None]:
    """What the run ran on; the commit where the package lies in a checkout."""
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "mixmo_keras": __version__,
        "commit": commit(),
    }


# -- showing -----------------------------------------------------------------------------------------------------------


def print_table(figures: Mapping[str, Any]) -> None:
    """Prints the figures of each member, their mean and the ensemble; recipes/evaluate.py shows more of them."""
    test, validation = figures["test"], figures["validation"]
    networks = report.rows({**test, "temperature": {"value": 1.0}})  # a run fits none
    of_best = validation is not None and figures.get("keep") == "best"
    epoch = validation["best"]["epoch"] if of_best else figures["epochs"]
    say(f"\n{figures['name']}: {test['images']:,} test images, after epoch {epoch}")
    say("\n".join(report.in_columns(networks, _columns(test))))
    if (ratio := test.get("diversity", {}).get("ratio_of_errors")) is not None:  # None where no image is wrong for both
        say(f"diversity: {ratio:.2f} errors of one member alone to one of both (ratio of errors)")
    if validation is None:
        say("validation: none, its images were trained on")
    else:
        (watched, best), (_, last) = ([*validation[of].items()][1] for of in ("best", "last"))
        name, form = ("", "{:.2%}") if watched == "accuracy" else (f"{watched.replace('_', ' ')} ", "{:.4g}")
        say(f"validation: {name}{form.format(last)} at the end, ", end="")
        say(f"{form.format(best)} at best (epoch {validation['best']['epoch']})")
        if not of_best and was_long_ago(validation):
            say(
                "the best epoch was long ago: --keep best tests and exports it without training again, and --early-stopping "
                "ends such a training sooner"
            )
    exported = f"; SavedModel: {figures['saved_model']}" if figures["saved_model"] else ""
    say(f"trained in {figures['training_seconds']:.0f} s{exported}")


def _columns(test: Mapping[str, Any]) -> dict[str, report.Column]:
    """The columns of the figures that a run shows of itself."""
    if "task" in test:
        return report.of_task(test["task"])
    return {name: report.COLUMNS[name] for name in ("accuracy", "nll", "ece")}


def was_long_ago(validation: Mapping[str, Any]) -> bool:
    """Whether a best epoch that is better than the last lies a quarter of the training, three epochs or more, behind."""
    last, best = validation["last"], validation["best"]
    is_other = any(best[name] != last[name] for name in best.keys() - {"epoch"})  # a tie is the first epoch's
    return is_other and last["epoch"] - best["epoch"] >= max(3, last["epoch"] / 4)


def kept_file(folder: Path) -> Path:
    """The file of a run's network that is tested and exported: `last.keras`, unless its recipe keeps the best epoch."""
    config = folder / "config.json"
    kept = files.read_json_object(config, "run the recipe again").get("keep") if config.is_file() else None
    return folder / ("best.keras" if kept == "best" else "last.keras")


def card(recipe: Recipe, figures: Mapping[str, Any], num_images: int) -> dict[str, Any]:
    """What the model card says of a run, which was trained on so many images."""
    score, defaults = figures["test"]["ensemble"], method_defaults(recipe.method)
    settings = {name: value for name, value in recipe.settings().items() if value not in (None, False)}
    # `None` is silent but where the method has another value, such as equal weights in place of a root
    settings |= {name: "none" for name in defaults if defaults[name] is not None and getattr(recipe, name, 0) is None}
    split = (
        "its train split, a part of which was held out"
        if recipe.holds_out
        else "its train and validation splits (nothing was held out, no epoch chosen)"
    )
    return {
        "Data": f"{recipe.dataset}: trained on {num_images:,} images of {split}; "
        f"tested on {figures['test']['images']:,} images.",
        "Figures": {
            f"test {column.title}": report.formatted(score[name], column.form)
            for name, column in _columns(figures["test"]).items()
        },
        "Training": settings,
    }


# -- reading back ------------------------------------------------------------------------------------------------------


def check_folder(recipe: Recipe, may_be_longer: bool = False) -> list[int]:
    """Raises where the folder holds a run with other settings, which this resolved recipe would silently replace.

    Args:
        recipe: The resolved recipe.
        may_be_longer: Whether it may train a run of fewer epochs further. Defaults to False.

    Returns:
        The numbers of epochs that the run was planned for before this, of those that were fewer.
    """
    config = recipe.folder / "config.json"
    if recipe.fresh:
        _check_removable(recipe)
    if recipe.fresh or not config.exists():
        return []
    defaults = Recipe(method=recipe.method, dtype="float32").resolved()  # of options that the earlier run didn't know
    advice, kinds = "pass --fresh to start over, or another --output-dir", {"epochs_before": files.are_counts_or_none}
    before = files.read_json_object(config, advice, kinds)
    planned = [*(before.get("epochs_before") or []), before.get("epochs")]
    if may_be_longer and isinstance(before.get("epochs"), int) and before["epochs"] < recipe.epochs:
        # a longer run's default of frozen epochs may be larger; they lie behind
        before = {**before, "epochs": recipe.epochs, "freeze_epochs": recipe.freeze_epochs}
    before = {**before, "keep": recipe.keep}  # the files of both epochs are there
    refuse_other_settings(recipe.folder, "run", defaults.settings() | before, recipe.settings())
    if began_as_another_file(recipe):
        digest = files.digest(recipe.backbone)
        raise ValueError(
            f"{recipe.folder} holds a run that began as another file than {recipe.backbone} is now (SHA-256 "
            f"{str(before[DIGEST])[:12]}… then, {digest[:12]}… now). Put that file back, pass another --output-dir, or "
            "--fresh to start over in its place."
        )
    return [epochs for epochs in planned if epochs not in (None, recipe.epochs)]


def began_as_another_file(recipe: Recipe) -> bool:
    """Whether the folder holds a run that began as a classifier whose file has changed since."""
    config = recipe.folder / "config.json"
    if not recipe.begins_as_classifier or not config.exists():
        return False
    before = files.read_json_object(config, "pass --fresh to start over, or another --output-dir").get(DIGEST)
    return before not in (None, files.digest(recipe.backbone))


def _check_removable(recipe: Recipe) -> None:
    """Raises where a fresh run would remove files that are no run's, or that it begins from itself."""
    folder = recipe.folder.resolve()
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if found and not set(found) & OF_RUN:
        raise ValueError(
            f"--fresh removes {recipe.folder}, which is no run's folder (it holds {', '.join(found[:3])}): pass another "
            "--output-dir."
        )
    dataset, _ = datasets.registry.path_and_size(recipe.dataset)
    needed = {"warm_start": recipe.warm_start, "dataset": dataset, "data_dir": recipe.data_dir}
    needed["backbone"] = recipe.backbone if recipe.begins_as_classifier else None
    for name, path in needed.items():
        if path and Path(path).exists() and Path(path).resolve().is_relative_to(folder):
            raise ValueError(
                f"--fresh removes {recipe.folder}, in which `{name}` (={path}) lies: copy that elsewhere first, or pass "
                "another --output-dir."
            )


def empty_folder(recipe: Recipe) -> None:
    """Removes what is in a run's folder; where it is a link, in the folder that this leads to."""
    folder = recipe.folder.resolve()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def check_not_ended(recipe: Recipe) -> None:
    """Raises where the folder holds a run whose checkpoints are gone, which would start again in place of its log."""
    ended = [name for name in ("metrics.json", "last.keras") if (recipe.folder / name).exists()]
    if not ended and len(logs.read(recipe.folder / "log.csv")) > 1:  # before the second epoch there may be none yet
        ended = ["log.csv"]
    if ended:
        raise ValueError(
            f"{recipe.folder} holds a run ({ended[0]}) whose checkpoints are gone, so that it can't go on. Pass --fresh to "
            "start over in its place, or another --output-dir."
        )


def refuse_other_settings(folder: Path, kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises where a folder's run, or search, had other settings than the one that would take its place."""
    changed = [f"{name} {before.get(name)!r} → {value!r}" for name, value in now.items() if before.get(name) != value]
    if changed:
        raise ValueError(
            f"{folder} holds a {kind} with other settings ({', '.join(changed)}). Pass another --output-dir, or --fresh to "
            "start over in its place."
        )


def finished(recipe: Recipe, may_be_longer: bool = False) -> dict[str, Any] | None:
    """The figures of a finished run with these settings, `None` where there is none.

    Args:
        recipe: The run's recipe.
        may_be_longer: Whether it may train a run of fewer epochs further, which isn't finished then. Defaults to False: a
            comparison has runs of one length.

    Raises:
        ValueError: the run in its folder has other settings, or its metrics.json is damaged.
    """
    path = recipe.folder / "metrics.json"
    if not path.exists():
        return None
    recipe = recipe.resolved()  # whose epochs are those after `scale`
    planned_before = check_folder(recipe, may_be_longer)
    if planned_before and files.read_json_object(recipe.folder / "config.json", "")["epochs"] != recipe.epochs:
        return None
    advice = "remove it, and run the recipe again"
    test = files.read_json_object(path, advice).get("test")
    needed = {"test/ensemble/nll": files.is_number} if isinstance(test, dict) and "task" in test else OF_ENSEMBLE
    figures = files.read_json_object(path, advice, needed)
    of_fewer_epochs = recipe.early_stopping is None and figures.get("epochs", recipe.epochs) != recipe.epochs
    return None if of_fewer_epochs else figures  # those of a run that was killed while it was trained further


def finished_runs(recipes: Iterable[Recipe]) -> list[dict[str, Any]]:
    """The figures of the recipes whose runs are finished."""
    return [figures for recipe in recipes if (figures := finished(recipe)) is not None]
