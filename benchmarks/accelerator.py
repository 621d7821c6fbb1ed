"""A training step on one GPU through JAX beside PyTorch's: rows per second, in turns. Needs no TensorFlow.

    python benchmarks/accelerator.py --backbone wrn28_10 --batches 64 128 256 512 1024
    python benchmarks/accelerator.py --batches 256 --out plan.jsonl

Ours is Keras on JAX with XLA, PyTorch's is channels-last with autocast and torch.compile, where it is installed; both in
mixed bfloat16, for M = 1 and 2. Utilisation is the model's FLOP, three times the forward's, against the TFLOP/s of a
bfloat16 matrix product, which is measured first. Every figure is also appended to --out as soon as it is known. Needs keras,
jax and numpy.
"""

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch wants memory too

import jax
import jax.numpy as jnp
import jax_training
import keras
import numpy as np

import mixmo_keras

try:
    import torch
except ImportError:
    torch = None


def forward_flop(model: keras.Model) -> float:
    """Floating-point operations of convolutions and dense layers in one row's forward pass, two a multiplication."""
    total = 0.0
    for network in (*model.encoders.encoders, model.core):
        for layer in network.layers:
            if isinstance(layer, keras.layers.Conv2D):
                height, width, channels = layer.output.shape[1:]
                total += 2 * height * width * channels * np.prod(layer.kernel.shape[:3])
    return total + 2 * model.core.output_shape[-1] * model.num_classes * model.num_members


# -- the same network in PyTorch ---------------------------------------------------------------------------------------


def torch_network(depth: int, width: int, num_members: int, num_classes: int):
    """WRN-depth-width with encoders and heads of its own for each member, as `mixmo_keras.backbones.wide_resnet`."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
            changes = inputs != outputs or stride != 1
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else nn.Identity()

        def forward(self, x):
            y = self.conv1(functional.relu(self.norm1(x)))
            return self.conv2(functional.relu(self.norm2(y))) + self.shortcut(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoders = nn.ModuleList(nn.Conv2d(3, 16, 3, 1, 1, bias=False) for _ in range(num_members))
            widths = [16, 16 * width, 32 * width, 64 * width]
            self.blocks = nn.Sequential(
                *(
                    Block(widths[group] if index == 0 else widths[group + 1], widths[group + 1], stride)
                    for group in range(3)
                    for index in range((depth - 4) // 6)
                    for stride in [2 if group and index == 0 else 1]
                )
            )
            self.norm = nn.BatchNorm2d(widths[3])
            self.heads = nn.ModuleList(nn.Linear(widths[3], num_classes) for _ in range(num_members))

        def forward(self, images, masks):
            mixed = sum(encode(images[:, i]) * masks[:, i] for i, encode in enumerate(self.encoders)) * num_members
            features = functional.relu(self.norm(self.blocks(mixed))).mean((2, 3))
            return torch.stack([head(features) for head in self.heads], 1)

    return Network()


def torch_stepper(depth: int, width: int, num_members: int, rows: int):
    """A PyTorch training step on fixed random images: a function that takes it and one that waits for the device."""
    from torch.nn import functional

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = torch_network(depth, width, num_members, 10).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=6e-4, nesterov=True)
    images = torch.randn(rows, num_members, 3, 32, 32, device=device)
    masks = torch.rand(rows, num_members, 1, 32, 32, device=device)
    masks = masks / masks.sum(1, keepdim=True)
    labels = torch.randint(0, 10, (rows, num_members), device=device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = forward(images, masks)
        functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()
        optimizer.step()

    forward = torch.compile(network) if device == "cuda" else network
    return step, (torch.cuda.synchronize if device == "cuda" else lambda: None)


# -- the benchmark -----------------------------------------------------------------------------------------------------


def peak(size: int) -> float:
    """TFLOP/s of a square bfloat16 matrix product, the best of ten."""
    a = jax.random.normal(jax.random.key(0), (size, size), "bfloat16")  # a product of constants takes less time
    product = jax.jit(lambda a, b: a @ b)
    product(a, a).block_until_ready()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e12


def speed(options, report) -> None:
    """Rows per second, ours and PyTorch's, in turns."""
    top = peak(options.peak_size)
    report(kind="peak", size=options.peak_size, tflops=top)
    depth, width = (int(number) for number in options.backbone.removeprefix("wrn").split("_"))
    for rows in options.batches:
        for num_members in (1, 2):
            build = mixmo_keras.SingleNetwork if num_members == 1 else mixmo_keras.CutMixMo
            model = build(options.backbone, num_classes=10, batch_repetitions=1, seed=0, dtype=options.dtype)
            rng = np.random.default_rng(0)
            images = jnp.asarray(rng.integers(0, 256, (rows, 32, 32, 3)).astype("uint8"))
            step, state = jax_training.stepper(model, images, jnp.asarray(rng.integers(0, 10, rows)))
            places = jnp.arange(rows)
            sides: dict[str, Callable] = {}

            def ours(count, step=step, places=places, state=[state]):  # noqa: B006
                for _ in range(count):
                    logs, state[0] = step(state[0], places)
                logs["loss"].block_until_ready()

            sides["keras_jax"] = ours
            if torch is not None and not options.no_torch:
                try:
                    torch_step, wait = torch_stepper(depth, width, num_members, rows)
                    torch_step()  # compiles
                except Exception as error:  # whatever its compiler lacks there: our side needs none of it
                    report(kind="torch_failed", error=f"{type(error).__name__}: {error}"[:300])
                else:

                    def theirs(count, torch_step=torch_step, wait=wait):
                        for _ in range(count):
                            torch_step()
                        wait()

                    sides["torch"] = theirs
            speeds: dict[str, list[float]] = {name: [] for name in sides}
            for side in sides.values():
                side(3)  # compiles
            for _ in range(options.rounds):
                for name, side in sides.items():
                    start = time.perf_counter()
                    side(options.steps)
                    speeds[name].append(rows * options.steps / (time.perf_counter() - start))
            flop = 3 * forward_flop(model)
            found = {name: float(np.median(values)) for name, values in speeds.items()}
            report(
                kind="speed",
                backbone=options.backbone,
                members=num_members,
                rows=rows,
                rows_per_second=found,
                utilisation={name: value * flop / top / 1e12 for name, value in found.items()},
                ratio=float(np.median(np.divide(speeds["keras_jax"], speeds["torch"]))) if "torch" in found else None,
            )
            del model, step, state, sides, ours


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wrn28_10")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256, 512, 1024], help="rows a step")
    parser.add_argument("--steps", type=int, default=20, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-size", type=int, default=8192)
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--out", default="accelerator.jsonl")
    options = parser.parse_args(arguments)
    if keras.backend.backend() != "jax":
        raise SystemExit("error: this benchmark is of the JAX backend: leave KERAS_BACKEND unset, or set it to jax")
    if torch is None:
        print("PyTorch is not installed: ours alone")

    def report(**figures) -> None:
        line = json.dumps({**figures, "device": jax.devices()[0].device_kind})
        print(line, flush=True)
        with open(options.out, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    speed(options, report)


if __name__ == "__main__":
    main()
