"""Proposals and network outputs of one image, computed once for all variants that look at it.

A variant's detector asks for what it needs as any detector does; what another one asked for before is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.detection.ensemble import Ensemble, ImageView, Regions
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.nets.region_head import RegionOutput, stacked
from detector.nets.region_net import ImageMaps
from proposals.types import Proposals, ProposalSource


class RememberedSource:
    """A :class:`ProposalSource` that proposes once for an image, however often it is asked in a row."""

    def __init__(self, source: ProposalSource) -> None:
        self.source = source
        self.last: tuple[NDArray[np.uint8], Proposals] | None = None

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """Proposals for ``image`` ``(H, W, 3)`` uint8 RGB."""
        if self.last is None or self.last[0] is not image:
            self.last = image, self.source.propose(image)
        return self.last[1]


class RememberedMultiBox(MultiBoxSource):
    """MultiBox that proposes once for an image, whichever view of it is asked about."""

    last: tuple[NDArray[np.uint8], Proposals] | None = None

    def propose_each(self, views: Sequence[ImageView]) -> list[Proposals]:
        """See the base class; of one image."""
        (view,) = views
        if self.last is None or self.last[0] is not view.image:
            self.last = view.image, super().propose_each(views)[0]
        return [self.last[1]]


class Outputs:
    """What one network said of regions, by their boxes: of them as they are, or of their mirror images.

    Attributes:
        sign: ``(4,)``, what the deltas are multiplied with.
    """

    def __init__(self) -> None:
        self.row: dict[bytes, int] = {}
        self.said: RegionOutput | None = None
        self.sign = torch.ones(4)

    def add(self, boxes: Sequence[bytes], output: RegionOutput, sign: Tensor) -> None:
        """Remember ``output`` of ``boxes``, the bytes of ``(4,)`` float32 each."""
        known = 0 if self.said is None else len(self.said.probs)
        self.row.update({box: known + i for i, box in enumerate(boxes)})
        self.said = output if self.said is None else stacked([self.said, output])
        self.sign = sign

    def of(self, boxes: Sequence[bytes]) -> RegionOutput:
        """The output of known ``boxes``, at least one."""
        assert self.said is not None
        rows = torch.tensor([self.row[box] for box in boxes])
        return self.said.each(lambda table: table[rows])


class Memory:
    """What is known of the image that is looked at: outputs by network and mirroring, and maps of networks on them."""

    def __init__(self) -> None:
        self.outputs: dict[tuple[object, bool], Outputs] = {}
        self.maps: dict[tuple[object, bool], ImageMaps] = {}

    def clear(self) -> None:
        """Forget everything, for another image."""
        self.outputs.clear()
        self.maps.clear()


class RememberingEnsemble(Ensemble):
    """An ensemble that asks its networks only about regions that one of them was not asked about for this image.

    Args:
        keys: of the members: what tells a network and its input from all others that share ``memory``.
        combine: how the members' probabilities are combined, see :class:`detector.experiment.variants.Variant`.
        The others: see :class:`Ensemble`.
    """

    def __init__(
        self,
        keys: Sequence[object],
        members: Sequence[Member],
        device: torch.device,
        temperature: float,
        memory: Memory,
        combine: str = "mean",
        precision: str = "auto",
    ) -> None:
        super().__init__(members, device, temperature=temperature, precision=precision)
        self.keys, self.memory, self.combine = keys, memory, combine

    def _run(self, regions: Regions, mirror: bool = False, members: int | None = None) -> RegionOutput:
        found = super()._run(regions, mirror, members)
        if self.combine == "mean" or not len(regions):
            return found
        probs = torch.stack([output.probs for _, _, output, _ in self.outputs(regions, mirror, members)])
        joint = probs.amax(0) if self.combine == "maximum" else probs.clamp_min(1e-12).log().mean(0).exp()
        return found._replace(probs=self._tempered(joint / joint.sum(1, keepdim=True)))

    def outputs(
        self, regions: Regions, mirror: bool = False, members: int | None = None
    ) -> Iterator[tuple[int, slice, RegionOutput, Tensor]]:
        """See :class:`Ensemble`; of one image."""
        if not len(regions):
            return
        ((view, boxes),) = regions.images
        tables = {
            (number, flipped): self.memory.outputs.setdefault((key, flipped), Outputs())
            for number, key in enumerate(self.keys[:members])
            for flipped in (False, True)[: 1 + mirror]
        }
        names = [box.tobytes() for box in np.asarray(boxes, np.float32)]
        new = {name: row for row, name in enumerate(names) if any(name not in table.row for table in tables.values())}
        asked, missing = list(new), list(new.values())
        for number, part, output, sign in super().outputs(Regions([(view, boxes[missing])]), mirror, members):
            tables[number, bool(sign[0] < 0)].add(asked[part], output, sign)
        for (number, _), table in tables.items():
            yield number, slice(len(boxes)), table.of(names), table.sign

    def _make_maps(self, views: Sequence[ImageView], number: int, member: Member, flipped: bool) -> None:
        (view,) = views
        key, own = (self.keys[number], flipped), (self, number, flipped)
        if key in self.memory.maps:
            view.maps[own] = self.memory.maps[key]
        super()._make_maps(views, number, member, flipped)
        self.memory.maps[key] = view.maps[own]
