"""The trunks of region networks: what each kind must do, and how a model's config names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.crop import CropConfig
from detector.detection.suppression import RefinementConfig
from detector.model.config import MemberConfig, ModelConfig
from detector.model.load import load_model, read_member
from detector.model.save import save_model
from detector.nets.efficientnet_lite import EfficientNetLiteConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.trunks import TRUNKS, NetConfig, build_network, build_trunk
from detector.nets.weights import Normalization
from detector.strict_yaml import parse
from proposals.errors import UserError

CONFIGS: dict[str, NetConfig] = {
    "googlenet": GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4"),
    "efficientnet_lite": EfficientNetLiteConfig(num_outputs=3, size=32),
}
CROP = CropConfig(size=32, context_pad=2)


def test_every_kind_is_tested() -> None:
    assert CONFIGS.keys() == TRUNKS.keys()
    assert all(config.kind == kind for kind, config in CONFIGS.items())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_network_is_its_trunk_and_a_layer_on_the_mean_of_the_map(kind: str) -> None:
    torch.manual_seed(0)
    net, trunk = build_network(CONFIGS[kind]).eval(), build_trunk(CONFIGS[kind]).eval()
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("fc.")}
    trunk.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        found = trunk(x)
        assert found.shape[:2] == (2, trunk.num_features)
        torch.testing.assert_close(found, net.trunk(x))
        torch.testing.assert_close(net.fc(found.mean((2, 3))), net(x))
        expected = net(x)
        torch.testing.assert_close(net.fold_normalization()(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_on_any_trunk_detects_and_keeps_its_head(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = build_trunk(CONFIGS[kind])
    head = RegionHead(HeadShape(kind="softmax", grid=2, shared=True), 2, trunk.num_features)
    assert head.regress is not None
    torch.nn.init.normal_(head.regress.weight, std=1e-4)  # boxes stay in the image
    facts: dict[str, Any] = {"name": "t", "class_names": ("cat", "dog"), "class_keys": ("1", "2"), "licence": "MIT"}
    nets = [(CONFIGS[kind], trunk.state_dict(), CROP, Normalization())]
    folder = tmp_path / "m"
    config = save_model(folder, nets, heads=[head], half=False, refinement=RefinementConfig(), **facts)
    assert [path.name for path in sorted(folder.iterdir())] == ["member-0.safetensors", "model.yaml"]
    member = read_member(folder, config.members[0], 2)
    for own, read in ((trunk, member.net), (head, member.head)):
        assert read is not None
        for name, tensor in own.state_dict().items():
            assert torch.equal(tensor, read.state_dict()[name]), name
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert len(load_model(folder, device="cpu", score_threshold=0.0, max_proposals=20)(image)) > 0


def test_a_config_without_a_kind_is_a_googlenets() -> None:
    given = {"file": "a.safetensors", "sha256": "0" * 64, "crop": {}, "normalization": {}}
    assert parse(MemberConfig, {**given, "net": {"width": 0.5}}, "m").net == GoogLeNetConfig(width=0.5)
    lite = {"kind": "efficientnet_lite", "num_outputs": 3, "size": 64}
    assert parse(MemberConfig, {**given, "net": lite}, "m").net == EfficientNetLiteConfig(num_outputs=3, size=64)
    for net, message in (
        ({"kind": "resnet"}, r"^m: net: kind must be one of googlenet, efficientnet_lite$"),
        ({"size": 64}, "unknown key"),
        (7, "valid dictionary"),
    ):
        with pytest.raises(UserError, match=message):
            parse(MemberConfig, {**given, "net": net}, "m")


def test_maps_of_whole_images_need_a_googlenet() -> None:
    member = MemberConfig(
        file="a.safetensors",
        sha256="0" * 64,
        net=CONFIGS["efficientnet_lite"],
        crop=CROP,
        normalization=Normalization(),
        head=HeadShape(kind="softmax", grid=0),
        shared=SharedMaps(),
    )
    facts = {"name": "t", "class_names": ["a"], "class_keys": ["a"], "licence": "MIT", "members": [member]}
    with pytest.raises(UserError, match=r"^model.yaml: .*a.safetensors has shared maps; that needs a GoogLeNet"):
        parse(ModelConfig, facts, "model.yaml")
