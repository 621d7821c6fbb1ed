"""Common corruptions of images on the fly, with the severities of CIFAR-10-C (Hendrycks and Dietterich, 2019).

For those who can't download CIFAR-10-C: the noise, blur, photometric and digital ones, without weather. The severities were
chosen for 32×32 pixels. What is drawn repeats with the seed. To add one, write a function of `(images, parameter, random)`
on floats in [0, 1] and list it with its five parameters in `CORRUPTIONS`.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from mixmo_keras.common import arguments
from mixmo_keras.evaluation.batches import numpy_batches

SEVERITIES = range(1, 6)


def corrupt(images, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """Images as they look under a corruption.

    Args:
        images: (n, H, W, C) raw pixels, 0 to 255. `"saturate"` needs colour ones, C = 3.
        name: A name in `CORRUPTIONS`.
        severity: The severity, 1 to 5.
        seed: Seed of what is drawn. Defaults to 0.

    Returns:
        (n, H, W, C), uint8.
    """
    arguments.choice("name", name, CORRUPTIONS)
    severity = arguments.integer("severity", severity, least=min(SEVERITIES), most=max(SEVERITIES))
    seed = arguments.integer("seed", seed, least=0)
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"`images` must be (n, H, W, C), got shape {images.shape}.")
    if images.dtype.kind not in "biuf" or not ((images >= 0) & (images <= 255)).all():  # false for NaN
        raise ValueError("`images` must be raw pixels, numbers from 0 to 255, got others.")
    function, parameters = CORRUPTIONS[name]
    corrupted = function(images.astype("float64") / 255, parameters[severity - 1], np.random.default_rng(seed))
    return np.round(np.clip(corrupted, 0, 1) * 255).astype("uint8")


def corrupted_batches(
    batches, names: Sequence[str] | None = None, seed: int = 0
) -> Iterator[tuple[str, int, list[tuple[np.ndarray, Any]]]]:
    """The same images under every corruption at every severity: (corruption, severity, batches of (images, labels)).

    Args:
        batches: Batches of (images, labels), a `tf.data.Dataset` or any that can be iterated again and again.
        names: Names of `CORRUPTIONS`. Defaults to all.
        seed: Seed of what is drawn. Defaults to 0.
    """
    names = list(CORRUPTIONS) if names is None else arguments.names("names", names)
    if not names:
        raise ValueError("`names` must hold a corruption at least, got an empty list.")
    seed = arguments.integer("seed", seed, least=0)
    for name in names:
        for severity in SEVERITIES:
            corrupted = [
                (corrupt(images, name, severity, seed + number), labels)
                for number, (images, labels) in enumerate(numpy_batches(batches))
            ]
            yield name, severity, corrupted


# -- the corruptions: functions of images as floats in [0, 1], a parameter and a NumPy generator -----------------------


def _gaussian_noise(images, scale, random):
    return images + random.normal(scale=scale, size=images.shape)


def _shot_noise(images, rate, random):
    return random.poisson(images * rate) / rate


def _impulse_noise(images, amount, random):
    """Salt and pepper: a fraction `amount` of the values is set to 0 or 1."""
    hit, salt = random.random(images.shape) < amount, random.random(images.shape) < 0.5
    return np.where(hit, salt, images)


def _speckle_noise(images, scale, random):
    return images + images * random.normal(scale=scale, size=images.shape)


def _gaussian_blur(images, sigma, random):
    return ndimage.gaussian_filter(images, sigma=(0, sigma, sigma, 0), mode="nearest")


def _defocus_blur(images, parameter, random):
    """A disk of a radius, its edge smoothed by a Gaussian."""
    radius, smoothing = parameter
    reach = np.arange(-8, 9)
    disk = (reach[:, None] ** 2 + reach[None, :] ** 2 <= radius**2).astype("float64")
    kernel = ndimage.gaussian_filter(disk / disk.sum(), sigma=smoothing, radius=1)  # a 3×3 window, as theirs
    return ndimage.convolve(images, (kernel / kernel.sum())[None, :, :, None], mode="mirror")


def _zoom_blur(images, zooms, random):
    """The mean of the images and of themselves zoomed in upon."""
    size = images.shape[1:3]
    total = images.copy()
    for zoom in zooms:
        cropped = [int(np.ceil(length / zoom)) for length in size]
        top, left = ((length - crop) // 2 for length, crop in zip(size, cropped, strict=True))
        part = images[:, top : top + cropped[0], left : left + cropped[1]]
        larger = ndimage.zoom(part, (1, size[0] / cropped[0], size[1] / cropped[1], 1), order=1)
        total += larger[:, : size[0], : size[1]]
    return total / (len(zooms) + 1)


def _contrast(images, factor, random):
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * factor + means


def _brightness(images, shift, random):
    if images.shape[-1] != 3:
        return images + shift
    hsv = rgb_to_hsv(images)
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    return hsv_to_rgb(hsv)


def _saturate(images, parameter, random):
    if images.shape[-1] != 3:
        raise ValueError(f"Grey images have no saturation: `saturate` needs three channels, got {images.shape[-1]}.")
    factor, shift = parameter
    hsv = rgb_to_hsv(images)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    return hsv_to_rgb(hsv)


def _pixelate(images, scale, random):
    def coarse(image: Image.Image) -> Image.Image:
        size = image.size
        small = image.resize([max(int(length * scale), 1) for length in size], Image.Resampling.BOX)
        return small.resize(size, Image.Resampling.NEAREST)

    return _with_pillow(images, coarse)


def _jpeg_compression(images, quality, random):
    def through_jpeg(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _with_pillow(images, through_jpeg)


def _with_pillow(images, function: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    raw = np.round(squeezed * 255).astype("uint8")
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in raw]).reshape(images.shape) / 255


# name: function, its parameter at severities 1 to 5
CORRUPTIONS: dict[str, tuple[Callable, list]] = {
    "gaussian_noise": (_gaussian_noise, [0.04, 0.06, 0.08, 0.09, 0.10]),
    "shot_noise": (_shot_noise, [500, 250, 100, 75, 50]),
    "impulse_noise": (_impulse_noise, [0.01, 0.02, 0.03, 0.05, 0.07]),
    "speckle_noise": (_speckle_noise, [0.06, 0.1, 0.12, 0.16, 0.2]),
    "gaussian_blur": (_gaussian_blur, [0.4, 0.6, 0.7, 0.8, 1]),
    "defocus_blur": (_defocus_blur, [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]),
    "zoom_blur": (_zoom_blur, [np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)]),
    "contrast": (_contrast, [0.75, 0.5, 0.4, 0.3, 0.15]),
    "brightness": (_brightness, [0.05, 0.1, 0.15, 0.2, 0.3]),
    "saturate": (_saturate, [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)]),
    "pixelate": (_pixelate, [0.95, 0.9, 0.85, 0.75, 0.65]),
    "jpeg_compression": (_jpeg_compression, [80, 65, 58, 50, 40]),
}
