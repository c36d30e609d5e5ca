"""What a run keeps in its folder: checkpoints that survive a full disk, and a log without a line twice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from detector.training.run_files import RunLog, load_checkpoint, save_checkpoint
from proposals.errors import UserError

LINE = "step,loss,top1_val\n"


class Entry(BaseModel):
    step: int
    loss: float = 0.5
    top1_val: float | None = None


def test_a_disk_that_fills_while_weights_are_written_keeps_the_last_ones(tmp_path: Path) -> None:
    """PyTorch's own error would speak of positions in the file."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(File too large\)"):
            save_checkpoint(path, {"step": 2, "net": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            written.append(folder)

        def add_scalar(self, *values: Any) -> None:
            written.append(values)

        def flush(self) -> None: ...

        def close(self) -> None:
            written.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "tensorboard" else None)
    log = RunLog(tmp_path)
    log.write(Entry(step=5, loss=0.25))
    log.close()
    assert written == [str(tmp_path / "tensorboard"), ("loss", 0.25, 5), "closed"]
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", "5,0.25,"]


@pytest.mark.parametrize(
    ("left", "cut", "kept"),
    [
        pytest.param(LINE + "2,0.5,1.0\n4,0.5,1.0\n6,0.5,1.0\n", 4, "2,0.5,1.0 4,0.5,1.0", id="what is run again"),
        pytest.param(LINE + "2,0.5,1.0\n6,0.", 6, "2,0.5,1.0", id="a line cut short"),
        pytest.param(LINE + "2,0.5,1.0\n6,0.1,1.0", 6, "2,0.5,1.0", id="a line without its end"),
        pytest.param(LINE + "2,0.5,1.0\n6x,0.1,1.0\n", 6, "2,0.5,1.0", id="no step"),
        pytest.param(LINE + "2,0.5,1.0\n\xff\n", 6, "2,0.5,1.0", id="no text"),
        pytest.param(LINE + "2,0.5,1.0\n", 0, "", id="nothing is kept"),
        pytest.param("step,lo", 0, "", id="half of the first line"),
        pytest.param("", 0, "", id="an empty file"),
    ],
)
def test_the_log_is_cut_where_a_run_goes_on(tmp_path: Path, left: str, cut: int, kept: str) -> None:
    (tmp_path / "log.csv").write_text(left, encoding="latin-1")
    log = RunLog(tmp_path)
    log.cut(cut)
    log.write(Entry(step=8, loss=0.1))
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss,top1_val", *kept.split(), "8,0.1,"]


def test_a_process_that_does_not_write_writes_nothing(tmp_path: Path) -> None:
    log = RunLog(tmp_path, writes=False)
    log.write(Entry(step=2))
    log.cut(1)
    log.close()
    assert list(tmp_path.iterdir()) == []
