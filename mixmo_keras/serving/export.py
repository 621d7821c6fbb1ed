"""Exporting an ensemble as a SavedModel that serves raw pixels and encoded images without this package."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mixmo_keras.datasets import resizing as image_size
from mixmo_keras.metrics import uncertainty

FILE_CHANNELS = (1, 3, 4)  # what image files can be decoded to
WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"


def export(
    model,
    path: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Path:
    """Writes a SavedModel in TensorFlow Serving's layout, `<name>/<version>/`: encoders fused, the temperature inside.

    Signatures, each for any number of images but none:

    - `serving_default`: `images` (n, H, W, C), float32 raw pixels from 0 to 255;
    - `uint8`: the same as uint8, a quarter of the traffic;
    - `serving_bytes`: `image_bytes` (n,), files in JPEG, PNG, GIF or BMP format, decoded and resized inside; only for images
      of 1, 3 or 4 channels;
    - `members`: `images` as in `serving_default`.

    The first three give `probabilities` (n, K) of the ensemble, `label` (n,) int64, `class_name` (n,) string, `confidence`
    (n,), `predictive_entropy` (n,) and `mutual_information` (n,) in nats (`uncertainty`). `members` gives each member's
    `member_probabilities` and `member_logits` (n, M, K). The temperature is in what is said of the ensemble; mutual
    information is of the members as they were trained, so that it may exceed the entropy.

    Beside it lie `model_card.md` and a warm-up request, which TensorFlow Serving plays when it loads a model. The version's
    folder appears only when it is complete: it is written beside and renamed.

    Args:
        model: a `MixMo` or a `DeepEnsemble`.
        path: a version, such as `saved_models/cifar100/1`; or a name, such as `saved_models/cifar100`, for its next version.
        class_names: of the K classes, in the labels' order; `None` for their numbers.
        card: what the model card should say: headings to texts or to mappings of names to values.
        overwrite: whether an existing version may be replaced.
        verbose: whether Keras prints what it writes.

    Returns:
        The folder of the version.

    Raises:
        FileExistsError: the version exists and `overwrite` is not set.
    """
    path = _version(Path(path))
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another version, or pass overwrite=True to replace it.")
    names = [str(number) for number in range(model.num_classes)] if class_names is None else list(class_names)
    if len(names) != model.num_classes:
        raise ValueError(f"`class_names` has {len(names)} names for {model.num_classes} classes.")

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _write_network(model, beside / "network", verbose)
        served = _Served(tf.saved_model.load(str(beside / "network")), model.image_shape, names)
        tf.saved_model.save(served, str(beside / "model"), signatures=served.signatures())
        _write_warm_up(beside / "model", path.parent.name, model.image_shape)
        (beside / "model" / "model_card.md").write_text(model_card(model, names, card or {}))
        if path.exists():
            os.replace(path, beside / "replaced")
        os.replace(beside / "model", path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _version(path: Path) -> Path:
    """`path` itself if it ends in a version's number, else its next version."""
    if path.name.isdecimal():
        return path
    taken = [int(folder.name) for folder in path.glob("*") if folder.name.isdecimal()]
    return path / str(max(taken, default=0) + 1)


def _write_network(model, path: Path, verbose: bool) -> None:
    """The numbers as Keras exports them, on any backend: float32 pixels to all outputs but names."""
    network = model.fused(members=True)  # encoders are one; heads, which cost next to nothing, give their own answers

    def numbers(images):
        member_logits = ops.cast(network(images, training=False), "float32")
        logits = model.average(member_logits)
        probabilities = ops.softmax(logits, axis=-1)
        return {
            "probabilities": probabilities,
            "label": ops.argmax(probabilities, axis=-1),
            "confidence": ops.max(probabilities, axis=-1),
            "predictive_entropy": uncertainty.predictive_entropy(logits),
            "mutual_information": uncertainty.mutual_information(member_logits),
            "member_logits": member_logits,
            "member_probabilities": ops.softmax(member_logits, axis=-1),
        }

    archive = keras.export.ExportArchive()
    archive.track(network)
    signature = keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name="images")
    archive.add_endpoint("numbers", numbers, input_signature=[signature])
    archive.write_out(str(path), verbose=verbose)


class _Served(tf.Module):
    """What is served: the network, with decoding before it and class names after it."""

    def __init__(self, loaded, image_shape: tuple[int, int, int], class_names: list[str]):
        super().__init__()
        self.numbers = loaded.numbers
        captured = {id(value) for value in loaded.numbers.concrete_functions[0].captured_inputs}
        every = (*loaded.variables, *loaded._all_variables)  # Keras writes each twice; one of the two is used
        self.weights = [variable for variable in every if id(variable.handle) in captured]
        self.image_shape = image_shape
        self.class_names = tf.constant(class_names)

    def signatures(self) -> dict:
        shape = (None, *self.image_shape)

        def of(function, *spec):
            return tf.function(function).get_concrete_function(tf.TensorSpec(*spec))

        found = {
            "serving_default": of(self._serve, shape, tf.float32, "images"),
            "uint8": of(lambda images: self._serve(tf.cast(images, tf.float32)), shape, tf.uint8, "images"),
            "members": of(self._members, shape, tf.float32, "images"),
        }
        if self.image_shape[-1] in FILE_CHANNELS:
            found["serving_bytes"] = of(self._serve_bytes, (None,), tf.string, "image_bytes")
        return found

    def _numbers(self, images) -> dict:
        # signatures let other sizes pass, and a network of convolutions answers; a placeholder hides from TensorFlow, which
        # would leave the check out, that it is told the size
        given = tf.shape(tf.compat.v1.placeholder_with_default(images, [None] * 4))
        expected = f"Images must be (n, {', '.join(map(str, self.image_shape))})"
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(given[1:], self.image_shape, expected),
                tf.debugging.assert_positive(given[0], "The batch is empty: send an image at least."),
            ]
        ):
            return dict(self.numbers(tf.identity(images)))

    def _serve(self, images) -> dict:
        numbers = self._numbers(images)
        names = ("probabilities", "label", "confidence", "predictive_entropy", "mutual_information")
        found = {name: numbers[name] for name in names}
        found["label"] = tf.cast(found["label"], tf.int64)
        return {**found, "class_name": tf.gather(self.class_names, found["label"])}

    def _serve_bytes(self, image_bytes) -> dict:
        height, width, channels = self.image_shape
        fit = image_size.middle((height, width))  # as `datasets` brings files to size

        def decode(encoded):
            image = tf.io.decode_image(encoded, channels=max(channels, 3), expand_animations=False)
            image.set_shape((None, None, max(channels, 3)))
            image = tf.cast(fit(image), tf.float32)
            return tf.tensordot(image, [[0.299], [0.587], [0.114]], 1) if channels == 1 else image  # ITU-R BT.601

        spec = tf.TensorSpec(self.image_shape, tf.float32)
        return self._serve(tf.map_fn(decode, image_bytes, fn_output_signature=spec))

    def _members(self, images) -> dict:
        numbers = self._numbers(images)
        return {name: numbers[name] for name in ("member_probabilities", "member_logits")}


def _write_warm_up(folder: Path, name: str, image_shape: tuple[int, int, int]) -> None:
    """A request of one grey image for each signature that clients use."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    grey = tf.fill((1, *image_shape), 128)
    inputs = {"serving_default": ("images", tf.cast(grey, tf.float32))}
    if image_shape[-1] in FILE_CHANNELS:
        inputs["serving_bytes"] = ("image_bytes", tf.io.encode_png(tf.cast(grey, tf.uint8)))
    (folder / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
        for signature, (key, value) in inputs.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, signature
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


# -- the model card ----------------------------------------------------------------------------------------------------


def model_card(model, class_names: Sequence[str], card: Mapping[str, Any]) -> str:
    """What a person who serves the model should know, in Markdown."""
    height, width, channels = model.image_shape
    shown = ", ".join(class_names[:20]) + (f", … ({len(class_names)} in all)" if len(class_names) > 20 else "")
    members = f"an ensemble of {model.num_members} members" if model.num_members > 1 else "a single network"
    lines = [
        f"# {model.name}",
        "",
        f"Classifies images of {height}×{width} pixels and {channels} channel{'s' if channels > 1 else ''} into "
        f"{model.num_classes} classes: {shown}. It is {members} with {model.count_params():,} parameters.",
        "",
        "| | |",
        "|---|---|",
        f"| input | raw pixels, 0 to 255, ({height}, {width}, {channels}); or image files of any size (`serving_bytes`) |",
        "| output | probabilities, label, class name, confidence, predictive entropy, mutual information (nats) |",
        f"| averaging | {model.average.averaging} |",
        f"| temperature | {model.temperature:g}{'' if model.temperature != 1 else ' (not calibrated)'} |",
    ]
    for heading, content in card.items():
        lines += ["", f"## {heading}", ""]
        if isinstance(content, Mapping):
            lines += ["| | |", "|---|---|", *(f"| {name} | {_text(value)} |" for name, value in content.items())]
        else:
            lines.append(str(content))
    lines += [
        "",
        "## Limits",
        "",
        "- It knows its classes and no others: an image of anything else gets one of them too. On such images confidence is "
        "lower and entropy and mutual information are higher, on average only.",
        "- Its figures hold for images like those it was tested on.",
        "- Of encoded images that have another aspect ratio the middle is taken.",
        "",
        "## Versions",
        "",
        f"mixmo_keras {_own_version()}, Keras {keras.__version__}, TensorFlow {tf.__version__}",
    ]
    if commit := _commit():
        lines[-1] += f", commit {commit}"
    return "\n".join(lines) + "\n"


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _own_version() -> str:
    import mixmo_keras

    return mixmo_keras.__version__


def _commit() -> str | None:
    """Of the checkout that this package lies in; `None` if it is installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
