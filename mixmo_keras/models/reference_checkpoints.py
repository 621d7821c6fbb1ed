"""The checkpoints of MixMo's PyTorch implementation (github.com/alexrame/mixmo-pytorch), both ways.

Such a file holds `{"epoch", "classifier_state_dict", "classifier_optimizer_state_dict"}`; its networks are a wide ResNet
(`layer1` to `layer3` and a last batch norm `bn1`) or a pre-activation ResNet (`layer1` to `layer4`), with `list_conv1.{m}`
and `list_fc.{m}` for the members, or `conv1` and `fc` for a single network. PyTorch is needed for the file format alone:
`pip install 'mixmo_keras[torch]'`.
"""

import os
import re
import tempfile
from pathlib import Path

import keras
import numpy as np

from mixmo_keras.models.methods import CutMixMo, SingleNetwork
from mixmo_keras.models.mixmo import MixMo
from mixmo_keras.networks import normalization as normalizations

TINY_IMAGENET_NORMALIZATION = ((0.5,) * 3, (0.5,) * 3)
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def load_reference_checkpoint(
    path: str | os.PathLike, input_shape: tuple[int, int, int] | None = None, **options
) -> MixMo:
    """The model of a checkpoint of the PyTorch implementation, with its weights, ready to evaluate or to fine-tune.

    Family, depth, width, M and K follow from the names and shapes in the file; normalisation is CIFAR's for the wide
    ResNet and (0.5, 0.5) for the pre-activation ResNet, and logits are averaged, as there. The file is read without
    running code in it (`weights_only=True`).

    Args:
        path: the file.
        input_shape: (H, W, C). `None`: (32, 32, 3) for the wide ResNet, (64, 64, 3) for the other.
        **options: of `CutMixMo`, or of `SingleNetwork` where the file has one member, such as `mask` or `normalization`.

    Raises:
        ImportError: PyTorch is not installed.
        FileNotFoundError: no such file.
        ValueError: the file is damaged, not a checkpoint, or of another network.
    """
    state = _read(path)
    try:
        name, num_members, num_classes, normalization = _recognise(state)
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint of MixMo's PyTorch implementation: {error}") from error
    build = SingleNetwork if num_members == 1 else CutMixMo
    members = {} if num_members == 1 else {"num_members": num_members}
    given = dict(num_classes=num_classes, input_shape=input_shape, normalization=normalization)
    model = build(name, **{**members, **given, **options})
    names = _names(model)
    wanted = {key for keys, _ in names for key in keys}
    spare = {key for key in state if not key.endswith("num_batches_tracked")}
    if wanted != spare:
        faults = [f"it lacks {sorted(wanted - spare)[0]}"] if wanted - spare else []
        faults += [f"it has {sorted(spare - wanted)[0]}"] if spare - wanted else []
        raise ValueError(f"{path} is not a checkpoint of {name} with {num_members} members: {'; '.join(faults)}.")
    values = []
    for keys, variable in names:  # all are checked before the first is assigned
        parts = [_to_keras(state[key]) for key in keys]
        try:
            value = parts[0] if variable.ndim in (4, 1) and len(parts) == 1 else np.concatenate(parts, axis=-1)
        except ValueError as error:
            raise ValueError(f"{path}: the shapes of {', '.join(keys)} differ.") from error
        if value.shape != tuple(variable.shape):
            raise ValueError(f"{path}: {keys[0]} has shape {state[keys[0]].shape}, which {name} has no place for.")
        values.append(value)
    for (_, variable), value in zip(names, values, strict=True):
        variable.assign(value)
    return model


def save_reference_checkpoint(model: MixMo, path: str | os.PathLike, epoch: int = 0) -> None:
    """Writes a model's weights as the PyTorch implementation saves them. The optimizer's state is left empty.

    Args:
        model: a model on `wide_resnet` or `preact_resnet`, with encoders and heads of each member's own.
        path: the file; it appears complete or not at all.
        epoch: the number of epochs to note in it.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the model is of another kind.
    """
    torch = _torch()
    try:
        names = _names(model)
    except KeyError as error:
        raise ValueError(
            f"The PyTorch implementation has wide and pre-activation ResNets only; this model's layer {error} is of neither."
        ) from error
    state = {}
    for keys, variable in names:
        for key, part in zip(keys, np.split(np.array(variable.numpy()), len(keys), axis=-1), strict=True):
            state[key] = torch.from_numpy(np.ascontiguousarray(_to_torch(part)))
            if key.endswith("running_var"):
                state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    content = {"epoch": epoch, "classifier_state_dict": state, "classifier_optimizer_state_dict": {}}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
        torch.save(content, Path(beside) / "part")
        os.replace(Path(beside) / "part", path)


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError("Reference checkpoints are PyTorch files: pip install 'mixmo_keras[torch]'.") from error
    return torch


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    torch = _torch()
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
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


def _recognise(state: dict[str, np.ndarray]) -> tuple[str, int, int, tuple]:
    """Name of the backbone, M, K, normalisation."""
    heads = sorted(key for key in state if re.fullmatch(r"(list_fc\.\d+|fc)\.weight", key))
    first = state.get("layer1.0.conv1.weight")
    if not heads or first is None or first.ndim != 4 or state[heads[0]].ndim != 2:
        raise ValueError("it has no `fc`, or no residual blocks `layer1`.")
    blocks = [len({key.split(".")[1] for key in state if key.startswith(f"layer{group}.")}) for group in (1, 2, 3, 4)]
    num_classes = state[heads[0]].shape[0]
    if blocks[3]:
        depth = 2 * sum(blocks) + 2
        return f"preact_resnet{depth}_{first.shape[0] // 64}", len(heads), num_classes, TINY_IMAGENET_NORMALIZATION
    depth = 2 * sum(blocks) + 4
    return f"wrn{depth}_{first.shape[0] // 16}", len(heads), num_classes, normalizations.CIFAR


def _names(model: MixMo) -> list[tuple[list[str], keras.Variable]]:
    """Every weight that predicts, with its names there: a head's kernel here is those of all members there, side by side."""
    if model.encoders.shared or model.heads.shared:
        raise ValueError(
            "The PyTorch implementation has encoders and heads of each member's own; this model shares them."
        )
    single, members = model.num_members == 1, range(model.num_members)
    convolutions = ["conv1"] if single else [f"list_conv1.{member}" for member in members]
    heads = ["fc"] if single else [f"list_fc.{member}" for member in members]
    names: list[tuple[list[str], keras.Variable]] = []
    for encoder, there in zip(model.encoders.encoders, convolutions, strict=True):
        if [layer.name for layer in encoder.layers if layer.weights] != ["conv"]:
            raise KeyError(encoder.name)
        names.append(([f"{there}.weight"], encoder.get_layer("conv").kernel))
    for layer in model.core.layers:
        if not layer.weights:
            continue
        if layer.name == "final_bn":
            there = "bn1"
        elif match := re.fullmatch(r"group(\d+)_block(\d+)_(.*)", layer.name):
            part = {"1_bn": "bn1", "2_bn": "bn2", "shortcut": "shortcut.0"}.get(match[3], match[3])
            there = f"layer{match[1]}.{int(match[2]) - 1}.{part}"
        else:
            raise KeyError(layer.name)
        names += [([f"{there}.{_BATCH_NORM.get(weight.name, 'weight')}"], weight) for weight in layer.weights]
    dense = model.heads.dense
    names.append(([f"{there}.weight" for there in heads], dense.kernel))
    names.append(([f"{there}.bias" for there in heads], dense.bias))
    return names


def _to_keras(value: np.ndarray) -> np.ndarray:
    """Convolutions (out, in, h, w) as (h, w, in, out), dense layers (out, in) as (in, out)."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _to_torch(value: np.ndarray) -> np.ndarray:
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
