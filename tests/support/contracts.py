"""What every implementer of a protocol keeps to; a new one calls these with itself."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.data import Dataset
from detector.detection.ensemble import ImageView, RegionClassifier
from proposals.errors import UserError
from proposals.types import Proposals, ProposalSource, Source

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def same_proposals(a: Proposals, b: Proposals) -> None:
    for name in ("boxes", "scores", "source"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.image_size == b.image_size


def assert_is_proposal_source(source: ProposalSource, image: NDArray[np.uint8] = IMAGE) -> Proposals:
    """Boxes inside the image, best first, known sources, read-only; the same again; the image untouched."""
    before = image.copy()
    found = source.propose(image)
    np.testing.assert_array_equal(image, before)
    height, width = image.shape[:2]
    assert found.image_size == (height, width)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= np.array([width, height], np.float32)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert set(found.source.tolist()) <= {int(code) for code in Source}
    for code in set(found.source.tolist()):  # scores compare within one source
        assert (np.diff(found.scores[found.source == code]) <= 0).all()
    assert not found.boxes.flags.writeable
    same_proposals(source.propose(image), found)
    same_proposals(source.propose(np.asfortranarray(image)), found)
    return found


def assert_is_classifier(classifier: RegionClassifier, num_classes: int, image: NDArray[np.uint8] = IMAGE) -> None:
    """Probabilities and boxes of the right shape, alone as in company, on an image as on a view of it, mirror too."""
    height, width = image.shape[:2]
    boxes = np.array([[0, 0, width, height], [5, 6, 25, 30], [20, 4, 21, 5], [0, 0, 9, height]], np.float32)
    whole = classifier.predict(image, boxes)
    assert whole.probs.shape == (4, num_classes + 1)
    assert whole.probs.dtype == np.float32
    assert ((whole.probs >= 0) & (whole.probs <= 1)).all()
    assert whole.boxes is None or whole.boxes.shape == (4, num_classes, 4)
    assert whole.overlap is None or (
        whole.overlap.shape == (4,) and ((whole.overlap >= 0) & (whole.overlap <= 1)).all()
    )
    view = ImageView(image)
    for mirror in (False, True):
        together = classifier.predict(view, boxes, mirror=mirror)
        for row in range(4):
            alone = classifier.predict(image, boxes[row : row + 1], mirror=mirror)
            np.testing.assert_allclose(alone.probs[0], together.probs[row], atol=2e-5)
            if together.boxes is not None and alone.boxes is not None:
                np.testing.assert_allclose(alone.boxes[0], together.boxes[row], rtol=1e-4, atol=1e-2)
    none = classifier.predict(image, boxes[:0])
    assert none.probs.shape == (0, num_classes + 1)
    assert none.boxes is None or none.boxes.shape == (0, num_classes, 4)
    assert none.overlap is None or none.overlap.shape == (0,)


def assert_is_data_format(reader: ModuleType, root: Path, split: str | None = None) -> Dataset:
    """It knows its own folder, and reads it into flat arrays that agree with each other, twice the same."""
    assert reader.recognise(root)
    assert isinstance(reader.LOOKED_FOR, str)
    splits = reader.splits(root)
    names = (split,) if split else tuple(splits[:1])
    first, again = (reader.read(root, names, None, None) for _ in range(2))
    assert isinstance(first, Dataset)
    assert len(first) == len(first.image_ids) == len(first.offsets) - 1
    assert len(first.boxes) == len(first.labels) == first.offsets[-1]
    assert (first.boxes[:, 2:] > first.boxes[:, :2]).all()
    assert len(set(first.image_ids)) == len(first)
    assert ((first.labels >= 0) & (first.labels < len(first.class_names))).all()
    assert len(set(first.class_names)) == len(first.class_names) == len(first.class_keys)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert list(first.image_ids) == list(again.image_ids)
    with pytest.raises(UserError, match="none of the wanted classes is in it"):
        reader.read(root, names, ["no such class"], None)
    return first
