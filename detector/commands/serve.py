"""The ``serve`` verb: a web page to try a model on."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

from detector.commands.console import print_line
from detector.commands.options import Device, ModelFolder, members_option, side_option
from proposals.errors import UserError

LEAST_SCORE = 0.05  # the page's slider goes down to here


def serve(
    model: ModelFolder = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 8000,
    show: Annotated[bool, typer.Option("--show", help="Open the page in the browser.")] = False,
    members: Annotated[int | None, members_option()] = None,
    search_side: Annotated[int | None, side_option()] = None,
    device: Device = "auto",
) -> None:
    """Try a model on images in a web page on this machine.

    Open an image or take one with the camera; choose the score threshold; see the proposals and what each network says
    of a region. Only this machine can reach the page. Ctrl-C ends it.

    [bold]Example:[/bold] detector serve --model my-model --show
    """
    try:
        import markdown_it  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"detector serve needs {error.name}; pip install starlette uvicorn markdown-it-py") from error

    from detector.model.config import BUNDLED_MODEL, read_detector_config
    from detector.model.load import load_model
    from detector.serving.app import make_app

    folder = model or BUNDLED_MODEL
    config = read_detector_config(folder)
    least = min(LEAST_SCORE, config.postprocess.score_threshold)
    detector = load_model(folder, device=device, members=members, search_side=search_side, score_threshold=least)
    app = make_app(detector, config, folder)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({os.strerror(error.errno or 0)}); choose another, or --port 0"
        ) from error
    with listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        print_line(f"{config.name} is at {address} (Ctrl-C ends it)")
        if show:
            typer.launch(address)
        try:
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
        except KeyboardInterrupt:
            print_line("ended")
