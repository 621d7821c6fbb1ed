"""A GPU for half an hour, spent on the runs that teach most, through JAX. Needs no TensorFlow.

    python studies/gpu_plan.py --data cifar10_jpeg.npz --minutes 28 --stop-after 9 --out plan.jsonl
    python studies/gpu_plan.py --table plan.jsonl          the runs of a file, in Markdown

CIFAR-10 with right and wrong labels; `--data` is an archive of its JPEG files, whose arrays docs/accelerator.md names.

Stages come in the order of what they teach, and each has a share of the minutes, of which its runs' compiling and
evaluating is taken off. The first run of a stage measures its step, which decides how many steps all runs of the stage
take: their rows are equal; a stage in whose time little would be learned is skipped, and says so. Every figure is appended
to the file at once; the same command goes on where the file ends, and does not begin a run that would not end in time.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import jax.numpy as jnp
import jax_training
import keras
import numpy as np

import mixmo_keras
from mixmo_keras import schedules

CUTMIX = mixmo_keras.MSDA("cutmix", 1.0, 1.0)
METHODS: dict[str, tuple[Callable[..., mixmo_keras.MixMo], dict[str, Any]]] = {
    "Cut-MixMo": (mixmo_keras.CutMixMo, {}),
    "single + CutMix": (mixmo_keras.SingleNetwork, {"msda": CUTMIX}),
    "single": (mixmo_keras.SingleNetwork, {}),
    "MIMO": (mixmo_keras.MIMO, {"num_members": 2}),
    "Cut-MixMo + CutMix": (mixmo_keras.CutMixMo, {"msda": CUTMIX}),
}
FOUR, TWO = ("Cut-MixMo", "single + CutMix", "single", "MIMO"), ("Cut-MixMo", "single + CutMix")
LEAST_PASSES = 5  # over the data, below which a run teaches nothing
IMPORTING = 30  # seconds, about, that the imports take
EVALUATING = 1.5  # times the step's compiling: two programs to compile, and 10,000 images twice
SETTINGS = ("seed", "rows", "repetitions", "dtype", "learning_rate")  # of the options, in which runs differ


@dataclasses.dataclass(frozen=True)
class Stage:
    """Runs of equal rows.

    Attributes:
        backbone: The network.
        noise: The rate of training labels that are redrawn among all classes.
        methods: Of `METHODS`, in their order.
        share: Of the minutes.
    """

    backbone: str
    noise: float
    methods: tuple[str, ...]
    share: float

    @property
    def name(self) -> str:
        return f"{self.backbone}, {100 * self.noise:g} % wrong labels"


STAGES = (
    Stage("wrn28_10", 0.0, TWO, 0.35),  # the paper's network, the strongest simple rival
    Stage("wrn28_4", 0.4, FOUR, 0.3),  # where members won on small data
    Stage("wrn28_10", 0.4, TWO, 0.15),
    Stage("wrn28_4", 0.0, TWO, 0.1),
    Stage("wrn28_2", 0.0, TWO, 0.1),  # with little room to spare
)
REHEARSED = tuple(dataclasses.replace(stage, backbone="wrn10_1") for stage in STAGES[:2])


def plan(options: argparse.Namespace) -> None:
    """Spends `options.minutes` on `STAGES`, but for what `options.out` has; stops before `options.stop_after` minutes."""
    deadline = time.perf_counter() + 60 * options.stop_after - IMPORTING
    lines = read_lines(options.out)
    images, labels = jax_training.read(options.data, "train")
    test = jax_training.read(options.data, "test")
    images = jnp.asarray(images)
    settings = {name: getattr(options, name) for name in SETTINGS}
    for stage in REHEARSED if options.rehearse else STAGES:
        wrong = with_wrong_labels(labels, stage.noise, options.seed)
        for method in stage.methods:
            of_stage = [line for line in lines if line.get("stage") == stage.name and line["settings"] == settings]
            known = next((line for line in of_stage if line["kind"] == "stage"), None)
            done = any(line["kind"] == "run" and line["method"] == method for line in of_stage)
            if done or (known is not None and not known["steps"]):  # or skipped
                continue
            if time.perf_counter() > deadline:
                print("stopped: the same command goes on", flush=True)
                return
            figures = train(options, stage, method, (images, jnp.asarray(wrong)), test, known, deadline)
            for kind, found in figures.items():
                what = dict(stage=stage.name, backbone=stage.backbone, noise=stage.noise, settings=settings)
                append(options.out, {"kind": kind, **what, **found})
            lines = read_lines(options.out)
            if "stage" in figures and not figures["stage"]["steps"]:
                print(f"skipped {stage.name}: its time is not enough for {LEAST_PASSES} passes", flush=True)
            elif "run" not in figures:
                print(f"stopped before {stage.name}, {method}, which would not end in time: the same command goes on")
                return


def train(
    options: argparse.Namespace,
    stage: Stage,
    method: str,
    data: tuple,
    test: tuple,
    known: Mapping | None,
    deadline: float,
) -> dict[str, dict]:
    """A run's figures, and the stage's where it is the first; not the run's, if it would end behind the deadline."""
    images, labels = data
    build, own = METHODS[method]
    members = {} if build is mixmo_keras.SingleNetwork else {"batch_repetitions": options.repetitions}
    model = build(stage.backbone, num_classes=10, seed=options.seed, dtype=options.dtype, **members, **own)
    images_a_step = options.rows // model.batching.repetitions
    rate = options.learning_rate * images_a_step / 64
    model.compile(keras.optimizers.SGD(schedules.Cosine(rate), momentum=0.9, nesterov=True))
    take, state = jax_training.stepper(model, images, labels)
    rows = jax_training.orders(len(images), images_a_step, options.seed)
    block = options.steps_a_call

    def several(count: int, state):
        given = np.stack([next(rows) for _ in range(count)])
        return take(state, jnp.asarray(given if block > 1 else given[0]))

    start = time.perf_counter()
    logs, state = several(block, state)
    logs["loss"].block_until_ready()
    compiling = time.perf_counter() - start
    warm_calls = max(options.warm_steps // block, 1)
    start = time.perf_counter()
    for _ in range(warm_calls):
        logs, state = several(block, state)
    logs["loss"].block_until_ready()
    seconds = (time.perf_counter() - start) / warm_calls / block
    figures: dict[str, dict] = {}
    if known is None:
        of_run = options.minutes * stage.share / len(stage.methods)
        minutes = min(of_run, 0.9 * options.stop_after)  # a run is not divided
        calls = int((60 * minutes - (1 + EVALUATING) * compiling) / seconds / block)
        enough = calls * block * options.rows >= LEAST_PASSES * len(images)
        calls = max(calls, 1) if enough or options.rehearse else 0
        known = figures["stage"] = {"steps": calls * block, "seconds_a_step": seconds, "compiling": compiling}
    steps = known["steps"]
    in_time = time.perf_counter() + seconds * steps + EVALUATING * compiling < deadline
    if not steps or not (in_time or options.rehearse):
        return figures

    model = build(stage.backbone, num_classes=10, seed=options.seed, dtype=options.dtype, **members, **own)
    model.compile(keras.optimizers.SGD(schedules.Cosine(rate), momentum=0.9, nesterov=True))
    model.clock.reading.assign(np.array([0.0, 0.0, 1 / steps], "float32"))
    state = jax_training.state_of(model, images, labels)  # from the start: what was compiled serves it too
    rows = jax_training.orders(len(images), images_a_step, options.seed)
    start = time.perf_counter()
    for _ in range(steps // block):
        logs, state = several(block, state)
    loss = float(logs["loss"])
    taken = time.perf_counter() - start
    jax_training.put_back(model, state)
    figures["run"] = {
        "method": method,
        "steps": steps,
        "rows_a_step": options.rows,
        "passes": steps * options.rows / len(images),
        "seconds": taken,
        "loss": loss,
        **evaluated(model, *test),
    }
    return figures


def evaluated(model: mixmo_keras.MixMo, images, labels) -> dict[str, Any]:
    """The figures of the last epoch on the test images: of each member, the ensemble, and several images a pass."""
    batch = min(500, len(images))
    member_logits = model.predict_members(images, batch_size=batch, verbose=0)
    several = None
    if model.num_members > 1:
        several = jax_training.scores(model.predict_multiplexed(images, batch_size=batch), labels)
    return {
        "members": [jax_training.scores(member_logits[:, one], labels) for one in range(model.num_members)],
        "ensemble": jax_training.scores(np.asarray(model.average(member_logits)), labels),
        "multiplexed": several,
    }


def with_wrong_labels(labels, noise: float, seed: int):
    """Labels of which a share is redrawn among all classes, as `datasets.label_noise` does, which needs TensorFlow."""
    random = np.random.default_rng([seed, 1])
    redrawn = random.random(len(labels)) < noise
    return np.where(redrawn, random.integers(0, 10, len(labels)), labels).astype("int32")


def append(path: str, figures: Mapping) -> None:
    """Prints figures and appends them to a file as a line; behind a line that was cut off, on one of their own."""
    line = json.dumps(figures)
    print(line, flush=True)
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(max(file.tell() - 1, 0))
        cut_off = file.read(1) not in ("", "\n")
        file.write("\n" * cut_off + line + "\n")


def read_lines(path: str) -> list[dict]:
    """The figures of a file; none where there is no file. A last line that was cut off is passed over."""
    if not Path(path).exists():
        return []
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"{path}: passed over {line[:40]!r}", flush=True)
    return found


def table(path: str) -> str:
    """The runs of a file in Markdown, from its lines alone."""
    rows = [
        [
            line["stage"],
            line["method"],
            f"{line['passes']:.0f}",
            *(
                f"{100 * line['ensemble']['accuracy']:.2f}",
                f"{line['ensemble']['nll']:.3f}",
                f"{line['ensemble']['ece']:.3f}",
            ),
            f"{100 * line['multiplexed']['accuracy']:.2f}" if line["multiplexed"] else "–",
            f"{line['seconds'] / 60:.1f}",
        ]
        for line in read_lines(path)
        if line["kind"] == "run"
    ]
    header = ["setting", "method", "passes", "accuracy %", "NLL", "ECE", "M images a pass %", "minutes"]
    lines = [header, ["---", "---", *["---:"] * 6], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the archive")
    parser.add_argument("--out", default="plan.jsonl")
    parser.add_argument("--minutes", type=float, default=20, help="of all runs together")
    parser.add_argument("--stop-after", type=float, default=9, help="minutes after which no run begins")
    parser.add_argument("--steps-a-call", type=int, default=50, help="steps without going back to Python")
    parser.add_argument("--rehearse", action="store_true", help="with the smallest network and a few runs")
    parser.add_argument("--rows", type=int, default=256, help="rows a step")
    parser.add_argument("--repetitions", type=int, default=2, help="b of the ensembles")
    parser.add_argument("--learning-rate", type=float, default=0.05, help="for 64 images a step")
    parser.add_argument("--warm-steps", type=int, default=20, help="to measure the step by")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", metavar="FILE", help="train nothing: print the runs of a file, in Markdown")
    options = parser.parse_args(arguments)
    if options.table:
        print(table(options.table))
    elif not options.data or options.rows % options.repetitions:
        parser.error("give the archive as --data, and --rows that are a multiple of --repetitions")
    else:
        plan(options)


if __name__ == "__main__":
    main()
