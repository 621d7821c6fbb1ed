"""The smallest network, data and oracles that can show a fault. Keras only: the JAX tests use it too."""

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

import mixmo_keras
from mixmo_keras.models import methods
from mixmo_keras.networks.backbones import names
from mixmo_keras.networks.stochastic_depth import DropPath

SHAPE, NUM_CLASSES = (8, 8, 3), 5
SCRIPTS = Path(__file__).parent / "scripts"


def backbone(shape=SHAPE, channels: int = 4, seed: int = 1) -> mixmo_keras.backbones.Backbone:
    """Convolution | batch norm, ReLU, convolution with stride, pooling: every kind of weight, in a second."""
    initial = keras.initializers.HeNormal
    images = keras.Input(shape)
    encoded = layers.Conv2D(channels, 3, padding="same", use_bias=False, kernel_initializer=initial(seed))(images)
    features = keras.Input(encoded.shape[1:])
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(features))
    x = layers.Conv2D(6, 3, 2, padding="same", kernel_initializer=initial(seed + 1))(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return mixmo_keras.backbones.Backbone(keras.Model(images, encoded), keras.Model(features, x))


def residual_backbone():
    """A convolution | convolution `a`, two residual branches `b` and `c`, pooling, a dense layer `d`."""
    kernels = (dict(kernel_initializer=keras.initializers.HeNormal(seed)) for seed in range(5))
    images = keras.Input(SHAPE)
    encoded = layers.Conv2D(4, 3, 2, use_bias=False, **next(kernels))(images)
    features = keras.Input(encoded.shape[1:])
    x = layers.Conv2D(4, 1, name="a", **next(kernels))(features)
    for name in "bc":
        x = layers.Add()([x, layers.Conv2D(4, 1, name=name, **next(kernels))(x)])
    x = layers.Dense(4, name="d", **next(kernels))(layers.GlobalAveragePooling2D()(x))
    return mixmo_keras.backbones.Backbone(keras.Model(images, encoded), keras.Model(features, x))


BRANCHES_BEHIND = {"a": 2, "b": 2, "c": 1, "d": 0}  # by layer of `residual_backbone`


def share_by_depth(weight, model, core_rate: float, layer_decay: float) -> float:
    """By hand: the share of the learning rate of a weight of a model on `residual_backbone`."""
    if any(weight is one for one in model.heads.weights):
        return 1.0
    if any(weight is one for one in model.encoders.weights):
        return layer_decay**2
    return core_rate * layer_decay ** BRANCHES_BEHIND[weight.path.split("/")[0]]


@keras.saving.register_keras_serializable("tests")
class PatchEmbedding(layers.Layer):
    """Patches (B, 10, 6) of images (B, 8, 8, 3), by a convolution inside, behind padding; class token and positions."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pad = layers.ZeroPadding2D(2, dtype=self.dtype_policy)
        self.project = layers.Conv2D(6, 4, 4, dtype=self.dtype_policy)

    def build(self, input_shape):
        self.project.build((None, 12, 12, 3))
        self.token = self.add_weight(shape=(1, 1, 6), initializer="random_normal", name="token")
        self.positions = self.add_weight(shape=(1, 10, 6), initializer="random_normal", name="positions")

    def call(self, images):
        x = ops.reshape(self.project(self.pad(images)), (-1, 9, 6))
        return ops.concatenate([ops.repeat(self.token, ops.shape(x)[0], axis=0), x], axis=1) + self.positions


def named_backbone(channels: int, input_shape=(32, 32, 3), seed: int | None = None, drop_path=DropPath(0.0)):
    """`backbone()` as "tiny_4", for what takes names alone, as recipes do; traced in half of WRN-10-1's time."""
    assert not drop_path.rate
    return backbone(input_shape, channels, 1 if seed is None else seed)


names.FAMILIES["tiny_<channels>"] = named_backbone


def model(mixing=mixmo_keras.Mixing(), learning_rate: float | None = 0.1, **options) -> mixmo_keras.MixMo:
    """A MixMo on `backbone()`; SGD with a constant rate unless `learning_rate` is None, which keeps the default."""
    defaults = dict(num_classes=NUM_CLASSES, batch_repetitions=2, l2=0.0, seed=3)
    network = options.pop("backbone", None)
    if network is None:
        network = backbone(options.pop("input_shape", SHAPE))
    if options.get("num_members") == 1:
        mixing = None
    model = methods.build(network, mixing, **defaults | options)
    if learning_rate is not None:
        model.compile(keras.optimizers.SGD(learning_rate, momentum=0.9))
    return model


def data(n: int = 8, shape=SHAPE, seed: int = 0):
    """Raw pixels (n, H, W, C), uint8, and integer labels (n,)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, *shape), dtype="uint8"), random.integers(0, NUM_CLASSES, n)


def of_steps(function, count: int) -> np.ndarray:
    """What a function gives for the numbers of the first steps, (count, ...): traced once, where TensorFlow runs it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(function)
    steps = (keras.ops.convert_to_tensor(step, "int32") for step in range(count))
    return np.stack([keras.ops.convert_to_numpy(function(step)) for step in steps])


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def equal_weights(a, b) -> bool:
    """Whether two models (or lists of arrays) have the same weights, bit for bit."""
    a, b = (m.get_weights() if isinstance(m, keras.Model) else m for m in (a, b))
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class Die(keras.callbacks.Callback):
    """Kills a run after so many steps, as Ctrl-C does."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt


def python(script: str, *arguments, backend: str = "tensorflow") -> str:
    """What a script prints in a process of its own."""
    return _output([sys.executable, "-c", script, *arguments], backend)


def _output(command: list, backend: str) -> str:
    process = start(command, KERAS_BACKEND=backend)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-4000:]
    return output


def script(name: str, *arguments, backend: str = "tensorflow") -> str:
    """What a file of tests/scripts prints in a process of its own."""
    if backend != "tensorflow":
        return _output([sys.executable, SCRIPTS / name, *arguments], backend)
    ended = run([SCRIPTS / name, *arguments])
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


class Ended(NamedTuple):
    """A process that has ended, as `subprocess.run` describes it."""

    returncode: int
    stdout: str
    stderr: str


def run(command: list, folder: Path | None = None, **environment) -> Ended:
    """Runs a Python file with its arguments in a process of its own, in which TensorFlow is imported already."""
    (ended,) = run_together([command], [environment], folder)
    return ended


def run_together(commands: list[list], environments: list[dict], folder: Path | None = None) -> list[Ended]:
    """`run` for several processes at the same time."""
    with tempfile.TemporaryDirectory() as outputs:
        jobs = [
            {
                "command": [str(part) for part in command],
                "environment": environment_with(**environment),
                "folder": str(folder or Path.cwd()),
                "output": [f"{outputs}/{index}.{name}" for name in ("stdout", "stderr")],
            }
            for index, (command, environment) in enumerate(zip(commands, environments, strict=True))
        ]
        server = _fork_server()
        server.stdin.write(json.dumps(jobs) + "\n")
        server.stdin.flush()
        codes = json.loads(server.stdout.readline())
        texts = [[Path(path).read_text() for path in job["output"]] for job in jobs]
    return [Ended(code, *printed) for code, printed in zip(codes, texts, strict=True)]


@functools.cache
def _fork_server() -> subprocess.Popen:
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    command = [sys.executable, str(SCRIPTS / "fork_server.py")]
    environment = environment_with(KERAS_BACKEND="tensorflow")
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]


def stop_fork_server() -> None:
    """Ends the server of `run`, if there is one, so that its processor time counts as that of the tests."""
    if _fork_server.cache_info().currsize:
        _fork_server().communicate()
        _fork_server.cache_clear()


def start(command: list, **environment) -> subprocess.Popen:
    """A process that finds the package and the tests' modules."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command = [str(part) for part in command]
    return subprocess.Popen(command, env=environment_with(**environment), **pipes)  # type: ignore[call-overload]


def environment_with(**changes: str) -> dict[str, str]:
    here = Path(__file__).parent
    paths = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # most of a script's time is JAX's compiler
        "PYTHONPATH": os.pathsep.join(map(str, [here, here.parent, here.parent / "recipes"])),
    }
    return {**os.environ, **paths, **changes}


def cluster(count: int = 2) -> list[dict[str, str]]:
    """The environments of processes that train together, on free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(count)]
    return [{"TF_CONFIG": json.dumps(task)} for task in tasks]


def start_workers(command: list, count: int = 2) -> list[subprocess.Popen]:
    """Processes that train together."""
    return [start(command, **environment) for environment in cluster(count)]
