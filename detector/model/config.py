"""What a model directory says of itself: ``model.yaml``, which names its networks' files and how they are used.

The directory is all that a :class:`detector.detection.pipeline.Detector` needs, so that any process can build its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.crop import CropConfig
from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_head import HeadShape
from detector.nets.region_net import SharedMaps
from detector.nets.weights import Normalization, WeightsFile
from detector.strict_yaml import parse, read_settings
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig, MultiBoxProposalConfig
from proposals.selective_search import SelectiveSearchConfig

MODEL_FILE = "model.yaml"
BUNDLED_MODEL = Path(__file__).parents[1] / "models" / "default"
SMALL_MODEL = BUNDLED_MODEL.with_name("small")
"""What training begins with by name: a network of half width, which learns more in minutes of two cores."""

MULTIBOX_FILE = "multibox.safetensors"
MOST_SUGGESTIONS = 6


def named_folder(name: str) -> Path:
    """The model directory that a recipe calls ``name``: a path, or one of the package's own, "bundled" or "small"."""
    return {"bundled": BUNDLED_MODEL, "small": SMALL_MODEL}.get(name, Path(name))


class MemberConfig(WeightsFile):
    """One network: its file, the architecture, and how its input is made.

    Its ``head`` stands on the last map in place of the last layer; the file then has tensors ``trunk.*`` and
    ``head.*``, and ``net.num_outputs`` has no meaning. With ``shared`` regions are pooled from maps of the whole image;
    ``crop`` then says how a training on crops would begin from this network. With ``ranges`` the file also has the
    ranges of its activations, ``ranges.*``, with which it computes in int8 (:mod:`detector.nets.int8`).
    """

    net: GoogLeNetConfig
    crop: CropConfig
    normalization: Normalization
    head: HeadShape | None = None
    shared: SharedMaps | None = None
    ranges: bool = False


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


class MultiBoxMember(WeightsFile):
    """MultiBox on the maps of the first network: its file, the architecture, its maps, and how it is used.

    Attributes:
        net: the architecture. channels: of the maps.
        maps: the scales of the image, if other than those that the first network pools regions from.
        proposals: how boxes become proposals. merge: how those join selective search's.
    """

    file: str = MULTIBOX_FILE
    net: MultiBoxConfig
    channels: int = Field(ge=1)
    maps: SharedMaps
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()


class ModelConfig(BaseModel):
    """What ``model.yaml`` says.

    Attributes:
        format: of this file. name: of the model. class_names: K words for people, all different.
        class_keys: the classes' ids in the training data (a wnid, say), as many, all different.
        background: whether the networks tell objects from background; false for networks that name whole images, which
            need no proposals and cannot detect.
        members: the networks, with K + 1 outputs, or K without background.
        proposals, postprocess: the defaults of detection with this model.
        multibox: a head on the first network's maps whose proposals join those of selective search; ``None`` for
            selective search alone.
        refinement: how box regression moves regions, for models of which the first member has it, and others may;
            ``None`` leaves regions where they are.
        temperature: of the members' mean probabilities, see :class:`detector.detection.ensemble.Ensemble`.
        licence: of the weights. provenance: data, command, date: how the weights came to be.
        scores: measured figures by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    class_names: tuple[str, ...] = Field(min_length=1)
    class_keys: tuple[str, ...] = Field(min_length=1)
    background: bool = True
    members: tuple[MemberConfig, ...] = Field(min_length=1)
    proposals: ProposalConfig = ProposalConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    multibox: MultiBoxMember | None = None
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
            for needs, what in ((member.shared is not None, "shared maps"), (member.ranges, "ranges of activations")):
                if needs and member.head is None:
                    raise ValueError(f"{member.file} has {what}; that needs a head")
            if member.head is not None and not self.background:
                raise ValueError(f"{member.file} has a head; that needs background")
            if member.head is None and member.net.num_outputs != k + self.background:
                need = k + self.background
                raise ValueError(f"{member.file} has {member.net.num_outputs} outputs; {k} classes need {need}")
        if len({member.file for member in self.members}) != len(self.members):
            raise ValueError("two members share a file")
        regress = [member.head is not None and member.head.grid > 0 for member in self.members]
        judge = [member.head is not None and member.head.overlap > 0 for member in self.members]
        for ability, have in (("box regression", regress), ("predicted overlaps", judge)):
            if any(have) and not have[0]:  # or fewer members would have none
                raise ValueError(f"if any member has {ability}, the first one must")
        if self.postprocess.overlap_power and not any(judge):
            raise ValueError("overlap_power is for members that predict overlaps")
        if self.refinement is not None and not any(regress):
            raise ValueError("refinement is for members that have box regression")
        if self.multibox is not None and not self.background:
            raise ValueError("multibox is for models that detect, with background")
        if self.temperature != 1 and any(m.head is not None and m.head.kind == "svm" for m in self.members):
            raise ValueError("temperature is for softmaxes; SVMs have a sigmoid each")
        return self

    def resized(self, image_side: int) -> ModelConfig:
        """The same model, whose networks see an image with a longer side of ``image_side`` pixels.

        That is the first network's side; what has another one keeps its share of it.

        Raises:
            UserError: the networks are on crops, or the side is outside of what shared maps allow.
        """
        first = self.members[0].shared
        if first is None or any(member.shared is None for member in self.members):
            raise UserError("image side: the networks look at crops of the image, not at the whole of it")

        def side(maps: SharedMaps | None) -> dict[str, Any]:
            assert maps is not None
            return {**maps.model_dump(), "image_side": round(maps.image_side * image_side / first.image_side)}

        members = [{**member.model_dump(), "shared": side(member.shared)} for member in self.members]
        changed: dict[str, Any] = {"members": members}
        if self.multibox is not None:
            changed["multibox"] = {**self.multibox.model_dump(), "maps": side(self.multibox.maps)}
        return parse(ModelConfig, {**self.model_dump(), **changed}, f"image side {image_side}")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the model directory beside ``model.yaml``."""
        names = [member.file for member in self.members]
        multibox = () if self.multibox is None else (self.multibox.file,)
        return (*names, *multibox)


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


def read_detector_config(folder: Path) -> ModelConfig:
    """As :func:`read_model_config`, of a model that detects.

    Raises:
        UserError: also where it names whole images.
    """
    config = read_model_config(folder)
    if not config.background:
        raise UserError(
            f"{folder}: names whole images and cannot detect; give it to train --init or evaluate --metric images"
        )
    return config


def chosen_labels(
    wanted: str | Sequence[str], names: Sequence[str], keys: Sequence[str], file: str | Path = "model.yaml"
) -> tuple[int, ...]:
    """The labels, ascending, of the classes that ``wanted`` names.

    A class is named as in ``names``, by its id in the training data (``keys``), or by its name in other capitals where
    only one class is called so.

    Args:
        wanted: one name or several. names, keys: of the K classes, by label. file: where people can read the names.

    Raises:
        UserError: nothing is wanted, or a name is no class's; it says which ones come near.
    """
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not wanted:
        raise UserError("classes: name at least one")
    return tuple(sorted({_label(name, names, keys, file) for name in wanted}))


def _label(wanted: str, names: Sequence[str], keys: Sequence[str], file: str | Path) -> int:
    for known in (names, keys):
        if wanted in known:
            return known.index(wanted)
    folded = [name.casefold() for name in names]
    same = [label for label, name in enumerate(folded) if name == wanted.strip().casefold()]
    if len(same) == 1:
        return same[0]
    near = [names[label] for label in same] or _near(wanted.strip().casefold(), names, folded)
    shown = ", ".join(repr(name) for name in near)
    hint = f"did you mean {shown}?" if near else f"its {len(names)} names stand in {file}"
    raise UserError(f"the model has no class {wanted!r}; {hint}")


def _near(wanted: str, names: Sequence[str], folded: Sequence[str]) -> list[str]:
    """Names that hold ``wanted`` as a word, or as a part, or that are spelled much like it; best first."""
    words = [i for i, name in enumerate(folded) if wanted in name.split()]
    parts = [i for i, name in enumerate(folded) if wanted and wanted in name]
    alike = [folded.index(name) for name in get_close_matches(wanted, folded, MOST_SUGGESTIONS, 0.7)]
    return [names[i] for i in dict.fromkeys([*words, *parts, *alike])][:MOST_SUGGESTIONS]
