"""An experiment from the data to its tables, as one file in ``configs/`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detector.detection.precision import DetectionPrecision
from detector.experiment.variants import Settings, Variant, merged
from detector.recipes.region import EnsembleRecipe, SharedRecipe, TrainRecipe
from detector.strict_yaml import read_settings

PRETRAINING = "pretraining"  # as ``init`` of a later stage: the weights of the first one
MULTIBOX = "multibox"
FOLDERS = (PRETRAINING, "pictures", "proposals")  # of an experiment, beside its ensembles


class MeasurementConfig(BaseModel):
    """What is measured once everything is trained.

    Attributes:
        split: the part of the data set that is measured on; "" is its validation part, or its test part without one.
        first: only its first so many images; ``None`` for all.
        score_threshold: of every variant; low, because AP needs the low scores.
        change: of the ``model.yaml`` of every variant, before its own.
        variants: the rows of the table; none given are the paper's comparisons that each model allows.
        precision: what the networks compute in; see :func:`detector.detection.precision.detection_dtype`.
        bootstrap: resamples of the images for the intervals. seed: random seed of them and of proposal ranking.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = ""
    first: int | None = Field(default=None, ge=1)
    score_threshold: float = Field(default=0.01, ge=0, le=1)
    change: Settings = {}
    variants: tuple[Variant, ...] = ()
    precision: DetectionPrecision = "auto"
    bootstrap: int = Field(default=1000, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _rows_differ_and_are_there(self) -> MeasurementConfig:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError("two variants have the same name")
        for variant in self.variants:
            strange = [name for name in variant.against if name not in names or name == variant.name]
            if strange:
                raise ValueError(f"variant {variant.name!r}: no other variant is called {strange[0]!r}")
        return self

    @property
    def common_change(self) -> Settings:
        """What is changed in every model before it is varied."""
        return merged({"postprocess": {"score_threshold": self.score_threshold}}, self.change)


class ExperimentRecipe(BaseModel):
    """Everything that an experiment does.

    Attributes:
        pretraining: of whole images, whose weights the ensembles may begin from (``init: pretraining``).
        ensembles: trained here, by the name that variants call them.
        models: model folders that are measured as they are, by the name that variants call them; "bundled" is the
            package's own.
        multibox: the training of the head that proposes for an ensemble, on the maps of its first network; ``None``
            for none, or where an ensemble's own training has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["experiment"] = "experiment"
    pretraining: TrainRecipe | None = None
    ensembles: dict[str, EnsembleRecipe] = {}
    models: dict[str, str] = {}
    multibox: SharedRecipe | None = None
    measurement: MeasurementConfig = MeasurementConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> ExperimentRecipe:
        if not self.ensembles and not self.models:
            raise ValueError("ensembles or models: name at least one")
        twice = set(self.ensembles) & set(self.models) or set(self.ensembles) & set(FOLDERS)
        if twice:
            raise ValueError(f"ensembles: {min(twice)!r} is the name of something else; choose another one")
        for variant in self.measurement.variants:
            if variant.model not in ("", *self.ensembles, *self.models):
                raise ValueError(f"variant {variant.name!r}: no ensemble or model is called {variant.model!r}")
        inits = [init for e in self.ensembles.values() for init in (e.base.init, *(m.init for m in e.members))]
        if PRETRAINING in inits and not self.pretraining:
            raise ValueError("init: pretraining, but there is no pretraining")
        if self.multibox is not None and not self.multibox.training.only_multibox:
            raise ValueError("multibox: only_multibox must be true, for the ensembles' networks stay as they are")
        return self


def read_experiment(path: Path) -> ExperimentRecipe:
    """The experiment in a YAML file; UserError in one line for anything wrong with it."""
    return read_settings(ExperimentRecipe, path)
