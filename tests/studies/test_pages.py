"""What the pages say is what was kept."""

import shutil

import at_a_glance
import pages
import pytest
import rebuild


def test_pages_are_rebuilt_byte_for_byte(tmp_path, monkeypatch):
    """`make studies` would change no table, and leaves out no figure that was kept."""
    docs = pages.DOCS
    for page in docs.glob("*.md"):
        shutil.copy(page, tmp_path)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    names, read = [case.kept for case in at_a_glance.CASES], pages.read
    monkeypatch.setattr(pages, "read", lambda name: names.append(name) or read(name))
    rebuild.main()
    assert {path.stem for path in pages.FIGURES.iterdir()} == set(names)
    for page in docs.glob("*.md"):
        assert (tmp_path / page.name).read_bytes() == page.read_bytes(), f"make studies writes {page.name} anew"
    for picture in tmp_path.glob("*.png"):
        assert (docs / picture.name).exists()


def test_a_text_is_put_into_its_place():
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert pages.put(page, "a", "new") == "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="no place for 'b'"):
        pages.put(page, "b", "new")
