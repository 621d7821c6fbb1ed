"""Asks an exported model what is on images: through TensorFlow Serving, over REST or gRPC, or by loading the SavedModel.

    python recipes/predict.py docs/digit.png --saved-model saved_models/digits
    python recipes/predict.py *.jpg --url http://localhost:8501/v1/models/cifar10
    python recipes/predict.py *.jpg --grpc localhost:8500 --name cifar10
    python recipes/predict.py *.jpg --url http://localhost:8501/v1/models/cifar10 --multiplexed
    python recipes/predict.py *.jpg --url http://localhost:8501/v1/models/cifar10 --switch-at 16

All images go in one request: recipes/predict_folder.py asks about whole folders, and writes a table. The images are sent as
they are, in any size; the model decodes and resizes them. It prints the class, the labels that hold, or the numbers with
their deviation and interval. Needs no mixmo_keras, and over REST nothing but Python and answer_kinds.py beside it.
"""

import argparse
import base64
import contextlib
import http.client
import json
import math
import os
import queue
import re
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import answer_kinds

ENSEMBLE = "serving_bytes"  # the signature of one image a pass
EXAMPLE = "http://localhost:8501/v1/models/cifar10"
MOST_VALUES = 2**26  # of an output over gRPC: a message of 4 MB has fewer, and says how many it stands for
MULTIPLEXED = "multiplexed_bytes"  # and of as many as the network has members


def over_rest(url: str, images: Sequence[bytes], timeout: float = 30.0, signature: str = ENSEMBLE) -> list[dict]:
    """Predictions by TensorFlow Serving's REST interface.

    Args:
        url: Of the model, such as `http://localhost:8501/v1/models/cifar10`, or of one version, `.../versions/2`.
        images: Encoded ones.
        timeout: In seconds, of the whole answer.
        signature: `"serving_bytes"`, or `"multiplexed_bytes"` where the images may share passes.
    """
    if not (isinstance(timeout, (int, float)) and 0 < timeout <= threading.TIMEOUT_MAX) or isinstance(timeout, bool):
        raise ValueError(f"`timeout` must be a positive number of seconds, got {timeout!r}.")
    place = f"{url.rstrip('/')}:predict"
    instances = [{"image_bytes": {"b64": base64.b64encode(image).decode()}} for image in images]
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()
    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError("it begins with neither http:// nor https://")
        request = urllib.request.Request(place, body, {"Content-Type": "application/json"})
        status, content = _fetched(request, timeout)
    except (OSError, http.client.IncompleteRead, http.client.BadStatusLine) as error:
        said = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise ConnectionError(f"There is no answer from {place} ({said}).") from error
    except (ValueError, OverflowError, http.client.HTTPException) as error:
        raise ValueError(f"--url must be the URL of a model, such as {EXAMPLE}, got {url!r} ({error}).") from error
    if status != 200:
        text = content.decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            text = json.loads(text)["error"]
        raise ValueError(f"The server answered {status}: {reason(str(text))[:200]} ({place})")
    return _predictions(content, place, status, len(images))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to other servers' models, and to nothing else: urllib follows those to ftp: too."""

    def redirect_request(self, request, answer, status, message, headers, place):
        if not place.startswith(("http://", "https://")):
            answer.close()
            raise urllib.error.URLError(f"it answered {status}, see {place[:100]!r}, which is no URL of a model")
        return super().redirect_request(request, answer, status, message, headers, place)


OPENER = urllib.request.build_opener(_Redirects)


def _fetched(request: urllib.request.Request, timeout: float) -> tuple[int, bytes]:
    """Status and content of an answer. The time limit is for all of it: a server may send a byte now and then.

    Nothing is asked twice: who knows how much a busy server has computed already.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()

    def fetch() -> None:
        try:
            try:
                answer = OPENER.open(request, timeout=timeout)
            except urllib.error.HTTPError as error:
                answer = error  # which has a content too
            with answer:
                outcome.put((answer.status, answer.read()))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        result = outcome.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"not complete after {timeout:g} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def _predictions(content: bytes, place: str, status: int, count: int) -> list[dict]:
    """The predictions of so many images in an answer's content.

    Raises:
        ValueError: the content is something else.
    """

    said = f"{place} answered {status}"
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:  # of brackets in brackets
        raise _refused(said, f"what is no JSON, {content[:40]!r}", count) from error
    predictions = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(predictions, list):
        raise _refused(said, f"no predictions, {json.dumps(answer)[:60]}", count)
    return _checked(said, predictions, count)


def _checked(said: str, predictions: list, count: int) -> list[dict]:
    """The predictions of so many images that a server answered, however it was asked.

    Raises:
        ValueError: they are not as many, or of another kind.
    """
    if len(predictions) != count:
        raise _refused(said, f"{len(predictions)} of them", count)
    for one in predictions:
        if not answer_kinds.is_answer(one):
            raise _refused(said, f"predictions of another kind, {json.dumps(one, default=repr)[:60]}", count)
    return predictions


def _refused(said: str, got: str, count: int) -> ValueError:
    return ValueError(f"{said} with {got}: expected the predictions of {count} images.")


def over_grpc(
    address: str, name: str, images: Sequence[bytes], timeout: float = 30.0, signature: str = ENSEMBLE
) -> list[dict]:
    """Predictions by TensorFlow Serving's gRPC interface, at an address such as `localhost:8500`."""
    if not address:
        raise ValueError("--grpc must be an address such as localhost:8500, got ''.")
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(images)))
    with grpc.insecure_channel(address) as channel:
        try:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            kind = ConnectionError if error.code() == grpc.StatusCode.UNAVAILABLE else ValueError
            raise kind(
                f"The server at {address} answered {error.code().name}: {reason(error.details() or '')}"
            ) from error
    said, names = f"The server at {address} answered OK", sorted(answer.outputs)
    sizes = [[axis.size for axis in value.tensor_shape.dim] for value in answer.outputs.values()]
    answer_kinds.refuse_label_maps(names)
    is_known = any(kind.outputs <= set(names) for kind in answer_kinds.KINDS)
    # a small message can stand for a large array: one value, for all of them
    if not is_known or any(size[:1] != [len(images)] or math.prod(size) > MOST_VALUES for size in sizes):
        raise _refused(said, f"{names} of shapes {sizes}", len(images))
    try:
        rows = _rows({output: tf.make_ndarray(value) for output, value in answer.outputs.items()})
    except (ValueError, TypeError, AttributeError) as error:  # other types, names that are no text
        raise _refused(said, f"arrays that can't be read ({error})", len(images)) from error
    return _checked(said, rows, len(images))


@contextlib.contextmanager
def _quietly():
    """Leaves out what TensorFlow's libraries say of the machine, past Python, while they are loaded and look for devices."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextlib.contextmanager
def _pattern_free(path: Path):
    """A path by which TensorFlow reads a SavedModel: of a folder in whose name it would see a pattern, a link."""
    if not set(path.as_posix()) & set("*?[\\"):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield str(link)


@contextlib.contextmanager
def _without_keras():
    """Lets TensorFlow go without Keras, which it imports too: a SavedModel needs none, and it takes 100 MB of memory."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # an import of it fails, and TensorFlow passes over that
    try:
        yield
    finally:
        del sys.modules["keras"]


def from_saved_model(path: Path, images: Sequence[bytes], signature: str = ENSEMBLE) -> list[dict]:
    """Predictions of a SavedModel on this machine; the newest version if it has several."""
    return loaded(path, signature)(images)


def loaded(path: Path, signature: str = ENSEMBLE) -> Callable[[Sequence[bytes]], list[dict]]:
    """A function of encoded images to the predictions of a SavedModel, which is loaded once.

    It runs one signature in a session, as TensorFlow Serving does: that takes 60 MB less than a Python function of each.
    """
    with _quietly(), _without_keras():
        import tensorflow as tf

        session = tf.compat.v1.Session(graph=tf.Graph())  # looks for devices
    versions = [folder for folder in path.glob("*") if folder.name.isdecimal()]
    path = max(versions, key=lambda folder: int(folder.name)) if versions else path
    if not (path / "saved_model.pb").is_file():
        raise FileNotFoundError(f"There is no SavedModel in {path}.")
    try:
        with (
            _pattern_free(path) as readable,
            session.graph.as_default(),
            _quietly(),
        ):  # TensorFlow warns that this loader is deprecated
            signatures = tf.compat.v1.saved_model.load(session, ["serve"], readable).signature_def
    except Exception as error:  # TensorFlow raises many kinds, parsing what was cut off
        text = reason(str(error)).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} is no SavedModel that can be loaded ({text}): export it anew.") from error
    if signature not in signatures:
        raise ValueError(f"{path} has no signature `{signature}`: export it with mixmo_keras.")
    outputs = {output: tensor.name for output, tensor in signatures[signature].outputs.items()}
    encoded = signatures[signature].inputs["image_bytes"].name
    answer_kinds.kind_of(outputs)

    def ask(images: Sequence[bytes]) -> list[dict]:
        try:
            return _rows(session.run(outputs, {encoded: list(images)}))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"The model refused the images: {reason(error.message)}") from error

    return ask


def reason(message: str) -> str:
    """What TensorFlow says went wrong, without where in its graph."""
    if failed := re.search(r"assertion failed: \[(.*?)\]", message):
        return failed[1]
    noise = ("Graph execution error", "Detected at node", "<stack traces", "[[")
    lines = [line.strip() for line in message.splitlines()]
    return next((line for line in lines if line and not line.startswith(noise)), message)


def _rows(columns: dict) -> list[dict]:
    """From an array for each output to an answer for each image, as REST has them."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for row in rows:
        row.update({name: value.decode() if name == "class_name" else value.tolist() for name, value in row.items()})
        if "names" in row:
            row["names"] = [name.decode() for name in row["names"]]
    return rows


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model is asked, and how."""
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("--url", help="of a model at TensorFlow Serving's REST port")
    places.add_argument("--grpc", metavar="ADDRESS", help="of TensorFlow Serving's gRPC port; needs --name")
    places.add_argument("--saved-model", type=Path, help="folder of a version, or of all: the newest is taken")
    parser.add_argument("--name", help="of the model, for --grpc")
    parser.add_argument(
        "--multiplexed", action="store_true", help="let the images share passes: more of them a second, less accurate"
    )
    parser.add_argument("--switch-at", type=int, metavar="N", help="let them share passes where there are N or more")


def check_source(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program where these options can't be combined."""
    if (options.grpc is None) != (options.name is None):
        parser.error("--grpc and --name belong together")
    if options.switch_at is not None and (options.multiplexed or options.switch_at < 2):
        parser.error("--switch-at takes a number of at least 2, and replaces --multiplexed")


def source(options: argparse.Namespace, num_images: int) -> Callable[[Sequence[bytes]], list[dict]]:
    """A function of encoded images to their predictions, by the options of `add_source`, for so many images in all."""
    many = options.switch_at is not None and num_images >= options.switch_at
    signature = MULTIPLEXED if options.multiplexed or many else ENSEMBLE
    if options.url is not None:
        return lambda images: over_rest(options.url, images, signature=signature)
    if options.grpc is not None:
        return lambda images: over_grpc(options.grpc, options.name, images, signature=signature)
    return loaded(options.saved_model, signature)


def print_any_character() -> None:
    """Lets the console show a question mark for letters that it lacks."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # of no console
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def main(arguments: list[str] | None = None) -> list[dict]:
    """Prints a line for each image, or JSON."""
    print_any_character()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="files in JPEG, PNG, GIF, BMP or WebP format")
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with all probabilities")
    options = parser.parse_args(arguments)
    check_source(parser, options)
    if folders := [path for path in options.images if path.is_dir()]:
        parser.error(f"{folders[0]} is a folder: recipes/predict_folder.py asks about the images in it")
    try:
        images = [path.read_bytes() for path in options.images]
        answers = source(options, len(images))(images)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    predictions = [{"file": str(path), **answer} for path, answer in zip(options.images, answers, strict=True)]
    if options.json:
        print(json.dumps(predictions, indent=2))
        return predictions
    width = max(len(str(path)) for path in options.images)
    for answer in predictions:
        print(f"{answer['file']:<{width}}  {answer_kinds.kind_of(answer).line(answer)}")
    return predictions


if __name__ == "__main__":
    main()
