"""What stands in for a trained model, and then goes the same way: a null.

A null is a model of the run with a name of its own and a `null_rule`. What is true of the
trained model, and of its nulls too, is not owed to training.

In place of the network:
random_weights          as it is before training: its own initialisation, by `null_seed`
random_weights_entropy  the same, and each head's logits scaled, on each text, until the mean
                        entropy of its rows is that of the trained head's
In place of the text:
tokens_shuffled         its own tokens in a random order; special tokens stay where they are
In place of the trained network's maps, row by row and within what the mask allows:
rows_shuffled           the weights dealt out anew, so that the entropy stays
rows_shuffled_sink      the same, but for the weights on the first and the special tokens
uniform                 all weights equal
dirichlet               weights by chance, of the row's own entropy within 1e-6 bits

Everything random is seeded by null_seed, layer, head and the tokens of the text: parts, workers
and their order change nothing. Masks are whole or causal; of a layer that sees a window of the
text alone, the null sees all of it.

To add one, write its function here, name it in RULES, and call it where it acts.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from pipeline.errors import InputError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NETWORKS = ("random_weights", "random_weights_entropy")
MAPS = ("rows_shuffled", "rows_shuffled_sink", "uniform", "dirichlet")
RULES = ("none", *NETWORKS, "tokens_shuffled", *MAPS)
# Those that leave hidden states as they are, so that distances between these have no such null.
OF_ATTENTION = ("random_weights_entropy", *MAPS)

STEPS = 200  # of the search for an exponent; each halves the range, or is Newton's
CLOSE = 1e-7  # bits: an entropy is met within
SHARPEST = 700.0  # the largest logarithm of an exponent: beyond, a row is its largest weight alone


@dataclass(frozen=True)
class NullSpec:
    """A null of every model of a run: conf/null/*.yaml.

    rule   one of RULES
    seed   of what is random in it
    """

    rule: str
    seed: int

    def __post_init__(self) -> None:
        if self.rule not in RULES[1:]:
            raise InputError(f"rule is {self.rule!r}; give one of {', '.join(RULES[1:])}")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")


class Place(NamedTuple):
    """Where a map comes from, by which what is random is seeded."""

    seed: int
    layer: int
    head: int  # the first of the block's
    content: bytes  # what tells one text from another

    def draw(self, head: int) -> np.random.Generator:
        """The random numbers of the block's head'th head."""
        words = np.frombuffer(hashlib.sha256(self.content).digest(), np.uint32)
        return np.random.default_rng([self.seed, self.layer, self.head + head, *words.tolist()])


# ---- in place of the network --------------------------------------------------------------


def random_weights(network: Any, seed: int) -> Any:
    """A network of the same class and config with the weights that its class begins with."""
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(
            network.config, attn_implementation="eager", dtype=network.dtype
        )


def mean_entropy(maps: Floats) -> Floats:
    """Mean entropy of each head's rows in bits: (head, query, key) -> (head,)."""
    return np.asarray(entr(maps).sum(-1).mean(-1) / np.log(2))


def scaled(maps: Floats, entropy: Floats) -> Floats:
    """Maps (head, query, key) whose logits are scaled to a mean entropy of rows, (head,) bits.

    softmax(s z) is p^s, divided by its sum. An entropy above what is within reach (rows are
    uniform over where they are not 0) or below it (over their largest weights) is met as far
    as can be.
    """
    return _of_entropy(maps, entropy)


# ---- in place of the text -----------------------------------------------------------------


def token_order(special: Flags, seed: int, content: bytes) -> NDArray[np.int64]:
    """The positions of a text's tokens in a new order, in which special tokens stay."""
    own = np.flatnonzero(~special)
    order = np.arange(len(special))
    order[own] = Place(seed, 0, 0, content).draw(0).permutation(own)
    return order


# ---- in place of the maps -----------------------------------------------------------------


def maps(rule: str, trained: Floats, causal: bool, special: Flags, place: Place) -> Floats:
    """Maps (head, query, key) by a rule of MAPS in place of these, which may be changed.

    special   (key,): which tokens are the tokenizer's own
    """
    match rule:
        case "uniform":
            allowed = _mask(trained.shape[-1], causal)
            return np.broadcast_to(allowed / allowed.sum(-1, keepdims=True), trained.shape).copy()
        case "dirichlet":
            return _dirichlet(trained, causal, place)
    stay = np.zeros(trained.shape[-1], bool)
    if rule == "rows_shuffled_sink":
        stay = special.copy()
        stay[0] = True
    for head, rows in enumerate(trained):
        _shuffle(rows, ~stay, causal, place.draw(head))
    return trained


def _mask(tokens: int, causal: bool) -> Floats:
    every = np.ones((tokens, tokens))
    return np.tril(every) if causal else every


def _shuffle(rows: Floats, moves: Flags, causal: bool, draw: np.random.Generator) -> None:
    """Each row's weights on the tokens that move, in a random order."""
    if causal:
        own, seen = np.flatnonzero(moves), np.cumsum(moves)
        for row, count in zip(rows, seen.tolist(), strict=True):
            keys = own[:count]
            row[keys] = draw.permutation(row[keys])
    else:
        rows[:, moves] = draw.permuted(rows[:, moves], axis=1)


def _dirichlet(trained: Floats, causal: bool, place: Place) -> Floats:
    heads, tokens, _ = trained.shape
    drawn = np.stack([place.draw(head).exponential(size=(tokens, tokens)) for head in range(heads)])
    drawn *= _mask(tokens, causal)
    drawn /= drawn.sum(-1, keepdims=True)
    entropy = entr(trained).sum(-1) / np.log(2)
    rows = _of_entropy(drawn.reshape(-1, 1, tokens), entropy.reshape(-1))
    return rows.reshape(trained.shape)


# ---- an entropy met -----------------------------------------------------------------------


def _of_entropy(p: Floats, entropy: Floats) -> Floats:
    """p^s over its sum, of groups (group, row, key), s such that their mean entropy is that given.

    The mean entropy falls as s grows, from that of uniform rows at s = 0: Newton's steps on
    log s, halving where one leaves the range known to hold it.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    logs -= logs.max(-1, keepdims=True)
    low, high = np.full(len(p), -SHARPEST), np.full(len(p), SHARPEST)
    at = _guess(p, entropy)
    found = np.array(p)
    todo = np.arange(len(p))
    for _ in range(STEPS):
        found[todo], bits, slope = _power(logs[todo], np.exp(at[todo]))
        over = bits - entropy[todo]
        low[todo] = np.where(over > 0, at[todo], low[todo])
        high[todo] = np.where(over < 0, at[todo], high[todo])
        left = (np.abs(over) > CLOSE) & (high[todo] - low[todo] > 1e-13)
        todo, over, slope = todo[left], over[left], slope[left]
        if not len(todo):
            break
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = at[todo] - over / slope
        inside = (step > low[todo]) & (step < high[todo])  # False for NaN
        at[todo] = np.where(inside, step, (low[todo] + high[todo]) / 2)
    return found


def _guess(p: Floats, entropy: Floats) -> Floats:
    """Near log s where rows are near uniform: there the entropy lost grows as s^2."""
    most = np.log2(np.maximum((p > 0).sum(-1), 1)).mean(-1)
    now = mean_entropy(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess = np.log((most - entropy) / (most - now)) / 2
    return np.where(np.isfinite(guess), np.clip(guess, -10.0, 10.0), 0.0)


def _power(logs: Floats, scale: Floats) -> tuple[Floats, Floats, Floats]:
    """p^s over its sum, the mean entropy of rows in bits, and its slope by log s."""
    s = scale[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        z = np.where(np.isneginf(logs), -np.inf, logs * s)
    q = np.exp(z)
    q /= q.sum(-1, keepdims=True)
    z = np.where(q > 0, z, 0.0)
    mean = (q * z).sum(-1, keepdims=True)
    # With z = s log p: the entropy's derivative by log s is minus the variance of z under q.
    variance = (q * (z - mean) ** 2).sum(-1).mean(-1)
    return q, entr(q).sum(-1).mean(-1) / np.log(2), -variance / np.log(2)
