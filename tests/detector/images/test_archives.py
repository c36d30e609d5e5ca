"""Tar and Parquet files of images, as inputs and on their own."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from pictures import encoded

from detector.commands.inputs import find_inputs
from detector.images.archives import encoded_images
from proposals.errors import UserError


def png(value: int) -> bytes:
    return encoded(np.full((4, 6, 3), value, np.uint8))


def write_tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return path


def frames(path: Path) -> tuple[list[tuple[str, int]], str | None]:
    """Ids and values of the images that are found in a file named as an input, and the fault at the end."""
    (source,) = find_inputs([str(path)], lambda fault: pytest.fail(str(fault)))
    found = []
    try:
        found.extend((frame.image_id, int(frame.image[0, 0, 0])) for frame in source.frames())
    except UserError as fault:
        return found, str(fault)
    return found, None


def test_a_tar_file(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "s1.tar", ("a.png", png(1)), ("a.json", b"{}"), ("deep/b.PNG", png(2)), ("a.png", png(3)),
        ("deep/._b.PNG", b"what macOS keeps beside a file"),
    )  # fmt: skip
    assert frames(path) == ([("s1.tar/a", 1), ("s1.tar/deep/b", 2), ("s1.tar/a-2", 3)], None)


def test_a_damaged_image_in_a_tar_file_is_passed_over(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", ("a.png", png(1)), ("b.png", b"no image"), ("c.png", png(3)))
    found, fault = frames(path)
    assert found == [("s.tar/a", 1), ("s.tar/c", 3)]
    assert fault is not None
    assert fault.startswith(f"{path}: 1 of its images could not be read; the first: {path} b is not an image")


@pytest.mark.parametrize("data", [b"", b"no tar file" * 100, "cut"])
def test_a_damaged_tar_file(tmp_path: Path, data: Any) -> None:
    path = write_tar(tmp_path / "s.tar", ("a.png", png(1)), ("b.png", png(2)))
    path.write_bytes(path.read_bytes()[:1600] if data == "cut" else data)
    with pytest.raises(UserError, match="not a tar file, or damaged"):
        list(encoded_images(str(path)))


def write_parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("names", [None, ["x", "y"]])
@pytest.mark.parametrize("struct", [True, False])
def test_a_parquet_file(tmp_path: Path, names: list[str] | None, struct: bool) -> None:
    data = [png(1), png(2)]
    images = [{"bytes": d, "path": None} for d in data] if struct else data
    path = write_parquet(tmp_path / "p.parquet", image=images, **({} if names is None else {"image_id": names}))
    expected = names or ["000000", "000001"]
    assert frames(path) == ([(f"p.parquet/{name}", i) for i, name in enumerate(expected, 1)], None)


def test_a_missing_image_in_a_parquet_file(tmp_path: Path) -> None:
    found, fault = frames(write_parquet(tmp_path / "p.parquet", image=[None, png(2)]))
    assert found == [("p.parquet/000001", 2)]
    assert fault is not None
    assert "1 of its images could not be read" in fault


def test_parquet_files_that_hold_no_images(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "p.parquet", other=[1])
    with pytest.raises(UserError, match="has no column image"):
        list(encoded_images(str(path)))
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a Parquet file of images, or damaged"):
        list(encoded_images(str(path)))
    with pytest.raises(UserError, match="cannot read"):
        list(encoded_images(str(tmp_path / "none.parquet")))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "p.parquet", image=[png(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow: pip install"):
        list(encoded_images(str(path)))


def test_folders_are_searched_for_images_not_for_archives(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    write_tar(tmp_path / "s.tar", ("b.png", png(2)))
    for named, expected in ((tmp_path, ["a"]), (tmp_path / "*", ["a", "s.tar"])):
        found = find_inputs([str(named)], lambda fault: pytest.fail(str(fault)))
        assert [source.image_id for source in found] == expected
