"""MultiBox on a model's maps: the same maps as the classifier's, alone and merged, from the model folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import CPU, MAPS, NET, member, multibox_head

from detector.commands.detection_run import settings_of
from detector.commands.proposal_methods import MethodRunner, parse_methods
from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.model.config import ModelConfig, ProposalConfig, read_model_config
from detector.model.load import load_model
from detector.model.save import add_multibox, save_model, write_model_config
from proposals.errors import UserError
from proposals.merge import Budget, MergeConfig, merge
from proposals.selective_search import resolve_config
from proposals.types import Source

CLASSES = ("a", "b", "c")


def image(seed: int = 0, size: tuple[int, int] = (48, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that proposes with selective search and MultiBox."""
    one = member()
    assert one.head is not None
    where = ProposalConfig(selective_search=resolve_config("single"), search_side=None)
    nets: list[Any] = [(NET, one.net.state_dict(), one.crop, one.normalization)]
    facts: dict[str, Any] = {"name": "m", "class_names": CLASSES, "class_keys": CLASSES, "scores": {"ap": 0.5}}
    save_model(
        tmp_path / "plain", nets, heads=[one.head], shared=MAPS, half=False, proposals=where, licence="MIT", **facts
    )
    add_multibox(tmp_path / "plain", multibox_head(), MAPS, tmp_path / "model", {"data": "made up"})
    return tmp_path / "model"


def rewritten(folder: Path, copy: Path, config: ModelConfig) -> Path:
    """A copy of the model folder with another model.yaml."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("model.yaml"))
    write_model_config(copy, config)
    return copy


def test_the_classifier_s_maps_are_used_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    plain = Member.maps

    def counted(self: Member, *args: Any) -> Any:
        made.append(True)
        return plain(self, *args)

    monkeypatch.setattr(Member, "maps", counted)
    ensemble = Ensemble([member()], CPU)
    source, view = MultiBoxSource(multibox_head(), ensemble, MAPS), ImageView(image())
    found = source.propose(view)
    ensemble.predict(view, found.boxes)
    assert len(made) == 1


def test_a_network_on_crops_makes_maps_for_multibox_alone() -> None:
    on_maps, on_crops = (
        MultiBoxSource(multibox_head(), Ensemble([member(shared)], CPU), MAPS).propose(ImageView(image()))
        for shared in (MAPS, None)
    )
    np.testing.assert_allclose(on_crops.boxes, on_maps.boxes, atol=1e-4)


def test_a_short_format_proposes_nearly_the_same() -> None:
    exact, short = (
        MultiBoxSource(multibox_head(), Ensemble([member()], CPU, precision=precision), MAPS).propose(
            ImageView(image())
        )
        for precision in ("float32", "bfloat16")
    )
    assert np.abs(exact.scores[:20] - short.scores[:20]).max() < 1e-3


def test_a_model_merges_both_or_uses_either(folder: Path) -> None:
    picture = image()
    both, search, learned = (
        load_model(folder, device="cpu", **options).detect(picture)[1]
        for options in ({}, {"multibox": False}, {"proposals": "multibox"})
    )
    assert set(search.source) == {Source.SELECTIVE_SEARCH}
    assert set(learned.source) == {Source.MULTIBOX}
    expected = merge(search, learned)
    np.testing.assert_array_equal(both.boxes, expected.boxes)
    np.testing.assert_array_equal(both.source, expected.source)
    few = load_model(folder, device="cpu", max_proposals=3).detect(picture)[1]
    np.testing.assert_array_equal(few.boxes, both.boxes[:3])


def test_multibox_alone_needs_one(folder: Path) -> None:
    with pytest.raises(UserError, match="has no MultiBox"):
        load_model(folder.parent / "plain", device="cpu", proposals="multibox")
    with pytest.raises(UserError, match="choose one of them"):
        load_model(folder, device="cpu", proposals="multibox", multibox=False)


def test_what_was_measured_without_it_is_not_said_of_the_model_with_it(folder: Path) -> None:
    plain, added = (read_model_config(each) for each in (folder.parent / "plain", folder))
    assert plain.scores
    assert not added.scores
    assert added.provenance == {"multibox data": "made up"}
    assert added.model_copy(update={"multibox": None, "scores": plain.scores, "provenance": {}}) == plain


def test_a_budget_of_0_leaves_multibox_out_but_where_it_proposes_alone(folder: Path, tmp_path: Path) -> None:
    config = read_model_config(folder)
    assert config.multibox is not None
    without = config.multibox.model_copy(update={"merge": MergeConfig(budget=Budget(multibox=0))})
    copied = rewritten(folder, tmp_path / "copied", config.model_copy(update={"multibox": without}))
    detector, alone = load_model(copied, device="cpu"), load_model(copied, device="cpu", proposals="multibox")
    assert "multibox" not in settings_of(detector)
    assert "selective_search" not in settings_of(alone)
    found = detector.detect(image())[1]
    np.testing.assert_array_equal(
        found.boxes, load_model(folder, device="cpu", multibox=False).detect(image())[1].boxes
    )
    assert set(alone.detect(image())[1].source) == {Source.MULTIBOX}
    # A merged set that is asked for by name has MultiBox's boxes all the same.
    merged = MethodRunner(parse_methods("single+multibox"), model=copied).propose(image())["single+multibox"][0]
    assert set(merged.source) == {Source.SELECTIVE_SEARCH, Source.MULTIBOX}


def test_a_view_keeps_the_maps_of_each_ensemble() -> None:
    """MultiBox's network runs in torch, also where the classifier runs in a runtime whose maps are other things."""
    first, view = Ensemble([member()], CPU), ImageView(image())
    other = member()
    torch.nn.init.normal_(other.net.conv1.conv.weight, std=0.1)
    second = Ensemble([other], CPU)
    boxes = MultiBoxSource(multibox_head(), first, MAPS).propose(view).boxes
    found = second.predict(view, boxes).probs
    np.testing.assert_array_equal(found, second.predict(image(), boxes).probs)
    assert np.abs(found - first.predict(view, boxes).probs).max() > 1e-3


def test_an_image_side_is_that_of_the_classifier_and_of_multibox(folder: Path, tmp_path: Path) -> None:
    config = read_model_config(folder)
    larger = config.resized(128)
    assert larger.members[0].shared == MAPS.model_copy(update={"image_side": 128})
    assert larger.multibox is not None
    assert larger.multibox.maps == larger.members[0].shared
    assert larger.resized(64) == config
    written = rewritten(folder, tmp_path / "written", larger)
    asked, meant = load_model(folder, device="cpu", image_side=128), load_model(written, device="cpu")
    for one, other in zip(asked.detect(image()), meant.detect(image()), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_networks_of_several_sides_keep_their_shares(folder: Path) -> None:
    config = read_model_config(folder)
    finer = config.members[0].model_copy(
        update={"file": "member-1.safetensors", "shared": MAPS.model_copy(update={"image_side": 96})}
    )
    resized = config.model_copy(update={"members": (config.members[0], finer)}).resized(80)
    assert [member.shared and member.shared.image_side for member in resized.members] == [80, 120]


def test_an_image_side_needs_shared_maps(folder: Path) -> None:
    with pytest.raises(UserError, match=r"image side 5: members.0.shared.image_side: .*greater than or equal to 32"):
        read_model_config(folder).resized(5)
    on_crops = read_model_config(folder).members[0].model_copy(update={"shared": None})
    with pytest.raises(UserError, match="crops of the image"):
        read_model_config(folder).model_copy(update={"members": (on_crops,)}).resized(64)
