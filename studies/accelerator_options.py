"""The command line of accelerator.py, whose options are checked before JAX is loaded and anything is measured."""

import argparse
from pathlib import Path

from mixmo_keras.common import arguments as checks

BENCHMARKS = ("peak", "speed", "plan", "table", "train")


def parse(description: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; ends with an error that names the one that is wrong.

    Args:
        description: What `--help` says of the benchmarks.
        arguments: Defaults to the command line's.
    """
    parser = _parser(description)
    options = parser.parse_args(arguments)
    with checks.told_by(parser):
        check(options)
    return options


def check(options: argparse.Namespace) -> None:
    """Raises `ValueError` for options out of range, and for files that can't be read or written."""
    for name in ("peak_size", "steps", "rounds", "steps_a_call", "rows", "repetitions", "warm_steps"):
        checks.integer(name, getattr(options, name), least=1)
    for rows in options.batches:
        checks.integer("batches", rows, least=1)
    checks.integer("seed", options.seed, least=0)
    checks.number("minutes", options.minutes, above=0)
    checks.number("stop_after", options.stop_after, least=0)
    checks.number("learning_rate", options.learning_rate, above=0)
    if options.rows % options.repetitions:
        raise ValueError(f"`rows` (={options.rows}) must be divisible by `repetitions` (={options.repetitions}).")
    if options.benchmark in ("plan", "train") and not (options.data and Path(options.data).is_file()):
        raise ValueError(f"{options.benchmark} needs --data, the archive of images; there is no {options.data}")
    out = Path(options.out)
    if options.benchmark == "table" and not out.is_file():
        raise ValueError(f"there is no file {out} to make a table of")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"`out` must be a file in a folder that exists, got {out}")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--backbone", default="wrn28_10")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--out", default="accelerator.jsonl")
    parser.add_argument("--peak-size", type=int, default=8192)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="rows a step, for speed"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps a round, for speed")
    parser.add_argument("--rounds", type=int, default=5, help="for speed")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out of speed")
    parser.add_argument("--data", help="the archive, for plan and train")
    parser.add_argument("--minutes", type=float, default=20, help="of all runs together, for plan and train")
    parser.add_argument("--stop-after", type=float, default=9, help="minutes after which plan begins no run")
    parser.add_argument("--steps-a-call", type=int, default=50, help="steps without going back to Python, for plan")
    parser.add_argument("--rehearse", action="store_true", help="plan with the smallest network and a few runs")
    parser.add_argument("--rows", type=int, default=256, help="rows a step, for plan and train")
    parser.add_argument("--repetitions", type=int, default=2, help="b of the ensembles, for plan and train")
    parser.add_argument("--learning-rate", type=float, default=0.05, help="for 64 images a step, for plan and train")
    parser.add_argument("--warm-steps", type=int, default=20, help="to measure the step by, for plan (calls) and train")
    parser.add_argument("--seed", type=int, default=0)
    return parser
