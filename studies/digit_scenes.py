"""A picture of the scenes of digits, with what is asked of them: labels, tilt, number, and the class of each pixel.

python studies/digit_scenes.py                       writes runs/digit_scenes.png
python studies/digit_scenes.py --output-dir docs     the documentation's
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from mixmo_keras import plots
from mixmo_keras.datasets import digit_scenes


def picture(scenes: digit_scenes.Scenes, number: int = 8) -> Figure:
    """The first scenes: a column a scene, its image above its label map, in which what is ignored is white."""
    figure = Figure(figsize=(1.3 * number, 3.3), layout="constrained")
    for column, axes in enumerate(figure.subplots(2, number).T):
        axes[0].imshow(scenes.images[column], interpolation="nearest")
        axes[1].imshow(coloured(scenes.maps[column]), interpolation="nearest")
        present = ", ".join(map(str, np.flatnonzero(scenes.present[column])))
        angle, count = scenes.angles[column, 0], int(scenes.counts[column, 0])
        axes[0].set_title(f"{present}\n{angle:.0f}°, {count} digit{'s' if count > 1 else ''}", fontsize=8)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
    return figure


def coloured(label_map: np.ndarray) -> np.ndarray:
    """A label map (H, W) as an image (H, W, 3) in [0, 1]: the ground is black, each digit has a colour."""
    table = np.concatenate([np.zeros((1, 3)), colormaps["tab10"](np.arange(10))[:, :3], np.ones((1, 3))])
    return table[np.where(label_map == digit_scenes.EDGE, 11, label_map)]


def main(arguments: list[str] | None = None) -> Path:
    """Writes the picture and returns its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", default="runs", help="folder of the picture (default: %(default)s)")
    folder = Path(parser.parse_args(arguments).output_dir)
    return plots.save(picture(digit_scenes.scenes("validation")), folder / "digit_scenes.png", dpi=110)


if __name__ == "__main__":
    main()
