"""The smallest network, data and oracles that can show a fault. Keras only: the JAX tests use it too."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import mixmo_keras
from mixmo_keras.models import methods

SHAPE, NUM_CLASSES = (8, 8, 3), 5
SCRIPTS = Path(__file__).parent / "scripts"


def backbone(shape=SHAPE, channels: int = 4) -> mixmo_keras.backbones.Backbone:
    """Convolution | batch norm, ReLU, convolution with stride, pooling: every kind of weight, in a second."""
    initial = keras.initializers.HeNormal
    images = keras.Input(shape)
    encoded = layers.Conv2D(channels, 3, padding="same", use_bias=False, kernel_initializer=initial(1))(images)
    features = keras.Input(encoded.shape[1:])
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(features))
    x = layers.Conv2D(6, 3, 2, padding="same", kernel_initializer=initial(2))(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return mixmo_keras.backbones.Backbone(keras.Model(images, encoded), keras.Model(features, x))


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


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def equal_weights(a, b) -> bool:
    """Whether two models (or lists of arrays) have the same weights, bit for bit."""
    a, b = (m.get_weights() if isinstance(m, keras.Model) else m for m in (a, b))
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


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
    return _output([sys.executable, SCRIPTS / name, *arguments], backend)


def start(command: list, **environment) -> subprocess.Popen:
    """A process that finds the package and the tests' modules."""
    here = Path(__file__).parent
    paths = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(map(str, [here, here.parent, here.parent / "recipes"])),
    }
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command = [str(part) for part in command]
    return subprocess.Popen(command, env={**os.environ, **paths, **environment}, **pipes)  # type: ignore[call-overload]


def start_workers(command: list, count: int = 2) -> list[subprocess.Popen]:
    """Processes that train together, on free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(count)]
    return [start(command, TF_CONFIG=json.dumps(task)) for task in tasks]
