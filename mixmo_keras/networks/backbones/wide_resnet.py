"""Wide residual networks for small images (Zagoruyko and Komodakis, 2016), as MixMo's implementation has them."""

import keras
from keras import layers

from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, Parts


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    seed: int | None = None,
    drop_path: float = 0.0,
    drop_path_ramp: bool = False,
    efficient_drop_path: bool = False,
) -> Backbone:
    """WRN-depth-width. Encoder: the first 3×3 convolution, 16 filters. Core: three groups of (depth − 4)/6 residual blocks.

    Args:
        depth: 6n + 4, such as 10, 16, 28 or 40.
        width: the widen factor w: the groups have 16w, 32w and 64w filters.
        input_shape: (H, W, C) of the images.
        seed: integer from which the initial weights follow; `None` for random ones.
        drop_path: rate of stochastic depth, the same in every block.
        drop_path_ramp: whether the rate rises from block to block, and reaches `drop_path` at the last.
        efficient_drop_path: whether a branch is computed for the rows alone that keep it (cosub).
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"`depth` must be 6n + 4 with n ≥ 1, such as 10, 16, 28 or 40, got {depth}.")
    if width < 1:
        raise ValueError(f"`width` must be at least 1, got {width}.")
    parts = Parts(seed)
    branches = Branches(drop_path, 3 * ((depth - 4) // 6), drop_path_ramp, efficient_drop_path)

    def block(x, filters: int, strides: int, name: str):
        shortcut = x
        if x.shape[-1] != filters or strides != 1:
            shortcut = parts.convolution(x, filters, 1, strides, name=f"{name}_shortcut")  # of the raw input
        x, add = branches(x, name)
        x = parts.norm_relu(x, f"{name}_1")
        x = parts.convolution(x, filters, 3, name=f"{name}_conv1")
        x = parts.norm_relu(x, f"{name}_2")
        x = parts.convolution(x, filters, 3, strides, name=f"{name}_conv2")  # the stride is on the second convolution
        return add(shortcut, x)

    images = keras.Input(input_shape, name="images")
    encoder = keras.Model(images, parts.convolution(images, 16, 3, name="conv"), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = features
    for group, strides in enumerate((1, 2, 2)):
        for index in range((depth - 4) // 6):
            x = block(x, 16 * width * 2**group, strides if index == 0 else 1, f"group{group + 1}_block{index + 1}")
    x = parts.norm_relu(x, "final")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"))
