"""What a SavedModel has for several images a pass: an endpoint of numbers, signatures, and lines of the model card."""

from collections.abc import Callable
from typing import Any

from mixmo_keras.multiplexing.network import fused, why_not

ENDPOINT = "multiplexed_numbers"
SIGNATURES = ("multiplexed", "multiplexed_uint8", "multiplexed_bytes")  # for floats, for uint8, for files
OUTPUTS = ("probabilities", "label", "confidence", "predictive_entropy")  # an image has one member's answer
LIMITS = (
    "\n- With `multiplexed` an answer depends on the images that share its pass: those of one request, in their "
    "order. Images of different people must not share a request where somebody could gain by changing another's answer."
)


def add_endpoint(archive, model, network, numbers_of_logits: Callable, signature) -> None:
    """Adds the numbers of several images a pass to an archive, where a model can answer so.

    Args:
        archive: A `keras.export.ExportArchive`.
        model: An `Ensemble`.
        network: What `fused(members=True)` gave: its core and heads are written once.
        numbers_of_logits: What is said of images by their logits (n, K).
        signature: Of the images.
    """
    if why_not(model):
        return
    several = fused(model, network)
    archive.track(several)
    numbers = lambda images: numbers_of_logits(several(images, training=False))  # noqa: E731
    archive.add_endpoint(ENDPOINT, numbers, input_signature=[signature])


def card_properties(model) -> dict[str, Any]:
    """Properties for a model card, and none where a model can't answer several images a pass."""
    if why_not(model):
        return {}
    temperature = model.multiplexed_temperature
    return {
        "images a pass": f"1, or {model.num_members} with `multiplexed`: no ensemble then, see Limits",
        "temperature, multiplexed": f"{temperature:g}{'' if temperature != 1 else ' (not calibrated)'}",
    }


def limits(model) -> str:
    """A line for a model card's limits; empty where a model can't answer several images a pass."""
    return "" if why_not(model) else LIMITS
