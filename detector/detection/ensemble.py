"""Region classifiers: what is inside each box?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.crop import CropConfig, ImagePyramid, crop_regions
from detector.detection.cores import Start, at_once, lanes, when_asked
from detector.detection.member import Member, led
from detector.detection.precision import detection_dtype, takes_int8
from detector.nets.int8 import to_int8
from detector.nets.region_head import RegionOutput, stacked
from detector.nets.region_net import ImageMaps, level_zero_size
from detector.nets.weights import Normalization, to_tensor
from proposals.boxes import FloatArray, decode, flip_horizontal
from proposals.errors import UserError

CPU_BATCH = 100  # larger batches fall out of the cache; of 32 to 200 the fastest on shared maps
GPU_BATCH = 512


class ImageView:
    """An image, with what the members make of it once for all regions: halvings for crops, and maps.

    Looking at the same view again costs the regions alone. ``mirrored``: whether its mirror image will be looked at.
    """

    def __init__(self, image: NDArray[np.uint8], mirrored: bool = False) -> None:
        self.image, self.mirrored = image, mirrored
        self.pyramid = ImagePyramid(image)
        self.maps: dict[tuple[Ensemble, int, bool], ImageMaps] = {}


class RegionPredictions(NamedTuple):
    """What a classifier says of N regions.

    Attributes:
        probs: ``(N, K + 1)``, background last.
        boxes: for each class the box ``(N, K, 4)`` that a region is moved to; ``None`` from a classifier without box
            regression.
        overlap: ``(N,)``, predicted IoU of each region with its object; ``None`` from a classifier that predicts none.
    """

    probs: NDArray[np.float32]
    boxes: FloatArray | None = None
    overlap: NDArray[np.float32] | None = None


class RegionRequest(NamedTuple):
    """Regions ``boxes`` ``(N, 4)`` of an image for a classifier; see :meth:`RegionClassifier.predict`."""

    view: ImageView
    boxes: FloatArray
    mirror: bool = False
    members: int | None = None


class RegionClassifier(Protocol):
    """Anything that tells what is in each region, and perhaps how well the region lies on it, and where it lies."""

    def predict(
        self,
        image: NDArray[np.uint8] | ImageView,
        boxes: FloatArray,
        *,
        mirror: bool = False,
        members: int | None = None,
    ) -> RegionPredictions:
        """Of ``boxes`` ``(N, 4)`` in ``image`` ``(H, W, 3)`` RGB, or a view of it.

        With ``mirror`` it is the mean over a region and its mirror image. ``members``: only the first so many of
        several networks look.
        """
        ...

    def predict_each(self, requests: Sequence[RegionRequest]) -> list[RegionPredictions]:
        """As :meth:`predict`, of regions of several images, all mirrored or not, and by as many members."""
        return [self.predict(view, boxes, mirror=mirror, members=members) for view, boxes, mirror, members in requests]


class Regions:
    """Regions of images as the rows of one table: ``images`` are views and the boxes ``(N, 4)`` in each of them."""

    def __init__(self, images: Sequence[tuple[ImageView, FloatArray]]) -> None:
        self.images = images
        self.ends = np.cumsum([len(boxes) for _, boxes in images]).tolist()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def of(self, rows: slice) -> list[tuple[ImageView, FloatArray]]:
        """Of each image that has some of ``rows`` the view and those boxes."""
        found = []
        for (view, boxes), end in zip(self.images, self.ends, strict=True):
            first = end - len(boxes)
            own = boxes[max(0, rows.start - first) : max(0, rows.stop - first)]
            if len(own):
                found.append((view, own))
        return found


class Ensemble(RegionClassifier):
    """The mean of the members' softmaxes, for any number of members, one included (paper, section 8).

    Members that crop alike share the crops, and those that begin alike the maps of 3b. Boxes are moved by the mean of
    those members that have box regression, and overlaps are the mean of those that predict them.

    Args:
        members: all with the same number of outputs; put in evaluation mode, on ``device``, normalisation folded.
        batch_size: regions at a time, by default what suits the device.
        temperature: T of the mean p, which becomes p^(1/T), made to sum to one (Guo et al. 2017); 1 changes nothing,
            more makes the ensemble less sure of itself.
        precision: what the networks compute in; see :func:`detector.detection.precision.detection_dtype`.
        runtime: the name of what the members run in; see :mod:`detector.detection.runtimes`.

    Raises:
        UserError: int8 without the members' ranges, or another precision that there is not.
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        batch_size: int | None = None,
        temperature: float = 1.0,
        precision: str = "auto",
        runtime: str = "torch",
    ) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one member")
        int8 = takes_int8(precision, device)
        if precision == "int8" and any(member.ranges is None for member in members):
            raise UserError("precision int8 needs the ranges of activations: detector calibrate --of activations")
        outputs = {member.num_outputs for member in members}
        if len(outputs) > 1:
            raise ValueError(f"the members differ in their number of outputs: {sorted(outputs)}")
        self.num_outputs = outputs.pop()
        self.device = device
        self.dtype = detection_dtype(precision, device)
        self.batch_size = batch_size or (CPU_BATCH if device.type == "cpu" and runtime == "torch" else GPU_BATCH)
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature {temperature} must be positive and finite")
        self.temperature = temperature
        self.runtime = runtime
        self.start: Start = at_once if device.type == "cpu" and runtime == "torch" else when_asked
        self.precision = str(self.dtype).removeprefix("torch.")
        if int8 and any(member.ranges is not None for member in members):
            self.precision = "int8"
        members, self.leaders = led(members) if runtime == "torch" else (members, {})
        self.groups: dict[tuple[CropConfig, Normalization], list[tuple[int, Member]]] = {}
        self.pooling: list[tuple[int, Member]] = []
        self.members: list[Member] = []
        for number, member in enumerate(members):
            net = member.net.eval().fold_normalization()
            if int8 and member.ranges is not None:
                to_int8(net, member.ranges, self.dtype, *(() if member.shared else (member.crop.size // 16,)))
            net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.dtype == torch.bfloat16:  # once, where autocast would do it for every batch
                for layer in net.modules():
                    if isinstance(layer, nn.Conv2d):
                        layer.to(self.dtype)
            head = None if member.head is None else member.head.eval().to(device)
            ready = replace(member, net=net, head=head)
            self.members.append(ready)
            if member.shared is not None:
                self.pooling.append((number, ready))
            else:
                self.groups.setdefault((member.crop, member.normalization), []).append((number, ready))

    def predict(
        self,
        image: NDArray[np.uint8] | ImageView,
        boxes: FloatArray,
        *,
        mirror: bool = False,
        members: int | None = None,
    ) -> RegionPredictions:
        """See :class:`RegionClassifier`; the members' deltas and overlaps are averaged as their probabilities are."""
        view = image if isinstance(image, ImageView) else ImageView(image)
        return self.predict_each([RegionRequest(view, boxes, mirror, members)])[0]

    def predict_each(self, requests: Sequence[RegionRequest]) -> list[RegionPredictions]:
        """See :class:`RegionClassifier`: the networks see the images together, their maps and regions in batches."""
        regions = Regions([(each.view, each.boxes) for each in requests])
        probs, deltas, overlap = self._run(regions, requests[0].mirror, requests[0].members).each(Tensor.cpu)
        moved = None
        if deltas is not None:
            boxes = np.concatenate([each.boxes for each in requests]).astype(np.float32)
            each = np.repeat(boxes, self.num_outputs - 1, axis=0)
            moved = decode(each, deltas.numpy().reshape(-1, 4)).astype(np.float32).reshape(deltas.shape)
        tables = (probs.numpy(), moved, None if overlap is None else overlap.numpy())
        own = [[None] * len(requests) if table is None else np.split(table, regions.ends[:-1]) for table in tables]
        return [RegionPredictions(*parts) for parts in zip(*own, strict=True)]

    def predict_members(self, image: NDArray[np.uint8], boxes: FloatArray) -> list[RegionOutput]:
        """Each member's own output for all ``boxes``, on the CPU, in the members' order, from one pass of each.

        Without the temperature, which is of the mean.
        """
        parts: list[list[RegionOutput]] = [[] for _ in range(self.num_members)]
        for number, _, output, _ in self.outputs(Regions([(ImageView(image), boxes)])):
            parts[number].append(output.each(Tensor.cpu))
        nothing = RegionOutput(torch.zeros(0, self.num_outputs))
        return [stacked(outputs) if outputs else nothing for outputs in parts]

    @torch.inference_mode()
    def name_crops(self, crops: Tensor) -> Tensor:
        """Probabilities ``(N, K + 1)`` on the CPU of crops ``(N, 3, S, S)``, 0..255, made already.

        Members that take another size have them resized; the context is then that of these crops. A member that pools
        from maps runs on the crops all the same.
        """
        probs = torch.zeros(len(crops), self.num_outputs)
        for part in self._parts(len(crops)):
            for member in self.members:
                x = crops[part].to(self.device)
                if x.shape[-1] != member.crop.size:
                    size = (member.crop.size, member.crop.size)
                    x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 255)
                x = member.normalization(x).contiguous(memory_format=torch.channels_last)
                probs[part] += member.output(x, self.dtype).probs.cpu()
        return self._tempered(probs / self.num_members)

    @torch.inference_mode()
    def name_regions(self, images: Tensor, rois: Tensor) -> Tensor:
        """Probabilities ``(R, K + 1)`` of ``rois`` ``(R, 5)`` in ``images`` ``(M, 3, H, W)``, 0..255, as they are.

        See the glossary of :mod:`detector.nets.region_net`; all members pool from maps.
        """
        images, rois = images.to(self.device), rois.to(self.device)
        probs = torch.zeros(len(rois), self.num_outputs, device=self.device)
        for member in self.members:
            assert member.head is not None
            probs += member.head(member.region_features(images, rois, self.dtype)).probs
        return self._tempered(probs / self.num_members)

    def _run(self, regions: Regions, mirror: bool = False, members: int | None = None) -> RegionOutput:
        """Mean probabilities ``(N, K + 1)``, deltas ``(N, K, 4)`` and overlaps ``(N,)``, the latter if any has them."""
        asked = self.members[:members]
        box_heads = sum(member.has_box_head for member in asked)
        overlap_heads = sum(member.has_overlap_head for member in asked)
        rows, device = len(regions), self.device
        probs = torch.zeros(rows, self.num_outputs, device=device)
        deltas = torch.zeros(rows, self.num_outputs - 1, 4, device=device) if box_heads else None
        overlap = torch.zeros(rows, device=device) if overlap_heads else None
        views = 1 + mirror
        for _, part, output, sign in self.outputs(regions, mirror, members):
            probs[part] += output.probs
            if deltas is not None and output.deltas is not None:
                deltas[part] += output.deltas * sign
            if overlap is not None and output.overlap is not None:
                overlap[part] += output.overlap
        probs = self._tempered(probs / (len(asked) * views))
        if deltas is not None:
            deltas /= box_heads * views
        if overlap is not None:
            overlap /= overlap_heads * views
        return RegionOutput(probs, deltas, overlap)

    def _tempered(self, probs: Tensor) -> Tensor:
        if self.temperature == 1:
            return probs
        return torch.softmax(torch.log(probs.double()) / self.temperature, 1).float()

    @torch.inference_mode()
    def outputs(
        self, regions: Regions, mirror: bool = False, members: int | None = None
    ) -> Iterator[tuple[int, slice, RegionOutput, Tensor]]:
        """Number of a member, rows, its output for them, and the sign ``(4,)`` that its deltas take."""
        last = self.num_members if members is None else members
        side = torch.ones(4, device=self.device)
        other = side * side.new_tensor([-1.0, 1, 1, 1])  # in a mirror image the object lies on the other side
        for (crop, normalization), group in self.groups.items():
            looking = [(number, member) for number, member in group if number < last]
            if not looking:
                continue
            for part in self._parts(len(regions)):
                crops = [
                    crop_regions(view.image, boxes, crop, normalization.fill, pyramid=view.pyramid)
                    for view, boxes in regions.of(part)
                ]
                x = normalization(to_tensor(np.concatenate(crops)).to(self.device))
                views = [(x, side), (x.flip(3), other)] if mirror else [(x, side)]
                for number, member in looking:
                    for shown, sign in views:
                        yield number, part, member.output(shown, self.dtype), sign
        self.start_maps([view for view, _ in regions.images], members)
        begun = []
        for number, member in self.pooling:
            if number >= last:
                break
            for flipped in (False, True)[: 1 + mirror]:
                for part in self._parts(len(regions), least=lanes(self.start)):
                    placed = [
                        (
                            self.maps_of(view, number, member, flipped),
                            flip_horizontal(boxes, view.image.shape[1]) if flipped else boxes,
                        )
                        for view, boxes in regions.of(part)
                    ]
                    found = self.start(partial(member.pooled_output, placed, self.dtype))
                    begun.append((number, part, found, other if flipped else side))
        for number, part, found, sign in begun:
            yield number, part, found(), sign

    def start_maps(self, views: Sequence[ImageView], members: int | None = None) -> None:
        """Begin all maps of the first ``members`` networks that the views will need; those of one size together.

        Not of a single view if calls are made when they are asked for.
        """
        if len(views) == 1 and lanes(self.start) == 1:
            return
        for flipped in (False, True):
            seen = [view for view in views if view.mirrored or not flipped]
            for number, member in self.pooling:
                if members is not None and number >= members:
                    continue
                assert member.shared is not None
                alike: dict[tuple[int, int], list[ImageView]] = {}
                for view in seen:
                    alike.setdefault(level_zero_size(view.image.shape[:2], member.shared), []).append(view)
                for group in alike.values():
                    self._make_maps(group, number, member, flipped)

    @property
    def num_members(self) -> int:
        """How many networks there are."""
        return len(self.members)

    def _parts(self, rows: int, least: int = 1) -> list[slice]:
        """At least so many parts, where there are rows for them, none of more than ``batch_size``."""
        size = max(1, min(self.batch_size, -(-rows // least)))
        return [slice(start, start + size) for start in range(0, rows, size)]

    def maps_of(self, view: ImageView, number: int, member: Member, flipped: bool) -> ImageMaps:
        """The maps of a member that pools, of the image or its mirror image; made once for a view."""
        self._make_maps([view], number, member, flipped)
        return view.maps[self, number, flipped]

    def _make_maps(self, views: Sequence[ImageView], number: int, member: Member, flipped: bool) -> None:
        """See :meth:`maps_of`; of ``views`` whose level 0 is of one size, where they have none yet."""
        key = self, number, flipped
        views = [view for view in views if key not in view.maps]
        if not views:
            return
        images = [view.image[:, ::-1] if flipped else view.image for view in views]
        begun: list[ImageMaps] = []
        if (leader := self.leaders.get(number)) is not None:
            self._make_maps(views, leader, self.members[leader], flipped)
            begun = [view.maps[self, leader, flipped] for view in views]
        for view, maps in zip(views, member.maps(images, self.device, self.dtype, self.start, begun), strict=True):
            view.maps[key] = maps
