"""What a new user gets wrong: each is one clear line on standard error and the right exit code, with nothing left."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def assert_one_line(done: Any, *parts: str) -> None:
    for part in parts:
        assert part in done.fault
    assert done.out == ""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No run folder, whole or not, stays behind a failure."""
    yield
    assert not list(tmp_path.glob("found*"))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("named", "content", "said"),
    [
        ("no/such.jpg", None, "no/such.jpg: no such file or folder"),
        ("a.png/b.png", None, "a.png/b.png: no such file or folder"),
        ("*.jpeg", None, "*.jpeg: no images or videos match this pattern"),
        ("empty", {}, "empty: no images or videos in this folder"),
        ("docs", {"a.pdf": "%PDF-1.7"}, "docs: no images or videos in this folder"),
        ("notes.jpg", "these are notes", "not an image of a known format"),
        ("a.jpg", "", "a.jpg is empty"),
        ("clip.mp4", "not a video", "clip.mp4: not a video that can be decoded"),
        ("list.txt", "# nothing yet\n\n", "list.txt: names no images"),
        ("list.txt", "a.png\nb.png\n", "b.png: no such file or folder (line 2 of list.txt)"),
    ],
)
def test_what_is_no_input(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, named: str, content: Any, said: str
) -> None:
    picture("a.png")
    if isinstance(content, dict):
        (tmp_path / named).mkdir()
        for name, text in content.items():
            (tmp_path / named / name).write_text(text)
    elif content is not None:
        (tmp_path / named).write_text(content)
    assert_one_line(run_cli("detect", named, "--out", "found"), said)
    found_early = named not in ("notes.jpg", "a.jpg", "clip.mp4")
    assert (fake_model.calls == []) == found_early, "before the model is loaded, if no file must be opened"


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


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("sub", "sub: cannot read this folder: Permission denied"),
        ("", "sub: cannot read this folder: Permission denied"),
        ("sub/b.png", "sub/b.png: cannot be opened: Permission denied"),
    ],
)
def test_a_folder_that_may_not_be_read(run_cli: Any, open_folder: Path, named: str, said: str) -> None:
    run_cli("detect", "no-such-file")  # loads what this test's other user may not read
    (open_folder / "sub").chmod(0o000)
    with as_an_ordinary_user():
        done = run_cli("detect", open_folder / named)
    assert_one_line(done, f"{open_folder}/{said}")


def test_a_place_that_may_not_be_written(run_cli: Any, picture: Any, open_folder: Path) -> None:
    from detector.runs.folder import new_run_folder
    from proposals.errors import UserError

    with (
        as_an_ordinary_user(),
        pytest.raises(UserError, match="cannot make this folder: Permission denied; choose another one"),
        new_run_folder(open_folder / "found", "detect", {}),
    ):
        pass
    assert not (open_folder / "found.unfinished").exists()


@pytest.mark.parametrize(("below", "said"), [("found", "not a folder"), ("", "already exists and is not a folder")])
def test_out_is_a_file_or_below_one(run_cli: Any, picture: Any, below: str, said: str) -> None:
    photo = picture("a.png")
    assert_one_line(run_cli("detect", photo, "--out", photo / below), said)
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
    nets = [(config, GoogLeNet(config).state_dict(), CropConfig(size=32, context_pad=4), Normalization())]
    facts: dict[str, Any] = {"name": "tiny", "class_names": ("tomato", "sky"), "class_keys": ("n1", "n2")}
    save_model(folder, nets, licence="MIT", **facts)
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (20_000, 2), (2, 20_000)], ids=lambda size: f"{size[1]}x{size[0]}")
def test_pictures_of_extreme_sizes(run_cli: Any, real_model: Path, picture: Any, size: tuple[int, int]) -> None:
    words = ("--model", real_model, "--out", "good", "--score-threshold", "0.1")
    done = run_cli("detect", picture("a.png", size=size), *words)
    assert (done.code, done.err) == (0, "")
    with Image.open(Path("good") / "pictures" / "a.jpg") as drawn:
        assert drawn.size == (size[1], size[0])


# --- broken model directories ----------


MEMBER, MODEL = "member-0.safetensors", "model.yaml"
NO_WEIGHTS = b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94."  # a pickle


@pytest.mark.parametrize(
    ("file", "broken", "said"),
    [
        (".", None, "no such model directory"),
        (MODEL, None, "has no model.yaml"),
        (MEMBER, None, MEMBER),
        (MEMBER, lambda whole: b"", MEMBER),
        (MEMBER, lambda whole: whole[:-100], MEMBER),
        (MEMBER, lambda whole: NO_WEIGHTS, MEMBER),
        (MODEL, lambda whole: whole + b"colour: green\n", "colour: unknown key"),
        (MODEL, lambda whole: b"name: [unfinished\n", "not valid YAML"),
        (MODEL, lambda whole: whole.replace(b"- sky\n", b"- sky\n- sea\n"), "class"),
    ],
    ids=[
        "no folder", "no model.yaml", "no member", "member is empty", "member is cut short", "member is a pickle",
        "unknown key", "not YAML", "a class too many",
    ],
)  # fmt: skip
def test_broken_model_directory(
    run_cli: Any, real_model: Path, picture: Any, file: str, broken: Any, said: str
) -> None:
    path = real_model / file
    if broken is not None:
        path.write_bytes(broken(path.read_bytes()))
    elif file == ".":
        shutil.rmtree(path)
    else:
        path.unlink()
    done = run_cli("detect", picture("a.png"), "--model", real_model, "--out", "found")
    assert_one_line(done, str(real_model), said)


def test_unknown_proposals_preset(run_cli: Any, real_model: Path, picture: Any) -> None:
    done = run_cli("detect", picture("a.png"), "--model", real_model, "--proposals", "best")
    assert_one_line(done, "'best'", "googlenet")


def test_a_gpu_where_there_is_none(
    run_cli: Any, real_model: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    done = run_cli("detect", picture("a.png"), "--model", real_model, "--device", "cuda")
    assert_one_line(done, "'cuda'", "0 GPUs")
