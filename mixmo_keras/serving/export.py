"""Exporting an ensemble as a SavedModel that serves raw pixels and encoded images without this package."""

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from mixmo_keras import multiplexing
from mixmo_keras.common import arguments, files, numbering
from mixmo_keras.datasets import decoding
from mixmo_keras.networks.views import checked
from mixmo_keras.serving import versions
from mixmo_keras.serving.model_card import model_card
from mixmo_keras.serving.signatures import FILE_CHANNELS, Served, write_network

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"


def export(
    model,
    path: str | os.PathLike,
    class_names: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    verbose: bool = False,
    max_pixels: int = decoding.MAX_PIXELS,
    views: int = 1,
) -> Path:
    """Writes a SavedModel in TensorFlow Serving's layout, `<name>/<version>/`: encoders fused, the temperature inside.

    Signatures, each for any number of images but none:

    - `serving_default`: `images` (n, H, W, C), float32 raw pixels from 0 to 255;
    - `uint8`: the same as uint8, a quarter of the traffic;
    - `serving_bytes`: `image_bytes` (n,), files in JPEG, PNG, GIF, BMP or WebP format, decoded, turned upright and resized
      inside; only for images of 1, 3 or 4 channels;
    - `members`: `images` as in `serving_default`;
    - `multiplexed`, `multiplexed_uint8`, `multiplexed_bytes`: the same three as the first, of a `MixMo` that can answer M
      different images in a pass (`predict_multiplexed`): ⌈n/M⌉ passes of the core for n images, in their order. Every
      image has its own encoder there, and the file holds M encoders more, which are small; the core is there once.

    The first three give `probabilities` (n, K) of the ensemble, `label` (n,) int64, `class_name` (n,) string, `confidence`
    (n,), `predictive_entropy` (n,) and `mutual_information` (n,) in nats (`uncertainty`); those of M images a pass all but
    the last, under `multiplexed_temperature`. `members` gives each member's
    `member_probabilities` and `member_logits` (n, M, K). The ensemble's outputs include the temperature. Mutual
    information is of the members as they were trained, so it may exceed the entropy. Other tasks than classes give what
    their `served` says, and `names` (n, K) of labels, targets or classes of pixels.

    Beside it lie `model_card.md` and a warm-up request, which TensorFlow Serving plays when it loads a model. The version's
    folder appears only when it is complete: it is written beside and renamed.

    Args:
        model: A `MixMo` or a `DeepEnsemble`.
        path: A version, such as `saved_models/cifar100/1`; or a name, such as `saved_models/cifar100`, for its next version.
        class_names: The names of the K classes, or of what else the task predicts, in their order. Defaults to the model's
            own `class_names`, else to their numbers, or to the task's own.
        card: What the model card should say: headings to texts or to mappings of names to values.
        overwrite: Whether an existing version may be replaced, if it is a SavedModel. Defaults to False.
        verbose: Whether Keras prints what it writes. Defaults to False.
        max_pixels: Number of pixels above which `serving_bytes` and `multiplexed_bytes` refuse a file, by what its header
            says, before they decode it: a small file can hold gigabytes. Defaults to 2²⁶, 67 million.
        views: 1, 2 or 6: the first four signatures answer by so many views of each image, as the model's `predict` does, at
            as many times the cost. Defaults to 1.

    Returns:
        The folder of the version.

    Raises:
        FileExistsError: the version exists and `overwrite` is not set, or another export is writing it.
        OSError: it can't be written, as on a full disk.
        ValueError: what exists is no SavedModel; names that are not K texts, or in another order than the model's.
    """
    if not all(hasattr(model, name) for name in ("task", "image_shape", "average")):
        raise ValueError(f"`model` must be a MixMo or a DeepEnsemble, got {model!r}.")
    arguments.instance("path", path, (str, os.PathLike), "the path of a folder")
    overwrite, verbose = arguments.boolean("overwrite", overwrite), arguments.boolean("verbose", verbose)
    max_pixels = arguments.integer("max_pixels", max_pixels, least=1, most=decoding.COUNTED)
    card = arguments.instance("card", {} if card is None else card, Mapping, "a mapping of headings, or None")
    names = model.task.names(model.class_names if class_names is None else class_names)
    numbering.check_numbers(model.class_names, names, model.name)

    try:
        with (
            files.no_empty_folders(path),
            versions.claimed(Path(path), overwrite) as version,
            files.replacing_folder(version) as folder,
        ):
            network = folder.parent / "network"  # which a kill leaves in one place with the rest
            write_network(model, network, verbose, checked(views))
            with files.pattern_free(network) as readable:
                loaded = tf.saved_model.load(readable)
            served = Served(loaded, model.image_shape, model.task.named_output, names, max_pixels)
            tf.saved_model.save(served, str(folder), signatures=served.signatures())
            _write_warm_up(folder, version.parent.name, model)
            card_text = model_card(model, names, card, max_pixels, views)
            (folder / "model_card.md").write_text(card_text, encoding="utf-8")
    except tf.errors.OpError as error:  # TensorFlow's own, of a disk that is full
        raise OSError(f"The SavedModel could not be written to {path}: {error.message.splitlines()[0]}") from error
    if files.is_pattern(version):
        warnings.warn(
            f"TensorFlow takes the characters * ? [ \\ in a path for a pattern, and can't load a SavedModel as {version}: "
            "load it by a path without them, such as that of a link to the folder.",
            stacklevel=2,
        )
    return version


def check(model) -> None:
    """Exports a model into a folder that is removed again, to find out before a training whether it can be exported.

    Raises:
        ValueError: it can't.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            export(model, Path(folder) / "1")
        except Exception as error:  # TensorFlow's, or that of a layer
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{model.name} can't be exported as a SavedModel ({reason}). It was tried before the first epoch, so that "
                "nothing is lost: change the network, or train it in Python, without an export."
            ) from error


def _write_warm_up(folder: Path, name: str, model) -> None:
    """A request of one grey image for each signature that clients use."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    grey = tf.fill((1, *model.image_shape), 128)
    pixels = ("images", tf.cast(grey, tf.float32))
    inputs = {"serving_default": pixels}
    if model.image_shape[-1] in FILE_CHANNELS:
        inputs["serving_bytes"] = ("image_bytes", tf.io.encode_png(tf.cast(grey, tf.uint8)))
    if model.why_not_multiplexed() is None:
        inputs[multiplexing.serving.SIGNATURES[0]] = pixels
    (folder / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / WARM_UP)) as writer:
        for signature, (key, value) in inputs.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, signature
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
