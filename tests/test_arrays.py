"""`pipeline.arrays.array`: what callers give, tensors of torch among it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline import distances
from pipeline.arrays import array
from pipeline.comparison import bottleneck, wasserstein
from pipeline.diagrams import rips
from pipeline.errors import InputError
from pipeline.graphs import merge_tree, symmetrised
from pipeline.information import entropy, jensen_shannon, kl_divergence, resoftmax

ROWS = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])
LENGTHS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])
BARS = np.array([[0.0, 0.5], [0.25, 2.0]])
OF_ROWS = (entropy, kl_divergence, jensen_shannon, resoftmax, symmetrised)


class Elsewhere:
    """A tensor of another device, which NumPy cannot read in place."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.dtype, self.device = tensor, tensor.dtype, "cuda:0"

    def __array__(self, *_: object, **__: object) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def detach(self) -> "Elsewhere":
        return self

    def cpu(self) -> torch.Tensor:
        return self.tensor


FORMS = {
    "float32": lambda x: torch.tensor(x, dtype=torch.float32),
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "float16": lambda x: torch.tensor(x, dtype=torch.float16),
    "with a gradient": lambda x: torch.tensor(x, requires_grad=True),
    "elsewhere": lambda x: Elsewhere(torch.tensor(x)),
    "a list of tensors": lambda x: list(torch.tensor(x, requires_grad=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_public_function_takes_a_tensor(form):
    """The numbers here are exact in every type, so the answers are the same to the bit."""
    make = FORMS[form]
    for function in OF_ROWS:
        np.testing.assert_array_equal(function(make(ROWS)), function(ROWS))
    np.testing.assert_array_equal(merge_tree(make(LENGTHS)), merge_tree(LENGTHS))
    for bars, wanted in zip(rips([make(LENGTHS)])[0], rips([LENGTHS])[0], strict=True):
        np.testing.assert_array_equal(bars, wanted)
    for distance in (bottleneck, wasserstein):
        np.testing.assert_array_equal(
            distance([make(BARS)], [BARS[:1]]), distance([BARS], [BARS[:1]])
        )


def test_a_stack_of_tensors():
    stack = torch.tensor(np.array([LENGTHS, 2 * LENGTHS]), requires_grad=True)
    assert [len(dims[0]) for dims in rips(stack)] == [3, 3]
    assert entropy(torch.tensor(ROWS)[None]).shape == (1, 3)


@pytest.mark.parametrize(
    "tensor", [torch.eye(3).to_sparse(), torch.eye(3, device="meta")], ids=["sparse", "meta"]
)
def test_a_tensor_without_numbers_to_read_is_a_sentence(tensor):
    for call in (entropy, lambda x: rips([x]), lambda x: bottleneck([x])):
        with pytest.raises(InputError, match=r"A tensor of torch\.float32 on .* cannot be read"):
            call(tensor)


def test_an_array_is_not_copied_and_torch_is_not_imported():
    assert array(ROWS) is ROWS
    script = (
        "import sys, pipeline.information as i; i.entropy([[1.0]]); print('torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"


OF_STACKS = (distances.attention_graph, distances.hidden_euclidean, distances.hidden_cosine)


@pytest.mark.parametrize("form", FORMS)
def test_every_rule_takes_a_tensor(form):
    stack = np.array([ROWS, ROWS[::-1]])
    for function in (*OF_STACKS, distances.jensen_shannon, distances.resoftmax):
        np.testing.assert_array_equal(function(FORMS[form](stack)), function(stack))


@pytest.mark.parametrize(
    "values", [ROWS, np.empty((0, 3, 3)), np.full((1, 2, 2), "a"), np.ones((1, 2, 2), complex)]
)
def test_a_rule_says_what_shape_and_numbers_it_takes(values):
    for function in OF_STACKS:
        with pytest.raises(InputError, match=r"have shape|give real numbers"):
            function(values)
