"""Ranges of drivers and converters that nobody set: never beyond v_max; what clips is counted and told."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import cosim
import cosim.memtorch as memtorch
from cosim.errors import CosimWarning, SpecError
from cosim.nn.converters import ADC, DAC
from cosim.nn.hardware import Hardware
from cosim.nn.mapping import SingleColumn
from cosim.nn.matmul import CrossbarMatmul
from tolerances import (
    CONVERTED_8_BIT,
    CONVERTED_12_BIT,
    ONE_POINT,
    PRODUCT_EXACT,
    STRONG_DRIVE,
)

DEVICE = cosim.Device("vteam", r_on=10e3, r_off=1e6)
NONLINEAR = cosim.Device("stanford_pku")


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_layers() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=k))
    return network


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


def row_volts(model: Any, inputs: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The largest voltage on a row of each product, as the engine gets it."""
    seen: dict[str, float] = {}
    solve = CrossbarMatmul._currents

    def currents(self: CrossbarMatmul, volts: torch.Tensor) -> torch.Tensor:
        seen[self.label] = max(seen.get(self.label, 0.0), float(volts.abs().max()))
        return solve(self, volts)

    monkeypatch.setattr(CrossbarMatmul, "_currents", currents)
    model(inputs)
    return seen


# --- no row beyond v_max --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # a DAC with bits clips, and says so
@pytest.mark.parametrize("dac", [DAC(v_max=0.3), DAC(v_max=0.3, full_scale=1.0), DAC(v_max=0.3, bits=8)])
@pytest.mark.parametrize("calibrated", [False, True])
def test_no_row_of_any_layer_is_driven_beyond_v_max(
    dac: DAC, calibrated: bool, monkeypatch: pytest.MonkeyPatch
):
    model = cosim.convert(two_layers(), device=NONLINEAR, dac=dac, engine="newton", tile_shape=(16, 16))
    x = drawn(3, 10).clamp(-1, 1)
    if calibrated:
        model.calibrate(x)
    for size in (3.0, 10.0):
        volts = row_volts(model, size * x, monkeypatch)
        assert volts == pytest.approx({"0.matmul": 0.3, "2.matmul": 0.3}, rel=STRONG_DRIVE)
        assert max(volts.values()) <= 0.3 * (1 + torch.finfo(torch.float32).eps)
        assert bool(model(size * x).isfinite().all())


def test_memtorchs_largest_voltage_is_one(monkeypatch: pytest.MonkeyPatch):
    network = two_layers()
    patched = memtorch.mn.Module.patch_model(
        copy.deepcopy(network),
        memtorch.bh.memristor.VTEAM,
        {},
        [nn.Linear],
        max_input_voltage=0.3,
        ADC_resolution=8,
        quant_method="linear",
        verbose=False,
    )
    for size in (3.0, 10.0):
        x = size * drawn(6, 10).clamp(-1, 1)
        volts = row_volts(patched, x, monkeypatch)
        assert max(volts.values()) <= 0.3 * (1 + torch.finfo(torch.float32).eps)
        assert distance(patched(x), network(x)) < CONVERTED_8_BIT


@pytest.mark.parametrize("scheme", [None, SingleColumn()])
def test_a_vector_beyond_full_scale_loses_nothing_in_linear_cells(scheme: Any):
    options = {} if scheme is None else {"scheme": scheme}
    hardware = Hardware(device=DEVICE, tile_shape=(6, 6), dac=DAC(full_scale=0.5), engine="newton", **options)
    weight, x = drawn(3, 10).double(), drawn(5, 10).double()
    product = CrossbarMatmul(weight, hardware)
    assert distance(product(x), x @ weight.T) < PRODUCT_EXACT
    assert product.clipping.vectors == float((x.abs().amax(-1) > 0.5).double().mean())
    outlier = product(torch.cat([1e4 * x[:1], x[1:]]))[1:]
    assert distance(outlier, product(x)[1:]) < PRODUCT_EXACT


def test_gradients_pass_through_the_scaling():
    hardware = Hardware(
        device=NONLINEAR, tile_shape=(2, 2), dac=DAC(v_max=1.0, full_scale=1.0), engine="newton"
    )
    product = CrossbarMatmul(drawn(1, 2).double(), hardware)
    x = torch.tensor([[0.3, -0.5], [2.0, -0.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(product, (x,), atol=1e-4)


def test_volts_without_a_limit():
    hardware = Hardware(device=DEVICE, dac=DAC(v_max=None), engine="newton", tile_shape=(4, 4))
    product = CrossbarMatmul(drawn(2, 3).double(), hardware)
    assert float(product.volts([[3.0, -7.0, 0.5]]).min()) == -7.0
    for options in ({"bits": 8}, {"full_scale": 1.0}):
        with pytest.raises(SpecError, match="DAC.v_max is None, inputs are volts: bits= and full_scale="):
            DAC(v_max=None, **options)


# --- ranges of the first inputs -------------------------------------------------------------------------


def test_an_adc_without_calibration_does_not_clip_the_first_inputs():
    weight = torch.tensor([[9.0, 4.0, -3.0], [20.0, 30.0, 7.0], [-40.0, -9.0, 5.0]])
    x = torch.tensor([[4.0, 5.0, 3.0], [6.0, 7.0, 1.0], [1.0, 8.0, 2.0]])
    found = CrossbarMatmul(weight, Hardware(device=DEVICE, adc=ADC(bits=12)))(x)
    assert distance(found, x @ weight.T) < CONVERTED_12_BIT


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("dac", [DAC(bits=10), None])
def test_recurrent_layers_take_ranges_from_the_whole_first_sequence(kind: Any, dac: DAC | None):
    digital, x = kind(4, 5), 3 * drawn(12, 3, 4)
    model = cosim.convert(
        digital, device=DEVICE, layers=(kind,), dac=dac, adc=ADC(bits=12), tile_shape=(8, 40)
    )
    assert distance(model(x)[0], digital(x)[0]) < CONVERTED_12_BIT
    assert model(x[:1, :1] * 0 + 0.1)[0].shape == (1, 1, 5)


@pytest.mark.parametrize("memory", [64 << 20, 1])
def test_convolutions_take_ranges_from_all_windows(memory: int):
    digital, x = nn.Conv2d(2, 3, 3), 5 * drawn(4, 2, 6, 6)
    x[0] = 0
    model = cosim.convert(
        digital, device=DEVICE, adc=ADC(bits=12), dac=DAC(bits=12), memory=memory, tile_shape=(8, 8)
    )
    assert distance(model(x), digital(x)) < CONVERTED_12_BIT


def test_inputs_of_zeros_set_nothing():
    model, x = cosim.convert(nn.Linear(4, 3), device=DEVICE, adc=ADC(bits=10), dac=DAC(bits=10)), drawn(9, 4)
    assert torch.equal(model(torch.zeros(2, 4)), model.model.bias.expand(2, 3))
    model(torch.full((1, 4), torch.nan))
    assert distance(model(7 * x), model.digital()(7 * x)) < CONVERTED_8_BIT


def test_ranges_stay_and_are_saved():
    options: dict[str, Any] = {"device": DEVICE, "adc": ADC(bits=8), "dac": DAC(bits=8)}
    network, x = two_layers(), drawn(40, 10)
    model = cosim.convert(network, **options)
    with torch.inference_mode():
        wanted = model(x)
    assert torch.equal(model(x[:5]), wanted[:5])
    other = cosim.convert(network, **options)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x[:5]), wanted[:5])
    (x.clone().requires_grad_() * model(x).sum()).sum().backward()  # nothing kept is of inference mode


@pytest.mark.parametrize("dac", [None, DAC(bits=10)])
def test_tuning_before_the_first_inputs_holds_for_them(dac: DAC | None):
    """Lines are kept in units of full scale, whatever that becomes."""
    options: dict[str, Any] = {
        "device": DEVICE,
        "adc": ADC(bits=12),
        "dac": dac,
        "wires": cosim.Wires(row=10.0, column=10.0),
        "tile_shape": (16, 16),
    }
    network, x = two_layers(), 50 * drawn(60, 10)
    first, second = cosim.convert(network, **options), cosim.convert(network, **options).calibrate(x)
    first.tune()
    second.tune()
    untuned = distance(cosim.convert(network, **options)(x), network(x))
    assert distance(first(x), network(x)) < 0.5 * untuned
    assert distance(first(x), second(x)) < CONVERTED_12_BIT


def test_digits_in_memtorchs_style_need_no_calibration():
    """Raw pixels of 0 to 16, an 8-bit ADC and ``tune_``: as good as with ranges of the training images."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)
    network = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    with torch.no_grad():
        for k, parameter in enumerate(network.parameters()):
            parameter.copy_(0.1 * drawn(*parameter.shape, seed=k))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x[:1200]), y[:1200]).backward()
        optimiser.step()

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return 100 * float((model(x[1200:]).argmax(1) == y[1200:]).double().mean())

    def patched() -> Any:
        return memtorch.mn.Module.patch_model(
            copy.deepcopy(network),
            memtorch.bh.memristor.VTEAM,
            {"r_on": 1e4, "r_off": 1e6},
            [nn.Linear],
            ADC_resolution=8,
            quant_method="linear",
            verbose=False,
        )

    as_users_do, calibrated = patched(), patched().calibrate(x[:1200])
    as_users_do.tune_()
    calibrated.tune_()
    assert accuracy(network) > 85
    assert abs(accuracy(as_users_do) - accuracy(calibrated)) <= ONE_POINT
    assert abs(accuracy(as_users_do) - accuracy(network)) <= 2 * ONE_POINT


# --- what clips is told ---------------------------------------------------------------------------------


def test_a_large_clipped_share_is_told_once_for_each_layer_and_reported():
    model = cosim.convert(two_layers(), device=DEVICE, adc=ADC(bits=8), dac=DAC(bits=8)).calibrate(
        0.1 * drawn(50, 10)
    )
    with pytest.warns(CosimWarning) as told:
        model(10 * drawn(50, 10))
    assert "0.matmul: the DAC clips" in str(told[0].message)
    assert "calibrate with more" in str(told[0].message)
    assert sum("0.matmul" in str(one.message) for one in told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(10 * drawn(50, 10))
    shares = {one.name: one for one in model.report.clipping}
    outside = (10 * drawn(50, 10)).abs() > model.products["0.matmul"].full_scale
    assert shares["0.matmul"].inputs == float(outside.double().mean())
    assert f"{100 * shares['0.matmul'].inputs:.2g} % of the inputs clipped by the DAC" in str(model.report)
    assert model.report.to_dict()["clipping"][0]["name"] == "0.matmul"
    model.calibrate(10 * drawn(50, 10))
    assert model.report.clipping == ()


def test_currents_beyond_the_adc_are_counted_against_the_rate_that_was_asked_for():
    x = drawn(400, 10)
    for rate, tells in ((0.2, False), (0.0, True)):
        product = CrossbarMatmul(
            drawn(3, 10), Hardware(device=DEVICE, adc=ADC(bits=8, overflow_rate=rate, method="minmax"))
        )
        product.calibrate(x[None], x.abs().max())
        if tells:
            with pytest.warns(CosimWarning, match="a product of 10 inputs and 3 outputs: .* of its currents"):
                product(torch.ones(9, 10) * product.weight[0, 0].sign() * 3)
        else:
            product(x)
            assert product.clipping.currents == pytest.approx(rate, abs=0.01)


def test_a_fixed_range_says_what_to_widen():
    product = CrossbarMatmul(drawn(3, 10), Hardware(device=DEVICE, adc=ADC(bits=8, range=(-1e-9, 1e-9))))
    with pytest.warns(CosimWarning, match=r"beyond the range of the ADC; widen ADC\(range=\)"):
        product(drawn(4, 10))
