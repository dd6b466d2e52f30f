"""Quantisers against their definitions, written again here with numpy's scalar operations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cosim.errors import SpecError
from cosim.nn.converters import ADC, DAC, METHODS
from tolerances import LEFT_OUTSIDE, ROUNDING


def currents(*shape: int) -> torch.Tensor:
    return 1e-6 * torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def two_complement(x: float, limit: float, bits: int) -> float:
    step = 2.0 ** (1 - bits + math.ceil(math.log2(limit)))
    return min(max(math.floor(x / step + 0.5), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1) * step


def uniform(x: float, low: float, high: float, bits: int) -> float:
    step = (high - low) / (2**bits - 1)
    return low + min(max(math.floor((x - low) / step + 0.5), 0), 2**bits - 1) * step


def reference(method: str, bits: int, x: float, values: list[float]) -> float:
    top, least = max(abs(v) for v in values), min(abs(v) for v in values)
    if method == "linear":
        return two_complement(x, top, bits)
    if method == "minmax":
        return uniform(x, min(values), max(values), bits)
    if method == "tanh":
        n = 2**bits - 1
        code = min(max(math.floor((math.tanh(x / top) + 1) / 2 * n + 0.5), 0.5), n - 0.5)
        return math.atanh(2 * code / n - 1) * top
    sign, log = math.copysign(1.0, x), math.log(abs(x) / top)
    span = math.log(least / top)
    read = two_complement(log, -span, bits - 1) if method == "log" else uniform(log, span, 0.0, bits - 1)
    return sign * math.exp(read) * top


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 3, 6, 10])
def test_every_method_follows_its_definition(method: str, bits: int):
    values = currents(64)
    adc = ADC(bits=bits, method=method)
    low, high = adc.calibrate(values[None])
    found = adc.convert(values, low, high).tolist()
    wanted = [reference(method, bits, x, values.tolist()) for x in values.tolist()]
    assert found == pytest.approx(wanted, rel=1e3 * ROUNDING)  # atanh and exp lose digits
    assert len(set(found)) <= 2**bits


@pytest.mark.parametrize("method", METHODS)
def test_more_bits_approach_the_value(method: str):
    values = currents(400)
    errors = []
    for bits in (6, 12, 18):
        adc = ADC(bits=bits, method=method)
        errors.append(float((adc.convert(values, *adc.calibrate(values[None])) - values).abs().max()))
    assert errors[0] > 8 * errors[1] > 64 * errors[2]


def test_overflow_rate_leaves_that_share_outside():
    values = currents(1001)
    low, high = ADC(bits=8, overflow_rate=0.1).calibrate(values[None])
    assert float((values.abs() > high).double().mean()) == pytest.approx(0.1, abs=LEFT_OUTSIDE)
    assert float(low) == -float(high)
    low, high = ADC(bits=8, method="minmax", overflow_rate=0.1).calibrate(values[None])
    outside = [float((values < low).double().mean()), float((values > high).double().mean())]
    assert outside == pytest.approx([0.05, 0.05], abs=LEFT_OUTSIDE)


@pytest.mark.parametrize("method", METHODS)
def test_zero_is_read_as_zero_or_the_nearest_code(method: str):
    adc = ADC(bits=8, method=method)
    low, high = adc.calibrate(currents(64)[None])
    zero = float(adc.convert(torch.zeros(1, dtype=torch.float64), low, high))
    assert abs(zero) <= 2 * float(high) / 2**8
    dark = adc.calibrate(torch.zeros(1, 8, dtype=torch.float64))
    assert adc.convert(torch.tensor([3e-6], dtype=torch.float64), *dark).tolist() == [3e-6]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_pass_inside_the_range_and_stop_outside(method: str):
    adc = ADC(bits=4, method=method, range=(1e-8, 1e-6))
    values = torch.tensor([0.0, 2e-7, 5e-6], dtype=torch.float64, requires_grad=True)
    read = adc.convert(values, *adc.fixed_range())
    assert torch.equal(read, adc.convert(values.detach(), *adc.fixed_range()))  # the levels are exact
    read.sum().backward()
    assert values.grad is not None
    assert values.grad[1:].tolist() == [1.0, 0.0]


def test_dac_codes():
    dac = DAC(bits=4)
    x = torch.linspace(-2, 2, 401, dtype=torch.float64, requires_grad=True)
    converted = dac.convert(x, torch.tensor(1.0, dtype=torch.float64))
    assert sorted({round(v * 7) for v in converted.tolist()}) == list(range(-7, 8))
    assert float((converted - x.clamp(-1, 1)).detach().abs().max()) <= 0.5 / 7 + ROUNDING
    converted.sum().backward()
    assert torch.equal(x.grad != 0, x.abs() <= 1)
    unsigned = DAC(bits=2, signed=False).convert(x, torch.tensor(3.0, dtype=torch.float64))
    assert {round(v, 6) for v in unsigned.tolist()} == {0.0, 1.0, 2.0}
    assert DAC().convert(x, torch.tensor(1.0)) is x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ADC(bits=8, method="cubic"),
            "ADC.method is 'cubic': choose from linear, log, minmax, log_minmax, tanh",
        ),
        (lambda: ADC(bits=8, per="row"), "ADC.per is 'row': choose from layer, tile, column"),
        (lambda: ADC(bits=8, at="end"), "ADC.at is 'end': choose from column, difference"),
        (lambda: ADC(bits=1), "ADC.bits is 1: it must be a whole number, at least 2 and at most 24"),
        (lambda: ADC(bits=8.0), "ADC.bits is 8.0: it must be a whole number"),
        (lambda: ADC(bits=8, overflow_rate=1.0), "ADC.overflow_rate is 1.0"),
        (lambda: ADC(bits=8, range=(1.0, 0.0)), "low below high"),
        (lambda: ADC(bits=8, method="log", range=(0.0, 1.0)), "two finite numbers, above 0, low below high"),
        (lambda: ADC(bits=8).fixed_range(), "this ADC has no fixed range: calibrate it"),
        (lambda: DAC(bits=1), "DAC.bits is 1: it must be a whole number, at least 2"),
        (lambda: DAC(v_max=0.0), "DAC.v_max is 0.0: it must be a finite number, above 0"),
        (lambda: DAC(signed=False), "signed=False needs bits"),
    ],
)
def test_wrong_values_are_refused(make: Any, message: str):
    with pytest.raises(SpecError, match=message):
        make()
