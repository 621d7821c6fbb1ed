"""What a run logs during `fit`, and log.csv read back."""

import csv
import logging
from pathlib import Path

import keras

from mixmo_keras.common import files
from mixmo_keras.experiments.epochs import MemberFigures
from mixmo_keras.tasks import Classification, Task
from mixmo_keras.training.weight_averaging import SwapAveragedWeights


def quiet() -> None:
    """Leaves out TensorFlow's advice against many traces: each network has its own, and a last, smaller batch one more."""
    logging.getLogger("tensorflow").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


def callbacks(
    folder: Path,
    log: list[dict],
    moving_average: bool = False,
    keep_best: bool = True,
    validation=None,
    task: Task | type[Task] = Classification,
) -> list[keras.callbacks.Callback]:
    """What writes into a run's folder during `fit`.

    Args:
        folder: Of the run.
        log: The epochs that the run has behind it.
        moving_average: Whether the optimizer keeps a moving average of the weights, to evaluate and save.
        keep_best: Whether to save the model after the epoch that is best on validation data, which are measured then.
        validation: Batches by which the accuracy of each member is logged too. Defaults to none.
        task: What is predicted. Defaults to classes.

    Raises:
        ValueError: log.csv lacks what is measured on validation data.
    """
    measured = {"epoch", f"val_{task.watched}", task.monitor[0], "val_loss"}  # where validation data are held out
    if keep_best and (missing := sorted({name for row in log for name in measured - row.keys()})):
        raise ValueError(
            f"{folder / 'log.csv'} is damaged, it lacks {', '.join(missing)}: mend its first line, or pass --fresh to start "
            "over."
        )
    return [
        *([SwapAveragedWeights()] if moving_average else []),  # before what measures and logs the averaged weights
        *([] if validation is None else [MemberFigures(validation)]),
        keras.callbacks.CSVLogger(str(folder / "log.csv"), append=bool(log)),
        keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
        *([_keeping_the_best(folder / "best.keras", log, *task.monitor)] if keep_best else []),
    ]


def _keeping_the_best(path: Path, log: list[dict], monitor: str, mode: str) -> keras.callbacks.Callback:
    best = {"max": max, "min": min}[mode]
    return keras.callbacks.ModelCheckpoint(
        str(path).replace("{", "{{").replace("}", "}}"),  # Keras takes it for a template
        monitor=monitor,
        mode=mode,
        save_best_only=True,
        initial_value_threshold=best((row[monitor] for row in log), default=None),
    )


def read(path: Path) -> list[dict[str, float]]:
    """The epochs of a log.csv; none where there is no file.

    Raises:
        ValueError: a row is damaged.
    """
    if not path.exists():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"{len(reader.fieldnames or ())} columns are expected")
                # Keras writes columns of validation, full of "NA", where nothing is validated
                rows.append({name: float(value) for name, value in row.items() if value != "NA"})
            if "\0" in "".join(reader.fieldnames or ()):
                raise ValueError("it holds zeros")
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"{path} is damaged in line {reader.line_num} ({error}): mend that line, or pass --fresh to start over."
            ) from error
    return rows


def trimmed(path: Path, epochs: int) -> list[dict[str, float]]:
    """The first epochs of a log.csv; drops the later ones, which a run that goes on from there will write again."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[: epochs + 1]
    if epochs:
        files.write_text(path, "".join(lines))
    else:
        path.unlink()
    return read(path)
