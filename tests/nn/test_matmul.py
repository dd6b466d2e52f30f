"""The product on tiles: geometry, engines, converters, tuning, batches, memory."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from cosim.crossbar import Tile
from cosim.devices.device import Device
from cosim.engines import solve
from cosim.errors import SolveError, SpecError
from cosim.nn.converters import ADC, DAC, METHODS
from cosim.nn.effects import ReadNoise
from cosim.nn.functional import matmul
from cosim.nn.hardware import Hardware
from cosim.nn.mapping import BitSlicing, DoubleColumn, SingleColumn
from cosim.nn.matmul import CrossbarMatmul
from cosim.solvers import linear
from cosim.wires import Wires
from tolerances import (
    ACTS,
    CONVERTED_8_BIT,
    CONVERTED_12_BIT,
    LAYER_FLOAT32,
    LINEAR_EXACT,
    NEWTON_EXACT,
    NGSPICE_LINEAR,
    NOISY_MEAN,
    NOISY_RMSE,
    ON_A_LEVEL,
    ROUNDING,
    SPREAD_OF_DRAWS,
    TUNING_HELPS,
    WIRES_ACT,
)

DEVICE = Device("vteam", r_on=10e3, r_off=1e6)
WIRES = Wires(row=2.0, column=3.0)


def drawn(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(weight: torch.Tensor, **options: Any) -> CrossbarMatmul:
    return CrossbarMatmul(weight, Hardware(device=DEVICE, **{"tile_shape": (6, 5), **options}))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def by_hand(weight: torch.Tensor, inputs: torch.Tensor, wires: Wires, engine: str) -> torch.Tensor:
    """The product of 10x3 weights on tiles of 6x5, tile by tile, with nothing but ``solve``."""
    scale = (1e-4 - 1e-6) / weight.abs().max()
    total = torch.zeros(len(inputs), 3, dtype=torch.float64)
    for top in (0, 6):
        for left in (0, 2):  # two outputs, four columns, in a tile; the fifth column is idle
            cells = torch.full((6, 5), 1e-6, dtype=torch.float64)
            part = weight[left : left + 2, top : top + 6].T
            for i, j in ((i, j) for i in range(part.shape[0]) for j in range(part.shape[1])):
                w = part[i, j]
                cells[i, 2 * j + (0 if w > 0 else 1)] += w.abs() * scale
            volts = torch.zeros(len(inputs), 6, dtype=torch.float64)
            volts[:, : part.shape[0]] = 0.1 * inputs[:, top : top + 6]
            currents = solve(Tile(DEVICE, conductance=cells, wires=wires), volts, engine=engine).currents
            for j in range(part.shape[1]):
                total[:, left + j] += (currents[:, 2 * j] - currents[:, 2 * j + 1]) / (0.1 * scale)
    return total


@pytest.mark.parametrize(
    ("engine", "limit"),
    [
        ("ideal", LINEAR_EXACT),
        ("linear", LINEAR_EXACT),
        ("newton", NEWTON_EXACT),
        ("ngspice", NGSPICE_LINEAR),
    ],
)
def test_every_engine_solves_the_padded_tiles(engine: str, limit: float):
    weight, inputs = drawn(3, 10), drawn(4, 10)
    found = product(weight, wires=WIRES, engine=engine)(inputs)
    # the difference of two columns is smaller than each of them
    assert distance(found, by_hand(weight, inputs, WIRES, engine)) <= 100 * limit
    if engine != "ideal":
        assert distance(found, inputs @ weight.T) > WIRES_ACT


def test_engines_agree_on_linear_cells_and_can_be_changed():
    weight, inputs = drawn(2, 3, 10), drawn(2, 4, 10)
    layer = product(weight, wires=WIRES)
    linear = layer(inputs)
    for engine in ("newton", "ngspice", "linear"):
        layer.set_engine(engine)
        assert distance(layer(inputs), linear) <= 100 * NGSPICE_LINEAR
    with pytest.raises(SpecError, match="no engine 'spice'"):
        layer.set_engine("spice")


@pytest.mark.parametrize(
    "name", ["vteam", "data_driven", "data_driven_2021", "stanford_pku", "linear_ion_drift"]
)
def test_every_device_maps_signed_weights(name: str):
    weight, inputs = drawn(3, 10), drawn(4, 10)
    for scheme in (DoubleColumn(), SingleColumn()):
        layer = CrossbarMatmul(weight, Hardware(device=Device(name), tile_shape=(6, 5), scheme=scheme))
        assert distance(layer(inputs), inputs @ weight.T) <= LINEAR_EXACT * 1e3  # state_for is not needed


def test_nonlinear_cells_show_only_with_newton():
    weight, inputs = drawn(3, 10), drawn(4, 10)
    layer = CrossbarMatmul(
        weight,
        Hardware(device=Device("stanford_pku"), tile_shape=(6, 6), engine="newton", dac=DAC(v_max=0.3)),
    )
    assert distance(layer(inputs), inputs @ weight.T) > ACTS
    layer.set_engine("linear")
    assert distance(layer(inputs), inputs @ weight.T) <= LINEAR_EXACT * 1e3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adc": ADC(bits=6)},
        {"adc": ADC(bits=6, method="minmax", per="layer", overflow_rate=0.02), "dac": DAC(bits=5)},
        {"adc": ADC(bits=6, method="log_minmax", per="column", at="column")},
        {"wires": WIRES, "engine": "newton", "dac": DAC(bits=5)},
    ],
)
@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # the outlier clips, and that is said
def test_an_output_does_not_depend_on_its_batch(options: dict[str, Any]):
    layer, inputs = product(drawn(3, 10), **options), drawn(4, 10)
    together = layer(inputs)
    outlier = layer(torch.cat([inputs, 100 * drawn(1, 10)]))[:4]
    for other in (outlier, torch.cat([layer(x[None]) for x in inputs])):
        assert distance(other, together) <= NEWTON_EXACT * 100


def test_scaled_inputs_give_scaled_outputs():
    layer, inputs = product(drawn(3, 10), wires=WIRES), drawn(4, 10)
    assert distance(layer(10 * inputs), 10 * layer(inputs)) <= LINEAR_EXACT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per", ["layer", "tile", "column"])
@pytest.mark.parametrize("at", ["column", "difference"])
def test_adcs_quantise_every_partial_sum(method: str, per: str, at: str):
    weight, inputs = drawn(3, 10), drawn(200, 10).clamp(-1, 1)
    exact = inputs @ weight.T
    errors = []
    for bits in (5, 9, 13):
        layer = product(weight, adc=ADC(bits=bits, method=method, per=per, at=at))
        layer.calibrate(inputs[None], inputs.abs().amax())
        errors.append(float((layer(inputs) - exact).square().mean().sqrt()))
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0
    assert layer.adc_high is not None
    columns = 6 if at == "column" else 3
    expected = {"layer": (1, 1, 1, 1), "tile": (1, 2, 1, columns), "column": (1, 2, 1, columns)}[per]
    assert tuple(layer.adc_high.shape) == expected
    if per == "tile":
        split = 4 if at == "column" else 2
        ranges = layer.adc_high[0, 0, 0]
        assert len(set(ranges[:split].tolist())) == len(set(ranges[split:].tolist())) == 1


def test_adc_codes_of_one_tile_are_counted():
    layer = product(drawn(2, 6), adc=ADC(bits=3, range=(-1e-4, 1e-4)))
    outputs = layer(drawn(100, 6))
    step = 2.0 ** (1 - 3 + math.ceil(math.log2(1e-4))) / float(layer.scale) * float(layer.full_scale) / 0.1
    codes = outputs / step
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=ON_A_LEVEL)
    assert set(codes.round().flatten().tolist()) <= set(range(-4, 4))


def test_calibration_sets_full_scale_and_keeps_fixed_ranges():
    inputs = 3 * drawn(64, 10)
    layer = product(drawn(3, 10), dac=DAC(bits=8), adc=ADC(bits=8))
    layer(0.1 * inputs)
    assert float(layer.full_scale) == float(0.1 * inputs.abs().max())
    layer.calibrate(inputs[None], inputs.abs().amax())
    assert float(layer.full_scale) == float(inputs.abs().max())
    assert distance(layer(inputs), inputs @ layer.weight[0].T) < CONVERTED_8_BIT
    layer.tune(layer.random_inputs(64, seed=1), per="column", test_fraction=0.25, seed=0)
    tuned = layer(inputs)
    layer.calibrate(inputs[None], inputs.abs().amax())  # the tuning belonged to the old ranges
    assert layer.gain.unique().tolist() == [1.0]
    assert not torch.equal(layer(inputs), tuned)
    fixed = product(drawn(3, 10), dac=DAC(bits=8, full_scale=2.0), adc=ADC(bits=8, range=(-1e-5, 1e-5)))
    fixed.calibrate(inputs[None], inputs.abs().amax())
    assert (float(fixed.full_scale), float(fixed.adc_high)) == (2.0, 1e-5)


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
@pytest.mark.parametrize("options", [{}, {"adc": ADC(bits=10)}, {"effects": (ReadNoise(sigma=0.01),)}])
def test_tuning_helps_and_is_idempotent(per: str, options: dict[str, Any]):
    weight = drawn(5, 16)
    layer = product(weight, wires=Wires(row=40.0, column=40.0), **options)
    inputs = layer.random_inputs(400, seed=1)
    first = layer.tune(inputs, per=per, test_fraction=0.25, seed=0)
    gain, offset = layer.gain.clone(), layer.offset.clone()
    second = layer.tune(inputs, per=per, test_fraction=0.25, seed=0)
    assert torch.equal(layer.gain, gain)
    assert torch.equal(layer.offset, offset)
    assert first.rmse_after < TUNING_HELPS * first.rmse_before
    assert (first.rmse_before, first.rmse_after) == (second.rmse_before, second.rmse_after)
    held_out = inputs[0, :100]
    error = (layer(held_out) - held_out @ weight.T).square().mean().sqrt()
    assert float(error) == pytest.approx(
        first.rmse_after, rel=NOISY_RMSE if "effects" in options else 1e3 * ROUNDING
    )


def test_tuning_undoes_an_exact_line():
    weight = drawn(5, 16)
    layer = product(weight)
    layer.scale *= 2  # every output half as large
    layer.prepare()
    fit = layer.tune(layer.random_inputs(64, seed=1), per="layer", test_fraction=0.25, seed=0)
    assert fit.gain.unique().tolist() == pytest.approx([2.0], rel=LINEAR_EXACT * 10)
    assert fit.r2 == pytest.approx(1.0, abs=LINEAR_EXACT)


def test_read_noise_has_the_variance_of_the_sum():
    weight, x = drawn(3, 10), drawn(1, 10)
    layer = product(weight, effects=(ReadNoise(sigma=0.03), ReadNoise(sigma=0.04)))
    outputs = layer(x.expand(20000, 10))
    cells = layer.conductance[0].reshape(10, 3, 2)
    variance = 0.05**2 * ((x[0, :, None, None] * cells) ** 2).sum((0, 2)) / layer.scale**2
    torch.testing.assert_close(outputs.var(0), variance, rtol=2 * SPREAD_OF_DRAWS, atol=0)
    torch.testing.assert_close(outputs.mean(0), x[0] @ weight.T, rtol=0, atol=NOISY_MEAN)
    assert not torch.equal(outputs, layer(x.expand(20000, 10)))  # drawn anew at every read
    one, two = copy.deepcopy(layer), copy.deepcopy(layer)
    assert torch.equal(one(x), two(x))  # and the same after the same history


def test_bounded_memory_gives_the_same():
    weight, inputs = drawn(3, 10), drawn(50, 10)
    options = {"adc": ADC(bits=8), "wires": WIRES}
    assert (
        distance(product(weight, memory=1, **options)(inputs), product(weight, **options)(inputs))
        <= LINEAR_EXACT
    )


def test_autocast_keeps_currents_in_full_precision():
    """The smallest number of float16 is 6e-8: noise of currents has none, nor have cells of 1 megohm."""
    x = drawn(4, 10).float()
    for options in ({"adc": ADC(bits=10)}, {"effects": (ReadNoise(sigma=0.03),)}):
        layer = product(drawn(3, 10).float(), wires=WIRES, **options)
        found = copy.deepcopy(layer)(x)
        with torch.autocast("cpu", dtype=torch.float16):
            assert torch.equal(layer(x), found)


def test_single_precision_is_solved_in_double_where_it_must(monkeypatch: pytest.MonkeyPatch):
    weight = drawn(3, 10).float()
    single = product(weight, wires=WIRES).effective_weight
    monkeypatch.setitem(linear._LIMITS, torch.float32, 0.0)
    double = product(weight, wires=WIRES).effective_weight
    exact = product(weight.double(), wires=WIRES).effective_weight
    assert single.dtype == double.dtype == torch.float32
    assert distance(double.double(), exact) < distance(single.double(), exact) <= LAYER_FLOAT32
    monkeypatch.setitem(linear._LIMITS, torch.float64, 0.0)
    with pytest.raises(
        SolveError, match="the wire network of a 6x5 tile has no solution in float64: look for"
    ):
        product(weight, wires=WIRES)


def test_a_prepared_product_solves_no_network(monkeypatch: pytest.MonkeyPatch):
    layer = product(drawn(3, 10), wires=WIRES)
    monkeypatch.setattr("cosim.nn.matmul.LinearNetwork", None)
    monkeypatch.setattr("cosim.nn.matmul.find_engine", None)
    assert layer(drawn(4, 10)).shape == (4, 3)


def test_matmul_without_a_module():
    weight, inputs = drawn(3, 10), 5 * drawn(2, 4, 10)
    assert distance(matmul(inputs, weight, device=DEVICE), inputs @ weight.T) <= LINEAR_EXACT
    coarse = matmul(inputs, weight, device=DEVICE, dac=DAC(bits=10), adc=ADC(bits=12))
    assert 0 < distance(coarse, inputs @ weight.T) < CONVERTED_12_BIT
    assert matmul(inputs.float(), weight, device=DEVICE).dtype == torch.float32


def test_gradients_reach_the_inputs_through_converters_and_wires():
    layer = product(drawn(3, 10), wires=WIRES, adc=ADC(bits=10), dac=DAC(bits=8))
    inputs = (0.5 * drawn(4, 10)).clamp(-1, 1).requires_grad_()
    layer(inputs).sum().backward()
    smooth = product(drawn(3, 10), wires=WIRES)
    expected = smooth.effective_weight[0].sum(0).expand(4, 10)
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad, expected, rtol=1e3 * ROUNDING, atol=1e3 * ROUNDING)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: product(drawn(3, 10), tile_shape=(6, 1)),
            r"tile_shape \(6, 1\) has 1 columns, but one output",
        ),
        (lambda: product(drawn(3, 4), tile_shape=(6, 7), scheme=BitSlicing()), "but one output needs 8"),
        (
            lambda: product(drawn(3, 4), tile_shape=(0, 7)),
            r"it must be \(rows, columns\), whole numbers of 1 or more",
        ),
        (lambda: product(drawn(3, 4), engine="exact"), "no engine 'exact'"),
        (
            lambda: product(drawn(3, 4), adc="8 bits"),
            "adc is '8 bits': it must be of cosim.nn",
        ),
        (lambda: product(drawn(3, 4), memory=0), "memory is 0: it must be a whole number, at least 1"),
        (lambda: product(drawn(4)), r"weight of shape \(4,\) is not \(groups, outputs, inputs\)"),
        (lambda: product(drawn(3, 4))(drawn(2, 5)), r"inputs of shape \(2, 5\) do not fit the weight"),
        (lambda: product(drawn(2, 3, 4))(drawn(3, 4)), r"give \(2, n, 4\)"),
        (
            lambda: product(drawn(3, 4)).tune(drawn(1, 9, 4), per="row", test_fraction=0.2, seed=0),
            "per is 'row': choose from layer, tile, column",
        ),
        (
            lambda: product(drawn(3, 4)).tune(drawn(1, 2, 4), per="tile", test_fraction=0.2, seed=0),
            "2 inputs: a line needs 2 to fit and 1 held out",
        ),
        (
            lambda: Hardware(device=Device("vteam", r_on=torch.full((2, 2), 60.0))),
            r"parameter r_on of vteam is a tensor of shape \(2, 2\)",
        ),
    ],
)
def test_wrong_values_are_refused(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()
