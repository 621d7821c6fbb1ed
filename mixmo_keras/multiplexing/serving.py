"""What a SavedModel has for several images a pass: an endpoint of numbers, signatures, and lines of the model card."""

from typing import Any

from mixmo_keras.multiplexing.network import fused, why_not

ENDPOINT = "multiplexed_numbers"
SIGNATURES = ("multiplexed", "multiplexed_uint8", "multiplexed_bytes")  # for floats, for uint8, for files
LIMITS = (
    "\n- With `multiplexed` an answer depends on the images that share its pass: those of one request, in their "
    "order. Images of different people must not share a request where somebody could gain by changing another's answer."
)


def add_endpoint(archive, model, network, signature) -> None:
    """Adds the numbers of several images a pass to an archive, where a model can answer so.

    Args:
        archive: A `keras.export.ExportArchive`.
        model: An `Ensemble`.
        network: What `fused(members=True)` gave: its core and heads are written once.
        signature: Of the images.
    """
    if why_not(model):
        return
    several = fused(model, network)
    archive.track(several)

    def numbers(images):  # an image has one member's answer, whose logits say all
        return model.task.served_of_logits(several(images, training=False), model.average.threshold)

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
