"""Accuracy against images per second: one network as an ensemble and with M images a pass, beside what else one could take.

    python studies/both_modes.py cifar10 --data-dir DATA --keep
    python studies/both_modes.py digits --keep

The accuracies are those that noisy_labels.py kept. The honest rival of M images a pass is a narrower single network that is
as fast. Networks are timed in turn, all in one run.
"""

import argparse
import dataclasses

import gains
import noisy_labels
import numpy as np
import pages
from matplotlib.figure import Figure
from rows import PARTNERS

import mixmo_keras
from mixmo_keras import experiments
from mixmo_keras.common import files
from mixmo_keras.evaluation import plots
from mixmo_keras.evaluation.report import charts
from mixmo_keras.experiments import tables
from mixmo_keras.metrics.differences import mean_and_deviation
from mixmo_keras.networks import speed

NOISE = 0.4
KINDS = ("single", "narrower single", "two networks")
RIVALS = tuple(name for name in noisy_labels.ROWS if name.split(" + ")[0] in KINDS)
OURS = "Cut-MixMo"
TITLES = {"cifar10": "CIFAR-10 at 16 px", "digits": "digits"}
BATCH = 64
SPEEDS = (  # of benchmarks/inference.py
    ("milliseconds", "ms a batch", "{:.2f}"),
    ("ratio", "ratio to single", "{:.3f}"),
    ("ratio_of_processor_time", "of processor time", "{:.3f}"),
    ("images_per_second", "images/s", "{:.0f}"),
    ("over_single", "over single", "{:.3f}"),
)


def main(arguments: list[str] | None = None) -> None:
    """Times the networks of a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=noisy_labels.SETTINGS)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--keep", action="store_true", help="keep the figures in studies/figures/")
    options = parser.parse_args(arguments)
    networks = measure(options.setting, options.rounds, options.data_dir)
    print(table({options.setting: networks}))
    if options.keep:
        files.write_json(pages.kept_at(f"both_modes-{options.setting}"), networks)


def document() -> None:
    """Writes the tables and the picture of docs/multiplexing.md from figures that were kept."""
    kept = {title: pages.read(f"both_modes-{setting}") for setting, title in TITLES.items()}
    pages.write("multiplexing.md", {"accuracy": table(kept), "partners": partners(), **speeds()})
    plots.save(chart(kept), pages.DOCS / "both_modes.png")


def measure(setting: str, rounds: int, data_dir: str | None) -> dict[str, dict]:
    """Accuracies (by seed, of the last epoch) and speeds (images per second, the single network's being 1) by name."""
    kept = pages.read(f"noisy_labels-{setting}-{NOISE:g}")
    info = mixmo_keras.datasets.info(noisy_labels.SETTINGS[setting].dataset, data_dir)
    networks = {name: model(setting, name, info).fused() for name in (*RIVALS, OURS) if name in kept}
    mixmo = model(setting, OURS, info)
    ensemble, several = f"{OURS}, the ensemble", f"{OURS}, {mixmo.num_members} images a pass"
    networks[ensemble], networks[several] = networks.pop(OURS), mixmo.multiplexed()
    columns = {name: (name, gains.ACCURACY) for name in networks}
    columns |= {ensemble: (OURS, gains.ACCURACY), several: (OURS, gains.SEVERAL_A_PASS)}
    accuracies = {name: [by_title[title] for by_title in kept[row].values()] for name, (row, title) in columns.items()}
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *mixmo.image_shape))
    seconds = speed.seconds_in_turn(networks, images, rounds)
    times = speed.times_as_fast(seconds, "single")
    return {name: {"accuracy %": accuracies[name], "times as fast": times[name]} for name in networks}


def model(setting: str, name: str, info: "mixmo_keras.datasets.Info") -> "mixmo_keras.MixMo | mixmo_keras.DeepEnsemble":
    """A row's network; what it has learned makes no difference to how fast it is."""
    row = noisy_labels.ROWS[name]
    recipe = dataclasses.replace(noisy_labels.SETTINGS[setting], label_noise=NOISE, **row.changes).resolved()
    networks = [experiments.build(recipe, info) for _ in range(row.networks)]
    return networks[0] if row.networks == 1 else mixmo_keras.DeepEnsemble(networks)


def table(kept: dict[str, dict]) -> str:
    """Accuracy and images per second, by setting and name, in Markdown."""
    rows = []
    for title, points in kept.items():
        for name, point in points.items():
            accuracies = point["accuracy %"]
            cells = [tables.cell(accuracies, "{:.1f}"), f"{len(accuracies)}", f"{point['times as fast']:.2f}"]
            rows.append([title, name, *cells])
    return tables.markdown(["data", "network", "accuracy %", "seeds", "images per second, over single"], rows, names=2)


def partners() -> str:
    """How many answers of M images a pass change with an image's partners, by setting and wrong labels, in Markdown."""
    lines = []
    for setting, title in TITLES.items():
        for noise in (NOISE, 0.0):
            by_seed = pages.read(f"noisy_labels-{setting}-{noise:g}")[OURS]
            cells = [tables.cell(gains.values(by_seed, column), "{:.1f}") for column, *_ in PARTNERS]
            lines.append([title, f"{noise:.0%}", *cells, str(len(by_seed))])
    kinds = [column.removeprefix("changed ") for column, *_ in PARTNERS]
    return tables.markdown(["data", "wrong labels", *kinds, "seeds"], lines, names=2)


def speeds() -> dict[str, str]:
    """By place in the page: how fast M images a pass are, as benchmarks/inference.py measured it, in Markdown."""
    texts = {}
    for path in sorted(pages.FIGURES.glob("several_a_pass-*.json")):
        kept = pages.read(path.stem)
        backbone = kept["settings"]["backbone"]
        lines = [
            [f"batch {batch}", name, *(form.format(one[key]) for key, _, form in SPEEDS)]
            for batch, by_name in kept["batches"].items()
            for name, one in by_name.items()
        ]
        texts[f"speed-{backbone}"] = tables.markdown([backbone, "", *(title for _, title, _ in SPEEDS)], lines, names=2)
    return texts


def chart(kept: dict[str, dict]) -> Figure:
    """Accuracy (mean, bars of one standard deviation) against images per second."""
    figure = Figure(figsize=(5.2 * len(kept), 4), layout="constrained")
    for axes, (title, points) in zip(figure.subplots(1, len(kept), squeeze=False)[0], kept.items(), strict=True):
        line = []
        for name, point in points.items():
            mean, deviation = mean_and_deviation(point["accuracy %"])
            at, ours = (point["times as fast"], mean), name.startswith(OURS)
            axes.errorbar(*at, yerr=deviation, fmt="o", color=charts.BLUE if ours else charts.GREY)
            place = (6, -11) if ours else (6, 4)  # below and above: where both are as good, names don't meet
            axes.annotate(name, at, place, textcoords="offset points", fontsize=8)
            line += [at] if ours else []
        axes.plot(*zip(*line, strict=True), color=charts.BLUE, linewidth=1, zorder=0)
        axes.set(
            xlabel="images per second, over the single network's", ylabel="accuracy on right labels, %", title=title
        )
        axes.set_xlim(0.4, 2.9)  # room for names
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
