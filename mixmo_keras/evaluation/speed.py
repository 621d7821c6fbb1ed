"""Images per second of networks on this machine. They are timed in turn, since the speed of a shared machine drifts."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mixmo_keras.common import arguments
from mixmo_keras.models.mixmo import MixMo


def seconds_in_turn(networks: Mapping[str, keras.Model], images, rounds: int = 7) -> dict[str, np.ndarray]:
    """The seconds (rounds,) that each network takes for a batch, by name.

    Args:
        networks: The networks by name. Each is called once before, to be traced.
        images: A batch (n, H, W, C), raw pixels.
        rounds: Number of timings of each, one of every network in a round. Defaults to 7.
    """
    images = keras.ops.convert_to_tensor(np.asarray(images), "float32")
    for network in networks.values():
        network.predict_on_batch(images)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(arguments.integer("rounds", rounds, least=1)):
        for name, network in networks.items():
            start = time.perf_counter()
            network.predict_on_batch(images)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def times_as_fast(seconds: Mapping[str, np.ndarray], reference: str) -> dict[str, float]:
    """How many times as fast as the reference each network is: medians of the rounds' ratios of `seconds_in_turn`."""
    return {name: float(np.median(seconds[reference] / of_network)) for name, of_network in seconds.items()}


def of_both_modes(model: MixMo, images, rounds: int = 7) -> dict[str, Any]:
    """Images per second of the fused ensemble and of M images a pass.

    Args:
        model: A `MixMo` that can be multiplexed.
        images: A batch.
        rounds: As in `seconds_in_turn`.

    Returns:
        `batch`, its size; `ensemble` and `multiplexed`; `ratio`, the median of the rounds' ratios; `device`.
    """
    networks = {"ensemble": model.fused(), "multiplexed": model.multiplexed()}
    seconds = seconds_in_turn(networks, images, rounds)
    return {
        "batch": len(images),
        **{mode: len(images) / statistics.median(map(float, values)) for mode, values in seconds.items()},
        "ratio": times_as_fast(seconds, "ensemble")["multiplexed"],
        "device": "accelerator" if _has_accelerator() else "CPU",
    }


def _has_accelerator() -> bool:
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())
