"""The settings of a training run: what a file in ``configs/`` holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from detector.detection.suppression import PostprocessConfig, RefinementConfig
from detector.model.config import ProposalConfig
from detector.nets.region_net import SharedMaps
from detector.strict_yaml import read_settings, read_yaml
from detector.training.region_settings import LearningConfig, RegionTrainingConfig, SharedTrainingConfig
from proposals.errors import UserError


class ModelFacts(BaseModel):
    """What the trained model says of itself in ``model.yaml``; see :class:`detector.model.config.ModelConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    description: str = ""
    licence: str = "not stated"
    proposals: ProposalConfig = ProposalConfig()
    postprocess: PostprocessConfig = PostprocessConfig()


class NetworkRecipe(BaseModel):
    """What the training of any region network says, from the data to the model folder.

    Attributes:
        init: where the weights start: "random", "bundled" or "small" (the package's models), "torchvision" (its
            ImageNet weights, when online), a model folder, or a local file of published weights (``.pth``,
            ``.caffemodel``). What names the classes is new unless that model has the same classes.
        train_split, val_split: parts of the data set; an empty val_split trains without validation.
        minutes: the run is planned to end after so many, from the speed of the machine; ``training.steps`` and
            ``images`` are what was planned then. ``None``: they are what this recipe says.
        images: train on so many of the images, drawn at random; ``None`` for all.
        hold_out: share of the training images that are validated on and not trained on, where the data set has no
            validation part.
        half: store the result in float16. model: what ``model.yaml`` will say.
        refinement: how the model moves regions, if it has box regression.
        teacher: whose answers the net learns from beside the labels, by ``training.teacher_share``: "bundled" or a
            model folder of the same classes, in their order; of a net on shared maps, one on shared maps. "" is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    init: str = Field(default="random", min_length=1)
    train_split: str = "train"
    val_split: str = "val"
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    images: int | None = Field(default=None, ge=1)
    hold_out: float = Field(default=0.0, ge=0, lt=1)
    half: bool = True
    model: ModelFacts = Field(default_factory=ModelFacts)
    refinement: RefinementConfig = RefinementConfig(rounds=1)
    teacher: str = ""
    training: LearningConfig

    @model_validator(mode="after")
    def _taught(self) -> NetworkRecipe:
        if bool(self.teacher) != bool(self.training.teacher_share):
            raise ValueError("teacher and training.teacher_share go together: the one needs the other")
        return self


class TrainRecipe(NetworkRecipe):
    """Training a network that names crops.

    Attributes:
        training: the run. Its ``net.num_outputs`` follows from the data set's classes. With ``background: false`` the
            net names whole images, which needs no boxes.
    """

    task: Literal["regions"] = "regions"
    training: RegionTrainingConfig

    @model_validator(mode="after")
    def _of_regions(self) -> TrainRecipe:
        if not self.training.background and self.teacher:
            raise ValueError("a network that names whole images (training.background: false) has no teacher")
        return self


class SharedRecipe(NetworkRecipe):
    """Training a region network on shared maps.

    Attributes:
        training: the run. Regions come from ``model.proposals``.
        image_side: the longer side of the image at detection, in pixels; ``None`` for that of ``training.maps``.
        val_images: so many images of the validation part, the first ones, are measured.
    """

    task: Literal["shared"] = "shared"
    init: str = Field(default="bundled", min_length=1)
    training: SharedTrainingConfig
    image_side: int | None = Field(default=None, ge=32, le=4096)
    val_images: int = Field(default=200, ge=1)

    @property
    def maps(self) -> SharedMaps:
        """How the model pools regions."""
        maps = self.training.maps
        return maps if self.image_side is None else maps.model_copy(update={"image_side": self.image_side})


OneRecipe = TrainRecipe | SharedRecipe
RECIPES: dict[str, type[OneRecipe]] = {"regions": TrainRecipe, "shared": SharedRecipe}


def _task(recipe: object) -> str:
    return str(recipe.get("task", "regions") if isinstance(recipe, dict) else getattr(recipe, "task", "regions"))


AnyRecipe = Annotated[
    Annotated[TrainRecipe, Tag("regions")] | Annotated[SharedRecipe, Tag("shared")],
    Discriminator(_task, custom_error_type="task", custom_error_message=f"task must be one of {', '.join(RECIPES)}"),
]


class MemberPlan(BaseModel):
    """How a member of an ensemble differs from the recipe that all share.

    Attributes:
        seed: of its sampling and order; ``None`` counts on from the recipe's. init, width: in place of the recipe's.
        trained: "bundled" or a model folder, whose networks are taken as they are, and nothing is trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int | None = Field(default=None, ge=0)
    init: str | None = None
    width: float | None = Field(default=None, gt=0, le=4)
    trained: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _as_it_is(self) -> MemberPlan:
        if self.trained is not None and self != MemberPlan.model_construct(trained=self.trained):
            raise ValueError("a trained member is taken as it is: it has no seed, init or width")
        return self


class EnsembleRecipe(BaseModel):
    """Several networks of one recipe, made one model directory.

    Attributes:
        base: the recipe of every member; also what the finished model says of itself. members: one plan each.
        mean: the result is one network, whose weights are the mean of the members', if all of them begin with the same
            trained network (Wortsman et al., Model soups, 2022).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["ensemble"] = "ensemble"
    base: AnyRecipe
    members: tuple[MemberPlan, ...] = Field(min_length=1)
    mean: bool = False

    @model_validator(mode="after")
    def _alike(self) -> EnsembleRecipe:
        alike = self.base.init != "random" and all(plan.width is None and plan.init is None for plan in self.members)
        if self.mean and not alike:
            raise ValueError("mean is for members that all begin with one trained network")
        return self

    def member(self, index: int) -> OneRecipe:
        """The recipe of one member."""
        plan, training = self.members[index], self.base.training
        seed = training.seed + index if plan.seed is None else plan.seed
        net = training.net if plan.width is None else training.net.model_copy(update={"width": plan.width})
        training = training.model_copy(update={"seed": seed, "net": net})
        init = self.base.init if plan.init is None else plan.init
        return self.base.model_copy(update={"training": training, "init": init})


class SvmRecipe(BaseModel):
    """R-CNN's last stage: SVMs in place of the softmax of a trained model; its proposals, boxes and overlaps stay.

    Attributes:
        init: the model folder, "bundled" or a path, of the data's classes. train_split: part of the data set; empty
            takes the training part that it has, or all of it. seed: random seed. name, description, licence: what
            ``model.yaml`` will say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["svm"] = "svm"
    init: str = Field(default="bundled", min_length=1)
    train_split: str = ""
    seed: int = Field(default=0, ge=0)
    name: str = ""
    description: str = ""
    licence: str = "not stated"


def read_recipe(path: Path) -> OneRecipe:
    """The recipe of one network in a YAML file, by its task; UserError in one line for anything wrong with it."""
    task = _task(read_yaml(path))
    if task == "experiment":
        raise UserError(f"{path}: an experiment; detector reproduce {path} runs it")
    if task not in RECIPES:
        raise UserError(f"{path}: task must be one of {', '.join(RECIPES)}, svm, ensemble")
    return read_settings(RECIPES[task], path)
