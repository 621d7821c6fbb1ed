"""What the rows share."""

import pytest
from bad_inputs.harness import Here


@pytest.fixture(scope="module")
def _kept() -> dict:
    return {}


@pytest.fixture
def here(tmp_path, _kept) -> Here:
    """The model and data of a module, and an empty folder."""
    return Here(tmp_path, _kept)
