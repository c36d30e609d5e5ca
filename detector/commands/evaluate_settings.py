"""The settings of a run of ``detector evaluate``, read back from its ``config.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.evaluation.columns import OnFault
from detector.runs.folder import CONFIG_FILE
from detector.strict_yaml import parse, read_yaml
from proposals.errors import UserError


class EvaluateSettings(BaseModel):
    """What decides on which images and how a run was measured; paths are absolute, but ``detections`` in the run."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    data: str
    split: str | None
    metric: Literal["voc07", "voc10", "coco", "ilsvrc_det"]
    images: str | None
    model: str | None
    detections: str
    format: str | None
    image_list: str | None
    invalid: OnFault
    unknown_classes: OnFault
    first: int | None = Field(default=None, ge=1)


def read_evaluate_settings(run: Path) -> EvaluateSettings:
    """The settings of a run folder.

    Raises:
        UserError: its ``config.yaml`` is missing, not YAML or not that of a run that measured detections.
    """
    file = run / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{run}: not a run of detector evaluate: it has no {CONFIG_FILE}; name a run folder")
    settings: Any = read_yaml(file).get("config")
    if not isinstance(settings, dict) or not {"data", "metric", "detections"} <= set(settings):
        raise UserError(f"{run}: not a run of detector evaluate; name one")
    return parse(EvaluateSettings, settings, file)
