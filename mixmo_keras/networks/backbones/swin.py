"""Swin transformers (Liu et al., 2021, "Hierarchical vision transformer using shifted windows")."""

from collections.abc import Sequence

import keras
from keras import layers

from mixmo_keras.common import arguments
from mixmo_keras.networks.backbones import transformer
from mixmo_keras.networks.backbones.backbone import Backbone
from mixmo_keras.networks.backbones.parts import Branches, check_divides, one_for_each_stage
from mixmo_keras.networks.backbones.windows import WindowAttention
from mixmo_keras.networks.stochastic_depth import DropPath

SIZES = {  # channels of the first stage; blocks and heads of the four stages
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
_EPSILON = 1e-5


def swin(
    size: str = "tiny",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    seed: int | None = None,
    drop_path: DropPath | float = 0.0,
    patch: int = 4,
    window: int = 7,
    depths: Sequence[int] | None = None,
    width: int | None = None,
    heads: Sequence[int] | None = None,
) -> Backbone:
    """Swin-size. Encoder: the embedding of the patches. Core: layer norm, four stages, layer norm, pooling.

    A block is attention within windows, shifted by half a window in every other block, and two dense layers. A stage but
    the first begins with a dense layer over 2×2 places, which halves the map and doubles the channels.

    Args:
        size: `"tiny"`, `"small"` or `"base"`.
        input_shape: (H, W, C) of the images; 8 times `patch` divides height and width. Defaults to ImageNet's.
        seed: Integer from which the initial weights follow. Defaults to random ones.
        drop_path: Stochastic depth in the two branches of each block, a rate or a `DropPath`. Defaults to none.
        patch: Side of a patch in pixels. Defaults to the paper's; 2 or 1 keep more of small images.
        window: Greatest side of a window, in places. A stage's windows are the largest up to it that divide its map: 7 for
            all stages at 224 pixels, 4, 4, 2 and 1 at 32. A map no larger than a window is one, which is not shifted.
        depths: Number of blocks of each stage. Defaults to the size's.
        width: Number of channels of the first stage. Defaults to the size's.
        heads: Number of heads of each stage, which divides its channels. Defaults to the size's.

    Raises:
        ValueError: an argument is out of range, or only windows of one place divide a stage's map.
    """
    usual_width, usual_depths, usual_heads = SIZES[arguments.choice("size", size, SIZES)]
    depths = one_for_each_stage("depths", depths, usual_depths)
    heads = one_for_each_stage("heads", heads, usual_heads)
    width = usual_width if width is None else arguments.integer("width", width, least=1)
    for stage, count in enumerate(heads):
        if (width << stage) % count:
            raise ValueError(f"`heads` (={count}) must divide the {width << stage} channels of stage {stage + 1}.")
    patch, window = (arguments.integer(name, value, least=1) for name, value in (("patch", patch), ("window", window)))
    input_shape = arguments.image_shape("input_shape", input_shape)
    check_divides("patch", patch, input_shape, times=8)
    start = transformer.PaperStart(seed)
    branches = Branches(DropPath.of(drop_path), 2 * sum(depths))

    images = keras.Input(input_shape, name="images")
    stem = start.convolution(patch * patch * input_shape[-1])
    encoder = keras.Model(images, layers.Conv2D(width, patch, patch, **stem, name="patches")(images), name="encoder")

    features = keras.Input(encoder.output_shape[1:], name="features")
    x = transformer.norm(features, "stem_norm", _EPSILON)
    for stage, (depth, num_heads) in enumerate(zip(depths, heads, strict=True), start=1):
        if stage > 1:
            x = _merge_patches(x, start, f"stage{stage}")
        windows = [largest_window(length, window) for length in x.shape[1:3]]
        for index in range(depth):
            shifts = [
                side // 2 if index % 2 and side < length else 0
                for side, length in zip(windows, x.shape[1:3], strict=True)
            ]
            x = _block(x, num_heads, windows, shifts, branches, start, f"stage{stage}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(transformer.norm(x, "norm", _EPSILON))
    return Backbone(encoder, keras.Model(features, x, name="core"), head_stddev=transformer.STDDEV)


def largest_window(length: int, most: int) -> int:
    """The largest side of a window, up to `most`, that divides the side of a map.

    Raises:
        ValueError: it is 1, of a larger map.
    """
    side = max(side for side in range(1, most + 1) if length % side == 0)
    if side == 1 < length:
        raise ValueError(
            f"`window` (={most}): no window of 2 to {most} places divides a map of {length}. Pass images of another size, "
            "such as a multiple of 32, or a larger window."
        )
    return side


def _merge_patches(x, start: transformer.GlorotStart, name: str):
    """(B, h, w, c) to (B, h/2, w/2, 2c), by a dense layer over 2×2 places: down first, then right."""
    _, height, width, channels = x.shape
    x = layers.Reshape((height // 2, 2, width // 2, 2, channels), name=f"{name}_pairs")(x)
    x = layers.Permute((1, 3, 4, 2, 5), name=f"{name}_together")(x)
    x = layers.Reshape((height // 2, width // 2, 4 * channels), name=f"{name}_merged")(x)
    x = transformer.norm(x, f"{name}_norm", _EPSILON)
    return layers.Dense(2 * channels, use_bias=False, kernel_initializer=start.kernel(), name=f"{name}_dense")(x)


def _block(x, num_heads: int, window, shift, branches: Branches, start: transformer.GlorotStart, name: str):
    """Attention within windows and two dense layers, each a residual branch with layer norm first."""
    channels = x.shape[-1]
    y, add = branches(x, name, 1)
    y = transformer.norm(y, f"{name}_norm1", _EPSILON)
    y = layers.Dense(3 * channels, kernel_initializer=start.kernel(), name=f"{name}_projected")(y)
    y = WindowAttention(num_heads, window, shift, start.token(), name=f"{name}_attention")(y)
    y = layers.Dense(channels, kernel_initializer=start.kernel(), name=f"{name}_attended")(y)
    x = add(x, y)
    y, add = branches(x, name, 2)
    return add(x, transformer.dense_layers(transformer.norm(y, f"{name}_norm2", _EPSILON), start, name))
