"""What a new user gets wrong: each is one clear line on standard error and the right exit code, with nothing left."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def assert_one_line(done: Any, *parts: str) -> None:
    assert done.code == 1
    assert len(done.error_lines) == 1, done.err
    assert done.err.startswith("error: ")
    for part in parts:
        assert part in done.err
    assert done.out == ""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No run folder, whole or not, stays behind a failure."""
    yield
    assert not list(tmp_path.glob("found*"))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_wrong_path(run_cli: Any, fake_model: Any) -> None:
    assert_one_line(run_cli("detect", "no/such.jpg"), "no/such.jpg: no such file or folder")
    assert fake_model.calls == [], "found before the model is loaded"


def test_a_file_taken_for_a_folder(run_cli: Any, fake_model: Any, picture: Any) -> None:
    picture("a.png")
    assert_one_line(run_cli("detect", "a.png/b.png"), "a.png/b.png: no such file or folder")


def test_empty_folder(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(run_cli("detect", "empty"), "empty: no images or videos in this folder")


def test_a_folder_without_pictures(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.pdf").write_bytes(b"%PDF-1.7")
    assert_one_line(run_cli("detect", "docs"), "docs: no images or videos in this folder")


def test_a_pattern_that_matches_nothing(run_cli: Any, fake_model: Any) -> None:
    assert_one_line(run_cli("detect", "*.jpeg"), "*.jpeg: no images or videos match this pattern")


def test_text_file_named_jpg(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("these are notes")
    assert_one_line(run_cli("detect", "notes.jpg", "--out", "found"), "notes.jpg ", "not an image of a known format")


def test_empty_file(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert_one_line(run_cli("detect", "a.jpg", "--out", "found"), "a.jpg is empty")


def test_truncated_jpeg(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    assert_one_line(run_cli("detect", "half.jpg", "--out", "found"), "half.jpg is cut short or damaged")


def test_a_video_that_is_none(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    assert_one_line(run_cli("detect", "clip.mp4", "--out", "found"), "clip.mp4: not a video that can be decoded")


def test_an_empty_list(run_cli: Any, fake_model: Any, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing yet\n\n")
    assert_one_line(run_cli("detect", "list.txt"), "list.txt: names no images")


def test_a_list_with_a_wrong_line(run_cli: Any, fake_model: Any, tmp_path: Path, picture: Any) -> None:
    picture("a.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    assert_one_line(run_cli("detect", "list.txt"), "b.png: no such file or folder (line 2 of list.txt)")


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Permissions do not bind root; where the tests run as root (in a container), become another user meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(picture: Any, tmp_path: Path) -> Iterator[Path]:
    """A folder that any user may enter, with a picture in it; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy(picture("a.png"), folder / "a.png")
    (folder / "sub").mkdir()
    shutil.copy(tmp_path / "a.png", folder / "sub" / "b.png")
    yield folder
    (folder / "sub").chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_read(run_cli: Any, fake_model: Any, open_folder: Path) -> None:
    run_cli("detect", "no-such-file")  # loads what this test's other user may not read
    (open_folder / "sub").chmod(0o000)
    with as_an_ordinary_user():
        done = run_cli("detect", open_folder / "sub")
    assert_one_line(done, f"{open_folder / 'sub'}: cannot read this folder: Permission denied")
    with as_an_ordinary_user():
        done = run_cli("detect", open_folder / "sub" / "b.png")
    assert_one_line(done, f"{open_folder / 'sub' / 'b.png'}: cannot be opened: Permission denied")


def test_an_unreadable_folder_among_others_is_a_fault_too(run_cli: Any, fake_model: Any, open_folder: Path) -> None:
    run_cli("detect", "no-such-file")
    (open_folder / "sub").chmod(0o000)
    with as_an_ordinary_user():
        done = run_cli("detect", open_folder)
    assert_one_line(done, "sub: cannot read this folder: Permission denied")


def test_a_picture_that_may_not_be_read(run_cli: Any, fake_model: Any, open_folder: Path) -> None:
    from detector.images.read import read_image
    from proposals.errors import UserError

    (open_folder / "a.png").chmod(0o000)
    with as_an_ordinary_user(), pytest.raises(UserError, match=r"a\.png may not be read"):
        read_image(open_folder / "a.png")


def test_a_place_that_may_not_be_written(run_cli: Any, fake_model: Any, picture: Any, open_folder: Path) -> None:
    from detector.runs.folder import new_run_folder
    from proposals.errors import UserError

    with (
        as_an_ordinary_user(),
        pytest.raises(UserError, match="cannot make this folder: Permission denied; choose another one"),
        new_run_folder(open_folder / "found", "detect", {}),
    ):
        pass
    assert not (open_folder / "found.unfinished").exists()


def test_out_below_a_file(run_cli: Any, fake_model: Any, picture: Any) -> None:
    photo = picture("a.png")
    assert_one_line(run_cli("detect", photo, "--out", photo / "found"), "not a folder")


def test_out_is_a_file(run_cli: Any, fake_model: Any, picture: Any) -> None:
    photo = picture("a.png")
    assert_one_line(run_cli("detect", photo, "--out", photo), "already exists and is not a folder")
    with Image.open(photo) as still_there:
        assert still_there.size == (60, 40)


# --- strange but good pictures ----------


@pytest.fixture
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a small untrained network: everything is real but its knowledge."""
    import torch

    from detector.crop import CropConfig
    from detector.model.save import save_model
    from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
    from detector.nets.weights import Normalization

    torch.manual_seed(0)
    config = GoogLeNetConfig(num_outputs=3, width=0.125, stem="stride4", aux=False)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(
        folder,
        [(config, GoogLeNet(config).state_dict(), CropConfig(size=32, context_pad=4), Normalization())],
        name="tiny",
        class_names=("tomato", "sky"),
        class_keys=("n1", "n2"),
        licence="MIT",
    )
    return folder


@pytest.fixture
def keeps_results(tmp_path: Path) -> Path:
    """Where good runs write; the check for left-overs does not look here."""
    return tmp_path / "results"


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (20_000, 2), (2, 20_000)], ids=lambda size: f"{size[1]}x{size[0]}")
def test_pictures_of_extreme_sizes(
    run_cli: Any, real_model: Path, picture: Any, keeps_results: Path, size: tuple[int, int]
) -> None:
    picture("a.png", size=size)
    done = run_cli("detect", "a.png", "--model", real_model, "--out", keeps_results, "--score-threshold", "0.1")
    assert (done.code, done.err) == (0, "")
    with Image.open(keeps_results / "pictures" / "a.jpg") as drawn:
        assert drawn.size == (size[1], size[0])


def test_an_animated_gif_gives_its_first_frame(
    run_cli: Any, fake_model: Any, tmp_path: Path, keeps_results: Path
) -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    done = run_cli("detect", "a.gif", "--out", keeps_results)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("a.gif: tomato 1.00")


# --- broken model directories ----------


def break_model(folder: Path, how: str) -> None:
    description = folder / "model.yaml"
    (member,) = folder.glob("*.safetensors")
    match how:
        case "no folder":
            shutil.rmtree(folder)
        case "no model.yaml":
            description.unlink()
        case "no member":
            member.unlink()
        case "member is empty":
            member.write_bytes(b"")
        case "member is cut short":
            member.write_bytes(member.read_bytes()[:-100])
        case "member is a pickle":
            member.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94.")
        case "unknown key":
            description.write_text(description.read_text() + "colour: green\n")
        case "not YAML":
            description.write_text("name: [unfinished\n")
        case "a class too many":
            description.write_text(description.read_text().replace("- sky\n", "- sky\n- sea\n"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no folder", "no such model directory"),
        ("no model.yaml", "has no model.yaml"),
        ("no member", "member-0.safetensors"),
        ("member is empty", "member-0.safetensors"),
        ("member is cut short", "member-0.safetensors"),
        ("member is a pickle", "member-0.safetensors"),
        ("unknown key", "colour: unknown key"),
        ("not YAML", "not valid YAML"),
        ("a class too many", "class"),
    ],
)
def test_broken_model_directory(run_cli: Any, real_model: Path, picture: Any, how: str, said: str) -> None:
    photo = picture("a.png")
    break_model(real_model, how)
    assert_one_line(run_cli("detect", photo, "--model", real_model, "--out", "found"), str(real_model), said)


def test_unknown_proposals_preset(run_cli: Any, real_model: Path, picture: Any) -> None:
    done = run_cli("detect", picture("a.png"), "--model", real_model, "--proposals", "best")
    assert_one_line(done, "'best'", "googlenet")


def test_a_gpu_where_there_is_none(
    run_cli: Any, real_model: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    done = run_cli("detect", picture("a.png"), "--model", real_model, "--device", "cuda")
    assert_one_line(done, "'cuda'", "0 GPUs")
