"""Whether a download can be tried is decided by the machine's network: here it has one, or none."""

import pytest


@pytest.fixture
def no_network(monkeypatch):
    """No proxy, and no host that answers."""

    def refuse(address, timeout):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", refuse)


@pytest.fixture
def network(monkeypatch):
    """A proxy, which may reach any host. Nothing is downloaded: TFDS' `mock_data` leaves that out."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
