"""What the user names becomes pictures: each once, in order, faults told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write_frames
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detector.commands.inputs import PictureInput, VideoInput, _natural_order, find_inputs
from proposals.errors import UserError


def refuse(fault: UserError) -> None:
    raise fault


def ids(*named: Any) -> list[str]:
    return [found.image_id for found in find_inputs([str(name) for name in named], refuse)]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """``stdin(data)``: what standard input holds."""
    return lambda data: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Empty files in the current folder: finding inputs opens none of them."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


@pytest.mark.parametrize(
    ("names", "named", "found"),
    [
        ("b.jpg a.PNG sub/c.webp", "b.jpg a.PNG ./sub/c.webp", "b a c"),
        ("photo scan.dat", "photo scan.dat", "photo scan"),
        ("in/10.jpg in/9.jpg in/a/1.tif in/b.txt in/.c.jpg in/.git/d.jpg in/clip.MP4", "in", "9 10 a/1 clip.mp4"),
        ("in/10.jpg in/9.jpg in/a/1.tif in/b.txt in/.c.jpg in/.git/d.jpg in/clip.MP4", "in/", "9 10 a/1 clip.mp4"),
        ("in/x².jpg in/x٣.jpg in/2x.jpg in/x10.jpg", "in", "2x x٣ x10 x²"),
        ("in/a.jpg in/b.jpg", "in/b.jpg in in/*.jpg", "b a"),
        ("x/a.jpg y/a.jpg y/a.png a-2.jpg", "a-2.jpg x y", "a-2 a a-3 a-4"),
        ("a1.jpg a2.jpg b.jpg a.md sub/a3.jpg", "a*", "a1 a2"),
        ("a1.jpg a2.jpg b.jpg a.md sub/a3.jpg", "**/a*.jpg", "a1 a2 a3"),
        ("a1.jpg a2.jpg b.jpg a.md sub/a3.jpg", "[ab].jpg", "b"),
        ("photo[1].jpg photo1.jpg", "photo[1].jpg", "photo[1]"),
    ],
    ids=[
        "in the order given", "a file is taken at its word and needs no known ending", "a folder in natural order",
        "with a slash", "odd digits", "each file once", "ids stay different", "a pattern", "a pattern into folders",
        "a pattern of a set", "a file whose name looks like a pattern",
    ],
)  # fmt: skip
def test_what_names_stand_for(files: Any, names: str, named: str, found: str) -> None:
    files(*names.split())
    assert ids(*named.split()) == found.split()


@given(st.lists(st.text("ab.-019 Z", min_size=1, max_size=8), max_size=8))
def test_the_key_sorts_numbers_by_value_and_before_text(names: list[str]) -> None:
    def parts(name: str) -> list[tuple[int, int, str]]:
        found = [part for part in re.split(r"([0-9]+)", name) if part]
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in found]

    assert sorted(names, key=lambda name: (parts(name), name)) == list(_natural_order(names))


def test_links_are_what_they_lead_to_and_a_loop_of_them_ends(files: Any) -> None:
    files("in/a.jpg", "in/b.jpg")
    Path("in/again").symlink_to("../in")
    Path("in/link.jpg").symlink_to("a.jpg")
    assert ids("in") == ["a", "b"]


def test_a_frame_is_no_image_of_a_folder_that_is_called_like_its_video(clip: Path) -> None:
    folder = clip.with_suffix("")
    folder.mkdir()
    (folder / "000000.png").write_bytes(png((1, 2, 3)))
    found = [frame.image_id for one in find_inputs([str(clip.parent)], refuse, video_step=7) for frame in one.frames()]
    assert found == ["clip/000000", "clip.avi/000000"]


def test_a_list_is_relative_to_itself(files: Any, tmp_path: Path) -> None:
    files("lists/in/a.jpg", "lists/b.jpg", "c.jpg")
    text = f"# first\n\nin\n  b.jpg  \r\n{tmp_path / 'c.jpg'}\n"
    Path("lists/some.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert ids("lists/some.txt") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("list.txt", r"a list may not name another list \(line 1 of list\.txt\)"),
        ("noise.txt", "not UTF-8 text"),
        ("a\0.jpg", "cannot be opened"),
        ("-", "standard input is empty"),
    ],
)
def test_what_stands_for_nothing(files: Any, stdin: Any, named: str, words: str) -> None:
    stdin(b"")
    Path("list.txt").write_text("list.txt\n")
    Path("noise.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=words):
        ids(named)


def test_faults_are_told_and_the_rest_goes_on(files: Any) -> None:
    files("a.jpg", "b.jpg")
    faults: list[str] = []
    found = find_inputs(["a.jpg", "x.jpg", "y/", "z*", "b.jpg"], lambda fault: faults.append(str(fault)))
    assert [each.image_id for each in found] == ["a", "b"]
    assert [fault.split(":")[0] for fault in faults] == ["x.jpg", "y/", "z*"]


# --- standard input ----------


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_picture_on_standard_input(kind: str, stdin: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (0, 200, 0)).save(file, kind)
    stdin(file.getvalue())
    (found,) = find_inputs(["-"], refuse)
    (frame,) = found.frames()
    assert (frame.image_id, frame.path, frame.image.shape) == ("stdin", "standard input", (30, 40, 3))


def test_a_damaged_picture_on_standard_input_is_named(stdin: Any) -> None:
    stdin(png((1, 2, 3))[:40])
    (found,) = find_inputs(["-"], refuse)
    with pytest.raises(UserError, match=r"^standard input "):
        list(found.frames())


def test_a_list_on_standard_input(files: Any, stdin: Any) -> None:
    files("sub/a.jpg", "b.jpg", "-")
    stdin(b"sub/a.jpg\nb.jpg\n-\n")
    assert ids("-") == ["a", "b", "-"], "a dash in a list is a file's name"


# --- videos ----------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Seven frames, each of one grey that grows with its number."""
    return write_frames(tmp_path / "clip.avi", "MJPG", [np.full((48, 64, 3), 30 * n, np.uint8) for n in range(7)])


@pytest.mark.parametrize(("step", "numbers"), [(1, range(7)), (3, (0, 3, 6)), (7, (0,)), (100, (0,))])
def test_frames(clip: Path, step: int, numbers: Any) -> None:
    (found,) = find_inputs([str(clip)], refuse, video_step=step)
    assert isinstance(found, VideoInput)
    frames = list(found.frames())
    assert [frame.image_id for frame in frames] == [f"clip.avi/{number:06d}" for number in numbers]
    assert found.count() == len(frames)
    for frame, number in zip(frames, numbers, strict=True):
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert abs(frame.image.mean() - 30 * number) < 3
        assert frame.shown == f"{clip} #{number}"


def test_a_video_cut_short_gives_what_it_has_or_says_so(clip: Path) -> None:
    data = clip.read_bytes()
    clip.write_bytes(data[:200])
    with pytest.raises(UserError, match=r"clip\.avi: n"):
        list(VideoInput("clip", str(clip)).frames())


def test_a_missing_video(tmp_path: Path) -> None:
    missing = VideoInput("a", str(tmp_path / "a.mp4"))
    assert missing.count() == 1
    with pytest.raises(UserError, match="cannot read: No such file"):
        list(missing.frames())


def test_a_picture_counts_for_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    found = PictureInput("a", str(tmp_path / "a.png"))
    (frame,) = found.frames()
    assert found.count() == 1
    assert frame.image.tolist() == [[[1, 2, 3]] * 4] * 3
    assert frame.shown == frame.path == str(tmp_path / "a.png")
