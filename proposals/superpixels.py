"""Superpixels: the graph-based segmentation of Felzenszwalb and Huttenlocher (IJCV 2004), at several scales at once.

Pixels are joined along the edges of the pixel grid, lightest edge first: an edge of weight ``w`` joins two components
when ``w <= threshold`` of both; a pixel starts at ``threshold = k``, and a join sets ``threshold = w + k / size``. Then
every edge, in the same order, joins its components while either is smaller than ``min_size``.

What all scales have in common is done once. An edge that the least ``k`` lets join, every scale joins. One that it does
not puts an end to that: the two components are *frozen*, and all edges of a frozen component are put off, in order, and
freeze what they lead to. What was joined is the same for every scale, whatever becomes of the edges put off: none of
those that come before a join touches its components. Then each scale goes through the edges put off.

Of these, only the first between two components can do anything: if it joins them, the others lie inside, and if not,
one of the two has a threshold that no later edge reaches, and never grows again. And where the second pass reaches the
first, it joins the two or finds both large enough. So repeats are left out, and few edges remain, among few components.

Shapes and words: ``labels`` ``(H, W)`` int32 number the superpixels 0..n-1 by first appearance in raster order. Edges
and weights: see :mod:`proposals.pixel_edges`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from proposals.pixel_edges import DROPPED_BITS, LEAST_BITS, SortedEdges, prefetch, sort_edges

# Edges looked up ahead of joining them; small enough that the buffers stay in the first-level cache.
BLOCK = 128
# Images of more pixels than this do not fit in the second-level cache, and their data are asked for in advance.
NEAR_PIXELS = 2**18
# In a component's state, an unsigned 64-bit integer: the size in the low half, with its top bit set where the component
# is frozen; in the high half, the bits of the last join's weight (float32).
FROZEN = 1 << 31
# An odd number near 2^64 divided by the golden ratio; the upper bits of a product with it are well mixed.
HASH = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """What all scales have in common: components of pixels, and the edges between them that are still to be decided.

    Attributes:
        labels: ``(H, W)`` int32 numbers the n components by first appearance.
        sizes: ``(n,)`` int32, pixels. weights: ``(n,)`` float32, of each component's last join, 0 for a pixel.
        ends: ``(E, 2)`` uint32, the components that each edge connects, lightest edge first.
        edge_weights: ``(E,)`` float32.
    """

    labels: NDArray[np.int32]
    sizes: NDArray[np.int32]
    weights: NDArray[np.float32]
    ends: NDArray[np.uint32]
    edge_weights: NDArray[np.float32]


def segment(
    planes: NDArray[np.uint8], scales: Sequence[tuple[float, int]], sigma: float = 0.8, connectivity: int = 8
) -> list[NDArray[np.int32]]:
    """Labels ``(H, W)`` int32 of one image for each scale, a pair of ``k`` and ``min_size`` in pixels.

    Args and errors: see :func:`proposals.pixel_edges.sort_edges`.
    """
    components = join_common(sort_edges(planes, sigma, connectivity), scales)
    return [join(components, k, min_size) for k, min_size in scales]


def join_common(
    edges: SortedEdges, scales: Sequence[tuple[float, int]], labels: NDArray[np.int32] | None = None
) -> Components:
    """The joins that all ``scales``, pairs of ``k`` and ``min_size``, have in common.

    Uses up ``edges``: its arrays are overwritten. ``labels`` ``(H, W)`` int32 is filled and kept if given.
    """
    layout = edges.layout
    unit = layout.places + layout.places % 2
    parent = edges.room[: layout.places]
    state = edges.room[unit : 3 * unit].view(np.uint64)[: layout.places]
    height, width = edges.size
    count = height * width
    far = count > NEAR_PIXELS
    least = np.float32(min(k for k, _ in scales))
    put_off, left = _join_common(edges.order, edges.starts, parent, state, layout.steps, count, least, far)
    if labels is None:
        labels = np.empty(edges.size, np.int32)
    order = edges.order[:put_off]
    # Where the states were there is nearly always room for the edges' ends.
    ends = edges.room[unit:] if 2 * (put_off + 1) <= len(edges.room) - unit else np.empty(2 * (put_off + 1), np.uint32)
    return Components(labels, *_contract(order, edges.starts, parent, state, *layout.arrays(), left, far, labels, ends))


def join(components: Components, k: float, min_size: int, out: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
    """Labels ``(H, W)`` int32 of the superpixels of scale ``k`` and at least ``min_size`` pixels.

    ``out`` is filled with them if given.
    """
    c = components
    if out is None:
        out = np.empty(c.labels.shape, np.int32)
    # The labels are written last; until then their memory serves for the edges left over.
    room = out.reshape(-1).view(np.uint32) if out.size > len(c.ends) else np.empty(len(c.ends) + 1, np.uint32)
    names = _join(c.sizes, c.weights, c.ends, c.edge_weights, np.float32(k), min_size, room)
    _rename(c.labels, names, out)
    return out


@njit("uint32(uint32[::1], uint32)", cache=True, nogil=True, inline="always")
def _find(parent, p):  # type: ignore[no-untyped-def]
    """The root of ``p``, its own parent; the path to it is halved."""
    up = parent[p]
    while up != p:
        above = parent[up]
        parent[p] = above
        p = above
        up = parent[p]
    return p


@njit("float32(int64)", cache=True, nogil=True, inline="always")
def _weight(key):  # type: ignore[no-untyped-def]
    """The weight of the edges of a key."""
    return np.int32((((key - 1) << DROPPED_BITS) + LEAST_BITS) * (key > 0)).view(np.float32)


@njit(
    "Tuple((int64, int64))(uint32[::1], uint32[::1], uint32[::1], uint64[::1], uint32[::1], int64, float32, boolean)",
    cache=True,
    nogil=True,
)
def _join_common(order, starts, parent, state, steps, count, least, far):  # type: ignore[no-untyped-def]
    """Join what the ``least`` k joins, and so every scale; ``parent`` and ``state`` ``(places,)`` are filled.

    Moves the edges put off to the front of ``order``, with ``starts`` to match. Returns how many they are, and how many
    components of the ``count`` pixels are left.
    """
    for place in range(np.uint64(len(parent))):
        parent[place] = np.uint32(place)
        state[place] = np.uint64(1)
    frozen = np.uint64(FROZEN)
    low_six = np.uint32(63)
    # The edges sifted in one block are decided after the sifting of the next, when what they need has arrived.
    root_a = np.empty(2 * BLOCK + 1, np.uint32)
    root_b = np.empty(2 * BLOCK + 1, np.uint32)
    index = np.empty(2 * BLOCK + 1, np.uint64)
    first, waiting = np.uint64(0), np.uint64(0)
    put_off = np.uint64(0)
    left = count
    key = 0
    weight = np.float32(0)
    next_start = np.uint64(starts[1])
    starts[0] = 0
    total = np.uint64(len(order))
    step = np.uint64(BLOCK)
    for block in range(np.uint64(0), total + step, step):
        end = min(block + step, total)
        if far and end + np.uint64(3) * step <= total:
            for i in range(end + np.uint64(2) * step, end + np.uint64(3) * step):
                edge = order[i]
                p = np.uint32(edge >> np.uint32(2))
                prefetch(parent, np.uint64(p))
                prefetch(parent, np.uint64(np.uint32(p + steps[edge & low_six])))
            for i in range(end + step, end + np.uint64(2) * step):
                edge = order[i]
                p = np.uint32(edge >> np.uint32(2))
                prefetch(parent, np.uint64(parent[p]))
                prefetch(parent, np.uint64(parent[np.uint32(p + steps[edge & low_six])]))
        # Most edges lie inside a component. They are sifted out here without a branch, so that the processor waits
        # for many random reads at once; a component found for a pixel here is only a step towards its present root.
        next_first = step - first
        last = next_first
        for i in range(block, end):
            edge = order[i]
            p = np.uint32(edge >> np.uint32(2))
            q = np.uint32(p + steps[edge & low_six])
            a = parent[parent[p]]
            b = parent[parent[q]]
            parent[p] = a
            parent[q] = b
            root_a[last] = a
            root_b[last] = b
            index[last] = i
            last += np.uint64(a != b)
        for j in range(next_first, last):
            prefetch(state, np.uint64(root_a[j]))
            prefetch(state, np.uint64(root_b[j]))
            prefetch(parent, np.uint64(root_a[j]))
            prefetch(parent, np.uint64(root_b[j]))
        for j in range(first, waiting):
            a = _find(parent, root_a[j])
            b = _find(parent, root_b[j])
            if a == b:
                continue
            i = index[j]
            if next_start <= i:
                while next_start <= i:
                    key += 1
                    starts[key] = np.uint32(put_off)
                    next_start = np.uint64(starts[key + 1])
                weight = _weight(key)
            state_a, state_b = state[a], state[b]
            if (state_a | state_b) & frozen:
                state[a] = state_a | frozen
                state[b] = state_b | frozen
                order[put_off] = order[i]
                put_off += np.uint64(1)
                continue
            size_a, size_b = np.int32(state_a), np.int32(state_b)
            last_a = np.uint32(state_a >> np.uint64(32)).view(np.float32)
            last_b = np.uint32(state_b >> np.uint64(32)).view(np.float32)
            if weight <= min(last_a + least / np.float32(size_a), last_b + least / np.float32(size_b)):
                large = a if size_a >= size_b else b
                parent[np.uint32(a ^ b ^ large)] = large
                bits = np.uint64(np.float32(weight).view(np.uint32))
                state[large] = np.uint64(size_a + size_b) | (bits << np.uint64(32))
                left -= 1
            else:
                state[a] = state_a | frozen
                state[b] = state_b | frozen
                order[put_off] = order[i]
                put_off += np.uint64(1)
        first, waiting = next_first, last
    starts[key + 1 :] = np.uint32(put_off)
    return put_off, left


@njit(
    "Tuple((int32[::1], float32[::1], uint32[:,::1], float32[::1]))(uint32[::1], uint32[::1], uint32[::1], uint64[::1],"
    " uint32[::1], uint32[::1], uint32[::1], int64, boolean, int32[:,::1], uint32[::1])",
    cache=True,
    nogil=True,
)
def _contract(order, starts, parent, state, rows, columns, steps, left, far, labels, ends):  # type: ignore[no-untyped-def]
    """Number the ``left`` components in ``labels``, and rewrite the edges put off as edges between them.

    Returns sizes, weights, ends and edge weights: see :class:`Components`. Overwrites ``order``, ``parent``
    and ``state``; ``ends`` is room for them, at least ``(2 len(order) + 2,)``, and may lie where ``state`` does.
    """
    height, width = labels.shape
    sizes = np.empty(left, np.int32)
    weights = np.empty(left, np.float32)
    # A root's state is replaced by the component's number under a mark: the sign of the weight, which has none.
    mark = np.uint64(1 << 63)
    found = mark
    for y in range(np.uint64(height)):
        line = labels[y]
        for x in range(np.uint64(width)):
            root = _find(parent, rows[y] + columns[x])
            number = state[root]
            if number < mark:
                sizes[found - mark] = np.int32(number & np.uint64(FROZEN - 1))
                weights[found - mark] = np.uint32(number >> np.uint64(32)).view(np.float32)
                number = found
                state[root] = number
                found += np.uint64(1)
            line[x] = np.int32(number)
    # The component of each place.
    for y in range(np.uint64(height)):
        for x in range(np.uint64(width)):
            parent[rows[y] + columns[x]] = np.uint32(labels[y, x])
    # Of each pair, the last one met in its slot: a table that forgets lets a few repeats pass, which do no harm.
    slots = 64
    shift = np.uint64(58)
    while slots < 2 * left:
        slots *= 2
        shift -= np.uint64(1)
    seen = np.zeros(slots, np.uint64)
    low_six = np.uint32(63)
    total = np.uint64(len(order))
    pairs = np.empty(BLOCK, np.uint64)
    kept = np.uint64(0)
    for block in range(np.uint64(0), total, np.uint64(BLOCK)):
        end = min(block + np.uint64(BLOCK), total)
        if far:
            for i in range(end, min(end + np.uint64(BLOCK), total)):
                edge = order[i]
                p = np.uint32(edge >> np.uint32(2))
                prefetch(parent, np.uint64(p))
                prefetch(parent, np.uint64(np.uint32(p + steps[edge & low_six])))
        for i in range(block, end):
            edge = order[i]
            p = np.uint32(edge >> np.uint32(2))
            a, b = np.uint64(parent[p]), np.uint64(parent[np.uint32(p + steps[edge & low_six])])
            pair = (min(a, b) << np.uint64(32)) | max(a, b)
            pairs[i - block] = pair
            prefetch(seen, (pair * np.uint64(HASH)) >> shift)
        for i in range(block, end):
            pair = pairs[i - block]
            low, high = np.uint32(pair >> np.uint64(32)), np.uint32(pair)
            slot = (pair * np.uint64(HASH)) >> shift
            ends[np.uint64(2) * kept] = low
            ends[np.uint64(2) * kept + np.uint64(1)] = high
            order[kept] = i
            kept += np.uint64((low != high) & (seen[slot] != pair))
            seen[slot] = pair
    edge_weights = np.empty(kept, np.float32)
    key = 0
    for j in range(kept):
        while starts[key + 1] <= order[j]:
            key += 1
        edge_weights[j] = _weight(key)
    return sizes, weights, ends[: 2 * kept].copy().reshape(-1, 2), edge_weights


@njit(
    "int32[::1](int32[::1], float32[::1], uint32[:,::1], float32[::1], float32, int64, uint32[::1])",
    cache=True,
    nogil=True,
)
def _join(first_sizes, first_weights, ends, edge_weights, k, min_size, left_over):  # type: ignore[no-untyped-def]
    """The superpixel ``(n,)`` of each component, by first appearance, at one scale.

    ``left_over`` is room for one word more than there are edges.
    """
    count = len(first_sizes)
    parent = np.arange(count).astype(np.uint32)
    size = first_sizes.copy()
    threshold = np.empty(count, np.float32)
    for component in range(count):
        threshold[component] = first_weights[component] + k / np.float32(size[component])
    left = np.uint64(0)
    for i in range(np.uint64(len(ends))):
        a = _find(parent, ends[i, 0])
        b = _find(parent, ends[i, 1])
        if a == b:
            continue
        both = size[a] + size[b]
        if edge_weights[i] <= min(threshold[a], threshold[b]):
            large = a if size[a] >= size[b] else b
            parent[np.uint32(a ^ b ^ large)] = large
            size[large] = both
            threshold[large] = edge_weights[i] + k / np.float32(both)
        else:
            # Components only grow: where both are large enough, the second pass has nothing to do.
            left_over[left] = np.uint32(i)
            left += np.uint64(min(size[a], size[b]) < min_size)
    for j in range(left):
        edge = np.uint64(left_over[j])
        a = _find(parent, ends[edge, 0])
        b = _find(parent, ends[edge, 1])
        if a != b and min(size[a], size[b]) < min_size:
            large = a if size[a] >= size[b] else b
            parent[np.uint32(a ^ b ^ large)] = large
            size[large] = size[a] + size[b]
    names = np.full(count, np.int32(-1), np.int32)
    found = np.int32(0)
    for component in range(count):
        # Components are numbered by first appearance, and so are superpixels that way.
        root = _find(parent, np.uint32(component))
        if names[root] < 0:
            names[root] = found
            found += np.int32(1)
        names[component] = names[root]
    return names


@njit("void(int32[:,::1], int32[::1], int32[:,::1])", cache=True, nogil=True)
def _rename(labels, names, out):  # type: ignore[no-untyped-def]
    flat_in, flat_out = labels.reshape(-1), out.reshape(-1)
    for p in range(np.uint64(len(flat_in))):
        flat_out[p] = names[np.uint32(flat_in[p])]
