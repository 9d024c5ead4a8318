"""What stands in for a trained model, and then goes the same way: a null.

A null is a model of the run with a name of its own and a `null_rule`. What is true of the
trained model, and of its nulls too, is not owed to training.

random_weights   the network as it is before training: its own initialisation, by `null_seed`
rows_shuffled    the trained network; each attention row's weights dealt out anew to the tokens
                 that it may see, so that its entropy stays, and where it looks is chance

To add one, write its function here, name it in RULES, and call it where it acts.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

RULES = ("none", "random_weights", "rows_shuffled")


def random_weights(network: Any, seed: int) -> Any:
    """A network of the same class and config with the weights that its class begins with."""
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(
            network.config, attn_implementation="eager", dtype=network.dtype
        )


def rows_shuffled(
    maps: NDArray[np.float64], causal: bool, key: tuple[int, int, int], content: bytes
) -> NDArray[np.float64]:
    """Each row's weights in a random order, of a causal model among the tokens up to its own.

    maps     (head, query, key); changed in place, and returned
    key      the seed, the layer and the first head: a head on a text is shuffled alike whatever
             is computed beside it
    content  what tells one text from another
    """
    seed, layer, first = key
    words = np.frombuffer(hashlib.sha256(content).digest(), np.uint32)
    for head, rows in enumerate(maps, first):
        draw = np.random.default_rng([seed, layer, head, *words.tolist()])
        if causal:
            for query, row in enumerate(rows):
                draw.shuffle(row[: query + 1])
        else:
            draw.permuted(rows, axis=1, out=rows)
    return maps
