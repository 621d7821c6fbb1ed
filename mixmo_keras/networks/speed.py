"""Images per second of networks on this machine. They are timed in turn, since the speed of a shared machine drifts."""

import time
from collections.abc import Mapping

import keras
import numpy as np

from mixmo_keras.common import arguments


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


def device() -> str:
    """`"accelerator"` or `"CPU"`, whichever networks run on."""
    names = keras.distribution.list_devices()
    return "accelerator" if any(not name.lower().startswith("cpu") for name in names) else "CPU"
