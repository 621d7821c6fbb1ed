"""Pictures of every mask on two real images, of what augmentations make of them, and of the loss weights.

    python studies/gallery.py --data-dir .data                      CIFAR-10, as the documentation has it
    python studies/gallery.py --dataset digits                      needs no download

Writes mixing_gallery.png, augmentation_gallery.png and loss_weights.png into runs/gallery/, or into --output-dir, which is
docs/ for the documentation.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from keras import ops
from matplotlib.figure import Figure

from mixmo_keras import augmentation, datasets, masks, plots, policies, seeds
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing.ratios import loss_weights

AUGMENTATIONS: dict[str, Callable] = {
    "crop and flip": lambda: augmentation.PadCropFlip(),
    "TrivialAugment": lambda: policies.TrivialAugment(),
    "RandAugment": lambda: policies.RandAugment(),
    "AutoAugment": lambda: policies.AutoAugment("cifar10"),
    "random erasing": lambda: policies.RandomErasing(1.0),
}


def mixing_gallery(images: np.ndarray, num_draws: int = 3, weight_root: float = 3.0, seed: int = 0) -> Figure:
    """Two images (2, H, W, C) mixed by each mask: a row a mask, and in it draws of the first image's mask and of the mix.

    A model mixes features at the encoder's resolution; here the same masks mix the pixels. Each draw says its mixing
    ratios κ and the weights w of the losses.
    """
    figure = Figure(figsize=(2.1 + 3.1 * num_draws, 1.72 * len(masks.MASKS) + 0.5), layout="constrained")
    grid = figure.subplots(len(masks.MASKS), 2 + 2 * num_draws, squeeze=False)
    for axes, name in zip(grid, masks.MASKS, strict=True):
        if name == "linear":
            choice = mixing.Mixing(name, weight_root=weight_root)
        else:
            choice = mixing.Mixing(name, probability=1.0, weight_root=weight_root)
        drawn = mixing.draw_masks(choice, seeds.StepSeed(seed), num_draws, 2, images.shape[1:])
        ratios = mixing.visible_ratios(drawn)
        values = (drawn, ratios, loss_weights(ratios, weight_root))
        mask, ratio, weight = (ops.convert_to_numpy(value) for value in values)
        for axis, image in zip(axes[:2], images, strict=True):
            show(axis, image)
        axes[0].set_ylabel(name.replace("_", " "), fontsize=10)
        for draw in range(num_draws):
            mask_axis, mixed_axis = axes[2 + 2 * draw : 4 + 2 * draw]
            show(mask_axis, 255 * np.broadcast_to(mask[draw, 0], images.shape[1:]))
            show(mixed_axis, np.sum(mask[draw] * images, axis=0))
            mask_axis.set_title(f"κ {ratio[draw, 0]:.2f}, {ratio[draw, 1]:.2f}", fontsize=8)
            mixed_axis.set_title(f"w {weight[draw, 0]:.2f}, {weight[draw, 1]:.2f}", fontsize=8)
    for axis, title in zip(grid[0][:2], ("first", "second"), strict=True):
        axis.set_title(title, fontsize=8)
    figure.suptitle(
        f"Mask of the first image and the mix; ratios κ and loss weights w (r = {weight_root:g})", fontsize=11
    )
    return figure


def augmentation_gallery(images: np.ndarray, augmentations: Mapping[str, Callable], seed: int = 0) -> Figure:
    """What augmentations make of images (n, H, W, C): a row an augmentation and image, the image first, then eight draws."""
    num_draws, num_rows = 8, len(augmentations) * len(images)
    figure = Figure(figsize=(1.3 + 1.05 * (num_draws + 1), 1.05 * num_rows + 0.4), layout="constrained")
    grid = figure.subplots(num_rows, num_draws + 1, squeeze=False)
    pairs = ((title, layer, image) for title, layer in augmentations.items() for image in images)
    for axes, (title, layer, image) in zip(grid, pairs, strict=True):
        drawn = layer(np.repeat(image[None], num_draws, axis=0), seed=seeds.StepSeed(seed))
        for axis, shown in zip(axes, (image, *ops.convert_to_numpy(drawn)), strict=True):
            show(axis, shown)
        axes[0].set_ylabel(title, fontsize=8)
    grid[0, 0].set_title("image", fontsize=8)
    return figure


def weight_curves(weight_roots: Sequence[float | None] = (1, 2, 3, 5, None)) -> Figure:
    """The loss weight w_r(κ) of one of two members against its mixing ratio κ (MixMo, equation 4), by root r."""
    ratios = np.linspace(0, 1, 201, dtype="float32")
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    for root in weight_roots:
        weights = loss_weights(ops.convert_to_tensor(np.stack([ratios, 1 - ratios], axis=1)), root)
        label = "equal weights (r → ∞)" if root is None else f"r = {root:g}"
        axis.plot(ratios, ops.convert_to_numpy(weights)[:, 0], label=label, linestyle="--" if root is None else "-")
    axis.set(xlabel="mixing ratio κ of the member", ylabel="weight of its loss", xlim=(0, 1), ylim=(0, 2))
    axis.set_title("Loss weight of one of two members", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def show(axis, image) -> None:
    """Draws an image, grey or in colour, without ticks."""
    pixels = np.clip(np.rint(image), 0, 255).astype("uint8")
    axis.imshow(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def main(arguments: list[str] | None = None) -> list[Path]:
    """Writes the pictures and returns their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="dataset of the images (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--images", type=int, nargs=2, default=(27, 8), help="numbers of two validation images")
    parser.add_argument("--seed", type=int, default=11, help="seed of the draws (default: %(default)s)")
    parser.add_argument("--output-dir", default="runs/gallery", help="folder of the pictures (default: %(default)s)")
    options = parser.parse_args(arguments)
    dataset = datasets.load(options.dataset, "validation", options.data_dir)
    images = np.stack([next(dataset.skip(number).as_numpy_iterator())[0] for number in options.images]).astype(
        "float32"
    )
    folder, seed = Path(options.output_dir), options.seed
    augmentations = {name: build() for name, build in AUGMENTATIONS.items()}
    return [
        plots.save(mixing_gallery(images, seed=seed), folder / "mixing_gallery.png", dpi=80),
        plots.save(augmentation_gallery(images, augmentations, seed=seed), folder / "augmentation_gallery.png", dpi=80),
        plots.save(weight_curves(), folder / "loss_weights.png"),
    ]


if __name__ == "__main__":
    main()
