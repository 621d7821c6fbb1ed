"""Clients of whom one request in ten is bad: what `load.py --clients` measures, and whether anybody got a wrong answer.

Each of so many clients asks, waits for its answer, and asks again. Requests go to the server one by one, or through a
`RequestQueue`, which puts those of several clients into one batch. A good request is a known image, whose answer must be
that of its image and of no other. A bad one must be answered with an error.
"""

import base64
import collections
import dataclasses
import functools
import http.client
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from request_queue import RequestQueue

from mixmo_keras.datasets import decoding
from mixmo_keras.experiments import tables

PATIENCE = 60.0  # seconds that a client waits for an answer
TOLERANCE = 1e-4  # of probabilities that are the same; those of two images have to differ by ten times as much
FILES, PIXELS = "serving_bytes", "serving_default"
ONE_BY_ONE, QUEUE = "one by one", "queue"
OUTCOMES = (
    "answered",
    "refused",
    "mixed up",
    "lost",
    "taken",
)  # a good request's first, or a bad one's second, is right


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client sends: an instance of a signature; of which image, `None` where it is bad."""

    signature: str
    instance: dict
    image: int | None = None
    kind: str = "good"


def good_requests(images: Sequence[bytes]) -> list[Request]:
    """Every image as a file and as pixels."""
    requests = [Request(FILES, _file(encoded), number) for number, encoded in enumerate(images)]
    for number, encoded in enumerate(images):
        requests.append(Request(PIXELS, _pixels(np.asarray(Image.open(io.BytesIO(encoded)))), number))
    return requests


def bad_requests(encoded: bytes, shape: tuple[int, int, int]) -> list[Request]:
    """One of every kind, made of a sound file."""
    height, width, channels = shape
    return [
        Request(PIXELS, _pixels(np.zeros((height + 1, width, channels))), kind="wrong size"),
        Request(FILES, _file(encoded[: len(encoded) // 2]), kind="truncated"),
        Request(FILES, _file(b""), kind="empty"),
        Request(FILES, _file(_too_large()), kind="too large"),
    ]


def _file(content: bytes) -> dict:
    return {"image_bytes": {"b64": base64.b64encode(content).decode()}}


def _pixels(image: np.ndarray) -> dict:
    return {"images": image.astype("float32").tolist()}


def _too_large() -> bytes:
    """A small file of more pixels than a model decodes."""
    side = int(decoding.MAX_PIXELS**0.5) + 1
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def ask(url: str, signature: str, instances: list[dict]) -> list[dict]:
    """The predictions of a server over REST.

    Raises:
        ValueError: it refused the request, with this message.
        OSError: there was no answer.
    """
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")
        if error.code != 400:
            raise OSError(f"The server answered {error.code}: {said[:200]}") from None
        raise ValueError(said) from None
    except http.client.HTTPException as error:
        raise OSError(f"The answer broke off: {error!r}") from error


def expected_answers(url: str, requests: Sequence[Request]) -> np.ndarray:
    """The probabilities of every image (n, K), each asked for alone.

    Raises:
        RuntimeError: two images have answers that could not be told from each other.
    """
    of_files = [request for request in requests if request.signature == FILES]
    answers = np.array([ask(url, FILES, [request.instance])[0]["probabilities"] for request in of_files])
    apart = np.abs(answers[:, None] - answers[None]).max(-1) + np.eye(len(answers))
    if apart.min() < 10 * TOLERANCE:
        raise RuntimeError("Two images have the same answer: that one was given for the other would not be seen.")
    return answers


def resident(pid: int) -> float:
    """The memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def outcome(send: Callable[[Request], dict], request: Request, expected: np.ndarray) -> str:
    """What became of a request: one of `OUTCOMES`."""
    try:
        probabilities = np.array(send(request)["probabilities"])
    except ValueError:
        return "refused"
    except Exception:  # whatever it is, the client has no answer
        return "lost"
    if request.image is None:
        return "taken"
    if probabilities.shape != expected[request.image].shape:
        return "lost"
    return "answered" if np.abs(probabilities - expected[request.image]).max() < TOLERANCE else "mixed up"


def measure(
    send: Callable[[Request], dict],
    good: Sequence[Request],
    bad: Sequence[Request],
    expected: np.ndarray,
    clients: int,
    requests: int,
    seconds: float,
    bad_share: float = 0.1,
    seed: int = 0,
) -> dict:
    """What became of the requests of so many clients.

    Args:
        send: Sends a request and returns its answer; raises `ValueError` where it is refused.
        good: What a good request is drawn from.
        bad: What a bad one is drawn from.
        expected: The probabilities of every image (n, K).
        clients: Number of clients.
        requests: Of all clients together, at most.
        seconds: After which no client asks again.
        bad_share: Of the requests.
        seed: Of what is asked.
    """
    random = np.random.default_rng(seed)
    is_bad = random.random(requests) < bad_share
    drawn = random.random(requests)
    chosen = [
        kinds[int(share * len(kinds))] for kinds, share in zip((bad if w else good for w in is_bad), drawn, strict=True)
    ]
    numbers, lock = iter(range(requests)), threading.Lock()
    seen: collections.Counter[tuple[bool, str]] = collections.Counter()
    latencies: list[float] = []
    start = time.monotonic()

    def client() -> None:
        while time.monotonic() - start < seconds:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            asked = time.perf_counter()
            found = outcome(send, chosen[number], expected)
            took = time.perf_counter() - asked
            with lock:
                seen[bool(is_bad[number]), found] += 1
                latencies.append(took)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - start
    return {
        "clients": clients,
        **{f"good_{name}".replace(" ", "_"): seen[False, name] for name in OUTCOMES if name != "taken"},
        **{f"bad_{name}": seen[True, name] for name in ("refused", "taken", "lost")},
        "a_second": len(latencies) / took,
        "median": float(np.median(latencies)),
        "p99": float(np.quantile(latencies, 0.99)),
    }


def points(url: str, pid: int, images: Sequence[bytes], shape: tuple[int, int, int], options) -> list[dict]:
    """A point for each number of clients and each way, in `options` of `load.py`."""
    good, bad = good_requests(images), bad_requests(images[0], shape)
    expected = expected_answers(url, good)

    def alone(request: Request) -> dict:
        (answer,) = ask(url, request.signature, [request.instance])
        return answer

    bounds = dict(requests=options.requests, seconds=options.seconds, bad_share=options.bad, seed=options.seed)
    measure(alone, good, bad, expected, 8, 200, options.seconds, 0.5)  # what is allocated once
    found = []
    for clients in options.clients:
        for way in (ONE_BY_ONE, QUEUE):
            before = resident(pid)
            if way == ONE_BY_ONE:
                point = measure(alone, good, bad, expected, clients, **bounds)
            else:
                point = _through_queues(url, options.max_batch, good, bad, expected, clients, bounds)
            found.append({"way": way, **point, "memory": [before, resident(pid)]})
            print(line(found[-1]), flush=True)
    return found


def _through_queues(url: str, max_batch: int, good, bad, expected, clients: int, bounds: dict) -> dict:
    """As `measure`, of requests that share batches; a queue for each signature."""
    queues = {name: RequestQueue(functools.partial(ask, url, name), max_batch=max_batch) for name in (FILES, PIXELS)}
    try:
        return measure(
            lambda request: queues[request.signature].submit(request.instance).result(PATIENCE),
            good,
            bad,
            expected,
            clients,
            **bounds,
        )
    finally:
        for queue in queues.values():
            queue.close()


def is_right(point: dict) -> bool:
    """Whether no request was lost or mixed up, and no bad one taken."""
    return not any(point[name] for name in ("good_lost", "good_mixed_up", "good_refused", "bad_taken", "bad_lost"))


def line(point: dict) -> str:
    """What is printed of a point."""
    wrong = "" if is_right(point) else f"  WRONG: {point}"
    return (
        f"{point['clients']:>3} clients, {point['way']:<10} {point['good_answered']:>6} good answered, "
        f"{point['bad_refused']:>5} bad refused, {point['a_second']:.0f} a second, median {1e3 * point['median']:.0f} ms, "
        f"99th percentile {1e3 * point['p99']:.0f} ms, server {point['memory'][0]:.0f} to {point['memory'][1]:.0f} MB{wrong}"
    )


def table(figures: dict) -> str:
    """The points as Markdown."""
    rows = []
    for point in figures["points"]:
        good = sum(point[f"good_{name}"] for name in ("answered", "refused", "mixed_up", "lost"))
        bad = sum(point[f"bad_{name}"] for name in ("refused", "taken", "lost"))
        rows.append(
            [
                f"{point['clients']}",
                point["way"],
                f"{point['good_answered']:,} of {good:,}",
                f"{point['bad_refused']:,} of {bad:,}",
                f"{point['good_mixed_up'] + point['good_lost'] + point['bad_lost']:,}",
                f"{point['a_second']:.0f}",
                f"{1e3 * point['median']:.0f} / {1e3 * point['p99']:.0f}",
                " / ".join(f"{memory:.0f}" for memory in point["memory"]),
            ]
        )
    header = ["clients", "requests", "good answered", "bad refused", "lost, mixed up", "a second"]
    return tables.markdown([*header, "median / 99th percentile, ms", "server's MB before / after"], rows, names=2)
