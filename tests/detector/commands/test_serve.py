"""``detector serve``: where it listens, and its faults in one line."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, fake_model: Any) -> dict[str, Any]:
    """What the server was asked to do; it ends at once, by Ctrl-C."""
    import typer
    import uvicorn

    seen: dict[str, Any] = {}

    def run(self: Any, sockets: list[socket.socket]) -> None:
        seen["addresses"] = [listening.getsockname() for listening in sockets]
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_model, "num_members", 1, raising=False)
    monkeypatch.setattr("detector.serving.app.make_app", lambda *arguments: None)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(typer, "launch", lambda address: seen.update(launched=address))
    return seen


def test_it_listens_to_this_machine_alone(run_cli: Any, server: dict[str, Any], fake_model: Any) -> None:
    done = run_cli("serve", "--port", 0, "--members", 1)
    ((host, port),) = server["addresses"]
    assert (done.code, done.err, host) == (0, "", "127.0.0.1")
    assert done.out.splitlines() == [f"googlenet-voc is at http://127.0.0.1:{port} (Ctrl-C ends it)", "ended"]
    assert "launched" not in server
    ((_, settings),) = fake_model.calls
    assert (settings["score_threshold"], settings["members"]) == (0.05, 1)


def test_show_opens_the_page(run_cli: Any, server: dict[str, Any]) -> None:
    assert run_cli("serve", "--port", 0, "--show").code == 0
    assert server["launched"] == "http://127.0.0.1:{}".format(server["addresses"][0][1])


def test_a_port_in_use(run_cli: Any, server: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_cli("serve", "--port", port)
    assert (done.code, done.out) == (1, "")
    (line,) = done.error_lines
    assert line.startswith(f"error: port {port} cannot be used (Address already in use); choose another")


def test_without_the_extra(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = run_cli("serve")
    assert (done.code, len(done.error_lines)) == (1, 1)
    assert "pip install starlette uvicorn markdown-it-py" in done.err
