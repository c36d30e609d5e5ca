"""A model directory: ``model.yaml`` and one safetensors file per member.

The directory is all that a :class:`detector.pipeline.Detector` needs, so that any process can build its own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from detector.classify import Ensemble, Member
from detector.crop import CropConfig
from detector.localize import RegionLocalizer
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.localizer import LocalizerMember, read_localizer, read_localizer_facts
from detector.nets.multibox import MultiBoxMember, build_source, read_multibox_facts
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, load_into, read_weights, save_weights, sha256
from detector.pipeline import Detector
from detector.postprocess import PostprocessConfig, RefinementConfig, uncalibrated
from detector.strict_yaml import dump_yaml, parse, read_settings
from proposals.calibration import Calibration
from proposals.errors import UserError
from proposals.merge import MergedSource
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch, SelectiveSearchConfig, resolve_config
from proposals.types import ProposalSource

MODEL_FILE = "model.yaml"
LOCALIZER_POWER = 2.0  # the experiment's
BUNDLED_MODEL = Path(__file__).parent / "models" / "default"


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
    search_side: int | None = Field(default=500, ge=16)
    max_proposals: int | None = Field(default=None, ge=1)


class ModelConfig(BaseModel):
    """What ``model.yaml`` says.

    Attributes:
        format: of this file. name: of the model. class_names: K words for people, all different.
        class_keys: the classes' ids in the training data (a wnid, say), as many, all different.
        members: the networks. proposals, postprocess: the defaults of detection with this model.
        multibox: a network whose proposals join those of selective search; ``None`` for selective search alone.
        localizer: a network that says how well regions lie, beside the members that predict it, and where objects do,
            in the members' place; ``None`` for none.
        refinement: how box regression moves regions; for models with a localizer, or of which the first member has box
            regression, and others may.
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
    refinement: RefinementConfig | None = None
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
        if self.temperature != 1 and any(m.head is not None and m.head.shape.kind == "svm" for m in self.members):
            raise ValueError("temperature is for softmaxes; machines have a sigmoid each")
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
            processor), "float32", "bfloat16" or "float16".

    Raises:
        UserError: anything wrong with the directory or a setting, in one line.
    """
    folder = BUNDLED_MODEL if path is None else Path(path)
    config = read_model_config(folder)
    if members is not None and not 1 <= members <= len(config.members):
        raise UserError(f"members {members}: {folder} has {len(config.members)}")
    target = choose_device(device)
    ensemble = Ensemble(
        [read_member(folder, member, len(config.class_names)) for member in config.members[:members]],
        target,
        temperature=config.temperature,
        precision=precision,
        localizer=None if config.localizer is None else build_localizer(folder, config.localizer, target, precision),
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
    return Detector(source, ensemble, config.class_names, post, where.max_proposals, config.refinement)


def _multibox_of(multibox: str | Path | Literal[False]) -> tuple[Path, MultiBoxMember | None]:
    if multibox is False:
        return Path(), None
    return Path(multibox), read_multibox_facts(Path(multibox)).multibox


def join_multibox(model: Path, multibox: Path, out: Path) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` that also proposes with the network in ``multibox``.

    ``out`` may be ``multibox`` itself, which then is a model directory as well.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config, facts = read_model_config(model), read_multibox_facts(multibox)
    begin_copy(out, [model / file for file in config.model_copy(update={"multibox": None}).files])
    if out.resolve() != multibox.resolve():
        begin_copy(out, [multibox / facts.multibox.file, multibox / facts.multibox.priors])
    provenance = {f"multibox {key}": value for key, value in facts.provenance.items()}
    joined = config.model_copy(update={"multibox": facts.multibox, "provenance": {**config.provenance, **provenance}})
    write_model_config(out, joined)
    return joined


def join_localizer(model: Path, localizer: Path, out: Path, power: float = LOCALIZER_POWER) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` with the network in ``localizer``.

    It takes the place of the members' own box regression, if they have any: detections have its boxes. Scores count its
    overlaps, or the mean of its and the members' if those predict any, to ``power``. They are not calibrated any more:
    what was known of their calibration is left out, and the score threshold is that of the plain scores. ``out`` may be
    ``localizer`` itself, which then is a model directory as well.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config, facts = read_model_config(model), read_localizer_facts(localizer)
    begin_copy(out, [model / file for file in config.model_copy(update={"localizer": None}).files])
    if out.resolve() != localizer.resolve():
        begin_copy(out, [localizer / facts.localizer.file])
    post = config.postprocess
    thresholds = {
        "overlap_power": power,
        "score_threshold": uncalibrated(post.score_threshold, post.calibration),
        "calibration": Calibration(),
    }
    known = {key: text for key, text in config.provenance.items() if key != "detections calibrated"}
    kept = [name for name in config.scores if not name.startswith("detection_calibration")]
    scores = {name: config.scores[name] for name in kept}
    joined = config.model_copy(
        update={
            "localizer": facts.localizer,
            "refinement": config.refinement or RefinementConfig(rounds=1),
            "postprocess": post.model_copy(update=thresholds),
            "provenance": {**known, **{f"localizer {key}": text for key, text in facts.provenance.items()}},
            "scores": {**scores, **{f"localizer_{name}": value for name, value in facts.scores.items()}},
        }
    )
    write_model_config(out, joined)
    return joined


def begin_copy(out: Path, files: Sequence[Path]) -> None:
    """Copy ``files`` into ``out``, which is not a model directory yet; :func:`write_model_config` makes it one.

    Raises:
        UserError: ``out`` is one already, or a file cannot be copied.
    """
    if (out / MODEL_FILE).exists():
        raise UserError(f"{out}: is a model directory already; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in files:
        try:
            shutil.copyfile(path, out / path.name)
        except OSError as error:
            raise UserError(f"{path}: cannot be copied to {out} ({error.strerror or error})") from None


def write_model_config(folder: Path, config: ModelConfig) -> None:
    """Write ``model.yaml``, which makes ``folder`` a model directory: after everything that it names."""
    temporary = folder / (MODEL_FILE + ".tmp")
    temporary.write_text(dump_yaml(config), encoding="utf-8")
    temporary.replace(folder / MODEL_FILE)


def save_model(
    folder: Path,
    nets: Sequence[tuple[GoogLeNetConfig, dict[str, Tensor], CropConfig, Normalization]],
    *,
    half: bool = True,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory; it must not be one yet.

    Args:
        nets: architecture, state dict and input of each member. half: store weights in float16.
        facts: the other fields of :class:`ModelConfig`.
    """
    if (folder / MODEL_FILE).exists():
        raise UserError(f"{folder}: is a model directory already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    members = []
    for index, (net, state, crop, normalization) in enumerate(nets):
        file = f"member-{index}.safetensors"
        plain = net.model_copy(update={"aux": False})  # the auxiliary heads serve training only
        save_weights(folder / file, {n: t for n, t in state.items() if not n.startswith("aux")}, half=half)
        members.append(
            MemberConfig(file=file, sha256=sha256(folder / file), net=plain, crop=crop, normalization=normalization)
        )
    config = ModelConfig(members=tuple(members), **facts)
    write_model_config(folder, config)
    return config


def save_head_model(
    folder: Path,
    trunk: Path,
    net: GoogLeNetConfig,
    crop: CropConfig,
    normalization: Normalization,
    head: RegionHead,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory of one trunk with a head; it must not be one yet.

    Args:
        trunk: a file of the trunk's weights, which is copied. facts: the other fields of :class:`ModelConfig`.
    """
    if (folder / MODEL_FILE).exists():
        raise UserError(f"{folder}: is a model directory already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    weights, head_file = folder / "member-0.safetensors", folder / "head-0.safetensors"
    shutil.copyfile(trunk, weights)
    save_weights(head_file, head.state_dict())
    member = MemberConfig(
        file=weights.name,
        sha256=sha256(weights),
        net=net.model_copy(update={"aux": False}),
        crop=crop,
        normalization=normalization,
        head=HeadConfig(file=head_file.name, sha256=sha256(head_file), shape=head.shape),
    )
    config = ModelConfig(members=(member,), **facts)
    write_model_config(folder, config)
    return config
