"""Region classifiers: what is inside each box?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detector.crop import CropConfig, ImagePyramid, crop_regions
from detector.nets.googlenet import GoogLeNet
from detector.nets.weights import Normalization, to_tensor
from proposals.boxes import FloatArray

CPU_BATCH = 64  # larger batches fall out of the cache: 64 was fastest of 16 to 512 on 2 cores
GPU_BATCH = 512


class RegionClassifier(Protocol):
    """Anything that tells how likely each class is in each region."""

    def predict(self, image: NDArray[np.uint8], boxes: FloatArray) -> NDArray[np.float32]:
        """Probabilities ``(N, K + 1)``, background last, of ``boxes`` ``(N, 4)`` in ``image`` ``(H, W, 3)`` RGB."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One network of an ensemble and how its input is made."""

    net: GoogLeNet
    crop: CropConfig
    normalization: Normalization


class Ensemble:
    """The mean of the members' softmaxes, for any number of members, one included (paper, section 8).

    Members that crop alike share the crops.

    Args:
        members: all with the same number of outputs; put in evaluation mode, on ``device``, normalisation folded.
        batch_size: regions at a time, by default what suits the device.
    """

    def __init__(self, members: Sequence[Member], device: torch.device, batch_size: int | None = None) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one member")
        outputs = {member.net.config.num_outputs for member in members}
        if len(outputs) > 1:
            raise ValueError(f"the members differ in their number of outputs: {sorted(outputs)}")
        self.num_outputs = outputs.pop()
        self.device = device
        self.batch_size = batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)
        self.groups: dict[tuple[CropConfig, Normalization], list[GoogLeNet]] = {}
        for member in members:
            net = member.net.eval().fold_normalization()
            net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.groups.setdefault((member.crop, member.normalization), []).append(net)
        self.num_members = len(members)

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], boxes: FloatArray) -> NDArray[np.float32]:
        """See :class:`RegionClassifier`."""
        total = torch.zeros(len(boxes), self.num_outputs)
        for (crop, normalization), nets in self.groups.items():
            pyramid = ImagePyramid(image)
            for start in range(0, len(boxes), self.batch_size):
                part = slice(start, start + self.batch_size)
                crops = crop_regions(image, boxes[part], crop, normalization.fill, pyramid=pyramid)
                x = normalization(to_tensor(crops).to(self.device))
                for net in nets:
                    total[part] += torch.softmax(net(x).float(), 1).cpu()
        return (total / self.num_members).numpy()
