"""Pictures of every mask on two real images, of what augmentations make of them, and of the loss weights.

    python studies/gallery.py --data-dir .data                      CIFAR-10
    python studies/gallery.py --dataset digits                      needs no download
    python studies/gallery.py --data-dir .data --output-dir docs    the pictures of the documentation

Writes mixing_gallery.png, augmentation_gallery.png and loss_weights.png into runs/gallery/, or into --output-dir.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import mixmo_keras

AUGMENTATIONS: dict[str, Callable] = {
    "crop and flip": lambda: mixmo_keras.augmentation.PadCropFlip(),
    "TrivialAugment": lambda: mixmo_keras.policies.TrivialAugment(),
    "RandAugment": lambda: mixmo_keras.policies.RandAugment(),
    "AutoAugment": lambda: mixmo_keras.policies.AutoAugment("cifar10"),
    "random erasing": lambda: mixmo_keras.policies.RandomErasing(1.0),
}


def main(arguments: list[str] | None = None) -> list[Path]:
    """Writes the pictures and returns their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="dataset of the images (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets (default: MIXMO_DATA_DIR, else TFDS' own)")
    parser.add_argument("--images", type=int, nargs=2, default=(27, 8), help="numbers of two validation images")
    parser.add_argument("--seed", type=int, default=11, help="seed of the draws (default: %(default)s)")
    parser.add_argument("--output-dir", default="runs/gallery", help="folder of the pictures (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        dataset = mixmo_keras.datasets.load(options.dataset, "validation", options.data_dir)
        images = [next(dataset.skip(number).as_numpy_iterator())[0] for number in options.images]
    except StopIteration:
        raise SystemExit(f"error: --images {options.images}: {options.dataset} has fewer validation images") from None
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    folder = Path(options.output_dir)
    plots = mixmo_keras.plots
    augmentations = {name: build() for name, build in AUGMENTATIONS.items()}
    paths = [
        plots.save(plots.mixing_gallery(images, seed=options.seed), folder / "mixing_gallery.png", dpi=80),
        plots.save(
            plots.augmentation_gallery(images, augmentations, seed=options.seed),
            folder / "augmentation_gallery.png",
            dpi=80,
        ),
        plots.save(plots.weight_curves(), folder / "loss_weights.png"),
    ]
    print("\n".join(map(str, paths)))
    return paths


if __name__ == "__main__":
    main()
