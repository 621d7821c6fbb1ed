"""MixMo, MIMO and their parts in NumPy, float64, written from the papers' formulas and not from the package.

Members are an axis, as everywhere: images (B, M, H, W, C), masks (B, M, h, w, 1 or c), logits (B, M, K). Weights are a
dictionary, `weights_of(model)`, so that a test can change one of them.
"""

import numpy as np

MEAN, STD = (
    np.array([0.4914, 0.4824, 0.4467]),
    np.array([0.2023, 0.1994, 0.2010]),
)  # of CIFAR, in MixMo's implementation


def weights_of(model) -> dict[str, np.ndarray]:
    """The weights of a MixMo by name; those of member m's encoder begin with `encoder_m/`."""
    parts = [(f"encoder_{member}/", encoder) for member, encoder in enumerate(model.encoders.encoders)]
    parts += [("", model.core), ("", model.heads)]
    return {prefix + weight.path: np.asarray(weight, "float64") for prefix, part in parts for weight in part.weights}


# -- the network ---------------------------------------------------------------------------------------------------------


def convolution(x, kernel, stride=1):
    """Zeros all around at stride 1; at stride 2 on even sizes one row and column of them, at the bottom and right."""
    size, (height, width) = kernel.shape[0], x.shape[1:3]
    if stride == 1:
        before = after = size // 2
    else:
        assert stride == 2
        assert height % 2 == width % 2 == 0
        before, after = 0, int(size == 3)
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2)))


def batch_norm(x, weights, name, training):
    """With the batch's own mean and variance in training, with the moving ones at inference."""
    if training:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    else:
        mean, variance = weights[f"{name}_bn/moving_mean"], weights[f"{name}_bn/moving_variance"]
    return weights[f"{name}_bn/gamma"] * (x - mean) / np.sqrt(variance + 1e-5) + weights[f"{name}_bn/beta"]


def core(x, weights, training=False, depth=10):
    """A wide residual network after its first convolution: (B, h, w, 16) to (B, F)."""

    def norm_relu(x, name):
        return np.maximum(batch_norm(x, weights, name, training), 0)

    for group in (1, 2, 3):
        for index in range(1, (depth - 4) // 6 + 1):
            name, stride = f"group{group}_block{index}", 2 if group > 1 and index == 1 else 1
            y = convolution(norm_relu(x, f"{name}_1"), weights[f"{name}_conv1/kernel"])
            y = convolution(norm_relu(y, f"{name}_2"), weights[f"{name}_conv2/kernel"], stride)
            if x.shape != y.shape:
                x = convolution(x, weights[f"{name}_shortcut/kernel"], stride)  # of the raw input
            x = x + y
    return norm_relu(x, "final").mean((1, 2))


def mixed(features, masks=None):
    """M·Σ_i mask_i ⊙ l_i; without masks MIMO's sum, which is also what inference has: 1/M each."""
    return features.sum(1) if masks is None else features.shape[1] * (masks * features).sum(1)


def member_logits(weights, images, masks=None, training=False, depth=10, encoder_stride=1):
    """Logits (B, M, K) for raw pixels (B, M, H, W, C)."""
    images = (images / 255 - MEAN) / STD
    kernels = [value for name, value in weights.items() if name.startswith("encoder_")]
    members = range(images.shape[1])
    features = [convolution(images[:, m], kernels[m % len(kernels)], encoder_stride) for m in members]  # or one for all
    vector = core(mixed(np.stack(features, 1), masks), weights, training, depth)
    return (vector @ weights["heads/dense/kernel"] + weights["heads/dense/bias"]).reshape(len(vector), len(members), -1)


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def average(logits, averaging):
    """The ensemble's logits (B, K) from its members': MixMo averages logits, MIMO probabilities."""
    return logits.mean(1) if averaging == "logits" else np.log(np.exp(log_softmax(logits)).mean(1))


# -- what it learns from -------------------------------------------------------------------------------------------------


def augmented(images, shifts, flips, padding=4):
    """Pads by zeros, crops at padding + shift, flips left-right."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out = []
    for image, (down, right), flip in zip(padded, shifts + padding, flips, strict=True):
        crop = image[down : down + height, right : right + width]
        out.append(crop[:, ::-1] if flip else crop)
    return np.stack(out)


def blended(own, partner, masks):
    """MSDA: the partner's pixels where the mask is 0. All (B, M, H, W, C), masks (B, M, H, W, 1)."""
    return masks * own + (1 - masks) * partner


def visible_shares(pixel_masks, masks=None):
    """mean(msda_mask ⊙ mixmo_mask) / mean(mixmo_mask), the former pooled to the latter's size: (B, M).

    For a member that is hidden everywhere the papers say nothing, and its loss weighs nothing: the whole image's share.
    """
    if masks is None:
        masks = np.ones_like(pixel_masks)
    rows, members, height, width = masks.shape[:4]
    high, wide = pixel_masks.shape[2] // height, pixel_masks.shape[3] // width
    pooled = np.zeros((rows, members, height, width, 1))
    for i in range(high):
        for j in range(wide):
            pooled += pixel_masks[:, :, i::high, j::wide] / (high * wide)
    visible = masks.mean((2, 3, 4))
    shares = (pooled * masks).mean((2, 3, 4)) / np.where(visible > 0, visible, 1)
    return np.where(visible > 0, shares, pixel_masks.mean((2, 3, 4)))


def targets(labels, partner_labels, shares):
    """Soft labels (B, M, K) from distributions (B, M, K)."""
    return shares[..., None] * labels + (1 - shares[..., None]) * partner_labels


def loss_weights(masks, root):
    """w = M·κ^(1/r)/Σκ^(1/r) with κ the means of the masks: (B, M)."""
    ratios = masks.mean((2, 3, 4))
    roots = np.ones_like(ratios) if root is None else ratios ** (1 / root)
    return masks.shape[1] * roots / roots.sum(1, keepdims=True)


def cross_entropy(targets, logits, smoothing=0.0):
    """(B, M), or (B,) of an ensemble's logits."""
    targets = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    return -(targets * log_softmax(logits)).sum(-1)


def loss(values, weights):
    """Σ over members of the mean over rows of weighted values (B, M)."""
    return sum((weights[:, m] * values[:, m]).mean() for m in range(values.shape[1]))


def l2(weights, spared=()):
    """Σ‖W‖² over the trainable weights."""
    return sum(
        np.sum(v**2)
        for name, v in weights.items()
        if name.split("/")[-1] not in ("moving_mean", "moving_variance", *spared)
    )
