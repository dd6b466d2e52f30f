"""What a network multiplies by itself is told by its name: at the first call, where it shows."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

import cosim
from cosim.errors import CosimWarning, SpecError

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)


class Own(nn.Module):
    """A layer, and a product of its own with a buffer, an attribute or an embedding."""

    def __init__(self, product: Callable[[Own, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.product = nn.Linear(8, 8), product
        self.register_buffer("fixed", torch.rand(8, 8))
        self.plain, self.embedding = torch.rand(8, 8), nn.Embedding(5, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(self, self.layer(x))


PRODUCTS = {
    "fixed": lambda own, x: functional.linear(x, own.fixed),
    "plain": lambda own, x: x @ own.plain.t(),
    "embedding.weight": lambda own, x: functional.linear(input=x, weight=own.embedding.weight),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_matrix_used_by_a_function_is_named_once(name: str):
    network = Own(PRODUCTS[name])
    converted = cosim.convert(network, device=DEVICE, tile_shape=(8, 8))
    with pytest.warns(CosimWarning, match=f"^products with {name} are computed digitally, by functions"):
        converted(torch.rand(2, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted(torch.rand(2, 8))
        cosim.convert(network, device=DEVICE, tile_shape=(8, 8), exclude=name)(torch.rand(2, 8))


def test_a_matrix_that_is_no_operand_is_not_named():
    """Masks and tables are added, compared or looked up in."""
    network = Own(lambda own, x: (x + own.get_buffer("fixed")[:2]).masked_fill(own.plain[:2] > 0.5, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cosim.convert(network, device=DEVICE, tile_shape=(8, 8))(torch.rand(2, 8))


@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_a_tied_weight_is_asked_for_in_vain_and_says_what_helps(kind: str):
    layer = nn.Linear(8, 8) if kind == "Linear" else nn.Conv2d(1, 1, 3)
    converted = cosim.convert(layer, device=DEVICE, tile_shape=(8, 8)).model
    with pytest.raises(SpecError, match="the weight of this layer is in the cells of its crossbars"):
        _ = converted.weight
    assert not hasattr(converted, "weight")
    with pytest.raises(AttributeError, match="wight"):
        _ = converted.wight


def test_torchscript_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another way of it
        scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 4)))
    with pytest.raises(SpecError, match="the model is TorchScript, whose layers cannot be exchanged"):
        cosim.convert(scripted, device=DEVICE)
