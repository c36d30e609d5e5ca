"""What stands in one of COCO's JSON files: categories by id, objects by image, boxes around segmentations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.builder import Builder, Object
from detector.data.classes import Classes, identity
from detector.data.paths import read_bytes, read_text
from proposals.errors import UserError

Categories = dict[int | str, str]
"""Names by id, unique, in the order of the file."""

_SMALL = 8_000_000
"""Bytes up to which a file is parsed as a whole when only its categories are asked for."""
_CATEGORIES = b'"categories"'
_LARGEST = 1e300  # of numbers that are taken for one
_LARGEST_MASK = 2**31  # pixels, as of either side


def load_content(path: Path) -> dict[str, Any]:
    """The file's lists ``images``, ``annotations`` and ``categories``; what is in them is still to be judged.

    Raises:
        UserError: it cannot be read or is no such file.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON (line {error.lineno}: {error.msg}); copy it again") from None
    except RecursionError:
        raise UserError(f"{path} is not COCO's JSON (nested too deep); give the file with the annotations") from None
    except ValueError:  # more digits than Python makes a number of
        raise UserError(f"{path} is not COCO's JSON (a number in it has thousands of digits); copy it again") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{path} is JSON, but not COCO's: it has no list `images`; give the file with the annotations")
    for key in ("annotations", "categories"):
        if not isinstance(content.setdefault(key, []), list):
            raise UserError(f"{path}: `{key}` is not a list; give the file with the annotations")
    return content


def read_categories(path: Path, entries: list[Any]) -> Categories:
    """The categories of a file.

    Raises:
        UserError: one has no id, or an id stands there twice.
    """
    found: dict[int | str, object] = {}
    for entry in entries:
        key = identity(entry.get("id")) if isinstance(entry, dict) else None
        if key is None:
            raise UserError(f"{path}: a category has no id; mend its `categories`")
        if key in found:
            raise UserError(f"{path}: category id {key} stands there twice; mend its `categories`")
        found[key] = entry.get("name")
    return dict(zip(found, Classes.named(list(found), list(found.values())).names, strict=True))


def categories_alone(path: Path) -> Categories:
    """The categories of a file whose images nobody wants; of a large file only their list is parsed.

    Raises:
        UserError: as :func:`load_content` and :func:`read_categories`.
    """
    data = read_bytes(path)
    if len(data) > _SMALL and data.count(_CATEGORIES) == 1:
        start = data.index(_CATEGORIES) + len(_CATEGORIES)
        tail = data[start : start + _SMALL].decode("utf-8", "replace").lstrip(" \t\r\n:")
        try:
            return read_categories(path, json.JSONDecoder().raw_decode(tail)[0])
        except (ValueError, RecursionError, TypeError):
            pass  # reading the whole file tells what is wrong with it
    return read_categories(path, load_content(path)["categories"])


def merged_classes(tables: dict[str, Categories], chosen: list[str]) -> Classes:
    """One table for all files of a set: classes are the same where their names are.

    The order is that of the first file, then come the classes that only later files have; so a label means the same in
    every split, whatever is read.

    Args:
        tables: by split, all of the set. chosen: the splits that are read; the classes have their ids.
    """
    first: dict[str, int | str] = {}
    for table in tables.values():
        for key, name in table.items():
            first.setdefault(name, key)
    ids: dict[str, int | str] = {}
    taken: set[int | str] = set()
    own = [(name, key) for split in chosen for key, name in tables[split].items()]
    for name, key in [*own, *first.items(), *((name, name) for name in first)]:
        if name not in ids and key not in taken:
            ids[name] = key
            taken.add(key)
    return Classes(tuple(ids.get(name, f"{name} ") for name in first), tuple(first))


def objects_of_images(
    builder: Builder, file: Path, content: dict[str, Any], categories: Categories
) -> dict[int | str, list[Object]]:
    """The objects of each image that is listed, by its id; annotations that are none are noted as faults.

    Their class keys are the names of ``categories``.
    """
    by_image: dict[int | str, list[Object]] = {}
    for entry in content["images"]:
        key = identity(entry.get("id")) if isinstance(entry, dict) else None
        if key is not None:
            by_image[key] = []
    for position, entry in enumerate(content["annotations"]):
        item = _object(entry, categories) if isinstance(entry, dict) else None
        name = entry_name(entry, position)
        if item is None:
            builder.fault("bad-object", file, f"annotation {name} has no category_id, or neither bbox nor segmentation")
            continue
        owner = identity(entry.get("image_id"))
        if owner is None or owner not in by_image:
            text = f"annotation {name} is of image {str(entry.get('image_id'))[:60]!r}, not listed"
            builder.fault("orphan-box", file, text)
        else:
            by_image[owner].append(item)
    return by_image


def _object(entry: dict[str, Any], categories: Categories) -> Object | None:
    category = identity(entry.get("category_id"))
    if category is None:
        return None
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        box = box_of_segmentation(entry.get("segmentation"))
    if box is None:
        return None
    x, y, width, height = (number(value) for value in box)
    key = categories.get(category, f"category id {category}")
    ignore, crowd = (_is_set(entry.get(flag)) for flag in ("ignore", "iscrowd"))
    return Object(key, x, y, x + width, y + height, ignore, crowd, number(entry.get("area")))


def _is_set(flag: Any) -> bool:
    return flag is True or number(flag) >= 1 or flag == "1"


def size_of(entry: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) of an image; None where it does not say."""
    height, width = number(entry.get("height")), number(entry.get("width"))
    return (int(height), int(width)) if 1 <= height < 2**31 and 1 <= width < 2**31 else None


def entry_name(entry: Any, position: int) -> str:
    """What messages call an entry: its id, or its place in the list."""
    return str(entry["id"])[:60] if isinstance(entry, dict) and "id" in entry else f"number {position}"


def number(value: Any) -> float:
    """``value`` as a number; not a number (NaN) if it is none, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        return float("nan")
    return float(value)


def box_of_segmentation(segmentation: Any) -> tuple[float, float, float, float] | None:
    """``x y width height`` around a segmentation, in pixels; None if it is none.

    Args:
        segmentation: as JSON has it: polygons, each a list ``x y x y ...``, or a mask in run-length encoding with
            ``size`` (height, width) and ``counts``, numbers or COCO's text.
    """
    if isinstance(segmentation, dict):
        return _box_of_mask(segmentation)
    if not isinstance(segmentation, list):
        return None
    polygons = segmentation if all(isinstance(part, list) for part in segmentation) else [segmentation]
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        values = [number(value) for value in polygon]
        if len(values) < 4 or len(values) % 2 or any(math.isnan(value) for value in values):
            return None
        xs += values[::2]
        ys += values[1::2]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs else None


def _box_of_mask(mask: dict[str, Any]) -> tuple[float, float, float, float] | None:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        return None
    height, width = (number(side) for side in size)
    runs = _runs(counts)
    if not (1 <= height < _LARGEST_MASK and 1 <= width < _LARGEST_MASK) or runs is None or len(runs) < 2:
        return None
    # Runs go down the columns, and every second one is of the object.
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1
    some = first <= last
    if not some.any() or ends[-1] > height * width:
        return None
    (lefts, tops), (rights, bottoms) = (np.divmod(pixels[some], int(height)) for pixels in (first, last))
    x, right = int(lefts.min()), int(rights.max()) + 1
    if np.any(lefts != rights):  # a run into the next column holds a last and a first row
        return x, 0, right - x, int(height)
    y = int(tops.min())
    return x, y, right - x, int(bottoms.max()) + 1 - y


def _runs(counts: Any) -> NDArray[np.int64] | None:
    """``(R,)`` lengths of runs, the first of background."""
    if isinstance(counts, list):
        values = [number(value) for value in counts]
        return np.array(values, np.int64) if all(0 <= value <= _LARGEST_MASK for value in values) else None
    if not isinstance(counts, str):
        return None
    # Five bits a letter, the lowest first, the sixth says that more follow; from the fourth on, differences.
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
            if not 0 <= runs[-1] <= _LARGEST_MASK:
                return None
    return np.array(runs, np.int64) if shift == 0 else None
