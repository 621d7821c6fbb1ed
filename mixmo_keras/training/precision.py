"""Which precision trains fastest on this machine: bfloat16 where its hardware multiplies it, float32 otherwise."""

import dataclasses
import functools
import math
import warnings
from pathlib import Path

import keras

from mixmo_keras import keras_internals
from mixmo_keras.common import trained
from mixmo_keras.networks import backbones
from mixmo_keras.networks.backbones import Backbone
from mixmo_keras.training import steps

AUTO = "auto"
# Channels of a network's products from which bfloat16 gains on a CPU; see `width`
WIDE_ENOUGH = 24
# by how much longer a CPU takes for an operation of a depthwise or grouped convolution, which bfloat16 makes no faster
_GROUPED = 100
_AMX = "amx_bf16"
# flags of a CPU by the half precision that it multiplies; without one it emulates it
_FLAGS = {"bfloat16": (_AMX, "avx512_bf16"), "float16": ("amx_fp16", "avx512_fp16")}
_CPUINFO = Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Precision:
    """A dtype policy for a machine and a network, and why.

    Attributes:
        policy: `"mixed_bfloat16"` or `"float32"`: what models take as `dtype`.
        reason: In words.
    """

    policy: str
    reason: str


def choose(backbone: str | Backbone | keras.Model) -> Precision:
    """Returns the precision in which a network trains fastest on this machine.

    mixed_bfloat16 computes in bfloat16 and keeps weights in float32. It is chosen on TPUs and on GPUs of compute capability
    8 or more; and on CPUs with AMX, by their flags, for networks that are wide enough (`width`). docs/training.md has what
    was measured.

    Args:
        backbone: As in `MixMo`. What was trained before, a file or a library's network, keeps to float32.

    Raises:
        ValueError: no such backbone.
    """
    if steps.has_accelerator():
        if steps.accelerator_multiplies_bfloat16():
            return Precision("mixed_bfloat16", "the accelerator has units for bfloat16")
        return Precision("float32", "the GPU is of a compute capability below 8, without units for bfloat16")
    if _AMX not in _cpu_flags():
        return Precision("float32", "the CPU lacks AMX for bfloat16, which is slower then")
    if trained.is_file(backbone) or trained.is_of_a_library(backbone):
        return Precision("float32", "the network was trained already, and keeps its precision")
    channels = width_of_name(backbone) if isinstance(backbone, str) else width(backbones.get(backbone, None, 0))
    if channels < WIDE_ENOUGH:
        return Precision("float32", f"products of {channels:.0f} channels gain little by the CPU's AMX")
    return Precision("mixed_bfloat16", f"the CPU has AMX, and products have {channels:.0f} channels")


def cpu_flag(dtype: str) -> str | None:
    """The first flag of this machine's CPU that says it multiplies a half precision; `None` if there is none, or unknown.

    Args:
        dtype: `"bfloat16"` or `"float16"`.
    """
    return next((flag for flag in _FLAGS[dtype] if flag in _cpu_flags()), None)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """What Linux says of the CPU; nothing on other systems."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


@functools.lru_cache(maxsize=32)
def width_of_name(backbone: str) -> float:
    """`width` of a named backbone, which is built for it."""
    return width(backbones.get(backbone, None, 0))


def width(backbone: Backbone) -> float:
    """How wide a backbone's core is: the smaller of input and output channels of a product, in the mean over its time.

    Convolutions and dense layers count, each by its multiplications. Depthwise and grouped ones have a group's channels and
    count a hundredfold, by the time that they take.
    """
    channels, operations = [], []
    for layer in keras_internals.flatten_layers(backbone.core):
        if not isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            continue
        *window, inputs, outputs = layer.kernel.shape
        groups = getattr(layer, "groups", 1)
        grouped = groups > 1 or isinstance(layer, keras.layers.DepthwiseConv2D)
        channels.append(min(inputs, outputs // groups))
        places = math.prod(size for size in layer.output.shape[1:-1] if size is not None)
        operations.append(places * inputs * outputs * math.prod(window) * (_GROUPED if grouped else 1))
    total = sum(operations)
    return sum(one * count for one, count in zip(channels, operations, strict=True)) / total if total else 0.0


def warn_if_emulated(policy: keras.DTypePolicy) -> None:
    """Warns of a half precision that this machine's CPU has to emulate, where there is no accelerator."""
    dtype = policy.compute_dtype
    if dtype in _FLAGS and not steps.has_accelerator() and cpu_flag(dtype) is None:
        warnings.warn(
            f"The model computes in {dtype} (dtype {policy.name!r}), which this CPU emulates many times more slowly than it "
            f"computes float32: it has none of {', '.join(_FLAGS[dtype])}. Build the model with dtype='float32'.",
            stacklevel=3,
        )
