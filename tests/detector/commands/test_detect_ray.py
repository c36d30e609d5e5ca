"""``detect --engine ray`` gives what one process gives, whatever happens to its actors."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from clips import write_video

from detector.commands.detect_ray import _look_for, _read
from detector.commands.inputs import PictureInput
from proposals.errors import UserError

pytestmark = pytest.mark.usefixtures("fake_model")

COLOURS = ((20, 20, 220), (250, 10, 10), (90, 90, 90))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_ray_writes_what_one_process_writes_though_an_actor_is_killed(
    run_cli: Any, fake_model: Any, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    for i in range(12):
        picture(f"in/{i}.png", left=COLOURS[i % 3])
    (tmp_path / "in/5.png").write_text("no image")
    (tmp_path / "in/0.png").rename(tmp_path / "in/0\udce9.png")  # a name that is no UTF-8
    write_video(tmp_path / "in/clip.avi", "MJPG", frames=3)
    words = ("detect", "in", "--no-pictures", "--on-error", "skip", "--format", "parquet")
    whole = run_cli(*words, "--out", "whole")
    assert whole.code == 3

    killed = tmp_path / "killed"

    def load(path: Any = None, **settings: Any) -> Any:
        detector = fake_model(path, **settings)
        propose, seen = detector.proposals.propose, []

        def die_at_the_third(image: Any) -> Any:
            seen.append(1)
            if len(seen) == 3 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return propose(image)

        detector.proposals.propose = die_at_the_third
        return detector

    module = sys.modules[type(fake_model).__module__]  # which workers cannot import
    ray.cloudpickle.register_pickle_by_value(module)
    monkeypatch.setattr("detector.model.load.load_model", load)
    try:
        found = run_cli(*words, "--engine", "ray", "--out", "found")
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)
    assert found.code == whole.code, found.err
    assert killed.exists()
    for name in ("detections.jsonl", "detections.parquet"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    told = [[line for line in done.error_lines if line.startswith("skipped")] for done in (whole, found)]
    assert told[0] == told[1]
    assert len(told[0]) == 1


def test_a_bad_image_is_a_row_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    row = {"item": pickle.dumps([(PictureInput("a", "a.png"), 0)])}
    (found,) = _read(row, str(tmp_path))
    assert pickle.loads(found["item"]) == "a.png does not exist; check the path"


def test_without_ray(run_cli: Any, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "needs Ray: pip install" in run_cli("detect", picture("a.png"), "--engine", "ray").fault


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        for address in (there, f"ray://{there}", "auto", "local", ""):
            _look_for(address)
    for address in (there, f"ray://{there}", "127.0.0.1:99999"):
        with pytest.raises(UserError, match=f"no Ray cluster at {address} .*check --address"):
            _look_for(address)
