"""The pancreas' spatial structure, from its whole label: how far from its surface, and where from head to tail.

Never computed on crops: a cut organ has another axis and other distances.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from datamodules.randomness import numpy_generator
from datamodules.store import AXIS_OUTSIDE, AXIS_STEPS, DISTANCE_SCALE, Spacing

MAX_DISTANCE = 100.0
"""Mm at which distances are clipped."""
AXIS_VOXEL = 2.0
"""Mm between the nodes on which geodesic distances are measured, where the label is finer."""
MAX_GAP = 3.0
"""Mm of a gap in the mask that the axis goes across."""
MIN_WHOLE = 0.9
"""Share of the mask that must hang together for a geodesic axis; else the mask is broken."""
FOREGROUND = 20_000
"""At most so many voxels are kept to centre patches on."""

AxisKind = Literal["geodesic", "pca", "none"]


def signed_distance(label: NDArray[np.uint8], spacing: Spacing) -> NDArray[np.int16]:
    """Signed Euclidean distance to the pancreas' surface, negative inside, clipped at ±:data:`MAX_DISTANCE` mm.

    From a voxel's centre to the nearest point of the nearest voxel on the other side, so that voxels beside the
    surface are half a voxel away from it, at any spacing.

    Args:
        label: uint8 D×H×W, not empty.
        spacing: mm along D, H, W.

    Returns:
        int16 D×H×W in 1/100 mm.
    """
    distance = np.full(label.shape, round(MAX_DISTANCE * DISTANCE_SCALE), dtype=np.int16)
    near = _padded_box(label, spacing, MAX_DISTANCE)
    inside = label[near] > 0
    outward = _to_voxels(inside, spacing)
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    # One voxel around the mask holds whatever is nearest to its inside.
    tight = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
    within = inside[tight]
    inward = np.full(within.shape, MAX_DISTANCE) if within.all() else _to_voxels(~within, spacing)
    signed = outward
    signed[tight] = np.where(within, -inward, outward[tight])
    distance[near] = np.round(signed.clip(-MAX_DISTANCE, MAX_DISTANCE) * DISTANCE_SCALE).astype(np.int16)
    return distance


def axis_coordinate(
    label: NDArray[np.uint8], affine: NDArray[np.float64], kind: AxisKind = "geodesic"
) -> NDArray[np.uint8]:
    """Where a voxel lies between head (0) and tail (1); each third holds a third of the volume.

    ``geodesic``: a = D_A / (D_A + D_B) with the distances inside the mask to the two ends A and B that a double
    sweep finds. ``pca``: along the first principal component; taken too where the mask is broken into pieces.
    ``none``: 0.5 everywhere. The head is the end that lies more to the patient's right.

    Args:
        label: uint8 D×H×W, not empty.
        affine: 4×4, voxel to world in RAS mm (x grows to the patient's right).
        kind: how the axis is found.

    Returns:
        uint8 D×H×W: a in 1/:data:`AXIS_STEPS`, :data:`AXIS_OUTSIDE` outside the mask.
    """
    voxels = np.argwhere(label)
    stored = np.full(label.shape, AXIS_OUTSIDE, dtype=np.uint8)
    if kind == "none":
        stored[label > 0] = AXIS_STEPS // 2
        return stored
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    along = _geodesic(voxels, affine) if kind == "geodesic" else None
    if along is None:
        along = _principal(world)
    if np.sum((along - along.mean()) * (world[:, 0] - world[:, 0].mean())) > 0:
        along = -along
    ranks = np.empty(len(along))
    ranks[np.argsort(along, kind="stable")] = (np.arange(len(along)) + 0.5) / len(along)
    stored[tuple(voxels.T)] = np.round(ranks * AXIS_STEPS)
    return stored


def third(axis: NDArray[np.uint8]) -> NDArray[np.int32]:
    """0 head, 1 body, 2 tail for stored axis values inside the mask."""
    return np.minimum(axis.astype(np.int32) * 3 // AXIS_STEPS, 2)


def foreground(label: NDArray[np.uint8], axis: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Voxels to centre patches on, at most :data:`FOREGROUND`, the same at every call.

    Returns:
        int32 N×4: d, h, w and third, in the order of the voxels.
    """
    voxels = np.argwhere(label).astype(np.int32)
    if len(voxels) > FOREGROUND:
        chosen = numpy_generator("foreground", len(voxels)).choice(len(voxels), FOREGROUND, replace=False)
        voxels = voxels[np.sort(chosen)]
    return np.column_stack([voxels, third(axis[tuple(voxels.T)])]).astype(np.int32)


def _padded_box(label: NDArray[np.uint8], spacing: Spacing, margin: float) -> tuple[slice, ...]:
    box = ndimage.find_objects((label > 0).astype(np.uint8))[0]
    pads = [int(np.ceil(margin / edge)) + 1 for edge in spacing]
    return tuple(slice(max(0, side.start - pad), side.stop + pad) for side, pad in zip(box, pads, strict=True))


def _to_voxels(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    """Mm from each centre outside ``mask`` to the nearest point of its nearest voxel; 0 inside."""
    nearest = ndimage.distance_transform_edt(~mask, sampling=spacing, return_distances=False, return_indices=True)
    squared = np.zeros(mask.shape, dtype=np.float32)
    for axis, edge in enumerate(spacing):
        own = np.arange(mask.shape[axis], dtype=np.int32).reshape([-1 if k == axis else 1 for k in range(3)])
        gap = (np.abs(nearest[axis] - own) - 0.5).clip(0).astype(np.float32) * np.float32(edge)
        squared += gap * gap
    return np.sqrt(squared)


def _geodesic(voxels: NDArray[np.int64], affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """a of each voxel by distances inside the mask; None where the mask is broken.

    Args:
        voxels: N×3.
        affine: 4×4, voxel to mm.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.maximum(1, np.round(AXIS_VOXEL / edges)).astype(int)
    nodes, member, volume = np.unique(voxels // factor, axis=0, return_inverse=True, return_counts=True)
    graph = _graph(nodes, edges * factor)
    _, piece = csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(piece, weights=volume)
    largest = int(sizes.argmax())
    kept = np.flatnonzero(piece == largest)
    if len(kept) < 3 or sizes[largest] < MIN_WHOLE * len(voxels):
        return None
    whole = graph[kept][:, kept]
    start = csgraph.dijkstra(whole, directed=False, indices=0)
    first = int(start.argmax())
    to_first = csgraph.dijkstra(whole, directed=False, indices=first)
    to_second = csgraph.dijkstra(whole, directed=False, indices=int(to_first.argmax()))
    along = to_first / (to_first + to_second)
    places = nodes * edges * factor
    # Crumbs apart from the organ take the value of what is nearest to them.
    _, nearest = cKDTree(places[kept]).query(places)
    return np.asarray(along[nearest][member.ravel()])


def _graph(nodes: NDArray[np.int64], edges: NDArray[np.float64]) -> sparse.csr_array:
    """Neighbours among the 26, weighted by their distance in mm, and bridges between pieces across small gaps."""
    lookup = np.full(nodes.max(axis=0) + 3, -1, dtype=np.int64)
    lookup[tuple((nodes + 1).T)] = np.arange(len(nodes))
    rows, columns, weights = [], [], []
    for offset in np.argwhere(np.ones((3, 3, 3)))[14:] - 1:
        other = lookup[tuple((nodes + 1 + offset).T)]
        here = np.flatnonzero(other >= 0)
        rows.append(here)
        columns.append(other[here])
        weights.append(np.full(len(here), np.linalg.norm(offset * edges)))
    size = (len(nodes), len(nodes))
    graph = sparse.coo_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=size)
    count, piece = csgraph.connected_components(graph, directed=False)
    if count == 1:
        return graph.tocsr()
    pairs = cKDTree(nodes * edges).query_pairs(MAX_GAP + float(np.linalg.norm(edges)), output_type="ndarray")
    pairs = pairs[piece[pairs[:, 0]] != piece[pairs[:, 1]]]
    steps = np.abs(nodes[pairs[:, 0]] - nodes[pairs[:, 1]])
    pairs = pairs[np.linalg.norm((steps - 1).clip(0) * edges, axis=1) <= MAX_GAP]
    lengths = np.linalg.norm((nodes[pairs[:, 0]] - nodes[pairs[:, 1]]) * edges, axis=1)
    bridges = sparse.coo_array((lengths, (pairs[:, 0], pairs[:, 1])), shape=size)
    return (graph + bridges).tocsr()


def _principal(world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinate of N points along their first principal component."""
    centred = world - world.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ vectors[:, -1])
