"""Running a localizer: how well does each region lie on its object, and where does the object lie?"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detector.crop import CropConfig, ImagePyramid, crop_regions
from detector.detection.precision import detection_dtype
from detector.nets.localizer import Localizer
from detector.nets.weights import Normalization, to_tensor
from proposals.boxes import FloatArray, decode

CPU_BATCH = 64
GPU_BATCH = 512
LocalizerBoxes = Literal["alone", "mean"]


class Located(NamedTuple):
    """Of N regions: predicted IoU ``(N,)`` with the object, in [0, 1], and the box ``(N, 4)`` where that lies."""

    overlap: NDArray[np.float32]
    boxes: NDArray[np.float32]


def joint_overlap(
    members: NDArray[np.float32] | None, localizer: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    """Predicted IoUs ``(N,)``: the mean of what the members say and what the localizer says, as far as they say any.

    The localizer counts as much as all members, for it sees what they do not: a region's surroundings.
    """
    if members is None or localizer is None:
        return localizer if members is None else members
    return ((members + localizer) / 2).astype(np.float32)


def joint_boxes(
    members: NDArray[np.float32] | None, localizer: NDArray[np.float32], classes: int, how: LocalizerBoxes
) -> NDArray[np.float32]:
    """Moved boxes ``(N, classes, 4)``: the localizer's for every class, or the mean of them and the members'.

    Args:
        members: boxes ``(N, classes, 4)`` of the members' box regression, or ``None`` if no member has it.
        localizer: boxes ``(N, 4)``. how: "alone" for the localizer's boxes, "mean" for the mean of both.
    """
    boxes = np.repeat(localizer[:, None], classes, axis=1)
    return boxes if how == "alone" or members is None else ((members + boxes) / 2).astype(np.float32)


class RegionLocalizer:
    """A localizer ready to run; the network is put in evaluation mode, on ``device``, its normalisation folded.

    Args:
        crop, normalization: how its input is made. batch_size: regions at a time, by default what suits the device.
        precision: what it computes in; see :func:`detector.detection.precision.detection_dtype`.
    """

    def __init__(
        self,
        net: Localizer,
        crop: CropConfig,
        normalization: Normalization,
        device: torch.device,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        net.eval().trunk.fold_normalization()
        self.net: Localizer = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.crop, self.normalization, self.device = crop, normalization, device
        self.dtype = detection_dtype(precision, device)
        self.batch_size = batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], boxes: FloatArray, *, mirror: bool = False) -> Located:
        """What there is to say of ``boxes`` ``(N, 4)`` in ``image`` ``(H, W, 3)`` RGB.

        With ``mirror`` it is the mean over a region and its mirror image. Where a short format overflows the crops go
        through the network once more in float32.
        """
        overlap, deltas = np.empty(len(boxes), np.float32), np.empty((len(boxes), 4), np.float32)
        pyramid = ImagePyramid(image)
        for start in range(0, len(boxes), self.batch_size):
            part = slice(start, start + self.batch_size)
            crops = crop_regions(image, boxes[part], self.crop, self.normalization.fill, pyramid=pyramid)
            x = self.normalization(to_tensor(crops).to(self.device))
            logits, moves = self._output(x)
            judged = logits.sigmoid()
            if mirror:
                other, back = self._output(x.flip(3))
                judged = (judged + other.sigmoid()) / 2
                back[:, 0] *= -1  # in a mirror image the object lies on the other side
                moves = (moves + back) / 2
            overlap[part], deltas[part] = judged.cpu().numpy(), moves.cpu().numpy()
        return Located(overlap, decode(boxes.astype(np.float32), deltas).astype(np.float32))

    def _output(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits, deltas = (table.float() for table in self.net(x))
        if self.dtype != torch.float32 and not (logits.isfinite().all() and deltas.isfinite().all()):
            logits, deltas = self.net(x)
        return logits, deltas
