"""What holds for every test: quiet logs, set before TensorFlow is imported; random numbers that follow from its name."""

import atexit
import contextlib
import ctypes
import gc
import os
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(
    prefix="mixmo_keras-tests-"
)  # no test leaves something behind in one's own
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# modules whose tests are marked `quick`, by name, wherever they lie: pure functions, masks, metrics, losses, shapes
QUICK = {
    *("test_architecture", "test_arguments", "test_files", "test_keras_internals", "test_seeds"),
    *("test_augmentation", "test_masks", "test_mixing", "test_msda"),
    *("test_calibration", "test_differences", "test_metrics", "test_uncertainty"),
    *("test_losses", "test_schedules"),
    *("test_every_layer", "test_layers", "test_network", "test_normalization"),
    *("test_comparison", "test_corruptions"),
}


DEFAULT = ("not slow", "quick and not slow")  # what `make test` and `make quick` choose by `-m`
CHEAP = {
    "TF_NUM_INTRAOP_THREADS": "1",  # a thread that waits for work spins, on the core of pytest's other process
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels are compiled for each shape, and a test has many shapes and few steps
}


def pytest_configure(config):
    """The default tests, and the processes that they start, compute in the cheapest way; the slow tier as users do."""
    if config.option.markexpr in DEFAULT:  # before TensorFlow is imported
        for name, value in CHEAP.items():
            os.environ.setdefault(name, value)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by `-m`
def pytest_collection_modifyitems(items):
    if gone := QUICK - {path.stem for path in Path(__file__).parent.rglob("test_*.py")}:
        raise pytest.UsageError(f"tests/conftest.py: QUICK names modules that are not there: {', '.join(sorted(gone))}")
    for item in items:
        if item.path.stem in QUICK:
            item.add_marker("quick")


def pytest_terminal_summary(terminalreporter):
    """The table of bad inputs, counted by class: `tests/bad_inputs/harness.py` says what each is."""
    from bad_inputs.harness import CLASSES, PROPERTY

    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    found = [value for report in reports for name, value in report.user_properties if name == PROPERTY]
    if found:
        seconds = sum(report.duration for report in reports if PROPERTY in dict(report.user_properties))
        counts = ", ".join(f"{found.count(name)} {name}" for name in CLASSES)
        terminalreporter.write_line(f"bad inputs: {len(found)} rows in {seconds:.0f} s: {counts}")


@pytest.fixture(autouse=True, scope="session")
def _quick_does_not_train(request):
    """Under `-m quick` a test is skipped where it begins to train or starts a process: nobody has to mark it."""
    if "quick" not in request.config.option.markexpr:
        yield
        return
    import keras

    def leave(*_, **__):
        pytest.skip("trains or starts a process: runs in `make test`")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", leave)
        patch.setattr(subprocess, "Popen", leave)
        yield


@pytest.fixture(autouse=True, scope="session")
def _fork_server_ends():
    yield
    import tiny

    tiny.stop_fork_server()


@pytest.fixture
def eagerly(monkeypatch):
    """Models are compiled without graphs: to trace one takes as long as eight steps, and here it is not the subject."""
    from mixmo_keras import MixMo

    compile = MixMo.compile
    monkeypatch.setattr(
        MixMo, "compile", lambda *values, **options: compile(*values, **options | {"run_eagerly": True})
    )


@pytest.fixture(autouse=True)
def _random_numbers(request, monkeypatch):
    """Whatever ran before in the same process, and whatever seed it left behind.

    TensorFlow's own seed is set once a module: to set it makes every traced function ready anew, a second for a large one.
    """
    import keras
    import tensorflow as tf

    with monkeypatch.context() as patch:
        patch.setattr(tf.random, "set_seed", lambda seed: None)
        keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True, scope="module")
def _random_numbers_of_tensorflow(request):
    import tensorflow as tf

    tf.random.set_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True, scope="session")
def _libraries_stay():
    """Leaves the half million objects of TensorFlow and Keras out of every later search for garbage."""
    import tiny  # noqa: F401, which gives its backbone a name for recipes

    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # a traced graph is thousands of objects that stay


@pytest.fixture(autouse=True, scope="session")
def _graphs_are_not_optimized(request):
    """A graph of the default tests runs a few times: to optimize it takes as long as a hundred of its steps.

    The slow tier trains with it, as do recipes, documentation and whatever else has a process of its own.
    """
    if request.config.option.markexpr in DEFAULT:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="session")
def _passes_end_at_once():
    """Two processes of tests keep the cores busy: `common.passes` says what a pass over their own data sets waits for."""
    import tensorflow as tf

    from mixmo_keras.common import passes

    begin, untuned = tf.data.Dataset.__iter__, passes.untuned()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda self: begin(self.with_options(untuned)))
        yield


@pytest.fixture(autouse=True)
def _free_large_models(left=[1.2e9]):  # noqa: B006, what the last search left
    """A model of hundreds of megabytes has few objects, so that the search for garbage comes long after it.

    A search takes a tenth of a second: the next one waits until there may be as much to find.
    """
    yield
    if resident_bytes() > left[0] + 3e8:
        free()
        left[0] = max(resident_bytes(), 1.2e9)


def resident_bytes() -> int:
    """The memory of this process; 0 where the system doesn't say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def free():
    """Searches for garbage, and gives its memory back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True, scope="module")
def _free_memory():
    """Frees the graphs of a module's models, and gives their memory back: else a process grows by megabytes a model.

    TensorFlow keeps the gradient function of every `tf.custom_gradient` that it ever traced in a registry, and with it the
    graph. Keras' optimizers have one in each step (the sum over replicas, which our models leave out), and so have some of
    its operations. Each has a name of its own and is needed while its graph is traced, not later.
    """
    yield
    from tensorflow.python.framework import ops

    registered = ops.gradient_registry._registry
    for name in [name for name in registered if name.startswith(("CustomGradient-", "PartitionedCall-"))]:
        del registered[name]
    free()
