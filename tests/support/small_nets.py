"""Small networks on shared maps, made alike each time."""

from __future__ import annotations

import torch

from detector.crop import CropConfig
from detector.detection.member import Member
from detector.nets.googlenet import GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps, sizes_by_level
from detector.nets.weights import Normalization
from proposals.multibox import MultiBoxConfig, MultiBoxHead

CPU = torch.device("cpu")
CROP, NET = CropConfig(size=32, context_pad=2), GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4")
MAPS = SharedMaps(image_side=64, levels=2, region_side=24)


def member(shared: SharedMaps | None = MAPS) -> Member:
    """With every output: three classes, boxes and overlaps; on crops where nothing is ``shared``."""
    torch.manual_seed(0)
    trunk = Trunk(NET).eval()
    head = RegionHead(HeadShape(kind="softmax", grid=2, shared=True, overlap=2), 3, trunk.num_features)
    return Member(trunk, CROP, Normalization(), head, shared)


def multibox_head() -> MultiBoxHead:
    """For maps of ``MAPS``."""
    torch.manual_seed(1)
    config = MultiBoxConfig(channels=8, count=4)
    return MultiBoxHead(NET.inception("4e").out, sizes_by_level(config, MAPS), config)
