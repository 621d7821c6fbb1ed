"""The checkpoints of MixMo's PyTorch implementation (github.com/alexrame/mixmo-pytorch), both ways.

Such a file holds `{"epoch", "classifier_state_dict", "classifier_optimizer_state_dict"}`; its networks are a wide ResNet
(`layer1` to `layer3` and a last batch norm `bn1`) or a pre-activation ResNet (`layer1` to `layer4`), with `list_conv1.{m}`
and `list_fc.{m}` for the members, or `conv1` and `fc` for a single network. PyTorch is needed for the file format alone:
`pip install 'mixmo_keras[torch]'`.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from mixmo_keras.common import arguments, files
from mixmo_keras.models.methods import CutMixMo, SingleNetwork
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import normalization

_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class _Recognised(NamedTuple):
    """What a checkpoint's names and shapes say of its network."""

    backbone: str
    num_members: int
    num_classes: int
    normalization: normalization.Statistics


class _Weight(NamedTuple):
    """A variable here, and its names there: a head's kernel here is those of all members there, side by side."""

    keys: list[str]
    variable: keras.Variable


def load_reference_checkpoint(
    path: str | os.PathLike, input_shape: tuple[int, int, int] | None = None, **options
) -> MixMo:
    """Returns the model of a checkpoint of the PyTorch implementation, with its weights, ready to evaluate or to fine-tune.

    Family, depth, width, M and K follow from the names and shapes in the file; normalisation is CIFAR's for the wide
    ResNet and (0.5, 0.5) for the pre-activation ResNet, and logits are averaged, as there. The file is read without
    running code in it (`weights_only=True`).

    Args:
        path: The file.
        input_shape: (H, W, C). Defaults to (32, 32, 3) for the wide ResNet, (64, 64, 3) for the other.
        **options: Of `CutMixMo`, or of `SingleNetwork` where the file has one member, such as `mask` or `normalization`.

    Raises:
        ImportError: PyTorch is not installed.
        FileNotFoundError: no such file.
        ValueError: the file is damaged, not a checkpoint, or of another network.
    """
    arguments.instance("path", path, (str, os.PathLike), "the path of a file")
    state = _read(path)
    try:
        network = _recognise(state)
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint of MixMo's PyTorch implementation: {error}") from error
    if broken := [key for key, value in state.items() if not np.isfinite(value).all()]:
        raise ValueError(f"{path} holds NaN or infinite weights ({broken[0]}).")
    recognised = dict(num_classes=network.num_classes, input_shape=input_shape, normalization=network.normalization)
    if network.num_members == 1:
        model = SingleNetwork(network.backbone, **{**recognised, **options})
    else:
        model = CutMixMo(network.backbone, **{**recognised, "num_members": network.num_members, **options})
    weights = _weights(model)
    _check_names(path, state, weights, network)
    values = [_value(path, state, weight, network.backbone) for weight in weights]
    for weight, value in zip(weights, values, strict=True):  # all are checked before the first is assigned
        weight.variable.assign(value)
    return model


def save_reference_checkpoint(model: MixMo, path: str | os.PathLike, epoch: int = 0) -> None:
    """Writes a model's weights as the PyTorch implementation saves them. The optimizer's state is left empty.

    Args:
        model: A model on `wide_resnet` or `preact_resnet`, whose members share neither encoders nor heads.
        path: The file, which appears complete or not at all.
        epoch: Number of epochs to note in it.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the model is of another kind.
    """
    arguments.instance("model", model, MixMo, "a MixMo")
    arguments.instance("path", path, (str, os.PathLike), "the path of a file")
    torch = _torch()
    epoch = arguments.integer("epoch", epoch, least=0)
    try:
        weights = _weights(model)
    except KeyError as error:
        raise ValueError(
            f"The PyTorch implementation has wide and pre-activation ResNets only; this model's layer {error} is of neither."
        ) from error
    state = {}
    for keys, variable in weights:
        parts = np.split(keras.ops.convert_to_numpy(variable), len(keys), axis=-1)
        for key, part in zip(keys, parts, strict=True):
            state[key] = torch.from_numpy(np.ascontiguousarray(_to_torch(part)))
            if key.endswith("running_var"):
                state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    with files.replacing(path) as beside:
        torch.save({"epoch": epoch, "classifier_state_dict": state, "classifier_optimizer_state_dict": {}}, beside)


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError("Reference checkpoints are PyTorch files: pip install 'mixmo_keras[torch]'.") from error
    return torch


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    torch = _torch()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content["classifier_state_dict"]
        return {key.removeprefix("module."): value.detach().float().numpy() for key, value in state.items()}
    except Exception as error:  # whatever PyTorch raises for a file that is damaged or holds code
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ValueError(
            f"{path} is not a checkpoint of MixMo's PyTorch implementation, or a damaged one "
            f"({type(error).__name__}: {reason})."
        ) from error


def _recognise(state: dict[str, np.ndarray]) -> _Recognised:
    heads = sorted(key for key in state if re.fullmatch(r"(list_fc\.\d+|fc)\.weight", key))
    first = state.get("layer1.0.conv1.weight")
    if not heads or first is None or first.ndim != 4 or state[heads[0]].ndim != 2:
        raise ValueError("it has no `fc`, or no residual blocks `layer1`.")
    blocks = [len({key.split(".")[1] for key in state if key.startswith(f"layer{group}.")}) for group in (1, 2, 3, 4)]
    if blocks[3]:
        name, normalized = f"preact_resnet{2 * sum(blocks) + 2}_{first.shape[0] // 64}", normalization.HALF
    else:
        name, normalized = f"wrn{2 * sum(blocks) + 4}_{first.shape[0] // 16}", normalization.CIFAR
    return _Recognised(name, len(heads), state[heads[0]].shape[0], normalized)


def _check_names(path, state: dict[str, np.ndarray], weights: list[_Weight], network: _Recognised) -> None:
    """Raises where the file has not exactly the names that the network has."""
    expected = {key for weight in weights for key in weight.keys}
    present = {key for key in state if not key.endswith("num_batches_tracked")}
    if expected == present:
        return
    faults = [f"it lacks {sorted(expected - present)[0]}"] if expected - present else []
    faults += [f"it has {sorted(present - expected)[0]}"] if present - expected else []
    raise ValueError(
        f"{path} is not a checkpoint of {network.backbone} with {network.num_members} members: {'; '.join(faults)}."
    )


def _value(path, state: dict[str, np.ndarray], weight: _Weight, name: str) -> np.ndarray:
    """What the file has for a weight, in Keras' order of axes."""
    parts = [_to_keras(state[key]) for key in weight.keys]
    try:
        value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    except ValueError as error:
        raise ValueError(f"{path}: the shapes of {', '.join(weight.keys)} differ.") from error
    if value.shape != tuple(weight.variable.shape):
        shape = state[weight.keys[0]].shape
        raise ValueError(f"{path}: {weight.keys[0]} has shape {shape}, which {name} has no place for.")
    return value


def _weights(model: MixMo) -> list[_Weight]:
    """Every weight that predicts. Raises `KeyError` with the first layer that the PyTorch implementation doesn't have."""
    if reason := model.task.why_only_classes():
        raise ValueError(f"The PyTorch implementation has no place for {model.name}: {reason}.")
    if model.encoders.shared or model.heads.shared:
        raise ValueError(
            "The PyTorch implementation has an encoder and a head for each member; this model shares them."
        )
    single, members = model.num_members == 1, range(model.num_members)
    convolutions = ["conv1"] if single else [f"list_conv1.{member}" for member in members]
    heads = ["fc"] if single else [f"list_fc.{member}" for member in members]
    weights: list[_Weight] = []
    for encoder, there in zip(model.encoders.encoders, convolutions, strict=True):
        if [layer.name for layer in encoder.layers if layer.weights] != ["conv"]:
            raise KeyError(encoder.name)
        weights.append(_Weight([f"{there}.weight"], encoder.get_layer("conv").kernel))
    wide = any(layer.name == "final_bn" for layer in model.core.layers)
    for layer in model.core.layers:
        if wide and layer.name.endswith("_conv1") and layer.strides != (1, 1):
            raise ValueError(
                "The PyTorch implementation's wide ResNet has its strides on the second convolution of a block; this "
                'model\'s are on the first (stride_on="first").'
            )
        if layer.weights:
            there = _name_in_core(layer.name)
            weights += [_Weight([f"{there}.{_BATCH_NORM.get(one.name, 'weight')}"], one) for one in layer.weights]
    dense = model.heads.dense
    weights.append(_Weight([f"{there}.weight" for there in heads], dense.kernel))
    weights.append(_Weight([f"{there}.bias" for there in heads], dense.bias))
    return weights


def _name_in_core(name: str) -> str:
    """A core's layer there: `group2_block1_conv1` is `layer2.0.conv1`."""
    if name == "final_bn":
        return "bn1"
    if not (match := re.fullmatch(r"group(\d+)_block(\d+)_(.*)", name)):
        raise KeyError(name)
    part = {"1_bn": "bn1", "2_bn": "bn2", "shortcut": "shortcut.0"}.get(match[3], match[3])
    return f"layer{match[1]}.{int(match[2]) - 1}.{part}"


def _to_keras(value: np.ndarray) -> np.ndarray:
    """Convolutions (out, in, h, w) as (h, w, in, out), dense layers (out, in) as (in, out)."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _to_torch(value: np.ndarray) -> np.ndarray:
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
