"""Training on one GPU through JAX: speed beside PyTorch, and the methods side by side. Needs no TensorFlow.

    python studies/accelerator.py peak
    python studies/accelerator.py speed --backbone wrn28_10 --batches 64 128 256 512 1024
    python studies/accelerator.py plan --data cifar10_jpeg.npz --minutes 28 --stop-after 9
    python studies/accelerator.py train --data cifar10_jpeg.npz --backbone wrn28_10 --minutes 20

Needs keras, jax, numpy and, for `plan` and `train`, Pillow; `speed` compares with PyTorch where it is installed. Every
figure is also appended to --out (accelerator.jsonl) as soon as it is known.

peak    TFLOP/s of a bfloat16 matrix product
speed   rows/s of a training step in mixed bfloat16 for M = 1 and 2, ours (Keras on JAX, XLA) and PyTorch's (channels-last,
        autocast, torch.compile), in turns; utilisation: the model's FLOP, three times the forward's, against the peak
plan    peak and speed first, then CIFAR-10 with right and wrong labels by the networks that teach most, sized by the
        measured speed (accelerator_plan.py); the same command goes on where --out ends; docs/accelerator.md
table   the plan's runs in --out, in Markdown
train   single network, MIMO, Linear-MixMo and Cut-MixMo on CIFAR-10, with the same number of rows each, as many as fit into
        --minutes; images stay on the device

`--data` is an archive of CIFAR-10 as JPEG: arrays {train,test}_{header,bytes,offsets,labels}.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch wants memory too

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import accelerator_options
import accelerator_plan
import jax
import jax.numpy as jnp
import jax_training
import keras
import numpy as np

import mixmo_keras
from mixmo_keras import schedules

try:
    import torch
except ImportError:
    torch = None

IMPORTING = 30  # seconds, about, that the imports above took

METHODS: dict[str, Callable[..., mixmo_keras.MixMo]] = {
    "single": mixmo_keras.SingleNetwork,
    "MIMO": lambda *arguments, **options: mixmo_keras.MIMO(*arguments, num_members=2, **options),
    "Linear-MixMo": mixmo_keras.LinearMixMo,
    "Cut-MixMo": mixmo_keras.CutMixMo,
}


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


# -- the benchmarks ----------------------------------------------------------------------------------------------------


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


def train(options, report) -> None:
    """Each method with the same number of rows; figures on the test images."""
    (images, labels), (test_images, test_labels) = (
        jax_training.read(options.data, split) for split in ("train", "test")
    )
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    runs, seconds = {}, 0.0
    for name, build in METHODS.items():
        members = {} if name == "single" else {"batch_repetitions": options.repetitions}
        model = build(options.backbone, num_classes=10, seed=options.seed, dtype=options.dtype, **members)
        images_a_step = options.rows // model.batching.repetitions
        rate = options.learning_rate * images_a_step / 64
        model.compile(keras.optimizers.SGD(schedules.Cosine(rate), momentum=0.9, nesterov=True))
        step, state = jax_training.stepper(model, images, labels)
        for _ in range(2):  # the first time compiles
            start = time.perf_counter()
            for _ in range(options.warm_steps):
                logs, state = step(state, jnp.arange(images_a_step))
            logs["loss"].block_until_ready()
        runs[name] = build, members, images_a_step, rate
        seconds += (time.perf_counter() - start) / options.warm_steps
        del model, step, state
    steps = max(int((options.minutes * 60) / (seconds * 1.1)), 1)
    report(kind="plan", steps_each=steps, rows_each=steps * options.rows, seconds_a_step_of_all=seconds)

    for name, (build, members, images_a_step, rate) in runs.items():
        model = build(options.backbone, num_classes=10, seed=options.seed, dtype=options.dtype, **members)
        model.compile(keras.optimizers.SGD(schedules.Cosine(rate), momentum=0.9, nesterov=True))
        model.clock.reading.assign(np.array([0.0, 0.0, 1 / steps], "float32"))
        step, state = jax_training.stepper(model, images, labels)
        rows = jax_training.orders(len(images), images_a_step, options.seed)
        start = time.perf_counter()
        for _ in range(steps):
            logs, state = step(state, jnp.asarray(next(rows)))
        loss = float(logs["loss"])
        taken = time.perf_counter() - start
        jax_training.put_back(model, state)
        members_logits = model.predict_members(test_images, batch_size=min(500, len(test_images)), verbose=0)
        logits = np.asarray(model.average(members_logits))
        report(
            kind="train",
            method=name,
            backbone=options.backbone,
            seed=options.seed,
            rows=steps * options.rows,
            epochs_of_images=steps * images_a_step / len(images),
            seconds=taken,
            loss=loss,
            members=[
                jax_training.scores(members_logits[:, member], test_labels) for member in range(model.num_members)
            ],
            ensemble=jax_training.scores(logits, test_labels),
        )


def main(arguments: list[str] | None = None) -> None:
    options = accelerator_options.parse(__doc__ or "", arguments)
    options.began = time.perf_counter() - IMPORTING
    if keras.backend.backend() != "jax":
        raise SystemExit("error: this benchmark is of the JAX backend: leave KERAS_BACKEND unset, or set it to jax")

    def report(**figures) -> None:
        figures["device"] = jax.devices()[0].device_kind
        line = json.dumps(figures)
        print(line, flush=True)
        with open(options.out, "a+") as file:
            file.seek(max(file.tell() - 1, 0))
            cut_off = file.read(1) not in ("", "\n")  # where the last line was being written when the machine went
            file.write("\n" * cut_off + line + "\n")

    if options.benchmark == "peak":
        report(kind="peak", size=options.peak_size, tflops=peak(options.peak_size))
    elif options.benchmark == "speed":
        if torch is None:
            print("PyTorch is not installed: ours alone")
        speed(options, report)
    elif options.benchmark == "plan":
        options.batches = [options.rows]
        options.backbone = "wrn10_1" if options.rehearse else options.backbone
        accelerator_plan.plan(options, report, lambda: speed(options, report))
    elif options.benchmark == "table":
        print(accelerator_plan.table(options.out))
    else:
        train(options, report)


if __name__ == "__main__":
    main()
