"""What a SavedModel computes, the fused network's numbers and those of M images a pass; the signatures that clients call."""

from pathlib import Path

import keras
import tensorflow as tf
from keras import ops

from mixmo_keras import keras_internals, multiplexing
from mixmo_keras.datasets import decoding, resizing
from mixmo_keras.networks.views import averaged

FILE_CHANNELS = (1, 3, 4)  # what image files can be decoded to
OF_MEMBERS = "member_"  # how the names of outputs begin that the signature for members serves, and no other


def write_network(model, path: Path, verbose: bool, views: int) -> None:
    """The numbers as Keras exports them: float32 pixels to all outputs but names; of M images a pass where the model can."""
    one_view = model.fused(members=True)  # encoders are one; heads, which cost next to nothing, give their own answers
    network = averaged(one_view, views)

    def numbers(images):
        member_outputs = ops.cast(network(images, training=False), "float32")
        return model.task.served(member_outputs, model.average)

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.track(model.average)
    signature = keras.InputSpec(shape=(None, *model.image_shape), dtype="float32", name="images")
    archive.add_endpoint("numbers", numbers, input_signature=[signature])
    multiplexing.serving.add_endpoint(archive, model, one_view, signature)
    archive.write_out(str(path), verbose=verbose)


class Served(tf.Module):
    """What is served: a network that `write_network` wrote, with decoding before it and names after it.

    Args:
        loaded: The network.
        image_shape: (H, W, C).
        named_output: The output that is an index of a name, beside which the name is served; `None` for none, where all
            names are served of each image.
        names: The names, such as of classes.
        max_pixels: Of an encoded image, at most.
    """

    def __init__(
        self, loaded, image_shape: tuple[int, int, int], named_output: str | None, names: list[str], max_pixels: int
    ):
        super().__init__()
        self.numbers = loaded.numbers
        self.multiplexed_numbers = getattr(loaded, multiplexing.serving.ENDPOINT, None)
        endpoints = [function for function in (self.numbers, self.multiplexed_numbers) if function is not None]
        captured = {id(value) for function in endpoints for value in function.concrete_functions[0].captured_inputs}
        every = keras_internals.exported_variables(loaded)
        self.weights = [variable for variable in every if id(variable.handle) in captured]
        self.image_shape, self.max_pixels = image_shape, max_pixels
        self.named_output = named_output
        self.class_names = tf.constant(names)

    def signatures(self) -> dict:
        """The signatures by name; `export` says what each takes and gives."""
        shape = (None, *self.image_shape)

        def of(function, *spec):
            return tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(*spec))

        def of_pixels(answer, for_floats: str, for_uint8: str, for_files: str) -> dict:
            forms = {
                for_floats: of(answer, shape, tf.float32, "images"),
                for_uint8: of(lambda images: answer(tf.cast(images, tf.float32)), shape, tf.uint8, "images"),
            }
            if self.image_shape[-1] in FILE_CHANNELS:
                from_files = lambda image_bytes: answer(self._decoded(image_bytes))  # noqa: E731
                forms[for_files] = of(from_files, (None,), tf.string, "image_bytes")
            return forms

        by_name = {
            **of_pixels(self._ensemble, "serving_default", "uint8", "serving_bytes"),
            "members": of(self._members, shape, tf.float32, "images"),
        }
        if self.multiplexed_numbers is not None:
            by_name |= of_pixels(self._multiplexed, *multiplexing.serving.SIGNATURES)
        return by_name

    def _numbers(self, endpoint, images) -> dict:
        # signatures let other sizes pass, and a network of convolutions answers; a placeholder hides from TensorFlow, which
        # would leave the check out, that it is told the size
        shape = tf.shape(tf.compat.v1.placeholder_with_default(images, [None] * 4))
        expected = f"Images must be (n, {', '.join(map(str, self.image_shape))})"
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(shape[1:], self.image_shape, expected),
                tf.debugging.assert_positive(shape[0], "The batch is empty: send an image at least."),
                # on CPUs ReLU makes 0 of NaN, and of a broken image a plausible answer
                tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(images)), ["Images hold NaN or infinite pixels."]),
            ]
        ):
            return dict(endpoint(tf.identity(images)))

    def _ensemble(self, images) -> dict:
        numbers = self._numbers(self.numbers, images)
        return self._named({name: value for name, value in numbers.items() if not name.startswith(OF_MEMBERS)})

    def _multiplexed(self, images) -> dict:
        return self._named(self._numbers(self.multiplexed_numbers, images))

    def _named(self, outputs: dict) -> dict:
        if self.named_output is None:
            number = tf.shape(next(iter(outputs.values())))[0]
            return {**outputs, "names": tf.tile(self.class_names[None], (number, 1))}
        index = tf.cast(outputs[self.named_output], tf.int64)
        return {**outputs, self.named_output: index, "class_name": tf.gather(self.class_names, index)}

    def _decoded(self, image_bytes):
        """Files (n,) as images (n, H, W, C), float32."""
        height, width, channels = self.image_shape
        crop = resizing.center_crop((height, width))  # as `datasets` brings files to size

        def decode(encoded):
            return tf.cast(crop(decoding.decode(encoded, channels, self.max_pixels)), tf.float32)

        return tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec(self.image_shape, tf.float32))

    def _members(self, images) -> dict:
        numbers = self._numbers(self.numbers, images)
        return {name: value for name, value in numbers.items() if name.startswith(OF_MEMBERS)}
