"""Networks with trained weights by name, with a head for your own classes.

efficientnet_lite0          weights in a package of pip, see `pretrained_weights`
keras:MobileNetV3Small      a function of keras.applications
hub:PRESET                  what keras_hub's `from_preset` takes: a preset's name, a handle, or a folder
"""

import difflib
import random
import sys
import types
import warnings

import keras
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.common import arguments
from mixmo_keras.common.trained import HUB, KERAS, is_packaged
from mixmo_keras.networks.backbones import pretrained_weights


def network(
    name: str,
    num_classes: int | None,
    input_shape: tuple[int, int, int] | None = None,
    pretrained: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """A classifier of raw pixels whose body is a library's, and whose dense head for K classes is new.

    Args:
        name: `efficientnet_lite0`, `1` or `2`; `keras:` and the name of a function of keras.applications; or `hub:` and a
            preset of keras_hub.
        num_classes: K. `None` keeps ImageNet's head of an EfficientNet-Lite.
        input_shape: (H, W, C). Defaults to a preset's or an EfficientNet-Lite's own; a network of keras.applications needs
            it.
        pretrained: Whether it has the library's weights. Those of keras.applications and keras_hub are downloaded the first
            time.
        seed: Integer from which weights that are new follow. Defaults to random ones.

    Raises:
        ValueError: no such network, weights that can't be had, or an input shape that it can't take.
    """
    if input_shape is not None:
        input_shape = arguments.image_shape("input_shape", input_shape)
        if pretrained and input_shape[-1] == 1:
            input_shape = (*input_shape[:2], 3)  # the weights are of RGB images, to which `parts_of` brings grey ones
    pretrained = arguments.boolean("pretrained", pretrained)
    if is_packaged(name) and num_classes is None:
        return pretrained_weights.classifier(int(name[-1]), None, input_shape, pretrained, seed)
    num_classes = arguments.integer("num_classes", num_classes, least=2)
    if is_packaged(name):
        return pretrained_weights.classifier(int(name[-1]), num_classes, input_shape, pretrained, seed)
    build = _of_keras if name.startswith(KERAS) else _of_hub
    before = random.getstate()
    if seed is not None:
        random.seed(seeds.derive(seed, "library"))  # from which Keras takes the seeds of initializers that have none
    try:
        return build(name, num_classes, input_shape, pretrained)
    finally:
        random.setstate(before)


def _of_keras(name: str, num_classes: int, input_shape, pretrained: bool) -> keras.Model:
    own = name.removeprefix(KERAS)
    known = [one for one in dir(keras.applications) if isinstance(getattr(keras.applications, one), types.FunctionType)]
    if own not in known:
        near = ", ".join(difflib.get_close_matches(own, known, 3, cutoff=0.4)) or ", ".join(known)
        raise ValueError(f"`backbone`: keras.applications has no {own!r}. It has {near}.")
    if input_shape is None:
        raise ValueError(f"`input_shape` must be given for {name}: it takes images of many sizes.")
    function = getattr(keras.applications, own)
    options = dict(include_top=False, pooling="avg", input_shape=input_shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")  # its weights are of 224 pixels
        try:
            body = function(weights="imagenet" if pretrained else None, **options)
        except Exception as error:  # what `get_file` raises is a plain one
            if "URL fetch failure" not in str(error) and not isinstance(error, OSError):
                raise
            raise ValueError(_without_weights(name, error, "~/.keras/models")) from error
    images = keras.Input(input_shape, name="images")
    # the arithmetic that the weights expect; nothing where the network does it itself
    features = body(sys.modules[function.__module__].preprocess_input(images))
    return keras.Model(images, layers.Dense(num_classes, name="new_head")(features), name=own.lower())


def _of_hub(name: str, num_classes: int, input_shape, pretrained: bool) -> keras.Model:
    preset = name.removeprefix(HUB)
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(f"`backbone` (={name!r}) needs keras_hub: pip install keras-hub") from error
    except (RuntimeError, OSError) as error:  # it looks for its cache while it is imported
        raise ValueError(
            f"`backbone` (={name!r}) needs keras_hub, which can't be imported here ({error}): set HOME to a folder that can "
            "be written into."
        ) from error
    options = dict(load_weights=pretrained, num_classes=num_classes, dtype=keras.config.dtype_policy().name)
    try:
        return keras_hub.models.ImageClassifier.from_preset(preset, **options)
    except OSError as error:
        raise ValueError(_without_weights(name, error, "the cache of the hub that it comes from")) from error
    except Exception as error:  # what a preset of something else ends in is any
        said = str(error).strip() or type(error).__name__
        raise ValueError(f"`backbone`: keras_hub can't make a classifier of the preset {preset!r}: {said}") from error


def _without_weights(name: str, error: Exception, cache: str) -> str:
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"`backbone` (={name!r}): its weights can't be had here ({said}). They are downloaded once, into {cache}: try where "
        "there is a network, or copy them there from such a machine."
    )
