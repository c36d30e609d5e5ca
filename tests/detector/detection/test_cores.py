"""Parts of an image's work at the same time: the same results, errors and numbers of threads as one after another."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from threading import Barrier, current_thread
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import CPU, MAPS, member, multibox_head

from detector.detection.cores import at_once, when_asked
from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.pipeline import Detector
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.nets.region_net import ImageMaps
from proposals.selective_search import SelectiveSearch, resolve_config


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_call_waits_until_it_is_asked_for_and_is_made_once() -> None:
    made: list[str] = []
    result = when_asked(lambda: made.append(current_thread().name))
    assert made == []
    result()
    result()
    assert made == [current_thread().name]


def test_one_thread_leaves_calls_to_whoever_asks() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert at_once(current_thread)() is current_thread()
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_two_calls_are_made_at_the_same_time_each_with_half_the_threads() -> None:
    both = Barrier(2, timeout=60)  # neither passes without the other

    def call() -> tuple[int, bool]:
        both.wait()
        return torch.get_num_threads(), torch.is_inference_mode_enabled()

    assert [found() for found in [at_once(call), at_once(call)]] == [(1, True)] * 2
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_what_a_call_raises_is_raised_to_who_asks() -> None:
    def fail() -> None:
        raise ValueError("no maps")

    result = at_once(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="no maps"):
            result()


def members() -> list[Member]:
    """Two that move boxes by a little."""
    both = [member(), member()]
    for one in both:
        assert one.head is not None
        assert one.head.regress is not None
        torch.nn.init.normal_(one.head.regress.weight, std=1e-4)
    return both


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("mirrored", [False, True])
def test_networks_say_the_same_at_once_as_in_turn(mirrored: bool) -> None:
    """Several members, regions in several batches, and none; with maps of the mirror image begun ahead or not."""
    image = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    corners = np.random.default_rng(1).uniform(0, 20, (7, 2))
    boxes = np.concatenate([corners, corners + np.array([30, 25])], 1).astype(np.float32)
    ensemble = Ensemble(members(), CPU, batch_size=3)
    assert ensemble.start == at_once
    for asked in (boxes, boxes[:1], boxes[:0]):
        for mirror in (False, True):
            found = ensemble.predict(ImageView(image, mirrored), asked, mirror=mirror)
            in_turn = Ensemble(members(), CPU, batch_size=3)
            in_turn.start = when_asked
            expected = in_turn.predict(image, asked, mirror=mirror)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1, 2])
def test_maps_are_gone_with_their_image(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not when Python next looks for garbage: those of a photograph take megabytes."""
    made: list[weakref.ref[ImageMaps]] = []
    plain = ImageMaps.__init__

    def noted(self: ImageMaps, *args: Any) -> None:
        made.append(weakref.ref(self))
        plain(self, *args)

    monkeypatch.setattr(ImageMaps, "__init__", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gc.disable()
    try:
        ensemble = Ensemble(members(), CPU)
        source, view = MultiBoxSource(multibox_head(), ensemble, MAPS), ImageView(np.zeros((48, 60, 3), np.uint8), True)
        ensemble.predict(view, source.propose(view).boxes, mirror=True)
        assert [maps() is not None for maps in made] == [True] * 4
        del view
        assert [maps() for maps in made] == [None] * 4
    finally:
        gc.enable()
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_detector_finds_the_same_at_once_as_in_turn_and_in_several_images_together() -> None:
    """Search, MultiBox, several networks as a cascade, and mirrored second looks."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((48, 60), (60, 48), (48, 60))]
    again = RefinementConfig(rounds=2, max_regions=20, mirror=True, first_members=1)

    def found(threads: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        torch.set_num_threads(threads)
        ensemble = Ensemble(members(), CPU)
        detector = Detector(
            SelectiveSearch(resolve_config("single")),
            ensemble,
            ("a", "b", "c"),
            PostprocessConfig(score_threshold=0.0),
            max_proposals=30,
            refinement=again,
            multibox=MultiBoxSource(multibox_head(), ensemble, MAPS),
        )
        alone = [detector.detect(image) for image in images]
        assert set(detector.stages.seconds) == {"propose", "networks", "suppression"}
        together = detector.finish([detector.begin(image) for image in images])
        return [(proposals.boxes, found.boxes, found.scores) for found, proposals in (*alone, *together)]

    in_turn = found(1)
    for tables, others in zip([*found(2), *in_turn[3:]], [*in_turn, *in_turn[:3]], strict=True):
        for one, other in zip(tables, others, strict=True):
            assert len(one)
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
