"""MultiBox as a source of proposals: windows of an image through the network, its boxes back in pixels.

The whole image is one window, squashed to the network's square. Further square windows show parts of it larger, which
finds small objects (the convolutional paper: the best 200 boxes of the whole image and 50 of each window).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from proposals.boxes import clip, is_valid, nms
from proposals.calibration import Calibration
from proposals.errors import ImageTooSmall
from proposals.image_input import as_rgb
from proposals.multibox import MultiBoxNet
from proposals.types import Proposals, Source


class Normalizing(Protocol):
    """Pixels into the network's input."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """``(N, 3, S, S)`` uint8 -> float32, normalised."""
        ...


class WindowConfig(BaseModel):
    """Square windows over the image.

    Attributes:
        side: relative to the image's shorter side. stride: the largest step between windows, relative to their side.
        keep: the best so many boxes of each window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: float = Field(gt=0, le=1)
    stride: float = Field(default=0.4, gt=0, le=1)
    keep: int = Field(default=50, ge=1)


class MultiBoxProposalConfig(BaseModel):
    """How proposals are made with a trained network.

    Attributes:
        keep: the best so many boxes of the whole image. windows: further windows; none by default.
        nms_threshold: of two boxes with a greater IoU the better stays; 1 keeps all.
        max_proposals: the best so many of what is left; ``None`` for all.
        calibration: of the confidences into scores.
        batch_size: windows at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: int = Field(default=200, ge=1)
    windows: tuple[WindowConfig, ...] = ()
    nms_threshold: float = Field(default=0.8, gt=0, le=1)
    max_proposals: int | None = Field(default=None, ge=1)
    calibration: Calibration = Calibration()
    batch_size: int = Field(default=16, ge=1)


def windows_of(
    image_size: tuple[int, int], config: MultiBoxProposalConfig, smallest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The windows of an image and how many boxes each may give.

    Args:
        image_size: (height, width). smallest: windows with a shorter side in pixels are left out.

    Returns:
        ``(W, 4)`` int64 ``x1 y1 x2 y2`` in whole pixels, the whole image first, none twice; ``(W,)`` int64.
    """
    height, width = image_size
    rows = [(0, 0, width, height, config.keep)]
    for window in config.windows:
        side = max(round(window.side * min(image_size)), 1)
        if side < smallest:
            continue
        corners = []
        for length in (height, width):
            steps = -(-(length - side) // max(int(window.stride * side), 1))  # rounded up
            corners.append(np.unique(np.linspace(0, length - side, steps + 1).round().astype(np.int64)))
        rows += [(x, y, x + side, y + side, window.keep) for y in corners[0].tolist() for x in corners[1].tolist()]
    table = np.array(rows, np.int64)
    _, first = np.unique(table[:, :4], axis=0, return_index=True)
    table = table[np.sort(first)]
    return table[:, :4], table[:, 4]


def squash(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """``image`` ``(H, W, 3)`` resized to ``(size, size, 3)``, averaging where it shrinks."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(image)
    # Area averaging knows one direction only: a long thin image is shrunk first and then enlarged.
    small = (min(width, size), min(height, size))
    if small != (width, height):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if small != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(image, np.uint8)


class MultiBoxSource:
    """A trained network as a :class:`proposals.types.ProposalSource`.

    Args:
        net: put in evaluation mode and on ``device``. normalization: pixels into its input.
    """

    def __init__(
        self,
        net: MultiBoxNet,
        normalization: Normalizing,
        config: MultiBoxProposalConfig | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.config = config or MultiBoxProposalConfig()
        self.device = device or torch.device("cpu")
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalization = normalization

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """Proposals for ``image`` ``(H, W, 3)`` uint8 RGB, best first; scores are probabilities of an object.

        Raises:
            ImageTooSmall: a side is shorter than the network's finest grid.
        """
        return self.propose_batch([image])[0]

    def propose_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Proposals]:
        """Proposals for each of ``images``, whose windows share the batches; the same as one by one."""
        rgb = [as_rgb(image) for image in images]
        for image in rgb:
            if min(image.shape[:2]) < self.net.grid:
                size = f"{image.shape[1]}x{image.shape[0]}"
                raise ImageTooSmall(
                    f"an image of {size} pixels is smaller than MultiBox's grid of {self.net.grid}x{self.net.grid}; "
                    "enlarge it, or leave MultiBox out"
                )
        places = [windows_of((i.shape[0], i.shape[1]), self.config, self.net.grid) for i in rgb]
        views = [
            squash(image[y1:y2, x1:x2], self.net.config.input_size)
            for image, (windows, _) in zip(rgb, places, strict=True)
            for x1, y1, x2, y2 in windows.tolist()
        ]
        locations, logits = self._predict(views)
        found, start = [], 0
        for image, (windows, keep) in zip(rgb, places, strict=True):
            part = slice(start, start + len(windows))
            found.append(self._collect(locations[part], logits[part], windows, keep, (image.shape[0], image.shape[1])))
            start += len(windows)
        return found

    @torch.inference_mode()
    def _predict(self, views: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Locations ``(V, K, 4)`` and logits ``(V, K)`` of squashed windows."""
        locations, logits = [], []
        for start in range(0, len(views), self.config.batch_size):
            batch = torch.from_numpy(np.stack(views[start : start + self.config.batch_size])).permute(0, 3, 1, 2)
            # Full precision on a GPU as well, so that both give the same boxes.
            with torch.backends.cudnn.flags(allow_tf32=False):
                output = self.net(self.normalization(batch.to(self.device)))
            locations.append(output.locations.cpu().numpy())
            logits.append(output.logits.cpu().numpy())
        size = len(self.net.priors)
        return (
            np.concatenate([np.zeros((0, size, 4), np.float32), *locations]),
            np.concatenate([np.zeros((0, size), np.float32), *logits]),
        )

    def _collect(
        self,
        locations: NDArray[np.float32],
        logits: NDArray[np.float32],
        windows: NDArray[np.int64],
        keep: NDArray[np.int64],
        image_size: tuple[int, int],
    ) -> Proposals:
        """The proposals of one image from its windows' ``(W, K, 4)`` and ``(W, K)``."""
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        for location, logit, window, count in zip(locations, logits, windows, keep.tolist(), strict=True):
            best = np.argsort(-logit, kind="stable")[:count]
            inside = pixels(location[best], window, image_size)
            good = is_valid(inside)
            boxes.append(inside[good])
            scores.append(self.config.calibration(logit[best][good]))
        box, score = np.concatenate(boxes), np.concatenate(scores)
        kept = nms(box, score, self.config.nms_threshold)[: self.config.max_proposals]
        return Proposals(box[kept], score[kept], np.full(len(kept), Source.MULTIBOX, np.uint8), image_size)


def pixels(
    locations: NDArray[np.float32], window: NDArray[np.int64], image_size: tuple[int, int]
) -> NDArray[np.float32]:
    """``locations`` ``(N, 4)`` relative to ``window`` ``(4,)`` in pixels of the image, cut to the image."""
    x1, y1, x2, y2 = window.tolist()
    side = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1], np.float32)
    boxes = locations * side + np.array([x1, y1, x1, y1], np.float32)
    return np.asarray(clip(boxes, image_size), np.float32)
