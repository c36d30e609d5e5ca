"""The settings of a training run: what a file in ``configs/`` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.model.config import ProposalConfig
from detector.nets.googlenet import GoogLeNetConfig
from detector.strict_yaml import read_settings
from detector.training.multibox import MultiBoxTrainingConfig
from detector.training.regions import RegionTrainingConfig
from detector.training.shared_batches import SharedTrainingConfig
from detector.training.teacher import TeacherTrainingConfig
from proposals.merge import MergeConfig
from proposals.multibox import MultiBoxConfig
from proposals.multibox_source import MultiBoxProposalConfig


class ModelFacts(BaseModel):
    """What the trained model says of itself in ``model.yaml``; see :class:`detector.model.config.ModelConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"
    proposals: ProposalConfig = ProposalConfig()
    postprocess: PostprocessConfig = PostprocessConfig()


class TrainRecipe(BaseModel):
    """A training run from the data to the model directory.

    Attributes:
        task: "regions": a classifier of K classes and background on regions of annotated pictures.
        init: where the weights start: "random", "bundled", "torchvision" (its ImageNet weights, when online), a model
            or classifier directory, or a local file of torchvision's GoogLeNet weights (``.pth``). The last layer is
            new unless that model has the same classes.
        new_layers: parts of the net that begin with random weights whatever ``init`` has, as "inception5b" or "fc".
        train_split, val_split: parts of the data set; an empty val_split trains without validation.
        scenes: data sets whose photographs give background where nothing is annotated, beside that of the data set
            itself; paths as the command line would take them. ``training.sampling.scenes`` says how much.
        teacher: whose answers the net learns from beside the labels, by ``training.teaching``: "bundled" or a model
            directory, of the same classes in the same order; "" is none.
        training: the run. Its ``net.num_outputs`` follows from the data set's classes.
        half: store the result in float16.
        model: what ``model.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["regions"] = "regions"
    init: str = "random"
    train_split: str = "train"
    val_split: str = "val"
    scenes: tuple[str, ...] = ()
    new_layers: tuple[str, ...] = ()
    teacher: str = ""
    training: RegionTrainingConfig
    half: bool = True
    model: ModelFacts = Field(default_factory=ModelFacts)

    @model_validator(mode="after")
    def _taught(self) -> TrainRecipe:
        if bool(self.teacher) != (self.training.teaching is not None):
            raise ValueError("teacher and training.teaching go together: the one needs the other")
        return self


class SharedRecipe(BaseModel):
    """Training a region network on shared maps, from the data to the model directory.

    Attributes:
        init: the trunk's first weights, as in :class:`TrainRecipe`. train_split, val_split: parts of the data set; an
            empty val_split trains without validation.
        training: the run. Regions come from ``model.proposals``.
        val_images: so many images of the validation part, the first ones, are measured.
        half: store the result in float16. model: what ``model.yaml`` will say. refinement: how regions are moved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["shared"] = "shared"
    init: str = "bundled"
    train_split: str = "train"
    val_split: str = "val"
    training: SharedTrainingConfig
    val_images: int = Field(default=200, ge=1)
    half: bool = True
    model: ModelFacts = Field(default_factory=ModelFacts)
    refinement: RefinementConfig = RefinementConfig(rounds=1)


class ClassifierFacts(BaseModel):
    """What a trained classifier says of itself; see :class:`detector.model.classifier.ClassifierConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"


class ClassifierRecipe(BaseModel):
    """Training to name whole pictures, from the data to the classifier directory.

    Attributes:
        training: the run, with ``background: false``. The others: as in :class:`TrainRecipe`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["classifier"] = "classifier"
    init: str = "random"
    train_split: str = "train"
    val_split: str = "val"
    training: RegionTrainingConfig
    half: bool = True
    model: ClassifierFacts = ClassifierFacts()

    @model_validator(mode="after")
    def _names_whole_pictures(self) -> ClassifierRecipe:
        if self.training.background:
            raise ValueError("training.background must be false: whole pictures have none")
        if self.training.teaching is not None:
            raise ValueError("training.teaching is of regions; a classifier of whole pictures has no teacher")
        return self


class TeacherRecipe(BaseModel):
    """Training a teacher, from published weights and the data to the teacher directory.

    Attributes:
        init: where the weights start: a file of EfficientNet-Lite0's published weights, a teacher directory, "random".
        scenes: as in :class:`TrainRecipe`. training: the run, of drawn regions and background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["teacher"] = "teacher"
    init: str = Field(min_length=1)
    train_split: str = "train"
    val_split: str = "val"
    scenes: tuple[str, ...] = ()
    training: TeacherTrainingConfig
    half: bool = True
    model: ClassifierFacts = ClassifierFacts()

    @model_validator(mode="after")
    def _names_regions(self) -> TeacherRecipe:
        if not self.training.background or self.training.regions != "drawn":
            raise ValueError("a teacher learns drawn regions and background: training.regions, training.background")
        return self


class MemberPlan(BaseModel):
    """How a member of an ensemble differs from the recipe that all share.

    Attributes:
        seed: of its sampling and order; ``None`` counts on from the recipe's. init, width: in place of the recipe's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int | None = Field(default=None, ge=0)
    init: str | None = None
    width: float | None = Field(default=None, gt=0, le=4)


class EnsembleRecipe(BaseModel):
    """Several networks of one recipe, made one model directory.

    Attributes:
        base: the recipe of every member; also what the finished model says of itself. members: one plan each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["ensemble"] = "ensemble"
    base: TrainRecipe
    members: tuple[MemberPlan, ...] = Field(min_length=1)

    def member(self, index: int) -> TrainRecipe:
        """The recipe of one member."""
        plan, training = self.members[index], self.base.training
        seed = training.seed + index if plan.seed is None else plan.seed
        net = training.net if plan.width is None else training.net.model_copy(update={"width": plan.width})
        training = training.model_copy(update={"seed": seed, "net": net})
        init = self.base.init if plan.init is None else plan.init
        return self.base.model_copy(update={"training": training, "init": init})


class MultiBoxModelFacts(BaseModel):
    """What the trained MultiBox says of itself; see :class:`detector.nets.multibox.MultiBoxFacts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"
    proposals: MultiBoxProposalConfig = MultiBoxProposalConfig()
    merge: MergeConfig = MergeConfig()


class MultiBoxRecipe(BaseModel):
    """A MultiBox training from the data to its folder.

    Attributes:
        init: where the weights start: "random"; of the trunk "bundled" or a model directory, whose first network it
            takes; or a MultiBox folder, whose head is taken as far as it fits.
        priors: a file of priors in place of fitted ones, in either format; empty to fit them.
        train_split, val_split, half: as in :class:`TrainRecipe`. Validation pictures also calibrate the scores.
        training: the run. model: what ``multibox.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["multibox"] = "multibox"
    init: str = "random"
    priors: str = ""
    train_split: str = "train"
    val_split: str = "val"
    training: MultiBoxTrainingConfig
    half: bool = True
    model: MultiBoxModelFacts = MultiBoxModelFacts()


def read_multibox_recipe(path: Path) -> MultiBoxRecipe:
    """The MultiBox recipe in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(MultiBoxRecipe, path)


def default_multibox_recipe(steps: int) -> MultiBoxRecipe:
    """The global head over 100 priors on a narrow trunk, from random weights: for pictures of the user's own."""
    trunk = GoogLeNetConfig(norm="batch", width=0.25, stem="stride4")
    training = MultiBoxTrainingConfig(
        trunk=trunk, num_priors=100, steps=steps, batch_size=32, average=0.99, multibox=MultiBoxConfig(dropout=0.2)
    )
    return MultiBoxRecipe(training=training)


def read_recipe(path: Path) -> TrainRecipe:
    """The training recipe in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(TrainRecipe, path)


def read_ensemble_recipe(path: Path) -> EnsembleRecipe:
    """The recipe of an ensemble in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(EnsembleRecipe, path)


def read_classifier_recipe(path: Path) -> ClassifierRecipe:
    """The recipe of a classifier of whole pictures in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(ClassifierRecipe, path)


def read_teacher_recipe(path: Path) -> TeacherRecipe:
    """The recipe of a teacher in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(TeacherRecipe, path)


def read_shared_recipe(path: Path) -> SharedRecipe:
    """The recipe of a training on shared maps in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(SharedRecipe, path)
