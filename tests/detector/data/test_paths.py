"""Names stay inside the data folder; listings answer for files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.data.paths import list_names, read_lines, relative_name, relative_prefix
from proposals.errors import UserError

FOLDER = Path("/data/set")


INSIDE = {
    **{"a.jpg": "a.jpg", "./a.jpg": "a.jpg", "sub/../a.jpg": "a.jpg", "/data/set/a.jpg": "a.jpg", "...": "..."},
    **dict.fromkeys(("sub/a.jpg", "sub\\a.jpg", "sub//a.jpg"), "sub/a.jpg"),
}
OUTSIDE = (
    *("/data/set/../set/a.jpg", "/data/settings/a.jpg", "/etc/passwd", "..", ".", "", "  ", "../a.jpg"),
    *("sub/../../a.jpg", "..\\a.jpg", "C:\\a.jpg", "C:a.jpg", "\\\\server\\share\\a.jpg", "a\0.jpg"),
)


@pytest.mark.parametrize(("name", "relative"), [*INSIDE.items(), *((name, None) for name in OUTSIDE)])
def test_relative_name(name: str, relative: str | None) -> None:
    assert relative_name(name, FOLDER) == relative


@given(st.text(st.sampled_from("ab./\\"), max_size=12))
def test_what_is_accepted_stays_inside(name: str) -> None:
    found = relative_name(name, FOLDER)
    if found is not None:
        assert (FOLDER / found).resolve().is_relative_to(FOLDER)
        assert (FOLDER / found).resolve() != FOLDER


def test_relative_prefix() -> None:
    assert relative_prefix(Path("a"), Path("a")) == ""
    assert relative_prefix(Path("a"), Path("a/b/c")) == "b/c/"
    assert relative_prefix(Path("/a"), Path("/b")) == "/b/"


def test_list_names_of_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list_names(tmp_path / "none") == []
    assert list_names(tmp_path / "file") == []


def test_read_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\r\n\r\n  é \n".encode())
    assert read_lines(path) == ["a", "é"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_lines(path)
    with pytest.raises(UserError, match="does not exist"):
        read_lines(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_lines(tmp_path)
