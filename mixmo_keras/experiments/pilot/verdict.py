"""What a pilot says, in words, and what to do next."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mixmo_keras.experiments.pilot.figures import final, gains, label_noise, runs_of
from mixmo_keras.experiments.pilot.runs import VARIANTS
from mixmo_keras.metrics import differences
from mixmo_keras.metrics.differences import Difference

OF_TRAINING = (
    "This holds for runs of this length. Two members learn more slowly and gain most in long training: in the MixMo "
    "paper they lose at WRN-28-2 and win four points at WRN-28-10 after 300 epochs."
)
OF_FURTHER_TRAINING = (
    "This holds for further training of this length: members begin alike, and learn to differ more slowly than one network "
    "learns the images."
)
OF_WRONG_LABELS = (
    "Over a long training on such labels, members with ρ = 0.5 learned them by heart as one network does, members with ρ = "
    "0 later; one network that was trained for a quarter of the passes came within a point of these (docs/results.md)."
)
LONGER = 4  # times the epochs of a pilot that can't tell yet
MOST_EPOCHS = 200  # after so many none asks for a longer one for the sake of wrong labels
MANY_WRONG = 0.1  # the rate of wrong labels from which a long training learns enough of them by heart to matter


def verdict(pilot: Mapping[str, Any]) -> str:
    """Says in plain words whether two members pay here, how sure that is, and from which width on they would.

    Args:
        pilot: What `run` returned.
    """
    if untaught := _nothing_learned(pilot):
        return untaught
    rows = gains(pilot)
    best = max(rows, key=lambda row: row["gain"])
    images, epochs = pilot["images"], pilot["epochs"]
    scale = f"after {epochs} epochs of {images[0]:,} images, judged on {images[1]:,}"
    gain = _gain(best)
    trained = pilot.get("trained", False)
    where = best["variant"] if trained else f"width {best['width']}, {best['variant']}"
    lines = []
    if not gain.is_sure:
        lines.append(f"It can't be said: {gain.in_points()} points at best ({where}), {scale}. More seeds would tell.")
    elif gain.mean > 0:
        lines.append(f"Two members pay here: {gain.in_points()} points at {where}, {scale}.")
    else:
        lines.append(f"Two members do not pay here: at best {gain.in_points()} points ({where}), {scale}.")
    for variant in [] if trained else list(VARIANTS)[1:]:
        lines.append(_trend(variant, [row for row in rows if row["variant"] == variant]))
    if epochs > 1:
        lines.append(_growth(pilot, best))
    lines += _fallen(pilot)
    lines += _wrong_labels(pilot)
    lines.append(OF_FURTHER_TRAINING if trained else OF_TRAINING)
    if min(row["seeds"] for row in rows) < 2:
        lines.append("With one seed the errors count validation images alone; two seeds or more would show the spread.")
    return "\n".join(lines)


class Advice(NamedTuple):
    """What to do after a pilot.

    Attributes:
        action: `"longer"`, another pilot of more epochs; `"seeds"`, one of more seeds; or `"train"`.
        epochs: Of the pilot; of a training, those after which validation accuracy fell, and `None` where it did not.
        seeds: Number of seeds of the pilot.
        seconds: About how long that pilot takes; `None` where that isn't known, and for a training.
        variant: What to train.
        width: Of what to train.
    """

    action: str
    epochs: int | None
    seeds: int
    seconds: float | None
    variant: str
    width: int


def advice(pilot: Mapping[str, Any]) -> Advice:
    """What to run next: a longer pilot where this one can't tell, more seeds if the gain is within its error, or the best.

    It can't tell where nothing was learned yet, or where many labels look wrong, members are behind, and one network has not
    begun to learn its images by heart: what members gain on wrong labels comes after that.

    Args:
        pilot: What `run` returned.
    """
    rows, epochs = gains(pilot), pilot["epochs"]
    best, seeds = max(rows, key=lambda row: row["gain"]), min(row["seeds"] for row in rows)
    seconds = [one.get("seconds") for one in pilot["runs"]]
    taken = None if None in seconds else sum(seconds)
    if _nothing_learned(pilot) or _too_short_for_wrong_labels(pilot):
        return Advice("longer", LONGER * epochs, seeds, taken and LONGER * taken, best["variant"], best["width"])
    if not _gain(best).is_sure:
        return Advice("seeds", epochs, 2 * seeds, taken and 2 * taken, best["variant"], best["width"])
    variant, width = best["variant"], best["width"]
    if best["gain"] < 0:
        variant = "one member"
        width = max((row["width"] for row in rows), key=lambda width: np.mean(final(pilot, "one member", width)))
    return Advice("train", _peak(pilot, variant, width), seeds, None, variant, width)


def _gain(row: Mapping[str, Any]) -> Difference:
    return Difference(row["gain"], row["error"])


def _nothing_learned(pilot: Mapping[str, Any]) -> str | None:
    """That the best runs are no better than guessing, and what then; `None` where some are, or classes aren't counted."""
    num_classes = pilot["runs"][0].get("num_classes")
    if num_classes is None:
        return None
    means = {
        (variant, width): float(np.mean(final(pilot, variant, width)))
        for variant, width in {(one["variant"], one["width"]) for one in pilot["runs"]}
    }
    (variant, width), accuracy = max(means.items(), key=lambda item: item[1])
    named = variant if pilot.get("trained") else f"{variant}, width {width}"
    chance, guess = 1 / num_classes, f"guessing one of {num_classes} classes"
    if "most_frequent" in pilot:
        chance, guess = pilot["most_frequent"], "always answering the most frequent class"
    if differences.is_above_guessing(accuracy, chance, pilot["images"][1]):
        return None
    return (
        f"Nothing was learned yet, so that nothing can be said of members: the best runs ({named}) have "
        f"{accuracy:.1%} of {pilot['images'][1]:,} images right after {pilot['epochs']} epochs, and {guess} {chance:.1%}. "
        "Train longer."
    )


def _too_short_for_wrong_labels(pilot: Mapping[str, Any]) -> bool:
    """Whether many labels look wrong, two members are surely behind, and one member has not begun to learn them by heart.

    A network that was trained before may know them by heart already.
    """
    found, best = label_noise(pilot), max(gains(pilot), key=lambda row: row["gain"])
    if found is None or found[0] < MANY_WRONG or pilot.get("trained") or pilot["epochs"] >= MOST_EPOCHS:
        return False
    behind = best["gain"] < 0 and _gain(best).is_sure
    return behind and not any(_peak(pilot, "one member", width) for width in {one["width"] for one in pilot["runs"]})


def _wrong_labels(pilot: Mapping[str, Any]) -> list[str]:
    """What the runs say of wrong labels, and what that means for the gain."""
    found = label_noise(pilot)
    if found is None:
        return []
    rate, least, most = found
    by_run = f"{least:.0%} to {most:.0%} by run"
    if rate < MANY_WRONG:
        return [f"The runs show no sign of many validation labels drawn at random: about {rate:.0%} ({by_run})."]
    lines = [f"About {rate:.0%} of the validation labels look drawn at random ({by_run})."]
    if not pilot.get("trained"):
        lines.append(OF_WRONG_LABELS)
    if _too_short_for_wrong_labels(pilot):
        lines.append(
            "A long training learns such labels by heart, and two members do so later; no run of one member has begun to. "
            "If the training will be no longer than these runs, train one member; otherwise a longer pilot would tell."
        )
    return lines


def _curve(pilot: Mapping[str, Any], variant: str, width: int) -> np.ndarray:
    """Validation accuracy by epoch, the mean over seeds."""
    return np.mean([run["accuracy"] for run in runs_of(pilot, variant, width)], axis=0)


def _peak(pilot: Mapping[str, Any], variant: str, width: int) -> int | None:
    """The epoch, from 1, after which validation accuracy fell by more than two standard errors; `None` where it did not."""
    curve = _curve(pilot, variant, width)
    peak = int(np.argmax(curve))
    images = pilot["images"][1]
    fall = differences.of_accuracies([curve[peak]], [curve[-1]], (images, images))
    return peak + 1 if fall.is_sure else None


def _fallen(pilot: Mapping[str, Any]) -> list[str]:
    """A line for each variant and width whose validation accuracy fell before the end."""
    lines = []
    for variant, width in sorted({(one["variant"], one["width"]) for one in pilot["runs"]}):
        if peak := _peak(pilot, variant, width):
            curve, of_width = _curve(pilot, variant, width), "" if pilot.get("trained") else f", width {width}"
            fell = f"fell from {curve[peak - 1]:.1%} in epoch {peak} to {curve[-1]:.1%}"
            lines.append(
                f"{variant.capitalize()}{of_width}: validation accuracy {fell}. It learns its images by heart, or its "
                "learning rate is too high; more epochs won't help."
            )
    return lines


def _trend(variant: str, rows: list[dict[str, Any]]) -> str:
    """The gain against the logarithm of the width, weighted by its errors, and where the line reaches zero."""
    if len(rows) < 2:
        return f"{variant.capitalize()}: a second width would show whether width helps."
    x = np.log2([row["width"] for row in rows])
    gain, weight = np.array([row["gain"] for row in rows]), np.array([row["error"] for row in rows]) ** -2.0
    center = np.average(x, weights=weight)
    slope = float(np.sum(weight * (x - center) * gain) / np.sum(weight * (x - center) ** 2))
    error = float(np.sum(weight * (x - center) ** 2) ** -0.5)
    change = f"{100 * slope:+.1f} ± {100 * error:.1f} points"
    said = f"{variant.capitalize()}: each doubling of the width changes the gain by {change}"
    widest = rows[-1]
    if slope <= error:
        return f"{said}, which is no sure sign that a wider network would help."
    if widest["gain"] >= 0:
        return f"{said}."
    low, middle, high = (
        widest["width"] * 2 ** (-widest["gain"] / s) for s in (slope + error, slope, max(slope - error, 1e-9))
    )
    return (
        f"{said}. If it went on like that, they would be even at a width of about {_about(middle)} ({_about(low)} to "
        f"{_about(high)} within one standard error): a line drawn beyond what was measured, not a measurement."
    )


def _growth(pilot: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """How the gain of a variant at a width went from the first half of the runs to their end."""
    gain = _curve(pilot, best["variant"], best["width"]) - _curve(pilot, "one member", best["width"])
    middle, change, error = len(gain) // 2, gain[-1] - gain[len(gain) // 2 - 1], math.sqrt(2) * best["error"]
    values = f"from {100 * gain[middle - 1]:+.1f} to {100 * gain[-1]:+.1f} points"
    said = f"From epoch {middle} to epoch {len(gain)} that gain went {values}"
    if change > error:
        return f"{said}: longer training helps two members, and may close the gap; a longer pilot would tell where."
    if change < -error:
        return f"{said}: at these lengths longer training helps one member more."
    within = f"a change within the error of ± {100 * error:.1f}"
    return f"{said}, {within}: the pilot is too short to say at which length they would be even."


def _about(width: float) -> str:
    return f"{width:.0f}" if width < 200 else "hundreds"
