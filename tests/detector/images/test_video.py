"""A damaged frame does not end a video, and what is lost is told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from clips import spoil, write_video

from detector.images import video
from detector.images.containers import matroska_is_whole, mp4_shows_parts_only
from detector.images.video import Video
from proposals.errors import UserError


def read(path: Path, step: int = 1) -> tuple[list[int], str]:
    """The numbers of the frames that were read, and the fault that was told after them."""
    numbers: list[int] = []
    try:
        for number, image in Video(str(path)).frames(step):
            assert image.shape == (120, 160, 3)
            numbers.append(number)
    except UserError as fault:
        return numbers, str(fault)
    return numbers, ""


@pytest.mark.parametrize("spoiled", [(9,), (0,), (29,), (0, 1, 2), (5, 17, 29), tuple(range(3, 28))], ids=str)
def test_reading_goes_on_after_a_damaged_frame(tmp_path: Path, spoiled: tuple[int, ...]) -> None:
    path = write_video(tmp_path / "a.avi", "MJPG")
    spoil(path, *spoiled)
    numbers, fault = read(path)
    assert numbers == [number for number in range(30) if number not in spoiled]
    assert fault.startswith(f"{path}: {len(spoiled)} of 30 frames could not be read")


def test_every_so_many_frames_keep_their_numbers_after_a_damaged_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", "MJPG")
    spoil(path, 9)
    assert read(path, 3)[0] == [0, 3, 6, 12, 15, 18, 21, 24, 27]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mkv", "mp4v"), ("a.mkv", "MJPG"), ("a.webm", "VP80")],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str, codec: str, share: float) -> None:
    path = write_video(tmp_path / name, codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    numbers, fault = read(path)
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 30
    assert f"{30 - len(numbers)} of 30 frames could not be read" in fault


@pytest.mark.parametrize(("codec", "share"), [("mp4v", 0.9), ("MJPG", 0.4), ("MJPG", 0.9)])
def test_frames_that_the_decoder_passes_over_in_silence_are_counted(tmp_path: Path, codec: str, share: float) -> None:
    path = write_video(tmp_path / "a.mkv", codec)
    data = bytearray(path.read_bytes())
    begin, length = int(share * len(data)), len(data) // 15
    data[begin : begin + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(data)
    numbers, fault = read(path)
    assert 0 < len(numbers) < 30
    assert f"{30 - len(numbers)} of 30 frames could not be read" in fault


@pytest.mark.parametrize("size", [None, b"\x01" + b"\xff" * 7], ids=["known", "unknown"])
def test_a_matroska_file_is_whole_or_not(tmp_path: Path, size: bytes | None) -> None:
    """Where a file is cut between two elements only the Segment's size tells; that of a stream has none."""
    path = write_video(tmp_path / "a.mkv", "MJPG", 3)
    data = bytearray(path.read_bytes())
    if size:
        at = data.index(b"\x18\x53\x80\x67") + 4
        data[at : at + 8] = size
    path.write_bytes(data)
    assert matroska_is_whole(path)
    rng = np.random.default_rng(0)
    for cut in (1, 3, len(data) // 2, int(rng.integers(100, len(data)))):
        path.write_bytes(data[:-cut])
        assert not matroska_is_whole(path)
    path.write_bytes(data[: data.rindex(b"\x1c\x53\xbb\x6b")])  # without the Cues, which come last
    assert matroska_is_whole(path) == (size is not None)
    for _ in range(100):
        path.write_bytes(rng.bytes(50))
        assert not matroska_is_whole(path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.mkv", "mp4v"), ("a.webm", "VP80")],
)
def test_a_whole_file_has_no_fault(tmp_path: Path, name: str, codec: str) -> None:
    assert read(write_video(tmp_path / name, codec)) == (list(range(30)), "")


def test_a_header_that_announces_too_much_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.avi", "MJPG")
    monkeypatch.setattr(video, "_announced", lambda capture: 2**31)
    numbers, fault = read(path)
    assert numbers == list(range(30))
    assert "of 2147483648 frames could not be read" in fault


def test_a_header_that_announces_too_little_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.avi", "MJPG")
    monkeypatch.setattr(video, "_announced", lambda capture: 0)
    assert read(path) == (list(range(30)), "")


def test_a_clip_that_was_trimmed_is_whole(tmp_path: Path) -> None:
    """An edit list shows a part of the frames that the file holds, and that OpenCV counts."""
    path = write_video(tmp_path / "a.mp4", "mp4v")
    assert not mp4_shows_parts_only(path)
    data = bytearray(path.read_bytes())
    duration, start = struct.unpack_from(">Ii", data, data.index(b"elst") + 12)
    struct.pack_into(">Ii", data, data.index(b"elst") + 12, duration // 3, start)
    path.write_bytes(bytes(data))
    assert mp4_shows_parts_only(path)
    numbers, fault = read(path)
    assert len(numbers) < 30
    assert fault == ""


@pytest.mark.parametrize("data", [b"", b"moov", b"\0\0\0\x08moov", b"\0\0\0\x01moov", b"\xff" * 100, b"\0" * 100])
def test_a_damaged_header_has_no_edits(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    assert not mp4_shows_parts_only(tmp_path / "a.mp4")
    assert not mp4_shows_parts_only(tmp_path / "missing.mp4")


def test_no_damage_to_a_header_escapes_as_another_exception(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", "mp4v", 3)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    begin = good.index(b"moov") - 4
    for trial in range(300):
        data = bytearray(good)
        for position in rng.integers(begin, len(data), 1 + trial % 8):
            data[position] = rng.integers(256)
        path.write_bytes(data[: rng.integers(begin, len(data))] if trial % 3 == 0 else data)
        assert mp4_shows_parts_only(path) in (True, False)
