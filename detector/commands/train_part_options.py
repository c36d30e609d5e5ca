"""Options that ``train-multibox`` and ``train-teacher`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Annotated data set: VOC, COCO, ILSVRC DET, Tiny-ImageNet or YOLO.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Number of training iterations.", show_default="the recipe's")]
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default="the recipe's")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CheckpointMinutes = Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")]
