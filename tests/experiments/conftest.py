"""What tests of whole runs share."""

import sys

import pytest

import mixmo_keras.experiments  # noqa: F401


@pytest.fixture
def without_export(monkeypatch):
    """Runs end without a SavedModel, a third of a short run's time, where other tests serve the like."""
    run = sys.modules["mixmo_keras.experiments.running"]  # the function hides the module
    monkeypatch.setattr(run, "export", lambda *_: None)
