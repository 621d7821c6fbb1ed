"""The network of airbench94 (Jordan, 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"): small and quickly trained."""

import math

import keras
import numpy as np
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import InitialSeeds
from mixmo_keras.networks.fused_layers import BatchNormalization, FusedGELU
from mixmo_keras.networks.stochastic_depth import DropPath

# Variance of CIFAR-10's normalised 2×2 patches along each direction of `whitening_filters`: of grey, red − blue and
# green − magenta (columns), the patch's mean, top − bottom, left − right and the diagonals (rows)
VARIANCES = np.array(
    [
        [15.48, 1.225, 0.270],
        [0.621, 0.00899, 0.00313],
        [0.533, 0.00607, 0.00231],
        [0.0851, 0.00032, 0.00019],
    ]
)
LEAST_VARIANCE = 7.5e-4  # added to each: directions with less are mostly noise


def whitening_filters() -> np.ndarray:
    """Returns the filters (2, 2, 3, 24) that make channels of equal variance of natural images; the last 12 are negatives.

    airbench94 takes the eigenvectors of training patches, divided by the roots of their eigenvalues. On natural images these
    are the 2×2 Haar basis times an opponent-colour basis to within a correlation of 0.14, so that no data are needed.
    """
    space = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
    colour = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
    directions = np.einsum("sp,kc->pcsk", space, colour) / np.sqrt(VARIANCES + LEAST_VARIANCE)
    filters = directions.reshape(2, 2, 3, 12)
    return np.concatenate([filters, -filters], axis=-1)


@keras.saving.register_keras_serializable("mixmo_keras")
class Whitening(keras.initializers.Initializer):
    """Initial weights (2, 2, 3, 24): `whitening_filters`, in an order that follows from the seed.

    Members' encoders differ by their order, so that the same channel shows each member's image by another filter.

    Args:
        seed: Integer. Defaults to a random one.
    """

    def __init__(self, seed: int | None = None):
        self.seed = seeds.resolve(seed)

    def __call__(self, shape, dtype=None):
        filters = whitening_filters()
        if tuple(shape) != filters.shape:
            raise ValueError(
                f"Whitening filters are {filters.shape}, for images of three channels; got {tuple(shape)}."
            )
        order = np.random.default_rng(self.seed).permutation(filters.shape[-1])
        return keras.ops.convert_to_tensor(filters[..., order], dtype)

    def get_config(self):
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("mixmo_keras")
class PartialIdentity(keras.initializers.Initializer):
    """Initial weights (h, w, c, f) of a convolution whose first filters copy its input; the others are uniform.

    The first min(c, f) filters are one at their own channel in the middle, and zero elsewhere. The others are drawn from
    ±1/√(h·w·c), as PyTorch draws them.

    Args:
        seed: Integer. Defaults to a random one.
    """

    def __init__(self, seed: int | None = None):
        self.seed = seeds.resolve(seed)

    def __call__(self, shape, dtype=None):
        height, width, channels, filters = shape
        limit = 1 / math.sqrt(height * width * channels)
        kernel = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        copied = min(channels, filters)
        kernel[..., :copied] = 0
        kernel[height // 2, width // 2, range(copied), range(copied)] = 1
        return keras.ops.convert_to_tensor(kernel, dtype)

    def get_config(self):
        return {"seed": self.seed}


def airbench(
    width: int = 64,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
) -> Backbone:
    """airbench94's network. Encoder: a whitening 2×2 convolution of 24 filters. Core: three blocks, a global maximum.

    A block is convolution, 2×2 maximum, batch norm, GELU, convolution, batch norm, GELU, with w, 4w and 4w filters. Batch
    norm has no scale and forgets quickly (momentum 0.6). Features are divided by 9, which keeps the logits small. The
    encoder computes in float32: half precision would drown the filters of small variance in rounding. Train it by
    recipes/cifar10_fast.py's settings: the shifts of batch norm at 64 times the rate, whitening filters at none.

    Args:
        width: The first block's filters w. By name: `"airbench64"` is airbench94's.
        input_shape: (H, W, 3) of the images. Defaults to CIFAR's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Not for this network, which has no residual branches.
    """
    width = arguments.integer("width", width, least=1)
    shape = arguments.image_shape("input_shape", input_shape)
    if shape[-1] != 3:
        raise ValueError(f"airbench's whitening filters are for images of 3 channels, got `input_shape` {shape}.")
    if min(shape[:2]) < 9:
        raise ValueError(f"airbench halves its images three times: they need 9×9 pixels or more, got {shape}.")
    if DropPath.of(drop_path).rate:
        raise ValueError("airbench has no residual branches for `drop_path` to drop: leave it out.")
    initial_seeds = InitialSeeds(seed)

    images = keras.Input(shape, name="images")
    whitening = layers.Conv2D(
        24, 2, kernel_initializer=Whitening(initial_seeds.next()), dtype="float32", name="whitening"
    )
    encoder = keras.Model(images, whitening(images), name="encoder")

    def convolution(x, filters: int, name: str):
        kernel = PartialIdentity(initial_seeds.next())
        return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=kernel, name=name)(x)

    def norm_gelu(x, name: str):
        x = BatchNormalization(momentum=0.6, epsilon=1e-5, scale=False, name=f"{name}_bn")(x)
        return FusedGELU(name=f"{name}_gelu")(x)

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = FusedGELU(name="whitening_gelu")(features)
    for block, filters in enumerate((width, 4 * width, 4 * width), start=1):
        x = convolution(x, filters, f"block{block}_conv1")
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        x = norm_gelu(x, f"block{block}_1")
        x = convolution(x, filters, f"block{block}_conv2")
        x = norm_gelu(x, f"block{block}_2")
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    x = layers.Rescaling(1 / 9, name="scale")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=1 / math.sqrt(3 * 4 * width))
