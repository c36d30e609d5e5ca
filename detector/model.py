"""A model directory: ``model.yaml`` and one safetensors file per member.

The directory is all that a :class:`detector.pipeline.Detector` needs, so that any process can build its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from detector.class_choice import chosen_labels
from detector.classify import Ensemble, Member
from detector.crop import CropConfig
from detector.families import family_labels
from detector.localize import LocalizerBoxes, RegionLocalizer
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.localizer import LocalizerMember, read_localizer
from detector.nets.multibox import MultiBoxMember, build_source, read_multibox_facts
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, load_into, read_weights, sha256
from detector.pipeline import Detector
from detector.postprocess import PostprocessConfig, RefinementConfig
from detector.strict_yaml import parse, read_settings
from proposals.errors import UserError
from proposals.merge import MergedSource
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch, SelectiveSearchConfig, resolve_config
from proposals.types import ProposalSource

MODEL_FILE = "model.yaml"
BUNDLED_MODEL = Path(__file__).parent / "models" / "default"


def named_folder(name: str) -> Path:
    """The model directory that a recipe calls ``name``: a path, or "bundled" for the package's own."""
    return BUNDLED_MODEL if name == "bundled" else Path(name)


class WeightsFile(BaseModel):
    """A file of weights in the model's folder, and its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w][\w.-]*\.safetensors", value):
            raise ValueError("must be the name of a .safetensors file in the model's folder")
        return value


class HeadConfig(WeightsFile):
    """A head on a network's last map, in place of its last layer: its file and what it consists of."""

    shape: HeadShape


class MemberConfig(WeightsFile):
    """One network: its file, the architecture, and how its input is made.

    With a ``head`` the file holds the trunk alone, and ``net.num_outputs`` has no meaning.
    """

    net: GoogLeNetConfig
    crop: CropConfig
    normalization: Normalization
    head: HeadConfig | None = None


class ProposalConfig(BaseModel):
    """Where a model's regions come from.

    Attributes:
        selective_search: its settings.
        search_side: the search runs on a copy whose longer side has so many pixels (R-CNN: width 500); None for the
            image as it is. Crops are always cut from the image itself.
        max_proposals: the best so many are classified; None for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    selective_search: SelectiveSearchConfig = SelectiveSearchConfig(superpixel_scale=2.0)
    search_side: int | None = Field(default=500, ge=16, le=100_000)
    max_proposals: int | None = Field(default=None, ge=1)


class ModelConfig(BaseModel):
    """What ``model.yaml`` says.

    Attributes:
        format: of this file. name: of the model. class_names: K words for people, all different.
        class_keys: the classes' ids in the training data (a wnid, say), as many, all different.
        members: the networks. proposals, postprocess: the defaults of detection with this model.
        multibox: a network whose proposals join those of selective search; ``None`` for selective search alone.
        localizer: a network that says how well regions lie, beside the members that predict it, and where objects do;
            ``None`` for none.
        localizer_boxes: "alone" if boxes are the localizer's; "mean" if they are the mean of them and the members'.
        refinement: how box regression moves regions; for models with a localizer, or of which the first member has box
            regression, and others may.
        families: names for several classes together, see :mod:`detector.families`: those classes by name.
        temperature: of the members' mean probabilities, see :class:`detector.classify.Ensemble`.
        licence: of the weights. provenance: data, command, date: how the weights came to be.
        scores: measured figures by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    class_names: tuple[str, ...] = Field(min_length=1)
    class_keys: tuple[str, ...] = Field(min_length=1)
    members: tuple[MemberConfig, ...] = Field(min_length=1)
    proposals: ProposalConfig = ProposalConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    multibox: MultiBoxMember | None = None
    localizer: LocalizerMember | None = None
    localizer_boxes: LocalizerBoxes = "alone"
    refinement: RefinementConfig | None = None
    families: dict[str, tuple[str, ...]] = {}
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    licence: str
    provenance: dict[str, str] = {}
    scores: dict[str, float] = {}

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        k = len(self.class_names)
        if len(set(self.class_names)) != k or len(set(self.class_keys)) != len(self.class_keys):
            raise ValueError("class_names and class_keys must not repeat")
        if len(self.class_keys) != k:
            raise ValueError(f"{k} class_names but {len(self.class_keys)} class_keys")
        for member in self.members:
            if member.head is None and member.net.num_outputs != k + 1:
                raise ValueError(f"{member.file} has {member.net.num_outputs} outputs; {k} classes need {k + 1}")
        files = [member.file for member in self.members] + [m.head.file for m in self.members if m.head is not None]
        if len(set(files)) != len(files):
            raise ValueError("two members share a file")
        regress = [member.head is not None and member.head.shape.grid > 0 for member in self.members]
        judge = [member.head is not None and member.head.shape.overlap > 0 for member in self.members]
        for ability, have in (("box regression", regress), ("predicted overlaps", judge)):
            if any(have) and not have[0]:  # or fewer members would have none
                raise ValueError(f"if any member has {ability}, the first one must")
        if self.postprocess.overlap_power and not any(judge) and self.localizer is None:
            raise ValueError("overlap_power is for members that predict overlaps, or a localizer")
        if (self.refinement is not None) != (any(regress) or self.localizer is not None):
            raise ValueError("refinement goes with members that have box regression or a localizer, and they with it")
        if self.localizer is not None and self.localizer_boxes == "mean" and not any(regress):
            raise ValueError("localizer_boxes: mean is for members that have box regression")
        if self.temperature != 1 and any(m.head is not None and m.head.shape.kind == "svm" for m in self.members):
            raise ValueError("temperature is for softmaxes; machines have a sigmoid each")
        family_labels(self.families, self.class_names)
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the model directory beside ``model.yaml``."""
        names = [member.file for member in self.members] + [m.head.file for m in self.members if m.head is not None]
        multibox = () if self.multibox is None else (self.multibox.file, self.multibox.priors)
        return (*names, *multibox, *(() if self.localizer is None else (self.localizer.file,)))


def read_model_config(folder: Path) -> ModelConfig:
    """The checked ``model.yaml`` of a model directory.

    Raises:
        UserError: no such directory, no ``model.yaml`` in it, or a fault in that file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model directory")
    if not (folder / MODEL_FILE).is_file():
        raise UserError(f"{folder}: not a model directory: it has no {MODEL_FILE}")
    return read_settings(ModelConfig, folder / MODEL_FILE)


def read_member(folder: Path, config: MemberConfig, num_classes: int = 0) -> Member:
    """One network of a model directory, weights checked by name, shape and SHA-256.

    ``num_classes``, K, is needed for a member with a head.

    Raises:
        UserError: the file is missing, damaged, changed, or does not fit the architecture.
    """
    net = GoogLeNet(config.net) if config.head is None else Trunk(config.net)
    _load(net, folder, config)
    if config.head is None:
        return Member(net, config.crop, config.normalization)
    head = load_head(folder, config.head, num_classes, net.num_features)
    return Member(net, config.crop, config.normalization, head)


def load_head(folder: Path, config: HeadConfig, num_classes: int, num_features: int) -> RegionHead:
    """A head for K classes on a trunk of ``num_features`` channels; UserError as for :func:`read_member`."""
    head = RegionHead(config.shape, num_classes, num_features)
    _load(head, folder, config)
    return head


def build_localizer(
    folder: Path, config: LocalizerMember, device: torch.device, precision: str = "auto"
) -> RegionLocalizer:
    """The localizer of a model directory, ready to run; UserError as for :func:`read_member`."""
    net = read_localizer(folder, config)
    return RegionLocalizer(net, config.crop, config.normalization, device, precision=precision)


def _load(net: nn.Module, folder: Path, config: WeightsFile) -> None:
    path = folder / config.file
    if not path.is_file():
        raise UserError(f"{folder}: the member {config.file} named in {MODEL_FILE} is missing")
    if path.stat().st_size and sha256(path) != config.sha256:
        state = read_weights(path)  # names the fault of a damaged file; a sound but other one is refused below
        raise UserError(f"{path}: {len(state)} tensors, but not the file that {MODEL_FILE} names (its SHA-256 differs)")
    load_into(net, read_weights(path), path)


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
    search_side: int | None = None,
    max_proposals: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    multibox: str | Path | Literal[False] | None = None,
    precision: str = "auto",
    classes: str | Sequence[str] | None = None,
    families: bool = False,
) -> Detector:
    """A ready detector from a model directory, by default the bundled model.

    Args:
        path: the model directory. device: "auto", "cpu" or "cuda". members: use only the first so many networks.
        score_threshold, nms_threshold, max_detections: in place of the model's own (see ``PostprocessConfig``);
            an ``nms_threshold`` also in place of soft suppression.
        proposals: selective search's preset or settings, in place of the model's. search_side, max_proposals: in place
            of the model's own (see ``ProposalConfig``). seed: of selective search's ranking. threads: of selective
            search, by default all cores. multibox: a MultiBox folder in place of the model's own network; ``False`` for
            selective search alone. precision: what the classifiers compute in: "auto" (float16 on a GPU, float32 on a
            processor), "float32", "bfloat16" or "float16". classes: names (or ids) of the only classes that are looked
            for, by default all; labels stay those of the model. families: also name the model's families of classes,
            where no class of theirs is named (:mod:`detector.families`); their labels follow the classes'.

    Raises:
        UserError: anything wrong with the directory or a setting, in one line.
    """
    folder = BUNDLED_MODEL if path is None else Path(path)
    config = read_model_config(folder)
    if members is not None and not 1 <= members <= len(config.members):
        raise UserError(f"members {members}: {folder} has {len(config.members)}")
    more = tuple(config.families) if families else ()
    names, keys = (*config.class_names, *more), (*config.class_keys, *more)
    labels = None if classes is None else chosen_labels(classes, names, keys, folder / MODEL_FILE)
    target = choose_device(device)
    ensemble = Ensemble(
        [read_member(folder, member, len(config.class_names)) for member in config.members[:members]],
        target,
        temperature=config.temperature,
        precision=precision,
        localizer=None if config.localizer is None else build_localizer(folder, config.localizer, target, precision),
        localizer_boxes=config.localizer_boxes,
    )
    given = {
        "score_threshold": score_threshold,
        "nms_threshold": nms_threshold,
        "max_detections": max_detections,
    }
    thresholds: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if nms_threshold is not None:
        thresholds["soft_sigma"] = None
    post = parse(PostprocessConfig, {**config.postprocess.model_dump(), **thresholds}, "settings")
    changes = {
        "selective_search": None if proposals is None else resolve_config(proposals).model_dump(),
        "search_side": search_side,
        "max_proposals": max_proposals,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    where = parse(ProposalConfig, {**config.proposals.model_dump(), **changes}, "settings")
    source: ProposalSource = SelectiveSearch(where.selective_search, seed=seed, threads=threads)
    if where.search_side is not None:
        source = ResizedSource(source, where.search_side)
    home, member = (folder, config.multibox) if multibox is None else _multibox_of(multibox)
    if member is not None:
        source = MergedSource(source, build_source(home, member, target), member.merge)
    groups = family_labels(config.families, config.class_names) if families else ()
    return Detector(source, ensemble, names, post, where.max_proposals, config.refinement, labels, groups)


def _multibox_of(multibox: str | Path | Literal[False]) -> tuple[Path, MultiBoxMember | None]:
    if multibox is False:
        return Path(), None
    return Path(multibox), read_multibox_facts(Path(multibox)).multibox
