"""A head as a metric space: how long its distances are, its clusters, its persistence diagrams."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import graphs
from pipeline.measures.block import Block


def distances(block: Block) -> dict[str, Any]:
    """Points, and the mean and longest of the distances between two of them."""
    D = block.distances
    heads, n, _ = D.shape
    return {
        "tokens": np.full(heads, n),
        "distance_mean": D.sum((1, 2)) / (n * (n - 1)),
        "distance_max": D.max((1, 2)),
    }


def clusters(block: Block) -> dict[str, Any]:
    """Connected components at each scale of the configuration, with medoids; none without one."""
    scales = block.homology.cluster_scales
    if not scales:
        return {}
    heads, n, _ = block.distances.shape
    found = graphs.clusters(block.distances, scales)
    number = found.number.reshape(-1)
    ends = found.offsets.astype(np.int32)
    medoids = block.positions[found.representatives]
    return {
        "scale": np.tile(np.array(scales, np.float64), heads),
        "tokens": np.full(len(number), n),
        "clusters": number,
        "largest": found.largest.reshape(-1),
        "reduction": number / n,
        "clusters_near": found.near.reshape(-1),
        "representatives_near": found.unsure.reshape(-1),
        "representatives": pa.ListArray.from_arrays(ends, pa.array(medoids, pa.int32())),
        "sizes": pa.ListArray.from_arrays(ends, pa.array(found.sizes, pa.int32())),
    }


def diagrams(block: Block) -> dict[str, Any]:
    """Persistence diagrams, one after another by dimension."""
    found = block.diagrams
    flat = [bars for by_dimension in found for bars in by_dimension]
    ends = np.concatenate([[0], np.cumsum([len(bars) for bars in flat])]).astype(np.int32)
    bars = np.concatenate(flat)
    return {
        "dimension": np.tile(np.arange(len(found[0])), len(found)),
        "birth": pa.ListArray.from_arrays(ends, pa.array(bars[:, 0])),
        "death": pa.ListArray.from_arrays(ends, pa.array(bars[:, 1])),
    }
