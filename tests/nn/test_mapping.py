"""Weights to conductances and back, against the formulas and against the product itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cosim.errors import SpecError
from cosim.nn.mapping import BitSlicing, DoubleColumn, Scheme, SingleColumn
from tolerances import LAYER_FLOAT32, ROUNDING

G_MIN, G_MAX = 1e-6, 1e-4


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("scheme", "columns"),
    [(DoubleColumn(), 2), (SingleColumn(), 1), (BitSlicing(bits=8, slice_bits=3), 6)],
)
@pytest.mark.parametrize("groups", [(), (3,)])
def test_currents_of_mapped_cells_are_the_signed_product(
    scheme: Scheme, columns: int, groups: tuple[int, ...]
):
    weight, x = weights(*groups, 5, 7), weights(*groups, 4, 7)
    mapped = scheme.map(weight, G_MIN, G_MAX)
    assert mapped.conductance.shape == (*groups, 7, 5 * columns)
    assert G_MIN <= float(mapped.conductance.min()) <= float(mapped.conductance.max()) <= G_MAX
    outputs = scheme.combine(scheme.difference(x @ mapped.conductance))
    outputs = (outputs - mapped.offset * x.sum(-1, keepdim=True)) / mapped.scale
    step = weight.abs().max() / 127 if isinstance(scheme, BitSlicing) else 0.0  # half a step per weight
    allowed = 0.5 * step * x.abs().sum(-1, keepdim=True) + ROUNDING * 100
    assert bool(((outputs - x @ weight.transpose(-1, -2)).abs() <= allowed).all())


@pytest.mark.parametrize("scheme", [DoubleColumn(), SingleColumn()])
def test_unmap_is_the_inverse(scheme: Scheme):
    weight = weights(5, 7)
    torch.testing.assert_close(scheme.unmap(scheme.map(weight, G_MIN, G_MAX)), weight, rtol=0, atol=ROUNDING)


def test_bit_slices_are_the_digits_of_the_integer():
    mapped = BitSlicing(bits=5, slice_bits=2).map(torch.tensor([[15.0, -6.0, 3.2]]), 0.0, 3.0)
    # 15 = 3 + 3*4, -6 = -(2 + 1*4), 3.2 -> 3; columns: digit 0 (+, -), digit 1 (+, -)
    assert mapped.conductance.round(decimals=5).tolist() == [[3, 0, 3, 0], [0, 2, 0, 1], [3, 0, 0, 0]]


def test_single_column_holds_negative_weights():
    mapped = SingleColumn().map(torch.tensor([[-2.0, 0.0, 2.0]], dtype=torch.float64), G_MIN, G_MAX)
    middle = (G_MIN + G_MAX) / 2
    torch.testing.assert_close(mapped.conductance[:, 0], torch.tensor([G_MIN, middle, G_MAX]).double())


@pytest.mark.parametrize("p_l", [0.0, 0.1, 0.5, 1.0])
def test_p_l_follows_naive_map(p_l: float):
    weight = weights(4, 5)
    magnitudes = sorted(weight.abs().flatten().tolist(), reverse=True)
    w_max = magnitudes[int(p_l * (len(magnitudes) - 1))]
    w_min = w_max * G_MIN / G_MAX
    mapped = DoubleColumn(p_l=p_l).map(weight, G_MIN, G_MAX)
    for output in range(4):
        for row in range(5):
            value = float(weight[output, row])
            for sign, cell in zip((1, -1), mapped.conductance[row, 2 * output :][:2].tolist(), strict=False):
                part = min(max(sign * value, w_min), w_max)
                wanted = G_MIN + (part - w_min) * (G_MAX - G_MIN) / (w_max - w_min)
                assert cell == pytest.approx(wanted, rel=ROUNDING)


@pytest.mark.parametrize("scheme", [DoubleColumn(), SingleColumn(), BitSlicing()])
def test_zero_weights_read_as_zero(scheme: Scheme):
    mapped = scheme.map(torch.zeros(2, 3), G_MIN, G_MAX)
    assert scheme.unmap(mapped).abs().max() <= LAYER_FLOAT32


@pytest.mark.parametrize("scheme", [DoubleColumn(), SingleColumn(), BitSlicing()])
def test_gradients_pass_the_mapping(scheme: Scheme):
    weight = weights(3, 4).requires_grad_()
    mapped = scheme.map(weight, G_MIN, G_MAX)
    scheme.unmap(mapped).sum().backward()
    inside = weight.detach().abs() < weight.detach().abs().max()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[inside], torch.ones_like(weight)[inside])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DoubleColumn(p_l=1.5), "p_l is 1.5: it must be a finite number, at least 0 and at most 1"),
        (lambda: BitSlicing(bits=1), "bits is 1: it must be a whole number, at least 2 and at most 24"),
        (lambda: BitSlicing(bits=4, slice_bits=4), "slice_bits is 4: it must be a whole number"),
        (lambda: DoubleColumn().map(torch.ones(3), G_MIN, G_MAX), r"weight of shape \(3,\) is not"),
        (lambda: DoubleColumn().map(torch.ones(3, 1), 1.0, 1.0), "g_min below g_max"),
        (lambda: SingleColumn().map(torch.full((1, 1), torch.nan), 0.0, 1.0), r"weight\[0, 0\] is nan"),
    ],
)
def test_wrong_values_are_refused(make: Any, message: str):
    with pytest.raises(SpecError, match=message):
        make()
