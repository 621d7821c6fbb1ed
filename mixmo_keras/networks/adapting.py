"""A trained network for images of another size than its own, or with another number of channels."""

import keras

from mixmo_keras.networks import graphs
from mixmo_keras.networks.backbones.backbone import Backbone

GREY_AND_RGB = {1, 3}
_LUMA = (0.299, 0.587, 0.114)  # red, green and blue in grey, as in ITU-R BT.601


def shape_of(model: keras.Model) -> tuple:
    """(H, W, C) of a model's images, `None` where it takes any; empty where it has no one input of images."""
    inputs = getattr(model, "inputs", None) or []
    return tuple(inputs[0].shape[1:]) if len(inputs) == 1 and len(inputs[0].shape) == 4 else ()


def other_channels(model: keras.Model, input_shape: tuple[int, int, int] | None) -> bool:
    """Whether images are grey and a model takes RGB, or the other way round."""
    own = shape_of(model)
    return bool(own) and input_shape is not None and {own[-1], input_shape[-1]} == GREY_AND_RGB


def resized(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Returns a copy of a model for images of a size (H, W); the model itself where it takes that size, or any.

    Raises:
        ValueError: the model has layers for one size alone.
    """
    own = shape_of(model)
    if not own or not graphs.has_graph(model) or all(a in (None, b) for a, b in zip(own, size, strict=False)):
        return model
    try:
        return graphs.flat(model, (*size, own[-1]))
    except Exception as error:  # which is a layer's own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{model.name} takes images of {own[0]}×{own[1]} pixels alone; these are of {size[0]}×{size[1]}. Bring them to "
            f"its size: of a folder photos by photos@{own[0]}{'' if own[0] == own[1] else f'x{own[1]}'}. ({reason})"
        ) from error


def with_other_channels(parts: Backbone) -> Backbone:
    """Returns a backbone for grey images of one for RGB, which repeats their channel; or the other way round, by luma."""
    height, width, channels = parts.input_shape
    if channels == 3:
        images = keras.Input((height, width, 1), name="images")
        x = keras.layers.Concatenate(name="grey_to_rgb")([images] * 3)
    else:
        images = keras.Input((height, width, 3), name="images")
        x = sum(share * images[..., index : index + 1] for index, share in enumerate(_LUMA))
    if parts.preprocessing is not None:
        x = parts.preprocessing(x)
    preprocessing = graphs.flat(keras.Model(images, x, name="preprocessing"))
    return Backbone(parts.encoder, parts.core, parts.head_stddev, preprocessing)


def difference(model: keras.Model, input_shape: tuple[int, int, int]) -> str:
    """How images of a shape differ from a model's own, and what is done about it; empty where they don't."""
    own, said = shape_of(model), []
    if own and any(a not in (None, b) for a, b in zip(own[:2], input_shape, strict=False)):
        said.append(f"built for {own[0]}×{own[1]} pixels, now for {input_shape[0]}×{input_shape[1]}")
    if other_channels(model, input_shape):
        said.append("grey, repeated for RGB" if own[-1] == 3 else "RGB, made grey")
    return "; ".join(said)
