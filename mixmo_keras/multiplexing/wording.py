"""What a report says of several images a pass, and the model card of an evaluated model."""

from collections.abc import Mapping
from typing import Any

from mixmo_keras.metrics.summaries import formatted


def rows(figures: Mapping[str, Any]) -> list[tuple[str, dict]]:
    """Names and figures for the table of an evaluation's networks: without and with the temperature of this mode."""
    if "multiplexed" not in figures:
        return []
    multiplexed = figures["multiplexed"]
    name, temperature = f"{multiplexed['images_a_pass']} images a pass", multiplexed["temperature"]["value"]
    if temperature == 1:
        return [(name, multiplexed["network"])]
    return [(name, multiplexed["uncalibrated"]), (f"{name}, T = {temperature:.3f}", multiplexed["network"])]


def lines(figures: Mapping[str, Any]) -> list[str]:
    """The results beside the table, a line each."""
    if "multiplexed" not in figures:
        return []
    multiplexed = figures["multiplexed"]
    speed = multiplexed["images_per_second"]
    lines = [
        f"{multiplexed['images_a_pass']} images a pass: {speed['multiplexed']:,.0f} images per second, the ensemble "
        f"{speed['ensemble']:,.0f} ({speed['batch']} images at once on {speed['device']}, ratio {speed['ratio']:.2f}); "
        f"{multiplexed['other_answer_than_ensemble']:.2%} of the answers are not the ensemble's",
        *temperature_lines(multiplexed["temperature"]),
        "an answer beside random partners, accuracy / other than usual / images ever answered otherwise / spread of "
        "confidence:",
    ]
    for kind, values in multiplexed["partners"].items():
        cells = [formatted(values[key], "{:.2%}") for key in ("accuracy", "changed", "ever_changed")]
        cells.append(formatted(values["confidence_spread"], "{:.4f}"))
        lines.append(f"    {kind.replace('_', ' '):<20}{' / '.join(cells)}  ({values['images']} images)")
    return lines


def temperature_lines(temperature: Mapping[str, Any]) -> list[str]:
    """What became of the temperature of several images a pass, where one was fitted."""
    if temperature["fitted_on"]:
        fitted = f"fitted on {temperature['fitted_on']:,} validation images"
        return [f"temperature of several images a pass {temperature['value']:.3f}, {fitted}"]
    if refused := temperature.get("not_applied"):
        value = "" if refused["value"] is None else f" {refused['value']:.3f}"
        return [f"temperature of several images a pass{value} not applied: {refused['why']}"]
    return []


def card_sections(figures: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """A model card's section of an evaluation: accuracy, NLL and speed of the ensemble and of several images a pass."""
    if not (multiplexed := figures.get("multiplexed")):
        return {}
    ensemble, network, speed = figures["ensemble"], multiplexed["network"], multiplexed["images_per_second"]
    section = {
        "accuracy, ensemble": f"{ensemble['accuracy']:.2%}",
        "accuracy, multiplexed": f"{network['accuracy']:.2%}",
        "NLL, ensemble": f"{ensemble['nll']:.4f}",
        "NLL, multiplexed": f"{network['nll']:.4f}",
        "images per second, ensemble": f"{speed['ensemble']:,.0f}",
        "images per second, multiplexed": f"{speed['multiplexed']:,.0f}",
        "measured": f"where it was evaluated, on {speed['device']}, {speed['batch']} images at once",
    }
    return {f"{multiplexed['images_a_pass']} images a pass": section}
