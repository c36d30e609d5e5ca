"""Selective search: boxes around every region that grouping of superpixels passes through.

The search is run in several colour spaces, from superpixels of several sizes, with several similarities, and all boxes
are ranked together. Source: Uijlings, van de Sande, Gevers and Smeulders, Selective Search for Object Recognition,
IJCV 2013 ("the paper"). ``docs/reference/selective_search.md`` lists where the paper leaves a choice and what is chosen
here.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from proposals.errors import UserError
from proposals.types import Proposals, Source

ColorSpace = Literal["RGB", "I", "Lab", "rgI", "HSV", "rgb", "C", "H"]
MEASURES = "CTSF"
# Raised with every change that changes the boxes, so that stored proposals are not mistaken for today's.
VERSION = 1

# Edges are numbered by int32, four to a pixel.
MAX_PIXELS = 2**29 - 1

PresetName = Literal["single", "fast", "quality", "googlenet"]


class SelectiveSearchConfig(BaseModel):
    """The settings of selective search; the defaults are the paper's Fast.

    Every colour space is segmented with every ``k``, and every segmentation is grouped with every similarity.

    Attributes:
        color_spaces: see :mod:`proposals.colors`.
        similarities: sums of measures, as letters: C colour, T texture, S size, F fill.
        k: superpixel scales; larger gives fewer, larger superpixels. ``min_size`` in pixels is the same number.
        superpixel_scale: multiplies every ``k`` and ``min_size``; 2 is GoogLeNet's doubled superpixel size.
        sigma: smoothing before segmentation, in pixels.
        connectivity: neighbours of a pixel in the segmentation's graph, 8 (as the authors) or 4.
        min_box_side: boxes with a side below this many pixels are dropped, but in images whose shorter side is below
            ten times as many only those below a tenth of it. The authors drop below 20 when they evaluate on VOC;
            COCO's small objects would be lost with that, while below 5 none are.
        defer_iou: a box whose IoU with a better-ranked one is at least this goes behind all others: no box is lost, but
            the first thousand cover more. 1 leaves the paper's order as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    color_spaces: tuple[ColorSpace, ...] = ("HSV", "Lab")
    similarities: tuple[str, ...] = ("CTSF", "TSF")
    k: tuple[Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)], ...] = (50, 100)
    superpixel_scale: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    sigma: float = Field(default=0.8, ge=0, le=20, allow_inf_nan=False)
    connectivity: Literal[4, 8] = 8
    min_box_side: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    defer_iou: float = Field(default=0.75, gt=0, le=1, allow_inf_nan=False)

    @field_validator("color_spaces", "similarities", "k")
    @classmethod
    def _some_and_distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("needs at least one entry, each only once")
        return value

    @field_validator("similarities")
    @classmethod
    def _known_letters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for letters in value:
            if not letters or not set(letters) <= set(MEASURES) or len(set(letters)) != len(letters):
                raise ValueError(f"{letters!r} is not made of the letters {MEASURES}, each at most once")
        return value

    def scales(self) -> list[tuple[float, int]]:
        """The pairs of k and min_size, ``superpixel_scale`` applied."""
        return [(k * self.superpixel_scale, round(k * self.superpixel_scale)) for k in self.k]

    def smallest_side(self, image_size: tuple[int, int]) -> float:
        """The least box side kept in an image of ``image_size`` (height, width), in pixels."""
        return min(self.min_box_side, min(image_size) / 10)


PRESETS: dict[str, SelectiveSearchConfig] = {
    "single": SelectiveSearchConfig(color_spaces=("HSV",), similarities=("CTSF",), k=(100,)),
    "fast": SelectiveSearchConfig(),
    "quality": SelectiveSearchConfig(
        color_spaces=("HSV", "Lab", "rgI", "H", "I"), similarities=("CTSF", "TSF", "F", "S"), k=(50, 100, 150, 300)
    ),
    "googlenet": SelectiveSearchConfig(superpixel_scale=2.0),
}


def resolve_config(config: SelectiveSearchConfig | dict[str, Any] | str) -> SelectiveSearchConfig:
    """A preset's name, a mapping of settings, or a ready config, as a config.

    Raises:
        UserError: no such preset, or a wrong setting.
    """
    if isinstance(config, SelectiveSearchConfig):
        return config
    if isinstance(config, str):
        if config not in PRESETS:
            raise UserError(f"selective search has no preset {config!r}; choose one of {', '.join(PRESETS)}")
        return PRESETS[config]
    try:
        return SelectiveSearchConfig.model_validate(config)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"selective search setting {where}: {fault['msg']}") from None


def selective_search(
    image: NDArray[Any],
    config: SelectiveSearchConfig | dict[str, Any] | str = "fast",
    seed: int = 0,
    threads: int | None = None,
) -> Proposals:
    """Boxes that may hold an object, large regions first with some chance.

    Args:
        image: ``(H, W, 3)`` RGB or ``(H, W)`` grey, at least 1x1: uint8 or uint16 over their whole range, bool, or
            floats in [0, 1].
        config: a preset's name (``single``, ``fast``, ``quality``, ``googlenet``), a config, or its settings as a dict.
        seed: of the chance in the ranking.
        threads: how many to use, by default all cores. The result does not depend on it.

    Returns:
        Boxes in pixels, whole numbers, no box twice, best first; ``scores`` are the negated ranks v of the paper, those
        of deferred boxes lowered below all others.

    Raises:
        UserError: an image or a config that makes no sense.

    Example:
        >>> from skimage.data import astronaut
        >>> boxes = selective_search(astronaut(), "googlenet").boxes
    """
    settings = resolve_config(config)
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1, not {threads}")
    rgb = as_rgb(image)

    # The compiled kernels are loaded on the first call, so that importing this module costs nothing.
    from proposals.search_steps import search

    found = search(
        rgb,
        settings.color_spaces,
        settings.similarities,
        settings.scales(),
        settings.sigma,
        settings.connectivity,
        threads or available_cores(),
    )
    return rank(found, settings, seed, (rgb.shape[0], rgb.shape[1]))


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """``image`` as a contiguous ``(H, W, 3)`` uint8 array; a copy is made only where needed.

    Args:
        image: ``(H, W, 3)`` RGB, or ``(H, W)`` or ``(H, W, 1)`` grey; uint8, uint16 over its whole range, bool, or
            float in [0, 1].

    Raises:
        UserError: anything else: other shapes and types, no pixel, too many pixels, floats out of range or not finite.
    """
    if not isinstance(image, np.ndarray):
        raise UserError(f"the image must be a numpy array, not {type(image).__name__}; use numpy.asarray(image)")
    if image.ndim == 3 and image.shape[2] == 4:
        raise UserError("the image has 4 channels; blend or drop the alpha channel: image[:, :, :3]")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise UserError(f"the image must have shape (H, W, 3) or (H, W), not {image.shape}")
    if image.size == 0:
        raise UserError(f"the image has no pixels: its shape is {image.shape}")
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise UserError(f"the image has more than {MAX_PIXELS:,} pixels; make it smaller first")
    if image.dtype == np.uint8:
        values = image
    elif image.dtype == np.bool_:
        values = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype == np.uint16:
        values = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (low >= 0.0 and high <= 1.0):
            raise UserError(f"a float image must lie in [0, 1], not {low:g} to {high:g}; convert it to uint8")
        values = np.rint(image.astype(np.float32) * 255).astype(np.uint8)
    else:
        raise UserError(f"the image must be uint8, uint16, bool or float in [0, 1], not {image.dtype}")
    if values.ndim == 2:
        values = values[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def available_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rank(
    segmentations: list[list[NDArray[np.int32]]], settings: SelectiveSearchConfig, seed: int, size: tuple[int, int]
) -> Proposals:
    """All boxes, ranked by v = RND * i; i counts from the whole image (1) down to a hierarchy's initial regions.

    ``segmentations`` holds for each segmentation its initial boxes, then each hierarchy's merged boxes, last one last.
    """
    from proposals.near_duplicates import near_a_better_one, repeats

    boxes, places = [], []
    for initial, *hierarchies in segmentations:
        for merged in hierarchies:
            boxes.append(merged)
            places.append(np.arange(len(merged), 0, -1))
        # The initial regions count once for a segmentation, behind its merges.
        boxes.append(initial)
        places.append(np.full(len(initial), len(initial)))
    box = np.concatenate(boxes)
    value = np.random.default_rng(seed).random(len(box)) * np.concatenate(places)
    # Of equal boxes the best-ranked stays. One number stands for a box; it fits, as an image has less than 2^29 pixels.
    x1, y1, x2, y2 = box.astype(np.int64).T
    key = ((x1 * (size[1] + 1) + x2) * (size[0] + 1) + y1) * (size[0] + 1) + y2
    order = np.argsort(value, kind="stable")
    order = order[~repeats(key[order])]
    sides = np.minimum(x2 - x1, y2 - y1)
    order = order[sides[order] >= settings.smallest_side(size)]
    box, value = box[order], value[order]
    if settings.defer_iou < 1 and len(box):
        deferred = near_a_better_one(box, settings.defer_iou)
        # Behind the others, not lost: the greatest v of all comes on top of theirs.
        value[deferred] += value[-1]
        order = np.argsort(deferred, kind="stable")
        box, value = box[order], value[order]
    source = np.full(len(box), Source.SELECTIVE_SEARCH, np.uint8)
    return Proposals(box.astype(np.float32), -value.astype(np.float32), source, size)


class SelectiveSearch:
    """Selective search as a :class:`proposals.types.ProposalSource`."""

    def __init__(
        self,
        config: SelectiveSearchConfig | dict[str, Any] | str = "fast",
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        self.config = resolve_config(config)
        self.seed = seed
        self.threads = threads

    def settings(self) -> dict[str, Any]:
        """All that the result depends on beside the image, in plain types: what a store files proposals under."""
        return {
            "method": "selective_search",
            "version": VERSION,
            "seed": self.seed,
            **self.config.model_dump(mode="json"),
        }

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """See :func:`selective_search`."""
        return selective_search(image, self.config, self.seed, self.threads)
