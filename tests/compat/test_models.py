"""Patched networks: MemTorch's code runs, and its defects do not."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from compat.reference import FUNCTIONS, array
from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality import NonIdeality, apply_nonidealities, endurance_retention_models
from cosim.memtorch.bh.nonideality.DeviceFaults import apply_cycle_variability
from cosim.memtorch.map.Module import naive_tune
from cosim.memtorch.mn.Module import patch_model
from tolerances import MEMTORCH_FLOAT32, TUNED_FLOAT32

VTEAM = memtorch.bh.memristor.VTEAM
PARAMS = {"r_on": 100, "r_off": 1600}


# relative rms error of a tuned network with 8 bits in every conversion, or with 0.05 ohm and no converter
GRID = {None: 1e-5, "linear": 0.05, "log": 0.1, "wires": 0.015}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=1, bias=False)
        self.fc = nn.Linear(4 * 6 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.fc(x.view(x.size(0), -1))


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net()


def patch(network: nn.Module, **options):
    options = {"memristor_model": VTEAM, "memristor_model_params": PARAMS, "verbose": False, **options}
    return patch_model(copy.deepcopy(network), module_parameters_to_patch=[nn.Linear, nn.Conv2d], **options)


def matrix_layer(g: torch.Tensor, params: dict | None = None):
    """A layer whose positive crossbar is ``g`` (rows, columns)."""
    layer = memtorch.mn.Linear(nn.Linear(*g.shape), VTEAM, params or {}, verbose=False)
    layer.crossbars[0].conductance_matrix = g
    return layer


INPUTS = torch.rand(7, 3, 6, 7, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("scheme", list(memtorch.bh.Scheme))
@pytest.mark.parametrize("tile_shape", [None, (16, 4), (128, 128)])
def test_ideal_networks_compute_what_the_digital_one_does(network: Net, scheme, tile_shape):
    patched = patch(network, scheme=scheme, tile_shape=tile_shape)
    assert torch.allclose(patched(INPUTS), network(INPUTS), rtol=1e-4, atol=1e-5)
    patched.tune_()
    assert torch.allclose(patched(INPUTS), network(INPUTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile_shape", [None, (16, 4), (128, 128)])
@pytest.mark.parametrize("method", ["linear", "log", None])
@pytest.mark.parametrize("resistance", [0.0, 0.05])
def test_memtorchs_grid_with_bounds(network: Net, tile_shape, method: str | None, resistance: float):
    adc = {} if method is None else {"ADC_resolution": 8, "quant_method": method}
    wires = {"source_resistance": resistance, "line_resistance": 0.01 * resistance}
    patched = patch(network, tile_shape=tile_shape, max_input_voltage=0.3, **adc, **wires)
    patched.tune_()
    wanted = network(INPUTS).detach()
    error = (patched(INPUTS) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    allowed = GRID[method] if adc or not resistance else GRID["wires"]
    assert float(error.detach()) < allowed
    patched.disable_legacy()
    with pytest.raises(SpecError, match="given up by disable_legacy"):
        patched.forward_legacy(True)


@pytest.mark.filterwarnings("ignore::cosim.errors.CosimWarning")  # ranges of one image clip, and say so
def test_outputs_do_not_depend_on_the_batch(network: Net):
    adc = {"ADC_resolution": 6, "quant_method": "linear", "max_input_voltage": 0.3}
    patched = patch(network, **adc)
    alone = patched(INPUTS[:1])
    together = patched(torch.cat([INPUTS[:1], 5 * INPUTS[1:]]))[:1]
    assert torch.allclose(alone, together, atol=1e-6)


def test_inputs_are_scaled_and_scaled_back(network: Net):
    patched = patch(nn.Linear(6, 4, bias=False), max_input_voltage=0.3)
    x = torch.rand(2, 6)
    assert torch.allclose(patched(10 * x), 10 * patched(x), rtol=1e-5)


def test_tuning_twice_is_tuning_once(network: Net):
    patched = patch(network, tile_shape=(16, 4), source_resistance=5.0, line_resistance=1.0)
    before = patched(INPUTS)
    patched.tune_()
    once = patched(INPUTS)
    patched.tune_({"Conv2d": {"input_shape": 32}})
    assert torch.equal(patched(INPUTS), once)
    wanted = network(INPUTS).detach()
    once, before = once.detach(), before.detach()
    assert float((once - wanted).abs().max()) < float((before - wanted).abs().max())
    with pytest.raises(SpecError, match="no layer is a 'Conv1d'; there are Conv2d, Linear"):
        patched.tune_({"Conv1d": {}})


def test_memtorchs_tuned_layer_and_crossbars():
    digital = nn.Linear(10, 6)
    with torch.no_grad():
        digital.weight.copy_(array("lin_w"))
        digital.bias.copy_(array("lin_b"))
    layer = patch(digital, memristor_model_params={})
    layer.tune_()
    assert torch.allclose(layer(array("lin_x")), array("lin_dc_tuned"), atol=TUNED_FLOAT32)
    for crossbar, key in zip(layer.crossbars, ("lin_dc_Gpos", "lin_dc_Gneg"), strict=True):
        assert torch.allclose(crossbar.conductance_matrix, array(key), rtol=MEMTORCH_FLOAT32)


def test_devices_are_views_of_the_cells():
    spread = {
        "r_off": memtorch.bh.StochasticParameter(loc=200, scale=20, min=2),
        "r_on": memtorch.bh.StochasticParameter(loc=100, scale=10, min=1),
    }
    torch.manual_seed(0)
    layer = memtorch.mn.Linear(nn.Linear(16, 40), VTEAM, spread, verbose=False)
    devices = layer.crossbars[0].devices
    r_on, r_off = (np.vectorize(lambda x, n=n: getattr(x, n))(devices) for n in ("r_on", "r_off"))
    assert r_on.shape == (16, 40)
    assert r_on.mean() == pytest.approx(100, abs=2)
    assert r_off.std() == pytest.approx(20, abs=3)
    g = layer.crossbars[0].conductance_matrix
    assert bool((g >= torch.tensor(1 / r_off) * (1 - 1e-6)).all())
    devices[3, 5].set_conductance(1 / 150)
    assert float(layer.crossbars[0].conductance_matrix[3, 5]) == pytest.approx(1 / 150, rel=1e-6)
    assert devices[3, 5].g == pytest.approx(1 / devices[3, 5].get_resistance())
    before = layer(torch.ones(1, 16))
    devices[3, 5].simulate([-0.5, -0.5])
    assert devices[3, 5].g > 1 / 150
    assert not torch.equal(layer(torch.ones(1, 16)), before)


def test_spreads_with_one_mean_still_hold_weights():
    spread = [memtorch.bh.StochasticParameter(200, std=std, min=1) for std in (40, 20)]
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="the lower resistance was taken as r_on"):
        layer = patch(nn.Linear(30, 20), memristor_model_params={"r_off": spread[0], "r_on": spread[1]})
    x = torch.rand(5, 30)
    patched = layer(x).detach()
    layer.forward_legacy(True)
    assert np.corrcoef(patched.flatten(), layer(x).detach().flatten())[0, 1] > 0.3


@pytest.mark.parametrize("tile_shape", [None, (5, 3)])
def test_the_conductance_matrix_can_be_assigned(tile_shape):
    layer = patch(nn.Linear(10, 6), tile_shape=tile_shape)
    torch.manual_seed(0)
    for crossbar in layer.crossbars:
        crossbar.conductance_matrix = crossbar.conductance_matrix.uniform_(1 / 1600, 1 / 100)
    weight = layer.crossbars[0].store.read() - layer.crossbars[1].store.read()
    x = torch.rand(3, 10)
    assert np.corrcoef((x @ weight).flatten(), (layer(x) - layer.bias).flatten().detach())[0, 1] > 0.99999
    with pytest.raises(SpecError, match=r"conductance_matrix of shape \(2, 2\) does not fit"):
        layer.crossbars[0].conductance_matrix = torch.ones(2, 2)


CHANGES = {
    "entry": lambda g: g.__setitem__((0, 1), 1 / 300),
    "row": lambda g: g[2].fill_(1 / 300),
    "rows": lambda g: [row.mul_(0.5) for row in g],
    "whole": lambda g: g.mul_(0.5),
    "data": lambda g: g.data.t().mul_(0.5),
    "mask": lambda g: g.masked_fill_(g > 1 / 800, 1 / 300),
    "out": lambda g: torch.mul(g, 0.5, out=g),
    "initialised": lambda g: nn.init.constant_(g, 1 / 300),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("own", [False, True])
def test_the_conductance_matrix_can_be_written_in_place(change, own: bool):
    layer = patch(nn.Linear(10, 6, bias=False))
    crossbar = memtorch.bh.Crossbar(VTEAM, PARAMS, (10, 6)) if own else layer.crossbars[0]
    wanted = crossbar.store.read()
    change(wanted)
    change(crossbar.conductance_matrix)
    torch.testing.assert_close(crossbar.store.read(), wanted.clamp(1 / 1600, 1 / 100))
    if not own:
        g = [crossbar.store.read() for crossbar in layer.crossbars]
        x = torch.rand(3, 10)
        torch.testing.assert_close(layer(x), x @ (g[0] - g[1]) / layer.matmul.scale)


def test_tiles_are_written_in_place_and_two_who_write_do_not_undo_each_other():
    crossbar = memtorch.bh.Crossbar(VTEAM, PARAMS, (10, 6), (4, 4))
    one, two = crossbar.conductance_matrix, crossbar.conductance_matrix
    one[5, 0, 1] = 1 / 200  # the third row of tiles, its second column
    two[0, 1, 2] = 1 / 300
    one[0, 0, 0] = 1.0  # beyond what a cell can have
    assert [1 / float(crossbar.store.read()[at]) for at in ((8, 5), (1, 2), (0, 0))] == pytest.approx(
        [200, 300, 100]
    )
    assert float(one[0, 0, 0]) == pytest.approx(1 / 100)
    assert float(one[0, 1, 2]) == pytest.approx(1 / 300)


def test_what_comes_from_the_conductance_matrix_is_plain():
    matrix = memtorch.bh.Crossbar(VTEAM, PARAMS, (2, 3)).conductance_matrix
    others = [2 * matrix, matrix.clone(), copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix))]
    others.append(matrix.to_sparse())
    assert {type(tensor) for tensor in others} == {torch.Tensor}
    with pytest.raises(ValueError, match="read-only"):
        matrix.numpy()[0, 0] = 1.0


@pytest.mark.parametrize("tile_shape", [None, (4, 4)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5])
def test_impossible_conductances_are_refused_and_nothing_is_written(bad: float, tile_shape):
    crossbar = patch(nn.Linear(3, 2), tile_shape=tile_shape).crossbars[0]
    before, matrix = crossbar.store.read(), crossbar.conductance_matrix
    place = (0, 1, 1) if tile_shape else (1, 1)
    wrong = matrix.clone()
    wrong[place] = bad
    message = rf"conductance_matrix\[{', '.join(map(str, place))}\] is {bad}"
    with pytest.raises(SpecError, match=message):
        crossbar.conductance_matrix = wrong
    with pytest.raises(SpecError, match=message):
        matrix[place] = bad
    with pytest.raises(SpecError, match=rf"conductance \(S\) is {bad}: it must be a finite number, above 0"):
        crossbar.devices[1, 1].g = bad
    assert torch.equal(crossbar.store.read(), before)
    assert bool((matrix >= 0).all())


def test_devices_can_be_set_and_nothing_else_assigned():
    crossbar = patch(nn.Linear(3, 2)).crossbars[0]
    device = crossbar.devices[0, 0]
    device.g = 1 / 250
    assert float(crossbar.conductance_matrix[0, 0]) == pytest.approx(1 / 250)
    for name in ("r_on", "r_off", "time_series_resolution", "x"):
        with pytest.raises(SpecError, match=f"{name} of a device in a crossbar cannot be assigned: set g"):
            setattr(device, name, 5)
    assert device.r_on == pytest.approx(100)


def test_a_mapping_routine_of_the_user(network: Net):
    def routine(weight, r_on, r_off, scheme, p_l=None):
        positive, negative = memtorch.map.Parameter.naive_map(weight, r_on, r_off, scheme, p_l)
        return 0.5 * positive, 0.5 * negative

    patched = patch(
        nn.Linear(6, 4), mapping_routine=routine, memristor_model_params={"r_on": 50, "r_off": 1e6}
    )
    digital = patch(nn.Linear(6, 4))
    assert float(patched.crossbars[0].max_abs_conductance) <= 0.5 / 50
    patched.tune_()
    x = torch.rand(3, 6)
    patched.forward_legacy(True)
    wanted = patched(x)
    patched.forward_legacy(False)
    assert torch.allclose(patched(x), wanted, atol=1e-3)
    assert digital.report.cells == 48


# --- non-idealities ---------------------------------------------------------------------------------------


def test_faults_have_exact_shares(network: Net):
    patched = apply_nonidealities(
        patch(network),
        NonIdeality.DeviceFaults,
        lrs_proportion=0.25,
        hrs_proportion=0.1,
        electroform_proportion=0.05,
    )
    product = patched.fc.matmul
    cells = product.conductance.numel()
    assert int((product.stuck == 2).sum()) == int(0.25 * cells)
    assert int((product.stuck == 1).sum()) == int(0.1 * cells) + int(0.05 * cells)


def test_finite_states_act_and_do_not_undo_faults(network: Net):
    patched = patch(network)
    apply_nonidealities(
        patched,
        [NonIdeality.DeviceFaults, NonIdeality.FiniteConductanceStates],
        lrs_proportion=0.3,
        hrs_proportion=0.0,
        electroform_proportion=0.0,
        conductance_states=4,
    )
    g = patched.fc.matmul.conductance
    assert len(g.unique()) == 4
    assert int((g > 0.99 / 100).sum()) >= int(0.3 * g.numel())
    one = apply_nonidealities(patch(network), NonIdeality.FiniteConductanceStates, conductance_states=1)
    assert len(one.fc.matmul.conductance.unique()) == 1


def test_finite_states_are_those_that_memtorch_intended():
    layer = matrix_layer(array("fs_G0"))
    memtorch.bh.nonideality.FiniteConductanceStates.apply_finite_conductance_states(layer, 4)
    found = layer.crossbars[0].conductance_matrix
    assert torch.allclose(found, array("fs_intended_4"), rtol=MEMTORCH_FLOAT32)


@pytest.mark.parametrize("key", ["er_sudden_100_10_350_298", "er_gradual_100_10_350_298"])
def test_endurance_is_memtorchs_within_the_reach_of_the_cells(key: str):
    case = {k: v for k, v in FUNCTIONS["er"][key].items() if k not in ("key", "x")}
    case["operation_mode"] = endurance_retention_models.OperationMode[case["operation_mode"]]
    layer = matrix_layer(array("er_G0"))
    network = nn.Sequential(layer)
    model = endurance_retention_models.model_endurance_retention
    apply_nonidealities(
        network, [NonIdeality.Endurance], x=100.0, endurance_model=model, endurance_model_kwargs=case
    )
    wanted = array(key).clamp(1 / 1000, 1 / 50)
    found = layer.crossbars[0].conductance_matrix
    # cells pushed across the middle fail a second time in MemTorch; between 525 and 550 ohm it counts LRS
    once = (1 / array("er_G0") < 525) | (1 / array("er_G0") > 550)
    same = torch.isclose(found, wanted, rtol=1e-4) | ~once
    assert float(same.float().mean()) > 0.8


def test_drift_is_memtorchs_within_the_reach_of_the_cells():
    case = FUNCTIONS["drift"]
    layer = matrix_layer(array("er_G0"))
    apply_nonidealities(
        nn.Sequential(layer),
        [NonIdeality.Retention],
        time=case["time"],
        retention_model=endurance_retention_models.model_conductance_drift,
        retention_model_kwargs={k: case[k] for k in ("initial_time", "drift_coefficient")},
    )
    wanted = array("drift_1e+06_1_0.05").clamp(1 / 1000, 1 / 50)
    assert torch.allclose(layer.crossbars[0].conductance_matrix, wanted, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:sweep_")
@pytest.mark.parametrize("options", [{"simulate": True}, {"sweep_duration": 2, "num_conductance_states": 9}])
def test_nonlinear_reads_use_the_devices_own_curve_and_move_nothing(options: dict):
    model = memtorch.bh.memristor.Stanford_PKU
    layer = patch(nn.Linear(5, 3, bias=False), memristor_model=model, memristor_model_params={})
    layer.crossbars[0].conductance_matrix = torch.full((5, 3), 1e-4)
    apply_nonidealities(layer, [NonIdeality.NonLinear], **options)
    x = torch.tensor([[0.5, -0.2, 0.1, 0.0, 0.3]], dtype=torch.float64)
    first, second = layer(x), layer(x)
    assert torch.equal(first, second)
    curves = [memtorch.bh.crossbar.simulate_matmul(x, crossbar) for crossbar in layer.crossbars]
    wanted = (curves[0] - curves[1]) / float(layer.matmul.scale)
    assert torch.allclose(first, wanted, rtol=1e-4)
    one = layer.crossbars[0].devices[0, 0]
    memristor = model()
    memristor.set_conductance(one.g)
    assert float(one.device.current(0.5, memristor.physics.state)) == pytest.approx(memristor.current(0.5))


def test_cycle_variability_clips_to_the_new_bounds(network: Net):
    patched = patch(network)
    torch.manual_seed(0)
    bounds = {"r_off_kwargs": {"loc": 800.0, "scale": 1.0}, "r_on_kwargs": {"loc": 200.0, "scale": 1.0}}
    apply_cycle_variability(patched.fc, **bounds)
    resistance = 1 / patched.fc.matmul.conductance
    assert float(resistance.min()) == pytest.approx(200, abs=8)
    assert float(resistance.max()) == pytest.approx(800, abs=8)


def test_a_model_of_endurance_of_the_user(network: Net):
    def model(layer, x, factor):
        for crossbar in layer.crossbars:
            crossbar.conductance_matrix = crossbar.conductance_matrix * factor
        return layer

    patched = patch(network)
    before = patched.fc.crossbars[0].conductance_matrix.max()
    arguments = {"endurance_model": model, "endurance_model_kwargs": {"factor": 0.5}}
    apply_nonidealities(patched, [NonIdeality.Endurance], x=1.0, **arguments)
    assert float(patched.fc.crossbars[0].conductance_matrix.max()) == pytest.approx(float(before) / 2)


@pytest.mark.parametrize(
    ("kinds", "arguments", "message"),
    [
        (
            [NonIdeality.FiniteConductanceStates],
            {},
            "needs the argument conductance_states=",
        ),
        ([NonIdeality.NonLinear], {"lrs_proportion": 0.1}, "no argument 'lrs_proportion' for these"),
        (
            [NonIdeality.NonLinear],
            {"sweep_duration": 0},
            "sweep_duration is 0: it must be a finite number, above 0",
        ),
        (["NonLinear"], {}, "'NonLinear' is no memtorch.bh.nonideality.NonIdeality"),
    ],
)
def test_bad_non_idealities_are_refused(network: Net, kinds, arguments: dict, message: str):
    with pytest.raises(SpecError, match=message):
        apply_nonidealities(patch(network), kinds, **arguments)
    with pytest.raises(SpecError, match="patch_model comes first"):
        apply_nonidealities(network, [NonIdeality.NonLinear])


# --- programming ------------------------------------------------------------------------------------------


def test_half_selected_neighbours_move_as_their_model_says():
    crossbar = memtorch.bh.crossbar.Crossbar(memtorch.bh.memristor.VTEAM, {}, (2, 2))
    crossbar.conductance_matrix = torch.full((2, 2), 1 / 500, dtype=torch.float64)
    memtorch.bh.crossbar.naive_program(crossbar, (0, 0), 1 / 800)
    resistance = 1 / crossbar.conductance_matrix
    # x rises by k_off (v/v_off - 1) t: 49 for the full and 24 for half the voltage
    assert float(resistance[0, 1] - 500) == pytest.approx(300 * 24 / 49, rel=1e-3)
    assert float(resistance[1, 1]) == pytest.approx(500)
    alone = memtorch.bh.crossbar.Crossbar(memtorch.bh.memristor.VTEAM, {}, (2, 2))
    memtorch.bh.crossbar.naive_program(alone, (0, 0), 1 / 800, simulate_neighbours=False)
    assert float(alone.conductance_matrix[0, 1]) == pytest.approx(1 / 50)


def test_programming_takes_the_one_tolerance_of_all_bounds(monkeypatch):
    crossbar = memtorch.bh.crossbar.Crossbar(memtorch.bh.memristor.VTEAM, {}, (1, 1))
    beyond = 0.0201
    with pytest.raises(SpecError, match="conductance is 0.0201 S: the device reaches 0.001 to 0.02 S"):
        memtorch.bh.crossbar.naive_program(crossbar, (0, 0), beyond)
    monkeypatch.setattr("cosim.arrays.rounding", lambda value: 0.01)
    assert memtorch.bh.crossbar.naive_program(crossbar, (0, 0), beyond).g == pytest.approx(0.02)


def test_what_cannot_be_programmed_is_said():
    crossbar = memtorch.bh.crossbar.Crossbar(memtorch.bh.memristor.Stanford_PKU, {}, (1, 1))
    with pytest.raises(SpecError, match="conductance is 1.0 S: the device reaches 4.57"):
        memtorch.bh.crossbar.naive_program(crossbar, (0, 0), 1.0)
    crossbar.conductance_matrix = torch.full((1, 1), 5e-4, dtype=torch.float64)
    with pytest.raises(SpecError, match="a pulse of -1.0 V does not move the device"):
        memtorch.bh.crossbar.naive_program(crossbar, (0, 0), 1e-4)


def test_layers_without_transistors_are_programmed():
    torch.manual_seed(0)
    options = {"pos_voltage_level": 2.0, "neg_voltage_level": -2.0, "simulate_neighbours": False}
    model = memtorch.bh.memristor.LinearIonDrift
    digital = nn.Linear(3, 2, bias=False)
    given = {"memristor_model": model, "memristor_model_params": {}, "random_crossbar_init": True}
    routine = memtorch.bh.crossbar.naive_program
    layer = patch(
        digital, transistor=False, programming_routine=routine, programming_routine_params=options, **given
    )
    wanted = patch(digital, memristor_model=model, memristor_model_params={})
    for found, exact in zip(layer.crossbars, wanted.crossbars, strict=True):
        assert torch.allclose(found.conductance_matrix, exact.conductance_matrix, rtol=0.11)
        assert not torch.equal(found.conductance_matrix, exact.conductance_matrix)
    with pytest.raises(SpecError, match="transistor=False needs a programming_routine"):
        patch(digital, transistor=False)


def test_init_crossbar():
    weights = torch.tensor([[1.0, -0.5, 0.25]])
    make = memtorch.bh.crossbar.init_crossbar
    crossbars, combine = make(
        weights, VTEAM, PARAMS, True, memtorch.map.Parameter.naive_map, None, tile_shape=None
    )
    difference = combine(crossbars, lambda crossbar: crossbar.conductance_matrix)
    assert torch.allclose((difference.T / difference.max()).float(), weights, atol=1e-6)


# --- the model --------------------------------------------------------------------------------------------


def test_copies_and_files(network: Net):
    patched = patch(network, tile_shape=(16, 4))
    patched.tune_()
    wanted = patched(INPUTS)
    assert torch.equal(copy.deepcopy(patched)(INPUTS), wanted)
    file = io.BytesIO()
    torch.save(patched, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(INPUTS), wanted)


def test_naive_tune_returns_the_line(network: Net):
    layer = patch(nn.Linear(8, 4, bias=False), source_resistance=20.0)
    x = torch.rand(3, 8)
    before = layer(x)
    line = naive_tune(layer.model, (512, 8), verbose=False)
    assert torch.allclose(layer(x), line(before), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memristor_model_params": {"r_onn": 1}}, "VTEAM has no argument 'r_onn'; it has: time_series"),
        (
            {"memristor_model_params": {"r_on": 1e5, "r_off": 1e3}},
            r"r_on is 100000.0 ohm and r_off is 1000.0 ohm: r_off must be above r_on",
        ),
        ({"memristor_model_params": {"r_on": 2e3}}, "r_on is 2000.0 ohm and r_off is 1000 ohm: r_off must"),
        ({"max_input_voltage": 0}, r"max_input_voltage \(V\) is 0: it must be a finite number, above 0"),
        ({"memristor_model_params": {"as_memtorch": True}}, "as_memtorch=True is for single devices"),
        ({"ADC_resolution": 8}, "quant_method=None: give both for an ADC"),
        ({"ADC_resolution": 8, "quant_method": "cubic"}, "ADC.method is 'cubic'"),
        ({"scheme": "DoubleColumn"}, "scheme is 'DoubleColumn': give a memtorch.bh.Scheme"),
        ({"use_binding": True}, "patch_model has no option 'use_binding'"),
        ({"scaling_routine": max}, "scaling_routine: layers scale inputs themselves"),
    ],
)
def test_bad_options_are_refused(network: Net, options: dict, message: str):
    with pytest.raises(SpecError, match=message):
        patch(network, **options)
    with pytest.raises(SpecError, match="has no memristive layer; choose from Linear, Conv1d"):
        patch_model(network, VTEAM, PARAMS, [nn.Embedding])


def test_no_parameters_are_the_defaults():
    own = patch(nn.Linear(3, 2), memristor_model_params=None).crossbars[0].devices[0, 0]
    alone = memtorch.bh.Crossbar(VTEAM, None, (1, 1)).devices[0, 0]
    for device in (own, alone):
        assert (device.r_on, device.r_off) == pytest.approx((50, 1000))


def test_imports_of_memtorch_code_find_these_modules():
    code = (
        "import cosim.memtorch as memtorch\n"
        "from memtorch.mn.Module import patch_model\n"
        "import memtorch.bh.crossbar.Program as program\n"
        "from memtorch.bh.memristor.VTEAM import VTEAM\n"
        "assert VTEAM is memtorch.bh.memristor.VTEAM and 'cpu' in memtorch.__version__ or True\n"
        "print(patch_model.__module__, program.__name__)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["cosim.memtorch.mn.Module", "cosim.memtorch.bh.crossbar.Program"]


def test_another_package_of_that_name_is_left_alone():
    code = "import sys, types; sys.modules['memtorch'] = types.ModuleType('memtorch'); import cosim.memtorch"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "another package called memtorch is imported already" in output.stderr
