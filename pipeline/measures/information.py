"""How a head's attention rows are spread: entropy, and divergence from one another."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import information
from pipeline.measures.block import Block

ENTROPY = {
    "entropy": pa.list_(pa.float64()),
    **{f"entropy_{of}": pa.float64() for of in ("mean", "min", "max")},
}
DIVERGENCE = {"kl_mean": pa.float64()}


def entropy(block: Block) -> dict[str, Any]:
    """Shannon entropy of each point's row in bits, and its mean, least and largest."""
    found = information.entropy(block.rows)
    heads, n = found.shape
    ends = np.arange(0, heads * n + 1, n, dtype=np.int32)
    return {
        "entropy": pa.ListArray.from_arrays(ends, pa.array(found.reshape(-1))),
        "entropy_mean": pa.array(found.mean(1)),
        "entropy_min": pa.array(found.min(1)),
        "entropy_max": pa.array(found.max(1)),
    }


def divergence(block: Block) -> dict[str, Any]:
    """Mean Kullback-Leibler divergence over ordered pairs of rows, smoothed, in bits."""
    return {"kl_mean": pa.array(information.kl_mean(block.rows))}
