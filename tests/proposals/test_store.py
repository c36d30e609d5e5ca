"""The store: whole files or none, found by content and settings, damage noticed."""

import os

import numpy as np
import pytest

from proposals import Proposals, UserError
from proposals.store import ProposalStore, image_key, read_proposals, settings_key

IMAGE = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
SETTINGS = {"method": "test", "k": [50, 100]}


class Source:
    """Counts how often it is asked."""

    def __init__(self, boxes=2):
        self.asked = 0
        self.boxes = boxes

    def propose(self, image):
        self.asked += 1
        n = self.boxes
        boxes = np.tile(np.array([[0, 0, 3, 2]], np.float32), (n, 1))
        scores = -np.arange(n, dtype=np.float32)
        return Proposals(boxes, scores, np.full(n, 1, np.uint8), image.shape[:2])


@pytest.mark.parametrize("count", [0, 1, 700])
def test_what_was_stored_comes_back(tmp_path, count):
    source = Source(count)
    made, new = ProposalStore(tmp_path, SETTINGS, source).get(IMAGE)
    again, newly = ProposalStore(tmp_path, SETTINGS).get(IMAGE)
    assert (new, newly, source.asked) == (True, False, 1)
    for name in ("boxes", "scores", "source"):
        np.testing.assert_array_equal(getattr(made, name), getattr(again, name))
    assert again.image_size == (5, 6)


def test_content_and_settings_are_the_key_not_their_form(tmp_path):
    assert image_key(IMAGE) == image_key(np.asfortranarray(IMAGE))
    assert image_key(IMAGE) != image_key(IMAGE.reshape(6, 5, 3))
    changed = IMAGE.copy()
    changed[0, 0, 0] += 1
    assert image_key(IMAGE) != image_key(changed)
    assert settings_key({"a": 1, "b": 2}) == settings_key({"b": 2, "a": 1}) != settings_key({"a": 1, "b": 3})
    ProposalStore(tmp_path, SETTINGS, Source()).propose(IMAGE)
    assert ProposalStore(tmp_path, {**SETTINGS, "k": [50]}).load(IMAGE) is None
    assert ProposalStore(tmp_path, SETTINGS).load(changed) is None


def test_without_a_source_what_is_missing_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match="detector propose"):
        ProposalStore(tmp_path, SETTINGS).propose(IMAGE)


def test_any_damage_is_noticed_and_mended(tmp_path):
    source = Source()
    store = ProposalStore(tmp_path, SETTINGS, source)
    store.propose(IMAGE)
    path = store.path(IMAGE)
    whole = path.read_bytes()
    for damaged in [b"", whole[:-1], whole + b"x", whole[:20], *(flip(whole, i) for i in range(0, len(whole), 7))]:
        path.write_bytes(damaged)
        assert read_proposals(path) is None
    asked = source.asked
    store.propose(IMAGE)
    assert source.asked == asked + 1
    assert path.read_bytes() == whole


def flip(data, i):
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    store = ProposalStore(tmp_path, SETTINGS)
    store.save(IMAGE, Source(2).propose(IMAGE))
    before = store.path(IMAGE).read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        store.save(IMAGE, Source(3).propose(IMAGE))
    assert store.path(IMAGE).read_bytes() == before
    assert [p.name for p in store.path(IMAGE).parent.iterdir()] == [store.path(IMAGE).name]


def test_the_settings_stand_beside_the_files(tmp_path):
    store = ProposalStore(tmp_path, SETTINGS, Source())
    store.propose(IMAGE)
    assert '"method": "test"' in (store.path(IMAGE).parents[1] / "settings.json").read_text()


def test_half_written_files_of_killed_runs_are_removed_once_they_are_old(tmp_path):
    store = ProposalStore(tmp_path, SETTINGS, Source())
    assert store.remove_unfinished() == 0
    store.propose(IMAGE)
    path = store.path(IMAGE)
    old, new = path.with_name(".a.unfinished"), path.with_name(".b.unfinished")
    for half in (old, new):
        half.write_bytes(b"half")
    for aged in (old, path):
        os.utime(aged, (1e9, 1e9))
    assert store.remove_unfinished() == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [new.name, path.name]
