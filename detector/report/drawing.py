"""Pictures with boxes in them.

Everything scales with the picture, so that a thumbnail and a 50-megapixel photograph look alike: lines, text and plates
are sized by the geometric mean of its sides. Boxes are coloured by class with a dark seam on both sides, so that they
show on any background; the name stands on a plate of the box's colour, in black or white, always inside the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detector.report.palette import (
    INK,
    SOURCE_COLOURS,
    SOURCE_NAMES,
    WHITE,
    Colour,
    class_colour,
    ink_on,
)
from detector.report.text import drawable, fit, font_for, width_of
from detector.types import Detections, GroundTruth
from proposals.types import Proposals, Source

Picture = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels, half-open."""

_SMALLEST_TEXT = 9
"""Pixels; below this, letters are smudges."""


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes in pixels for one picture."""

    line: int
    seam: int
    text: int

    @classmethod
    def of(cls, image_size: tuple[int, int], scale: float = 1.0) -> Style:
        """The style for a picture of ``image_size`` (height, width); ``scale`` > 1 is bolder."""
        side = scale * (image_size[0] * image_size[1]) ** 0.5
        return cls(
            line=max(1, round(side / 200)), seam=max(1, round(side / 900)), text=max(_SMALLEST_TEXT, round(side / 38))
        )


def draw_detections(
    image: Picture,
    detections: Detections,
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.0,
    min_side: int | None = None,
    in_place: bool = False,
) -> Picture:
    """``image`` with a box, a name and a score for each detection; the best are drawn last, on top.

    Args:
        image: ``(H, W, 3)`` uint8 RGB. detections: those of this image.
        class_names: the name of each label, any Unicode; a label beyond them is shown as its number.
        score_threshold: detections below it are left out.
        min_side: enlarge a smaller picture until its longer side has this many pixels, so that the text can be read.
        in_place: draw into ``image`` itself and not into a copy, unless it is enlarged.

    Returns:
        ``(H, W, 3)`` uint8 RGB, of the input's size unless ``min_side`` enlarged it.
    """
    canvas, factor = _canvas(image, min_side, in_place)
    style = Style.of(canvas.shape[:2])
    kept = detections.select(detections.scores >= score_threshold)
    boxes = kept.boxes * factor
    for i in reversed(range(len(kept))):
        _outline(canvas, boxes[i], class_colour(int(kept.labels[i])), style)
    plates = _Plates(canvas.shape[:2], style)
    for box, label, score in zip(boxes, kept.labels.tolist(), kept.scores.tolist(), strict=True):
        plates.add(box, _name(class_names, label), f"{score:.2f}", class_colour(label))
    return plates.paint(canvas)


def draw_truth(
    image: Picture,
    truth: GroundTruth,
    class_names: Sequence[str],
    *,
    min_side: int | None = None,
) -> Picture:
    """``image`` with its annotated objects: a dashed box where ``ignore`` or ``crowd`` is set.

    The arguments are those of :func:`draw_detections`; a box without a positive width and height is drawn as the
    point or line that it is, one with NaN in it not at all.
    """
    canvas, factor = _canvas(image, min_side)
    style = Style.of(canvas.shape[:2])
    plates = _Plates(canvas.shape[:2], style)
    for box, label, ignore, crowd in zip(
        truth.boxes * factor, truth.labels.tolist(), truth.ignore.tolist(), truth.crowd.tolist(), strict=True
    ):
        _outline(canvas, box, class_colour(label), style, dashed=ignore or crowd)
        plates.add(
            box, _name(class_names, label), "crowd" if crowd else "ignore" if ignore else "", class_colour(label)
        )
    return plates.paint(canvas)


def draw_proposals(image: Picture, proposals: Proposals, limit: int | None = 200, *, in_place: bool = False) -> Picture:
    """``image`` with its proposals, coloured by source: where many agree, the lines grow solid.

    The sources and their counts are named in a corner.

    Args:
        image: ``(H, W, 3)`` uint8 RGB. proposals: best first.
        limit: at most so many are drawn, the sources taking turns (their scores do not compare); ``None``: all.
        in_place: draw into ``image`` itself, not into a copy.

    Returns:
        ``(H, W, 3)`` uint8 RGB of the input's size.
    """
    canvas, _ = _canvas(image, None, in_place)
    style = Style.of(canvas.shape[:2], 0.6)
    shown = take_turns(proposals.source, limit)
    alpha = float(np.clip(5.0 / max(len(shown), 1) ** 0.5, 0.2, 0.9))
    for i in shown[::-1]:
        _outline(canvas, proposals.boxes[i], SOURCE_COLOURS[Source(proposals.source[i])], style, alpha, seam=False)
    plates = _Plates(canvas.shape[:2], Style.of(canvas.shape[:2]))
    for source in Source:
        drawn, total = (np.count_nonzero(codes == source) for codes in (proposals.source[shown], proposals.source))
        if total:
            plates.corner(SOURCE_NAMES[source], f"{drawn} of {total}", SOURCE_COLOURS[source])
    return plates.paint(canvas)


def take_turns(source: NDArray[np.uint8], limit: int | None) -> NDArray[np.int64]:
    """Indices of the first ``limit`` rows when each source gives its best in turn; without a limit, all."""
    rank = np.zeros(len(source), np.int64)
    for code in np.unique(source):
        mine = source == code
        rank[mine] = np.arange(np.count_nonzero(mine))
    return np.lexsort((np.arange(len(source)), rank))[:limit]


def _canvas(image: Picture, min_side: int | None, in_place: bool = False) -> tuple[Picture, float]:
    """A copy to draw on, enlarged where asked, or ``image`` itself, and the factor of the enlargement."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    longer = max(image.shape[:2])
    if min_side is None or longer >= min_side:
        return image if in_place else np.array(image), 1.0
    return np.array(_scaled(image, min_side)), min_side / longer


def _scaled(image: Picture, longer_side: int) -> Image.Image:
    """``image`` with a longer side of so many pixels."""
    picture = Image.fromarray(image)
    factor = longer_side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def _name(class_names: Sequence[str], label: int) -> str:
    number = f"class {label}"
    return drawable(class_names[label], instead=number) if label < len(class_names) else number


def _outline(
    canvas: Picture,
    box: NDArray[np.floating],
    colour: Colour,
    style: Style,
    alpha: float = 1.0,
    *,
    seam: bool = True,
    dashed: bool = False,
) -> None:
    """A frame centred on the edges of ``box`` ``(4,)``; one edge outside the picture is drawn at its border."""
    if not np.isfinite(box).all():
        return
    height, width = canvas.shape[:2]
    line = style.line
    # Whole pixels, at least one line wide, with all of the line inside the picture.
    corners = (_clamp(v - line / 2, top - line) for v, top in zip(box.tolist(), (width, height) * 2, strict=True))
    x1, y1, x2, y2 = corners
    x2, y2 = max(x2, x1) + line, max(y2, y1) + line
    if seam:
        for grow in (style.seam, -line):
            _frame(canvas, (x1 - grow, y1 - grow, x2 + grow, y2 + grow), style.seam, INK, 0.55)
    _frame(canvas, (x1, y1, x2, y2), line, colour, alpha, 5 * line if dashed else 0)


def _frame(
    canvas: Picture,
    corners: Rectangle,
    thickness: int,
    colour: Colour,
    alpha: float,
    dash: int = 0,
) -> None:
    """A frame of ``thickness`` pixels just inside ``corners``; ``dash``: pixels on, then off."""
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        return
    t = min(thickness, x2 - x1, y2 - y1)
    for left, top, right, bottom in (
        (x1, y1, x2, y1 + t),
        (x1, y2 - t, x2, y2),
        (x1, y1 + t, x1 + t, y2 - t),
        (x2 - t, y1 + t, x2, y2 - t),
    ):
        rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
        strip = canvas[rows, columns]
        if not strip.size:
            continue
        opacity = np.full(strip.shape[:2], alpha, np.float32)
        if dash:
            # A vertical strip counts along its rows, a horizontal one along its columns.
            along = np.arange(strip.shape[0])[:, None] if bottom - top > right - left else np.arange(strip.shape[1])
            opacity = opacity * (along % (2 * dash) < dash)
        blended = strip + opacity[..., None] * (np.array(colour, np.float32) - strip)
        canvas[rows, columns] = np.round(blended).astype(np.uint8)


class _Plates:
    """Labels of one picture, each put where it hides the least of the others, painted together at the end."""

    def __init__(self, image_size: tuple[int, int], style: Style) -> None:
        self.style = style
        self.picture_height, self.picture_width = image_size
        # In a small or flat picture the text shrinks, so that one line takes little of the height.
        self.size = max(_SMALLEST_TEXT, min(style.text, self.picture_height // 12))
        self.pad = max(2, round(self.size * 0.32))
        self.height = self.size + 2 * max(1, round(self.size * 0.2))
        self.jobs: list[tuple[Rectangle, str, str, Colour]] = []
        # A plate that would cover more than a sixth of the picture's height hides more than it says.
        self.legible = self.height * 6 <= self.picture_height

    def add(self, box: NDArray[np.floating], name: str, note: str, colour: Colour) -> None:
        """A plate for ``box``: above it, else within it, else below, where it overlaps the earlier plates least."""
        if not self.legible or not np.isfinite(box).all():
            return
        width, height = self.picture_width, self.picture_height
        name, note, plate = self._measure(name, note, width)
        if not name:
            return
        x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height]).tolist()
        edge = self.style.line / 2 + self.style.seam
        left, right = x1 - edge, x2 + edge - plate
        above, inside, below, bottom = y1 - edge - self.height + 1, y1 - edge, y2 + edge - 1, y2 + edge - self.height
        spots = [(left, above), (left, inside), (left, below), (right, above), (right, below), (left, bottom)]
        best: tuple[float, Rectangle] | None = None
        for rank, (x, y) in enumerate(spots):
            x_in, y_in = _clamp(x, width - plate), _clamp(y, height - self.height)
            spot = (x_in, y_in, x_in + plate, y_in + self.height)
            covered = sum(_shared(spot, other) for other, *_ in self.jobs) / (plate * self.height)
            moved = abs(y_in - y) > 1 and rank in (0, 2, 3, 4)
            cost = covered + (0.5 if moved else 0) + 1e-3 * rank
            if best is None or cost < best[0]:
                best = (cost, spot)
        assert best is not None
        self.jobs.append((best[1], name, note, colour))

    def corner(self, name: str, note: str, colour: Colour) -> None:
        """A plate in the lower left corner, above the earlier ones."""
        if not self.legible:
            return
        margin = self.pad
        name, note, plate = self._measure(name, note, self.picture_width - 2 * margin)
        bottom = self.picture_height - margin - len(self.jobs) * (self.height + margin // 2)
        if name and bottom - self.height >= 0:
            self.jobs.append(((margin, bottom - self.height, margin + plate, bottom), name, note, colour))

    def paint(self, canvas: Picture) -> Picture:
        """``canvas``, with the plates painted into it; the first added lies on top."""
        for (left, top, right, bottom), name, note, colour in reversed(self.jobs):
            # Pillow sees the plate's surroundings only: of the whole of a large picture it would make copies.
            around = self.height
            x, y = max(0, left - around), max(0, top - around)
            part = canvas[y : bottom + around, x : right + around]
            image = Image.fromarray(part)
            x1, y1, x2, y2 = left - x, top - y, right - x, bottom - y
            image.paste(Image.new("RGB", (x2 - x1, y2 - y1), colour), (x1, y1), self._rounded(x2 - x1))
            draw, ink, middle = ImageDraw.Draw(image), ink_on(colour), (y1 + y2) / 2
            draw.text((x1 + self.pad, middle), name, ink, font_for(name, self.size), anchor="lm")
            if note:
                draw.text((x2 - self.pad, middle), note, ink, font_for(note, self.size), anchor="rm")
            part[:] = np.asarray(image)
        return canvas

    def _measure(self, name: str, note: str, room: int) -> tuple[str, str, int]:
        """Name and note as they fit into ``room`` pixels, and the plate's width; the note goes before the name does."""
        gap = round(self.size * 0.5)
        room -= 2 * self.pad
        extra = gap + width_of(note, self.size) if note else 0
        short = fit(name, self.size, room - extra) if note else ""
        if note and (short == name or len(short) > 4):
            return short, note, width_of(short, self.size) + extra + 2 * self.pad
        name = fit(name, self.size, room)
        return name, "", width_of(name, self.size) + 2 * self.pad

    def _rounded(self, width: int) -> Image.Image:
        """An antialiased mask ``(height, width)`` with round corners."""
        mask = Image.new("L", (width * 4, self.height * 4), 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), self.height * 0.72, fill=255)
        return mask.resize((width, self.height), Image.Resampling.BOX)


def _clamp(value: float, top: int) -> int:
    return max(0, min(round(value), top))


def _shared(a: Rectangle, b: Rectangle) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def draw_sheet(
    images: Sequence[Picture],
    captions: Sequence[str] | None = None,
    columns: int = 4,
    *,
    cell: int = 320,
) -> Picture:
    """A contact sheet: the pictures in rows, each scaled into a square of ``cell`` pixels, its caption below.

    Args:
        images: ``(H, W, 3)`` uint8 RGB each, of any sizes, at least one. captions: one line each, cut to fit.
        columns: pictures a row; fewer pictures make a narrower sheet.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: no images, or another number of captions.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(images)} pictures but {len(captions)} captions")
    columns = max(1, min(columns, len(images)))
    gap, size = max(4, cell // 20), max(_SMALLEST_TEXT, cell // 20)
    line = round(size * 1.9) if captions is not None else 0
    small = [_scaled(_canvas(image, None)[0], cell) for image in images]
    rows = [small[i : i + columns] for i in range(0, len(small), columns)]
    heights = [max(p.height for p in row) for row in rows]
    height = gap + sum(h + line + gap for h in heights)
    sheet = Image.new("RGB", (gap + columns * (cell + gap), height), WHITE)
    draw, ink, top = ImageDraw.Draw(sheet), ink_on(WHITE), gap
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            left = gap + c * (cell + gap)
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + heights[r] - picture.height))
            if captions is not None:
                text = fit(drawable(captions[r * columns + c]), size, cell)
                middle = (left + cell / 2, top + heights[r] + line / 2)
                draw.text(middle, text, ink, font_for(text, size), anchor="mm")
        top += heights[r] + line + gap
    return np.array(sheet)
