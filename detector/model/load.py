"""A model directory becomes a detector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from detector.detection.ensemble import Ensemble
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.pipeline import Detector
from detector.detection.runtimes import with_runtime
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.model.config import (
    BUNDLED_MODEL,
    MODEL_FILE,
    MemberConfig,
    ModelConfig,
    MultiBoxMember,
    ProposalConfig,
    chosen_labels,
    read_detector_config,
    read_model_config,
)
from detector.nets.googlenet import GoogLeNet, Trunk
from detector.nets.int8 import ActivationRanges
from detector.nets.region_head import RegionHead
from detector.nets.region_net import sizes_by_level
from detector.nets.weights import load_checked
from detector.strict_yaml import parse
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxHead
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch, SelectiveSearchConfig, resolve_config
from proposals.store import ProposalStore
from proposals.types import ProposalSource


def read_member(folder: Path, config: MemberConfig, num_classes: int = 0) -> Member:
    """One network of a model directory, weights checked by name, shape and SHA-256.

    ``num_classes``, K, is needed for a member with a head.

    Raises:
        UserError: the file is missing, damaged, changed, or does not fit the architecture.
    """
    if config.head is None:
        net = GoogLeNet(config.net)
        load_checked(net, folder / config.file, config.sha256, "the member")
        return Member(net, config.crop, config.normalization)
    trunk = Trunk(config.net)
    head = RegionHead(config.head, num_classes, trunk.num_features)
    whole = nn.ModuleDict({"trunk": trunk, "head": head})
    ranges = ActivationRanges(trunk) if config.ranges else None
    if ranges is not None:
        whole["ranges"] = ranges
    load_checked(whole, folder / config.file, config.sha256, "the member")
    known = None if ranges is None else ranges.ranges
    return Member(trunk, config.crop, config.normalization, head, config.shared, known)


def read_multibox(folder: Path, member: MultiBoxMember) -> MultiBoxHead:
    """The head of ``member``, whose file is in ``folder``; in evaluation mode.

    Raises:
        UserError: the file is missing, damaged or changed, or does not fit the architecture.
    """
    head = MultiBoxHead(member.channels, sizes_by_level(member.net, member.maps), member.net)
    load_checked(head, folder / member.file, member.sha256, "MultiBox's")
    return head.eval()


def search_source(config: ProposalConfig, seed: int = 0, threads: int | None = None) -> ProposalSource:
    """The selective search of ``config``; ``max_proposals`` is left to the caller.

    Args:
        seed: random seed of the ranking. threads: by default all cores.
    """
    search = SelectiveSearch(config.selective_search, seed, threads)
    return search if config.search_side is None else ResizedSource(search, config.search_side)


def stored_source(config: ProposalConfig, store: Path) -> ProposalStore:
    """The proposals that a model with ``config`` would have, made once and kept in ``store``."""
    settings = {**SelectiveSearch(config.selective_search).settings(), "search_side": config.search_side}
    return ProposalStore(store, settings, search_source(config))


class Classifier(NamedTuple):
    """Names regions, or whole images: probabilities ``(N, K + 1)``, or ``(N, K)`` of a model without background."""

    classifier: Ensemble
    class_names: tuple[str, ...]


def load_classifier(
    path: Path | None = None, *, device: str = "auto", members: int | None = None, precision: str = "auto"
) -> Classifier:
    """The networks of any model directory, without what proposes; see :func:`load_model` for the arguments.

    Raises:
        UserError: anything wrong with the directory or a setting, in one line.
    """
    folder = path or BUNDLED_MODEL
    config = read_model_config(folder)
    return Classifier(load_ensemble(folder, config, choose_device(device), members, precision), config.class_names)


def load_ensemble(
    folder: Path,
    config: ModelConfig,
    device: torch.device,
    members: int | None = None,
    precision: str = "auto",
    runtime: str = "torch",
) -> Ensemble:
    """The networks of the model directory ``folder``, ready to run; UserError as for :func:`load_model`."""
    if members is not None and not 1 <= members <= len(config.members):
        raise UserError(f"members {members}: {folder} has {len(config.members)}")
    files = config.members[:members]
    own = [read_member(folder, member, len(config.class_names)) for member in files]
    name, ready = with_runtime(runtime, folder, files, own, device, precision)
    if name != "torch" and precision == "auto":
        precision = "float32"
    return Ensemble(ready, device, temperature=config.temperature, precision=precision, runtime=name)


def choose_device(name: str) -> torch.device:
    """The torch device for "auto", "cpu" or "cuda" (or "cuda:1" and the like); "auto" takes a GPU where there is one.

    Raises:
        UserError: unknown, or a GPU where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"device {name!r}: choose auto, cpu or cuda")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs that torch can use")
    return device


def load_model(
    path: str | Path | None = None,
    *,
    device: str = "auto",
    members: int | None = None,
    score_threshold: float | None = None,
    nms_threshold: float | None = None,
    max_detections: int | None = None,
    proposals: SelectiveSearchConfig | dict[str, Any] | str | None = None,
    image_side: int | None = None,
    search_side: int | None = None,
    max_proposals: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    multibox: bool = True,
    precision: str = "auto",
    classes: str | Sequence[str] | None = None,
    runtime: str = "torch",
    looks: int | None = None,
    exact: bool = False,
) -> Detector:
    """A ready detector from a model directory, by default the bundled model.

    Args:
        path: the model directory. device: "auto", "cpu" or "cuda". members: use only the first so many networks.
        score_threshold, nms_threshold, max_detections: in place of the model's own (see ``PostprocessConfig``);
            an ``nms_threshold`` also in place of soft suppression.
        proposals: selective search's preset or settings, in place of the model's; "multibox" for the model's MultiBox
            alone. image_side: the longer side of the image that networks on shared maps see, in pixels, in place of
            the model's own. search_side, max_proposals: likewise (see ``ProposalConfig``). seed: of selective search's
            ranking. threads: of selective search, by default all cores. multibox: ``False`` for selective search alone.
            precision: what the classifiers compute in: "auto" (float16 on a GPU; int8 on a processor with instructions
            for it, if the model has the ranges of its activations; else bfloat16 or float32), "float32", "bfloat16",
            "float16" or "int8". classes: names (or ids) of the only
            classes that are looked for, by default all; labels stay those of the model. runtime: what the classifiers
            run in: "torch"; "onnx" or "openvino", of a model that ``detector export`` has written; "auto" for what is
            installed. looks: times that regions are classified, in place of the model's own (``RefinementConfig``'s
            ``rounds``). exact: all networks look at all regions, also of a model that is a cascade (its
            ``first_members``).

    Raises:
        UserError: anything wrong with the directory or a setting, in one line.
    """
    folder = BUNDLED_MODEL if path is None else Path(path)
    config = read_detector_config(folder)
    if image_side is not None:
        config = config.resized(image_side)
    names = config.class_names
    labels = None if classes is None else chosen_labels(classes, names, config.class_keys, folder / MODEL_FILE)
    target = choose_device(device)
    ensemble = load_ensemble(folder, config, target, members, precision, runtime)
    given = {
        "score_threshold": score_threshold,
        "nms_threshold": nms_threshold,
        "max_detections": max_detections,
    }
    thresholds: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if nms_threshold is not None:
        thresholds["soft_sigma"] = None
    post = parse(PostprocessConfig, {**config.postprocess.model_dump(), **thresholds}, "settings")
    alone = proposals == "multibox"
    if alone and not multibox:
        raise UserError("MultiBox alone, and without MultiBox: choose one of them")
    if alone and config.multibox is None:
        raise UserError(f"{folder}: has no MultiBox; train one with train --recipe multibox, or name a preset")
    changes = {
        "selective_search": None if proposals is None or alone else resolve_config(proposals).model_dump(),
        "search_side": search_side,
        "max_proposals": max_proposals,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    where = parse(ProposalConfig, {**config.proposals.model_dump(), **changes}, "settings")
    search = None if alone else search_source(where, seed, threads)
    learned = None
    if multibox and config.multibox is not None:
        own = ensemble
        if ensemble.runtime != "torch":  # other runtimes have networks from end to end, without the maps between
            own = Ensemble([read_member(folder, config.members[0], len(names))], target, precision=precision)
        head = read_multibox(folder, config.multibox)
        learned = MultiBoxSource(head, own, config.multibox.maps, config.multibox.proposals)
    refinement = config.refinement
    if refinement is None and looks not in (None, 1):
        raise UserError(f"{folder}: looks once at each region: it has no box regression")
    if refinement is not None and looks is not None:
        refinement = parse(RefinementConfig, {**refinement.model_dump(), "rounds": looks}, "settings")
    if refinement is not None and (exact or ensemble.num_members <= (refinement.first_members or 0)):
        refinement = refinement.model_copy(update={"first_members": None})
    return Detector(
        search, ensemble, names, post, where.max_proposals, refinement, labels, config.class_keys,
        learned, MergeConfig() if config.multibox is None else config.multibox.merge,
    )  # fmt: skip
