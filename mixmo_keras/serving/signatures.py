"""What a SavedModel computes: the fused network's numbers, and the signatures that clients call."""

from pathlib import Path

import keras
import tensorflow as tf
from keras import ops

from mixmo_keras import keras_internals
from mixmo_keras.datasets import resizing
from mixmo_keras.metrics import uncertainty

FILE_CHANNELS = (1, 3, 4)  # what image files can be decoded to
OF_ENSEMBLE = ("probabilities", "label", "confidence", "predictive_entropy", "mutual_information")
OF_MEMBERS = ("member_probabilities", "member_logits")
RED_GREEN_BLUE = [[0.299], [0.587], [0.114]]  # how much each counts for grey: ITU-R BT.601


def write_network(model, path: Path, verbose: bool) -> None:
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
    archive.track(model.average)
    signature = keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name="images")
    archive.add_endpoint("numbers", numbers, input_signature=[signature])
    archive.write_out(str(path), verbose=verbose)


class Served(tf.Module):
    """What is served: a network that `write_network` wrote, with decoding before it and class names after it."""

    def __init__(self, loaded, image_shape: tuple[int, int, int], class_names: list[str]):
        super().__init__()
        self.numbers = loaded.numbers
        captured = {id(value) for value in loaded.numbers.concrete_functions[0].captured_inputs}
        every = keras_internals.exported_variables(loaded)
        self.weights = [variable for variable in every if id(variable.handle) in captured]
        self.image_shape = image_shape
        self.class_names = tf.constant(class_names)

    def signatures(self) -> dict:
        """The signatures by name; `export` says what each takes and gives."""
        shape = (None, *self.image_shape)

        def of(function, *spec):
            return tf.function(function).get_concrete_function(tf.TensorSpec(*spec))

        by_name = {
            "serving_default": of(self._serve, shape, tf.float32, "images"),
            "uint8": of(lambda images: self._serve(tf.cast(images, tf.float32)), shape, tf.uint8, "images"),
            "members": of(self._members, shape, tf.float32, "images"),
        }
        if self.image_shape[-1] in FILE_CHANNELS:
            by_name["serving_bytes"] = of(self._serve_bytes, (None,), tf.string, "image_bytes")
        return by_name

    def _numbers(self, images) -> dict:
        # signatures let other sizes pass, and a network of convolutions answers; a placeholder hides from TensorFlow, which
        # would leave the check out, that it is told the size
        shape = tf.shape(tf.compat.v1.placeholder_with_default(images, [None] * 4))
        expected = f"Images must be (n, {', '.join(map(str, self.image_shape))})"
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(shape[1:], self.image_shape, expected),
                tf.debugging.assert_positive(shape[0], "The batch is empty: send an image at least."),
            ]
        ):
            return dict(self.numbers(tf.identity(images)))

    def _serve(self, images) -> dict:
        numbers = self._numbers(images)
        outputs = {name: numbers[name] for name in OF_ENSEMBLE}
        outputs["label"] = tf.cast(outputs["label"], tf.int64)
        return {**outputs, "class_name": tf.gather(self.class_names, outputs["label"])}

    def _serve_bytes(self, image_bytes) -> dict:
        height, width, channels = self.image_shape
        crop = resizing.center_crop((height, width))  # as `datasets` brings files to size

        def decode(encoded):
            image = tf.io.decode_image(encoded, channels=max(channels, 3), expand_animations=False)
            image.set_shape((None, None, max(channels, 3)))
            image = tf.cast(crop(image), tf.float32)
            return tf.tensordot(image, RED_GREEN_BLUE, 1) if channels == 1 else image

        spec = tf.TensorSpec(self.image_shape, tf.float32)
        return self._serve(tf.map_fn(decode, image_bytes, fn_output_signature=spec))

    def _members(self, images) -> dict:
        numbers = self._numbers(images)
        return {name: numbers[name] for name in OF_MEMBERS}
