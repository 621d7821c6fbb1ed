"""Figures as files: whole or not at all."""

import pytest
from matplotlib.figure import Figure

from mixmo_keras import plots


def test_save_leaves_no_part(tmp_path):
    path = plots.save(Figure(), tmp_path / "new" / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]

    class Broken:
        def savefig(self, file, dpi):
            file.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        plots.save(Broken(), path)
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]
    assert path.read_bytes().startswith(b"\x89PNG")
