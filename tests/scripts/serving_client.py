"""Asks every signature of a SavedModel for answers, with TensorFlow alone: SAVED_MODEL IMAGES.npy FOLDER ANSWERS.npz.

FOLDER holds image files, which are sent too, in the order of their names.
"""

import sys
from pathlib import Path

for name in ("mixmo_keras", "keras"):
    sys.modules[name] = None  # as where they are not installed

import numpy as np
import tensorflow as tf

signatures = tf.saved_model.load(sys.argv[1]).signatures
images = np.load(sys.argv[2])
answers = {}
for size in (*range(1, 8), 256):
    part = images[:size]
    answers[f"float {size}"] = signatures["serving_default"](images=tf.constant(part, "float32"))
    answers[f"uint8 {size}"] = signatures["uint8"](images=tf.constant(part))
    files = [tf.io.encode_png(image).numpy() for image in part]
    answers[f"bytes {size}"] = signatures["serving_bytes"](image_bytes=tf.constant(files))
    answers[f"multiplexed float {size}"] = signatures["multiplexed"](images=tf.constant(part, "float32"))
    answers[f"multiplexed uint8 {size}"] = signatures["multiplexed_uint8"](images=tf.constant(part))
    answers[f"multiplexed bytes {size}"] = signatures["multiplexed_bytes"](image_bytes=tf.constant(files))
    answers[f"members {size}"] = signatures["members"](images=tf.constant(part, "float32"))
files = [path.read_bytes() for path in sorted(Path(sys.argv[3]).iterdir())]
answers["files"] = signatures["serving_bytes"](image_bytes=tf.constant(files))
arrays = {
    f"{case}/{name}": value.numpy().astype(str) if value.dtype == tf.string else value.numpy()
    for case, answer in answers.items()
    for name, value in answer.items()
}
np.savez(sys.argv[4], **arrays)
