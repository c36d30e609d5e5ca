"""Rules that hold for every test: no network, and tests that need a GPU, VNNI or a browser are left out aloud."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT_KEY = pytest.StashKey[dict[str, int]]()

# The same cases on every run and machine, however slow; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Several worker processes share the cores; with all of PyTorch's threads in each they would only fight for them.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(max(1, (os.cpu_count() or 1) // WORKERS)))


@pytest.fixture(autouse=True, scope="session")
def _full_precision() -> Iterator[None]:
    """Networks compute in float32 where nothing else is asked for, so that results do not depend on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fast_bfloat16", "fast_int8"):
            patch.setattr(f"detector.detection.precision.{name}", lambda: False)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests whose marker names something that this machine lacks."""
    config.stash[LEFT_OUT_KEY] = {}
    for marker, (is_there, _) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not marked or is_there():
            continue
        items[:] = [item for item in items if not item.get_closest_marker(marker)]
        config.stash[LEFT_OUT_KEY][marker] = len(marked)
        config.hook.pytest_deselected(items=marked)


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def _browser_is_there() -> bool:
    from headless_browser import find_browser

    return find_browser() is not None


def _int8_is_there() -> bool:
    from detector.detection.precision import has_int8

    return has_int8()


# marker -> (is what it needs there?, what is said when it is not)
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "gpu": (_gpu_is_there, "GPU: {} tests NOT run, this machine has none that PyTorch can use"),
    "int8": (_int8_is_there, "INT8: {} tests NOT run, this processor has no VNNI instructions"),
    "browser": (
        _browser_is_there,
        "BROWSER: {} tests NOT run, no Chromium was found (Debian: apt-get install chromium; or set CHROMIUM=/path)",
    ),
}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker process tells the main one how many tests it left out."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT_KEY, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The main process hears it; every worker collects all tests, so the numbers are equal."""
    told = getattr(node, "workeroutput", {}).get("left_out", {})
    node.config.stash[LEFT_OUT_KEY] = {**node.config.stash.get(LEFT_OUT_KEY, {}), **told}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in the summary what was not tested."""
    for marker, count in config.stash.get(LEFT_OUT_KEY, {}).items():
        terminalreporter.write_line(NEEDS[marker][1].format(count), red=True)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Only connections within this machine are let through; a test that needs the network is a broken test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a test tried to reach {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
