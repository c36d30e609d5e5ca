"""An experiment from the data to its tables, as one file in ``configs/`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.detection.suppression import PostprocessConfig
from detector.experiment.overlap import OverlapConfig
from detector.experiment.regression import BoxRegressionConfig
from detector.experiment.variants import Variant
from detector.recipes.region import EnsembleRecipe, LocalizerRecipe, MultiBoxRecipe, TrainRecipe
from detector.strict_yaml import read_settings
from proposals.selective_search import SelectiveSearchConfig

PRETRAINING = "pretraining"  # as ``init`` of a later stage: the weights of the first one
MULTIBOX, LOCALIZER, WITH_LOCALIZER = "multibox", "localizer", "model-localizer"  # folders of an experiment
DOUBLED = 2.0


class MeasurementConfig(BaseModel):
    """What is measured once everything is trained.

    Attributes:
        split: the part of the data set that is measured on. first: only its first so many pictures; ``None`` for all.
        selective_search: its settings at scale 1; scale 2 is the same with ``superpixel_scale`` 2.
        search_side: selective search looks at a copy whose longer side has so many pixels; ``None`` for the picture.
        postprocess: thresholds of every variant. variants: the rows of the table.
        members, crops: top-1 and top-5 are measured for every number of members with every number of crops.
        named: only on the first so many pictures; ``None`` for all that are measured.
        regression: how box regression is fitted, for variants with it; ``None`` without such variants.
        overlap: how the overlaps of regions with their objects are predicted, for variants with them; likewise.
        localizer_power: scores of variants with the localizer are probability times its overlap to this power.
        bootstrap: resamples of the pictures for the intervals. seed: of the resampling and of the search's ranking.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "val"
    first: int | None = Field(default=None, ge=1)
    selective_search: SelectiveSearchConfig = SelectiveSearchConfig()
    search_side: int | None = Field(default=None, ge=16)
    postprocess: PostprocessConfig = PostprocessConfig(score_threshold=0.01)
    variants: tuple[Variant, ...] = Field(min_length=1)
    members: tuple[int, ...] = ()
    crops: tuple[Literal[1, 10, 144], ...] = ()
    named: int | None = Field(default=None, ge=1)
    regression: BoxRegressionConfig | None = None
    overlap: OverlapConfig | None = None
    localizer_power: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    bootstrap: int = Field(default=1000, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _names_differ(self) -> MeasurementConfig:
        if len({v.name for v in self.variants}) != len(self.variants):
            raise ValueError("two variants have the same name")
        if self.selective_search.superpixel_scale == DOUBLED:
            raise ValueError("selective_search describes scale 1: leave superpixel_scale alone")
        for variant in self.variants:
            if variant.regression and (self.regression is None or min(variant.members) >= self.regression.members):
                raise ValueError(f"variant {variant.name!r}: regression is fitted to none of its members")
            if variant.overlap and (self.overlap is None or min(variant.members) >= self.overlap.members):
                raise ValueError(f"variant {variant.name!r}: overlaps are fitted to none of its members")
            alone = variant.overlap and variant.combine == "nms"
            if alone and self.overlap is not None and max(variant.members) >= self.overlap.members:
                raise ValueError(f"variant {variant.name!r}: to be joined by nms every member needs overlaps")
        if self.postprocess.overlap_power:
            raise ValueError("postprocess.overlap_power: leave it 0; overlap.power is for the variants with overlap")
        return self

    def postprocess_of(self, variant: Variant) -> PostprocessConfig:
        """The thresholds of a variant, with what its overlaps are worth."""
        power = self.overlap.power if variant.overlap and self.overlap is not None else 0.0
        power = self.localizer_power if variant.localizer else power
        return self.postprocess.model_copy(update={"overlap_power": power})


class ExperimentRecipe(BaseModel):
    """Everything that an experiment does.

    Attributes:
        pretraining: of whole pictures, whose weights the ensembles may begin from (``init: pretraining``).
        ensembles: by the name that variants call them. The first one becomes the model directory with MultiBox.
        multibox: the network that proposes; ``None`` for an experiment without.
        localizer: what judges and moves regions in variants with it; ``None`` for an experiment without.
        multibox_of, localizer_of: in place of a recipe, a model directory whose own is taken as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["experiment"] = "experiment"
    pretraining: TrainRecipe | None = None
    ensembles: dict[str, EnsembleRecipe] = Field(min_length=1)
    multibox: MultiBoxRecipe | None = None
    localizer: LocalizerRecipe | None = None
    multibox_of: str | None = None
    localizer_of: str | None = None
    measurement: MeasurementConfig

    @property
    def has_multibox(self) -> bool:
        """Whether there is a MultiBox, trained here or taken."""
        return self.multibox is not None or self.multibox_of is not None

    @property
    def has_localizer(self) -> bool:
        """Whether there is a localizer, trained here or taken."""
        return self.localizer is not None or self.localizer_of is not None

    @model_validator(mode="after")
    def _one_of_each(self) -> ExperimentRecipe:
        for part in ("multibox", "localizer"):
            if getattr(self, part) is not None and getattr(self, f"{part}_of") is not None:
                raise ValueError(f"{part} and {part}_of: say one of them")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> ExperimentRecipe:
        for variant in self.measurement.variants:
            recipe = self.ensembles.get(variant.ensemble)
            if recipe is None:
                raise ValueError(f"variant {variant.name!r}: no ensemble is called {variant.ensemble!r}")
            if max(variant.members) >= len(recipe.members):
                raise ValueError(
                    f"variant {variant.name!r}: member {max(variant.members)} of an ensemble of {len(recipe.members)}"
                )
            if "multibox" in variant.proposals and not self.has_multibox:
                raise ValueError(f"variant {variant.name!r} proposes with MultiBox, but multibox is missing")
            if variant.localizer and not self.has_localizer:
                raise ValueError(f"variant {variant.name!r} needs the localizer, which is missing")
        name, first = next(iter(self.ensembles.items()))
        for variant in self.measurement.variants:
            if (variant.regression or variant.overlap) and variant.ensemble != name:
                what = "regression is" if variant.regression else "overlaps are"
                raise ValueError(f"variant {variant.name!r}: {what} fitted to the first ensemble, {name!r}")
        fitted = {"regression": self.measurement.regression, "overlap": self.measurement.overlap}
        for what, settings in fitted.items():
            if settings is not None and settings.members > len(first.members):
                raise ValueError(f"measurement.{what}.members: the first ensemble has {len(first.members)}")
        if self.measurement.members and not 1 <= max(self.measurement.members) <= len(first.members):
            raise ValueError(f"measurement.members: the first ensemble has {len(first.members)}")
        inits = [init for e in self.ensembles.values() for init in (e.base.init, *(m.init for m in e.members))]
        if self.multibox is not None:
            inits.append(self.multibox.init)
        if self.localizer is not None:
            inits.append(self.localizer.init)
        if PRETRAINING in inits and self.pretraining is None:
            raise ValueError("init: pretraining, but there is no pretraining")
        return self


def read_experiment(path: Path) -> ExperimentRecipe:
    """The experiment in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(ExperimentRecipe, path)
