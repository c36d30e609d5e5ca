"""MultiBox as a source of proposals: from the maps that the first network makes of an image anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.detection.ensemble import Ensemble, ImageView
from detector.nets.int8 import Int8Conv, Quantize
from detector.nets.region_net import SharedMaps
from proposals.multibox import MultiBoxHead, MultiBoxProposalConfig
from proposals.types import Proposals


class MultiBoxSource:
    """Proposes boxes for an image.

    Args:
        head: a trained one. ensemble: whose first network, a GoogLeNet, makes the maps. maps: the scales of the image.
        config: how boxes become proposals.
    """

    def __init__(
        self, head: MultiBoxHead, ensemble: Ensemble, maps: SharedMaps, config: MultiBoxProposalConfig | None = None
    ) -> None:
        self.head = head.eval().to(ensemble.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config, self.ensemble = config or MultiBoxProposalConfig(), ensemble
        first = ensemble.members[0]
        scale = first.net.map_scale
        if scale is not None and isinstance(head.shared, nn.Conv2d):
            byte = Int8Conv(head.shared, scale, None, ensemble.dtype, relu=False)
            self.head.shared = nn.Sequential(Quantize(scale), byte)
        self.pools_alike = first.shared == maps
        self.member = first if self.pools_alike else replace(first, shared=maps)

    def propose(self, image: NDArray[np.uint8] | ImageView) -> Proposals:
        """Proposals for ``image`` ``(H, W, 3)`` uint8 RGB, or a view of one, best first.

        Scores are the expected IoU with an object.
        """
        return self.propose_each([image if isinstance(image, ImageView) else ImageView(image)])[0]

    @torch.inference_mode()
    def propose_each(self, views: Sequence[ImageView]) -> list[Proposals]:
        """As :meth:`propose`, for several images; the networks make maps of those of one size together."""
        ensemble, member = self.ensemble, self.member
        if self.pools_alike:
            ensemble.start_maps(views)
            made = [ensemble.maps_of(view, 0, member, False) for view in views]
        else:
            made = [member.maps([view.image], ensemble.device, ensemble.dtype, ensemble.start)[0] for view in views]
        proposing = [ensemble.start(partial(maps.proposed, self.head, self.config), urgent=True) for maps in made]
        return [proposals() for proposals in proposing]
