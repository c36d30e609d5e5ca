"""Every proposal source, classifier and data format keeps to its contract; see ``support/contracts.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from contracts import IMAGE, assert_is_classifier, assert_is_data_format, assert_is_proposal_source
from small_nets import CPU, CROP, MAPS, NET, member, multibox_head
from small_sets import make_small_set
from torch import nn

from detector.data import coco, ilsvrc_det, image_folder, load, voc, yolo
from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.experiment.memory import Memory, RememberedSource, RememberingEnsemble
from detector.nets.googlenet import GoogLeNet, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.weights import Normalization
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch, resolve_config
from proposals.store import ProposalStore
from proposals.types import ProposalSource


def search(preset: str = "single") -> SelectiveSearch:
    return SelectiveSearch(resolve_config(preset), 0, 1)


SOURCES: dict[str, Callable[[Path], ProposalSource]] = {
    "selective search, single": lambda folder: search(),
    "selective search, googlenet": lambda folder: search("googlenet"),
    "resized": lambda folder: ResizedSource(search(), 40),
    "multibox": lambda folder: MultiBoxSource(multibox_head(), Ensemble([member()], CPU), MAPS),
    "stored": lambda folder: ProposalStore(folder, search().settings(), search()),
    "remembered": lambda folder: RememberedSource(search()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_proposal_sources(tmp_path: Path, name: str) -> None:
    assert len(assert_is_proposal_source(SOURCES[name](tmp_path)))


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 120), (17, 90), (90, 17)], ids=str)
def test_proposal_sources_on_small_and_thin_images(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(np.tile(IMAGE, (2, 2, 1))[: shape[0], : shape[1]])
    assert_is_proposal_source(SOURCES[name](tmp_path), image)


def members() -> dict[str, list[Member]]:
    plain, shared = Member(GoogLeNet(NET), CROP, Normalization()), member()
    head = RegionHead(HeadShape(kind="svm", grid=0, shared=False, overlap=0), 3, Trunk(NET).num_features)
    svm = Member(Trunk(NET), CROP, Normalization(), head)
    for made in (shared.head, head):
        assert made is not None
        nn.init.normal_(made.classify.weight, std=0.5)
    return {"crops": [plain], "shared maps": [shared], "svms": [svm], "all together": [shared, plain, svm]}


@pytest.mark.parametrize("name", members())
def test_classifiers(name: str) -> None:
    assert_is_classifier(Ensemble(members()[name], CPU), 3)


def test_a_classifier_that_remembers() -> None:
    chosen = members()["all together"]
    memory = Memory()
    assert_is_classifier(RememberingEnsemble(range(len(chosen)), chosen, CPU, 1.0, memory), 3)


FORMATS = {
    "voc": (voc, "voc"),
    "VOC devkit": (voc, "kit"),
    "coco": (coco, "coco"),
    "roboflow": (coco, "roboflow"),
    "yolo": (yolo, "yolo"),
    "yolo without data.yaml": (yolo, "bare"),
    "cvat": (yolo, "cvat"),
    "ilsvrc": (ilsvrc_det, "ilsvrc"),
    "folders": (image_folder, "folders"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_data_formats(tmp_path: Path, name: str) -> None:
    reader, layout = FORMATS[name]
    make_small_set(tmp_path / "set", layout)
    dataset = assert_is_data_format(reader, tmp_path / "set")
    assert len(dataset)


def test_every_data_format_is_here() -> None:
    assert {reader.__name__ for reader, _ in FORMATS.values()} == set(load._FORMATS)
