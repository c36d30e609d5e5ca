"""A trained network's own softmax as a head on its last map, to which box regression and overlaps may be added."""

from __future__ import annotations

from typing import Any

from detector.detection.ensemble import Member
from detector.nets.region_head import HeadShape, RegionHead


def larger_head(member: Member, **more: Any) -> RegionHead:
    """A head that gives the member's probabilities as before and has ``more``, still to be filled in.

    Args:
        more: fields of :class:`detector.nets.region_head.HeadShape`, which the member's head must not have yet.

    Raises:
        ValueError: it has them already.
    """
    if member.head is None:
        last = member.net.fc
        shape = HeadShape(kind="softmax", grid=0)
        state = {"classify.weight": last.weight, "classify.bias": last.bias}
    else:
        shape, state = member.head.shape, member.head.state_dict()
    if any(getattr(shape, name) for name in more):
        raise ValueError(f"this member's head has {' and '.join(sorted(more))} already")
    head = RegionHead(shape.model_copy(update=more), member.num_outputs - 1, member.net.num_features)
    left = head.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    return head
