"""Exporting a model as a SavedModel that serves raw pixels without this package."""

import os
import shutil
import tempfile
from pathlib import Path

import keras
from keras import ops


def export(model, path: str | os.PathLike, overwrite: bool = False, verbose: bool = False) -> Path:
    """Writes a SavedModel with one endpoint, `serving_default`.

    It takes `images` (n, H, W, C), float32 raw pixels from 0 to 255, and gives

    - `probabilities` (n, K), of the ensemble;
    - `label` (n,), int64, the most probable class;
    - `member_probabilities` (n, M, K).

    The folder appears only when it is complete: it is written beside `path` and renamed.

    Args:
        model: a `MixMo`.
        path: the folder to write, such as `saved_models/cifar100/1` (TensorFlow Serving's name/version).
        overwrite: whether an existing folder may be replaced.
        verbose: whether Keras prints the endpoint.

    Raises:
        FileExistsError: `path` exists and `overwrite` is not set.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Choose another version, or pass overwrite=True to replace it.")

    network = model.fused(
        members=True
    )  # the encoders are one; the heads, which cost next to nothing, give their own answers

    def serve(images):
        member_logits = ops.cast(network(images, training=False), "float32")
        probabilities = ops.softmax(model.average(member_logits), axis=-1)
        return {
            "probabilities": probabilities,
            "label": ops.cast(ops.argmax(probabilities, axis=-1), "int64"),
            "member_probabilities": ops.softmax(member_logits, axis=-1),
        }

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        archive = keras.export.ExportArchive()
        archive.track(network)
        signature = keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name="images")
        archive.add_endpoint("serving_default", serve, input_signature=[signature])
        archive.write_out(str(beside / "model"), verbose=verbose)
        if path.exists():
            os.replace(path, beside / "replaced")
        os.replace(beside / "model", path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path
