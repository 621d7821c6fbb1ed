"""Wide residual networks for small images (Zagoruyko and Komodakis, 2016), as MixMo's implementation has them."""

import keras
from keras import layers

from mixmo_keras import seeds
from mixmo_keras.backbones.backbone import Backbone


def wide_resnet(
    depth: int = 28, width: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3), seed: int | None = None
) -> Backbone:
    """WRN-depth-width. Encoder: the first 3×3 convolution, 16 filters. Core: three groups of (depth − 4)/6 residual blocks.

    Args:
        depth: 6n + 4, such as 10, 16, 28 or 40.
        width: the widen factor w: the groups have 16w, 32w and 64w filters.
        input_shape: (H, W, C) of the images.
        seed: integer from which the initial weights follow; `None` for random ones.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"`depth` must be 6n + 4 with n ≥ 1, such as 10, 16, 28 or 40, got {depth}.")
    if width < 1:
        raise ValueError(f"`width` must be at least 1, got {width}.")
    counter = iter(range(10**6))

    def convolution(filters: int, size: int, strides: int = 1, name: str | None = None):
        initial = keras.initializers.HeNormal(None if seed is None else seeds.derive(seed, "core", next(counter)))
        return layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False, kernel_initializer=initial, name=name
        )

    def norm_relu(x, name: str):
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def block(x, filters: int, strides: int, name: str):
        shortcut = x
        if x.shape[-1] != filters or strides != 1:
            shortcut = convolution(filters, 1, strides, f"{name}_shortcut")(x)  # of the raw input
        x = norm_relu(x, f"{name}_1")
        x = convolution(filters, 3, 1, f"{name}_conv1")(x)
        x = norm_relu(x, f"{name}_2")
        x = convolution(filters, 3, strides, f"{name}_conv2")(x)  # the stride is on the second convolution
        return layers.Add(name=f"{name}_add")([x, shortcut])

    images = keras.Input(input_shape, name="images")
    encoder = keras.Model(images, convolution(16, 3, name="conv")(images), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = features
    for group, strides in enumerate((1, 2, 2)):
        for index in range((depth - 4) // 6):
            x = block(x, 16 * width * 2**group, strides if index == 0 else 1, f"group{group + 1}_block{index + 1}")
    x = norm_relu(x, "final")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return Backbone(encoder, keras.Model(features, x, name="core"))
