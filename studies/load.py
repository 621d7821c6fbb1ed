"""Latency against offered load: a single network, the ensemble, M images a pass, and what switches between them by itself.

    python studies/load.py --backbone wrn16_2 --loads 0.25 0.5 0.75 1 1.25 1.5 1.75
    python studies/load.py --keep     and keep the figures in studies/figures/
    python studies/load.py --clients 1 8 64 --keep     one request in ten is bad: what becomes of the others?

Exported models stand behind a server that speaks TensorFlow Serving's REST protocol, in a process of its own on this
machine, reached over loopback. Requests of one PNG file each arrive at random (a Poisson process) whether or not those
before were answered, and gather in a `RequestQueue` while a batch is computed. Loads are in units of what the single network
answers at most, in batches that are full. Latency counts from a request's arrival to its answer. Each point is bounded by a
number of requests and by seconds of arrivals; what was not answered twenty seconds later counts as unanswered. Above what a
contestant can answer its queue, and so the latency, grows for as long as requests arrive: these points are marked.

`--clients` is about the ensemble alone: so many clients ask one after the other, `--bad` of their requests are of the wrong
size, truncated, empty or too large (`clients.py`). The command ends with 1 where a good one was lost, or answered with the
answer to another, or a bad one was taken.
"""

import argparse
import contextlib
import functools
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import clients
import numpy as np
import pages
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image
from request_queue import RequestQueue

import mixmo_keras
from mixmo_keras import version
from mixmo_keras.common import files
from mixmo_keras.evaluation import plots
from mixmo_keras.experiments import tables

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "recipes"))

import predict  # noqa: E402

PATIENCE = 20.0  # seconds that a point waits for answers after its last request


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """The URL of a SavedModel behind a server in a process of its own, and the number of that process."""
    command = [sys.executable, str(ROOT / "tests" / "serving.py"), "model", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout is not None
        if not (url := process.stdout.readline().strip()):
            raise RuntimeError("The server did not start.")
        yield url, process.pid  # it ends with its input, which is closed here


def images(shape: tuple[int, int, int], count: int) -> list[bytes]:
    """PNG files of noise: what an image shows makes no difference here."""
    encoded = []
    for pixels in np.random.default_rng(0).integers(0, 256, (count, *shape), dtype="uint8"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        encoded.append(file.getvalue())
    return encoded


def capacities(modes: dict[str, Callable], some: list[bytes], max_batch: int, rounds: int = 15) -> dict[str, float]:
    """Images per second in full batches by mode, all in turn, so that what else the machine does meets all alike."""
    batch = (some * max_batch)[:max_batch]
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    for _ in range(1 + rounds):  # the first traces
        for name, answers in modes.items():
            start = time.perf_counter()
            answers(batch)
            seconds[name].append(time.perf_counter() - start)
    return {name: max_batch / float(np.median(of_mode[1:])) for name, of_mode in seconds.items()}


def offer(queue: RequestQueue, some: list[bytes], rate: float, requests: int, seconds: float, seed: int) -> dict:
    """Offers so many requests a second, and says what became of them.

    Args:
        queue: The queue that answers; it is closed at the end.
        some: Encoded images.
        rate: Requests a second, on average.
        requests: Number of requests, at most.
        seconds: How long to offer them, at most.
        seed: Of the arrivals.
    """
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))
    arrivals = arrivals[arrivals < seconds]
    latencies, lock, futures = [], threading.Lock(), []
    start = time.perf_counter()

    def answered(future: Future, arrival: float) -> None:
        if not future.cancelled() and future.exception() is None:
            with lock:
                latencies.append(time.perf_counter() - start - arrival)

    before = queue.answered.copy()
    for index, arrival in enumerate(arrivals):
        time.sleep(max(arrival - (time.perf_counter() - start), 0))
        futures.append(queue.submit(some[index % len(some)]))
        futures[-1].add_done_callback(functools.partial(answered, arrival=arrival))
    wait(futures, PATIENCE)
    took = time.perf_counter() - start
    for future in futures:
        future.cancel()
    queue.close()  # behind which every answer has been noted
    modes = queue.answered - before
    return {
        "requests": len(arrivals),
        "answered": len(latencies) / len(arrivals) if len(arrivals) else 1.0,
        "offered_a_second": len(arrivals) / float(arrivals[-1]) if len(arrivals) else 0.0,
        "median": float(np.median(latencies)) if latencies else None,
        "p99": float(np.quantile(latencies, 0.99)) if latencies else None,
        "a_second": len(latencies) / took,
        "multiplexed": modes["multiplexed"] / max(modes.total(), 1),
    }


def measure(options: argparse.Namespace) -> dict:
    """The figures by contestant and load."""
    shape = tuple(options.input_shape)
    common: dict[str, Any] = dict(num_classes=10, input_shape=shape, augmentation=None, seed=0)
    models = {
        "single": mixmo_keras.SingleNetwork(options.backbone, **common),
        "mixmo": mixmo_keras.CutMixMo(options.backbone, num_members=options.num_members, **common),
    }
    some = images(shape, 16)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = {}
        for name, model in models.items():
            model.export(f"{folder}/{name}/1")
            urls[name], _ = stack.enter_context(served(Path(folder, name)))

        def mode(model: str, signature: str = predict.ENSEMBLE) -> Callable:
            return lambda batch: predict.over_rest(urls[model], batch, signature=signature)

        several = mode("mixmo", predict.MULTIPLEXED)
        modes: dict[str, tuple[Callable, dict[str, Any]]] = {
            "single network": (mode("single"), {}),
            "ensemble": (mode("mixmo"), {}),
            f"{options.num_members} images a pass": (several, dict(multiplexed=several, switch_at=1)),
            "switching": (mode("mixmo"), dict(multiplexed=several, switch_at=options.switch_at)),
        }
        answering = {name: answers for name, (answers, _) in modes.items() if name != "switching"}
        rates = capacities(answering, some, options.max_batch)
        points: dict[str, dict[str, dict]] = {name: {} for name in modes}
        for load in options.loads:
            for name, (answers, switched) in modes.items():
                queue = RequestQueue(answers, **switched, max_batch=options.max_batch)
                rate = load * rates["single network"]
                points[name][f"{load:g}"] = offer(queue, some, rate, options.requests, options.seconds, options.seed)
                print(line(name, load, points[name][f"{load:g}"]), flush=True)
    return {"capacity": rates, "points": points}


def measure_clients(options: argparse.Namespace) -> dict:
    """What became of the requests of several clients, some of them bad."""
    shape = tuple(options.input_shape)
    model = mixmo_keras.CutMixMo(
        options.backbone, num_classes=10, input_shape=shape, num_members=options.num_members, augmentation=None, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/mixmo/1")
        with served(Path(folder, "mixmo")) as (url, pid):
            points = clients.points(url, pid, images(shape, 16), shape, options)
    return {"points": points}


def line(name: str, load: float, point: dict) -> str:
    """What is printed of a point."""
    median, p99 = (float("inf") if point[key] is None else 1e3 * point[key] for key in ("median", "p99"))
    return (
        f"{name:<18} load {load:<5g} {point['answered']:>4.0%} of {point['requests']} answered, "
        f"{point['a_second']:.0f} a second, median {median:.0f} ms, 99th percentile {p99:.0f} ms, "
        f"{point['multiplexed']:.0%} shared passes"
    )


def table(figures: dict) -> str:
    """Images per second in full batches, and median and 99th percentile of latency by load, as Markdown."""
    loads = list(next(iter(figures["points"].values())))
    rows = []
    for name, points in figures["points"].items():
        most = figures["capacity"].get(name)
        rows.append([name, "–" if most is None else f"{most:.0f}", *map(cell, points.values())])
    titles = ["median / 99th percentile, ms", "at most a second", *(f"load {load}" for load in loads)]
    return tables.markdown(titles, rows)


def is_overloaded(point: dict) -> bool:
    """Whether fewer requests were answered than arrived, by more than chance and the last ones' wait explain."""
    return point["a_second"] < 0.9 * point["offered_a_second"]


def cell(point: dict) -> str:
    """Latencies of a point in a table."""
    if point["median"] is None:
        return "–"
    return f"{1e3 * point['median']:.0f} / {1e3 * point['p99']:.0f}" + ("*" if is_overloaded(point) else "")


def chart(figures: dict) -> Figure:
    """Latency against load, of each contestant; the median as a line, up to the 99th percentile shaded; overload hollow."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in figures["points"].items():
        there = [(float(load), point) for load, point in points.items() if point["median"] is not None]
        loads = [load for load, _ in there]
        median, p99 = ([1e3 * point[key] for _, point in there] for key in ("median", "p99"))
        (drawn,) = axes.plot(loads, median, label=name)
        for (load, point), height in zip(there, median, strict=True):
            face = "white" if is_overloaded(point) else drawn.get_color()
            axes.plot(load, height, "o", color=drawn.get_color(), markerfacecolor=face)
        axes.fill_between(loads, median, p99, color=drawn.get_color(), alpha=0.15)
    axes.set(xlabel="offered load, in units of what the single network can answer", ylabel="latency, ms", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.legend()
    return figure


def document() -> None:
    """Writes table and picture of docs/multiplexing.md, and the table of docs/serving.md, from figures that were kept."""
    pages.write("multiplexing.md", {"load": table(pages.read("load"))})
    plots.save(chart(pages.read("load")), pages.DOCS / "load.png")
    pages.write("serving.md", {"clients": clients.table(pages.read("clients"))})


def main(arguments: list[str] | None = None) -> None:
    """Measures latency against load, or with `--clients` what becomes of the requests of several clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn16_2")
    parser.add_argument("--num-members", type=int, default=2)
    parser.add_argument("--input-shape", type=int, nargs=3, default=(32, 32, 3), metavar=("H", "W", "C"))
    parser.add_argument("--loads", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75])
    parser.add_argument("--requests", type=int, default=10_000, help="of a point, at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="of arrivals, of a point")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--switch-at", type=int, default=8, help="waiting requests from which on images share passes")
    parser.add_argument("--clients", type=int, nargs="+", help="so many clients at once, in place of --loads")
    parser.add_argument("--bad", type=float, default=0.1, help="with --clients: share of requests that are bad")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals")
    parser.add_argument("--keep", action="store_true", help="keep the figures in studies/figures/")
    options = parser.parse_args(arguments)
    points = measure_clients(options) if options.clients else measure(options)
    settings = {name: value for name, value in vars(options).items() if name != "keep"}
    figures = {"settings": settings, "commit": version.commit(), **points}
    print(f"\n{(clients.table if options.clients else table)(figures)}")
    if options.clients and not all(map(clients.is_right, figures["points"])):
        raise SystemExit("error: requests were lost, mixed up, or wrongly taken.")
    if options.keep:
        files.write_json(pages.kept_at("clients" if options.clients else "load"), figures)


if __name__ == "__main__":
    main()
