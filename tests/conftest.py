"""Rules that hold for every test: no network, and GPU tests are left out aloud where there is no GPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_GPU_KEY = pytest.StashKey[int]()

# Several worker processes share the cores; with all of PyTorch's threads in each they would only fight for them.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(max(1, (os.cpu_count() or 1) // WORKERS)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked ``gpu`` where PyTorch finds none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _gpu_is_there():
        return
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]
    config.stash[NO_GPU_KEY] = len(marked)
    config.hook.pytest_deselected(items=marked)


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker process tells the main one how many tests it left out."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["without_gpu"] = session.config.stash.get(NO_GPU_KEY, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The main process hears it; every worker collects all tests, so the numbers are equal."""
    count = getattr(node, "workeroutput", {}).get("without_gpu", 0)
    node.config.stash[NO_GPU_KEY] = max(count, node.config.stash.get(NO_GPU_KEY, 0))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in the summary what was not tested."""
    count = config.stash.get(NO_GPU_KEY, 0)
    if count:
        terminalreporter.write_line(f"GPU: {count} tests NOT run, this machine has none that PyTorch can use", red=True)


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
