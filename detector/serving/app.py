"""The application behind the page: an image in; boxes, proposals and what each network says of a region out.

It is for one user on this machine. It keeps the last image in memory and opens no file but its own assets. Only
requests to this machine by name are answered, and a request with an image must be of a type that no page of another
site can send without asking (CORS), so that no such page can use the server or read from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from markdown_it import MarkdownIt
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from detector.detection.ensemble import Ensemble
from detector.detection.pipeline import Detector
from detector.images.read import read_image
from detector.model.config import ModelConfig
from detector.report.palette import SOURCE_COLOURS, SOURCE_NAMES, class_colour, hex_colour
from detector.report.pictures import data_uri, encoded
from proposals.boxes import clip, is_valid
from proposals.errors import UserError
from proposals.types import Proposals, Source

MAX_BYTES = 32_000_000
MAX_PIXELS = 50_000_000
SHOWN_SIDE, QUALITY = 1600, 90  # of the image in the page: its longer side in pixels, and that of its JPEG
CLASSES_TOLD = 5
CARD = "README.md"
HOSTS = ["127.0.0.1", "localhost"]


class RegionRequest(BaseModel):
    """A region to ask the networks about: ``box`` ``x1 y1 x2 y2`` in pixels of the image of this number."""

    model_config = ConfigDict(extra="forbid")

    image: int
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class Trial:
    """A model and the last image that it was tried on.

    Args:
        detector: of :func:`detector.model.load.load_model`, with a low score threshold: the page hides what is below
            the one that its user chooses.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.names = (*detector.class_names, "background")
        self.number = 0
        self.image = np.zeros((1, 1, 3), np.uint8)

    def detect(self, data: bytes) -> dict[str, Any]:
        """Detections and proposals in the image with these bytes, and the image as a data URL.

        Raises:
            UserError: not an image, damaged, too large or too small.
        """
        image = read_image(data, name="the image", max_pixels=MAX_PIXELS)
        begun = time.perf_counter()
        detections, proposals = self.detector.detect(image)
        seconds = time.perf_counter() - begun
        self.image, self.number = image, self.number + 1
        rows = zip(detections.boxes, detections.scores.tolist(), detections.labels.tolist(), strict=True)
        return {
            "image": self.number,
            "width": image.shape[1],
            "height": image.shape[0],
            "url": data_uri(encoded(image, SHOWN_SIDE, QUALITY)),
            "seconds": seconds,
            "detections": [
                {"box": _rounded(box), "score": score, "name": self.names[label]}
                | {"colour": hex_colour(class_colour(label))}
                for box, score, label in rows
            ],
            "sources": [_source(proposals, source) for source in Source if np.any(proposals.source == source)],
        }

    def ask(self, request: RegionRequest) -> list[dict[str, Any]]:
        """What each network says of a region, its best classes first.

        Raises:
            UserError: the region has no area inside the image.
        """
        box = clip(np.array([request.box], np.float32), self.image.shape[:2]).astype(np.float32)
        if not is_valid(box).all():
            raise UserError("the region has no area inside the image; choose another")
        outputs = cast(Ensemble, self.detector.classifier).predict_members(self.image, box)
        return [
            {
                "network": f"network {i}",
                "classes": [[self.names[k], float(probs[k])] for k in np.argsort(-probs, kind="stable")[:CLASSES_TOLD]],
                "overlap": None if output.overlap is None else float(output.overlap[0]),
            }
            for i, output in enumerate(outputs, 1)
            for probs in [output.probs[0].numpy()]
        ]


def make_app(detector: Detector, config: ModelConfig, folder: Path) -> Starlette:
    """The application for a detector of the model directory ``folder`` with this ``config``."""
    trial, busy = Trial(detector), asyncio.Lock()
    about = {
        "name": config.name,
        "description": config.description,
        "classes": detector.class_names,
        "networks": cast(Ensemble, detector.classifier).num_members,
        "licence": config.licence,
        "threshold": config.postprocess.score_threshold,
        "least": detector.config.score_threshold,
        "card": card_html(folder),
        "max_bytes": MAX_BYTES,
    }

    async def alone(work: Callable[..., Any], *arguments: Any) -> JSONResponse:
        if busy.locked():
            raise HTTPException(503, "busy with another image; try again when it is done")
        async with busy:
            return JSONResponse(await run_in_threadpool(work, *arguments))

    async def model(_: Request) -> JSONResponse:
        return JSONResponse(about)

    async def detect(request: Request) -> JSONResponse:
        if request.headers.get("content-type") != "application/octet-stream":
            raise HTTPException(415, "send the image's bytes as application/octet-stream")
        return await alone(trial.detect, await _body(request, MAX_BYTES))

    async def region(request: Request) -> JSONResponse:
        if request.headers.get("content-type") != "application/json":
            raise HTTPException(415, "send the region as application/json")
        try:
            asked = RegionRequest.model_validate_json(await _body(request, 1000))
        except ValidationError:
            raise HTTPException(422, 'send {"image": its number, "box": [x1, y1, x2, y2]}') from None
        if not trial.number or asked.image != trial.number:
            raise HTTPException(409, "another image was opened since; open this one again")
        return await alone(trial.ask, asked)

    return Starlette(
        routes=[
            Route("/model", model),
            Route("/detect", detect, methods=["POST"]),
            Route("/region", region, methods=["POST"]),
            Mount("/", StaticFiles(packages=[("detector", "serving/assets")], html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={
            HTTPException: lambda _, error: JSONResponse({"error": error.detail}, error.status_code),
            UserError: lambda _, error: JSONResponse({"error": str(error)}, 422),
        },
    )


def card_html(folder: Path) -> str:
    """The model's card as HTML without links and images, its own markup escaped; empty where there is no card."""
    path = folder / CARD
    if not path.is_file():
        return ""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for rule in ("link_open", "link_close", "image"):
        markdown.add_render_rule(rule, lambda *_: "")
    return str(markdown.render(path.read_text(encoding="utf-8", errors="replace")))


async def _body(request: Request, most: int) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise HTTPException(413, f"more than {most // 1_000_000} MB; make the image smaller")
    return bytes(data)


def _rounded(box: NDArray[np.float32]) -> list[float]:
    return [round(float(x), 2) for x in box]


def _source(proposals: Proposals, source: Source) -> dict[str, Any]:
    boxes = proposals.boxes[proposals.source == source]
    return {
        "name": SOURCE_NAMES[source],
        "colour": hex_colour(SOURCE_COLOURS[source]),
        "boxes": [_rounded(box) for box in boxes],
    }
