"""What MemTorch's tutorial, case study and novel simulations do, in small, and the names that they use."""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from cosim.errors import SpecError
from cosim.memtorch.bh.nonideality import endurance_retention_models as wear
from cosim.memtorch.bh.nonideality.NonIdeality import NonIdeality, apply_nonidealities
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.mn.Module import patch_model

VTEAM = memtorch.bh.memristor.VTEAM
Stochastic = memtorch.bh.StochasticParameter
WRITE_ROUTINE = {"mapping_routine": naive_map, "transistor": True, "programming_routine": None}

_LAYER = ("memristor_model", "memristor_model_params")
_PLOT = ("voltage_signal_amplitude", "voltage_signal_frequency", "log_scale", "return_result")
_PROGRAM = ("pulse_duration", "refactory_period", "pos_voltage_level", "neg_voltage_level")
_CONVERTER = ("ADC_resolution", "ADC_overflow_rate", "quant_method")
_THRESHOLDS = ("pos_write_threshold", "neg_write_threshold")
# names of the documentation of 1.1.0, with arguments in their order
NAMES: dict[str, tuple[str, ...]] = {
    "bh.memristor.LinearIonDrift.LinearIonDrift": ("time_series_resolution", "u_v", "d", "r_on", "r_off"),
    "bh.memristor.LinearIonDrift.LinearIonDrift.dxdt": ("self", "current"),
    "bh.memristor.VTEAM.VTEAM": ("time_series_resolution", "r_off", "r_on", "d", "k_on", "k_off", "alpha_on"),
    "bh.memristor.VTEAM.VTEAM.dxdt": ("self", "voltage"),
    "bh.memristor.Data_Driven.Data_Driven": ("time_series_resolution", "r_off", "r_on", "A_p", "A_n", "t_p"),
    "bh.memristor.Data_Driven.Data_Driven.resistance": ("self", "voltage"),
    "bh.memristor.Stanford_PKU.Stanford_PKU": ("time_series_resolution", "r_off", "r_on", "gap_init", "g_0"),
    "bh.memristor.Stanford_PKU.Stanford_PKU.T_current": ("self", "voltage", "current"),
    "bh.memristor.Stanford_PKU.Stanford_PKU.dg_dt": ("self", "voltage", "current"),
    "bh.memristor.Memristor.Memristor": ("r_off", "r_on", "time_series_resolution", *_THRESHOLDS),
    "bh.memristor.Memristor.Memristor.plot_hysteresis_loop": ("memristor", "duration", *_PLOT),
    "bh.memristor.Memristor.Memristor.plot_bipolar_switching_behaviour": ("memristor", *_PLOT),
    "bh.memristor.Memristor.Memristor.get_resistance": ("self",),
    "bh.memristor.Memristor.Memristor.set_conductance": ("self", "conductance"),
    "bh.memristor.Memristor.Memristor.simulate": ("self", "voltage_signal", "return_current"),
    "bh.memristor.Memristor.plot_hysteresis_loop": ("memristor_model", "duration", *_PLOT),
    "bh.memristor.Memristor.plot_bipolar_switching_behaviour": ("memristor_model", *_PLOT),
    "bh.nonideality.NonIdeality.apply_nonidealities": ("model", "non_idealities", "kwargs"),
    "bh.nonideality.NonIdeality.required": ("kwargs", "arguments", "call"),
    "bh.nonideality.FiniteConductanceStates.apply_finite_conductance_states": (
        *("layer", "num_conductance_states"),
    ),
    "bh.nonideality.DeviceFaults.apply_cycle_variability": (
        *("layer", "distribution", "min", "max", "parallelize", "r_off_kwargs", "r_on_kwargs"),
    ),
    "bh.nonideality.DeviceFaults.apply_device_faults": (
        *("layer", "lrs_proportion", "hrs_proportion", "electroform_proportion"),
    ),
    "bh.nonideality.NonLinear.apply_non_linear": (
        *("layer", "sweep_duration", "sweep_voltage_signal_amplitude", "sweep_voltage_signal_frequency"),
        *("num_conductance_states", "simulate"),
    ),
    "bh.crossbar.Crossbar.Crossbar": (*_LAYER, "shape", "tile_shape"),
    "bh.crossbar.Crossbar.Crossbar.update": ("self", "from_devices", "parallelize"),
    "bh.crossbar.Crossbar.Crossbar.write_conductance_matrix": (
        *("self", "conductance_matrix", "transistor", "programming_routine", "programming_routine_params"),
    ),
    "bh.crossbar.Crossbar.init_crossbar": (
        *("weights", *_LAYER, "transistor", "mapping_routine", "programming_routine"),
        *("programming_routine_params", "p_l", "scheme", "tile_shape"),
    ),
    "bh.crossbar.Crossbar.simulate_matmul": (
        *("input", "crossbar", "nl", "tiles_map", "crossbar_shape", "max_input_voltage", *_CONVERTER),
    ),
    "bh.crossbar.Tile.Tile": ("tile_shape", "patch_num"),
    "bh.crossbar.Tile.Tile.update_array": ("self", "new_array"),
    "bh.crossbar.Tile.gen_tiles": ("tensor", "tile_shape", "input"),
    "bh.crossbar.Tile.tile_matmul": (
        *("mat_a_tiles", "mat_a_tiles_map", "mat_a_shape", "mat_b_tiles", "mat_b_tiles_map", "mat_b_shape"),
        *_CONVERTER,
    ),
    "bh.crossbar.Program.gen_programming_signal": (
        *("number_of_pulses", "pulse_duration", "refactory_period", "voltage_level"),
        "time_series_resolution",
    ),
    "bh.crossbar.Program.naive_program": (
        *("crossbar", "point", "conductance", "rel_tol", *_PROGRAM),
        *("simulate_neighbours", "timeout", "timeout_adjustment"),
    ),
    "bh.Quantize.quantize": ("tensor", "quant", "overflow_rate", "quant_method", "min", "max"),
    "bh.StochasticParameter.Dict2Obj": ("dictionary",),
    "bh.StochasticParameter.StochasticParameter": ("distribution", "min", "max", "function", "kwargs"),
    "bh.StochasticParameter.unpack_parameters": (
        *("local_args", "r_rel_tol", "r_abs_tol", "resample_threshold"),
    ),
    "map.Module.naive_tune": ("module", "input_shape", "verbose"),
    "map.Parameter.naive_map": ("weight", "r_on", "r_off", "scheme", "p_l"),
    "mn.Module.patch_model": (
        *("model", *_LAYER, "module_parameters_to_patch", "mapping_routine", "transistor"),
        *("programming_routine", "programming_routine_params", "p_l", "scheme", "tile_shape"),
        *("max_input_voltage", *_CONVERTER, "verbose"),
    ),
    "mn.Linear.Linear": ("linear_layer", *_LAYER),
    "mn.Linear.Linear.forward": ("self", "input"),
    "mn.Conv1d.Conv1d": ("convolutional_layer", *_LAYER),
    "mn.Conv1d.Conv1d.forward": ("self", "input"),
    "mn.Conv2d.Conv2d.forward": ("self", "input"),
    "mn.Conv2d.Conv2d.tune": ("self", "input_batch_size", "input_shape"),
    "mn.Conv3d.Conv3d": ("convolutional_layer", *_LAYER),
    "mn.Conv3d.Conv3d.forward": ("self", "input"),
    "mn.RNN.RNN": ("recurrent_layer", *_LAYER),
}


@pytest.mark.parametrize("path", NAMES)
def test_documented_names_and_their_arguments(path: str):
    parts = path.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if f"memtorch.{'.'.join(parts[:n])}" in _modules())
    found: Any = importlib.import_module(f"memtorch.{'.'.join(parts[:depth])}")
    for name in parts[depth:]:
        found = getattr(found, name)
    arguments = tuple(inspect.signature(found).parameters)
    assert arguments[: len(NAMES[path])] == NAMES[path]


def _modules() -> set[str]:
    return {name for name, module in sys.modules.items() if name.startswith("memtorch") and module}


def test_other_spellings_of_the_documents():
    assert importlib.import_module("memtorch.nn.Module").patch_model is patch_model
    assert importlib.import_module("memtorch.bh.map.Parameter").naive_map is naive_map
    assert memtorch.nn.Linear is memtorch.mn.Linear
    assert importlib.import_module("memtorch.bh").map is memtorch.map
    assert memtorch.bh.Crossbar is memtorch.bh.crossbar.Crossbar
    x = torch.tensor([-1.0, 0.2, 0.6])
    assert torch.equal(memtorch.bh.Quantize.quantize(input=x, bits=3), memtorch.bh.Quantize.quantize(x, 3))
    with pytest.raises(SpecError, match="quantize: bits= and quant= are the same: give one"):
        memtorch.bh.Quantize.quantize(x, bits=3, quant=3)
    crossbar = memtorch.bh.crossbar.Crossbar(VTEAM, {}, (1, 1))
    found = memtorch.bh.crossbar.naive_program(crossbar, (0, 0), 1 / 500, timeout=10, timeout_adjustment=1e-9)
    assert found.g == pytest.approx(1 / 500, rel=0.01)


# --- the tutorial -------------------------------------------------------------------------------------------


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8 * 9, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.relu(self.norm(torch.max_pool2d(self.conv2(x), 2)))
        return self.fc1(x.view(-1, 8 * 9))


@pytest.fixture(scope="module")
def digits() -> tuple[Any, nn.Module, torch.Tensor]:
    """A patched and tuned network, the digital one, and images."""
    torch.manual_seed(0)
    network = Digits().eval()
    images = torch.rand(6, 1, 20, 20)
    patched = patch_model(
        copy.deepcopy(network),
        memristor_model=VTEAM,
        memristor_model_params={"time_series_resolution": 1e-10},
        module_parameters_to_patch=[nn.Conv2d],
        tile_shape=(128, 128),
        max_input_voltage=0.3,
        scaling_routine=naive_scale,
        ADC_resolution=8,
        ADC_overflow_rate=0.0,
        quant_method="linear",
        verbose=False,
        **WRITE_ROUTINE,
    )
    assert patched.tune_() is None
    return patched, network, images


def error(network: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    """Rms error of the outputs over their rms."""
    with torch.no_grad():
        wanted = network(x)
        return float((other(x) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


def test_the_tutorials_network(digits):
    patched, network, images = digits
    assert 0 < error(network, patched, images) < 0.1
    patched.forward_legacy(True)
    assert error(network, patched, images) < 1e-5
    patched.forward_legacy(False)


FAILURE = {
    "operation_mode": wear.OperationMode.sudden,
    "p_lrs": [1, 0, 0, 0],
    "stable_resistance_lrs": 100,
    "p_hrs": [1, 0, 0, 0],
    "stable_resistance_hrs": 1000,
    "cell_size": 10,
    "temperature": 350,
}
TUTORIAL: dict[str, tuple[NonIdeality, dict[str, Any]]] = {
    "faults": (
        NonIdeality.DeviceFaults,
        {"lrs_proportion": 0.25, "hrs_proportion": 0.10, "electroform_proportion": 0},
    ),
    "endurance": (
        NonIdeality.Endurance,
        {
            "x": 1e4,
            "endurance_model": wear.model_endurance_retention,
            "endurance_model_kwargs": FAILURE,
        },
    ),
    "retention": (
        NonIdeality.Retention,
        {
            "time": 1e3,
            "retention_model": wear.model_conductance_drift,
            "retention_model_kwargs": {"initial_time": 1, "drift_coefficient": 0.1},
        },
    ),
    "states": (NonIdeality.FiniteConductanceStates, {"conductance_states": 5}),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_tutorials_non_idealities_act(digits, name: str):
    patched, _, images = digits
    kind, arguments = TUTORIAL[name]
    worse = apply_nonidealities(copy.deepcopy(patched), non_idealities=[kind], **arguments)
    assert error(patched, worse, images) > 0.02


@pytest.mark.filterwarnings("ignore:sweep_")
@pytest.mark.parametrize(
    "arguments",
    [
        {"simulate": True},
        {
            "sweep_duration": 2,
            "sweep_voltage_signal_amplitude": 1,
            "sweep_voltage_signal_frequency": 0.5,
        },
    ],
)
def test_nonlinear_reads_of_cells_with_a_linear_curve_change_nothing(digits, arguments: dict):
    patched, _, images = digits
    same = apply_nonidealities(copy.deepcopy(patched), [NonIdeality.NonLinear], **arguments)
    assert error(patched, same, images) < 1e-6


@pytest.mark.filterwarnings("ignore:r_on")
def test_a_device_whose_r_on_is_drawn_above_r_off():
    torch.manual_seed(0)
    spread = {"r_off": Stochastic(loc=1000, scale=200, min=2), "r_on": Stochastic(loc=5000, scale=50, min=1)}
    device = VTEAM(time_series_resolution=1e-10, **spread)
    assert device.r_on < device.r_off
    signals = device.plot_hysteresis_loop(return_result=True)
    assert signals is not None
    volts, current = signals
    assert len(volts) == len(current) == 2001
    assert np.isfinite(current).all()


class Prototype(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutional_layer = nn.Conv2d(3, 1, 5)
        self.linear_layer = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolutional_layer(x)
        return self.linear_layer(x.view(x.size(0), -1))


def prototype(r_off: Any = 200, r_on: Any = 100) -> Any:
    torch.manual_seed(0)
    params = {"time_series_resolution": 1e-10, "r_off": r_off, "r_on": r_on}
    both = {"module_parameters_to_patch": [nn.Linear, nn.Conv2d], "max_input_voltage": 1.0, "verbose": False}
    return patch_model(
        Prototype(), memristor_model=VTEAM, memristor_model_params=params, **both, **WRITE_ROUTINE
    )


def test_resistances_of_the_prototype_as_arrays():
    patched = prototype(Stochastic(loc=200, scale=20, min=2), Stochastic(loc=100, scale=10, min=1))
    devices = patched.linear_layer.crossbars[0].devices
    r_off, r_on = (
        torch.Tensor(np.vectorize(lambda x, n=n: getattr(x, n))(devices)) for n in ("r_off", "r_on")
    )
    assert r_off.shape == r_on.shape == (16, 4)
    assert bool((r_off > r_on).all())
    assert 10 < float(r_off.std()) < 30
    both = torch.cat((r_off, r_on), 0)
    assert both.min() == r_on.min()


def test_states_and_faults_of_the_prototype_in_its_matrices():
    patched = prototype()
    before = 1 / patched.linear_layer.crossbars[0].conductance_matrix
    five = apply_nonidealities(
        copy.deepcopy(patched), [NonIdeality.FiniteConductanceStates], conductance_states=5
    )
    found = 1 / five.linear_layer.crossbars[0].conductance_matrix
    levels = torch.linspace(1 / 200, 1 / 100, 5)
    assert float((1 / found.unique()[:, None] - levels).abs().min(1).values.max()) < 1e-8
    shares = {"lrs_proportion": 0.5, "hrs_proportion": 0.5, "electroform_proportion": 0}
    stuck = apply_nonidealities(copy.deepcopy(patched), [NonIdeality.DeviceFaults], **shares)
    cells = torch.cat([c.conductance_matrix for c in stuck.linear_layer.crossbars])
    assert sorted((1 / cells).round().unique().tolist()) == [100, 200]
    assert int((cells > 0.0075).sum()) == cells.numel() // 2
    assert torch.equal(before, 1 / patched.linear_layer.crossbars[0].conductance_matrix)


def test_outputs_become_arrays_without_detaching():
    patched = prototype()
    rows = torch.tensor(np.zeros((3, 4)))
    for i in range(3):
        rows[i, :] = patched(torch.zeros((1, 3, 8, 8)).uniform_(-1, 1))
    assert rows.view(-1).numpy().shape == (12,)


# --- the case study: seizures -------------------------------------------------------------------------------

EEG_DEVICE = {
    "time_series_resolution": 1e-6,
    "alpha_off": 1,
    "alpha_on": 3,
    "v_off": 0.5,
    "v_on": -0.53,
    "r_off": 2.5e3,
    "r_on": 100,
    "k_off": 4.03e-8,
    "k_on": -80,
    "d": 10e-9,
    "x_on": 0,
    "x_off": 10e-9,
}


def eeg(**spread: Any) -> tuple[nn.Module, Any]:
    """The digital network of the case study, narrower, and the patched one."""
    torch.manual_seed(0)
    widths = (178, 20, 20, 2)
    layers = [
        part
        for a, b in itertools.pairwise(widths)
        for part in (nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b))
    ]
    network = nn.Sequential(*layers[:-2], layers[-1], nn.LogSoftmax(1)).eval()
    patched = patch_model(
        copy.deepcopy(network),
        memristor_model=VTEAM,
        memristor_model_params={**EEG_DEVICE, **spread},
        module_parameters_to_patch=[nn.Linear],
        scheme=memtorch.bh.Scheme.DoubleColumn,
        verbose=False,
        **WRITE_ROUTINE,
    )
    return network, patched


EEG = torch.randn(20, 178, generator=torch.Generator().manual_seed(1))


def test_random_conductances_are_a_baseline_that_tuning_does_not_mend():
    network, patched = eeg()
    for _, m in list(patched.named_modules()):
        if isinstance(m, memtorch.mn.Linear):
            for crossbar in m.crossbars:
                crossbar.conductance_matrix = crossbar.conductance_matrix.uniform_(1 / 2.5e3, 1 / 100)
    untuned = error(network, patched, EEG)
    patched.tune_()
    assert 0.02 < error(network, patched, EEG) <= untuned
    clean = eeg()[1]
    clean.tune_()
    assert error(network, clean, EEG) < 1e-4


@pytest.mark.filterwarnings("ignore:r_on")
def test_device_spread_of_the_case_study_from_none_to_five_times_r_on():
    errors = []
    for sigma in np.linspace(0, 500, 5):
        torch.manual_seed(1)
        ends = {"r_off": Stochastic(2.5e3, std=sigma * 2, min=1), "r_on": Stochastic(100, std=sigma, min=1)}
        network, patched = eeg(**ends)
        patched.tune_()
        errors.append(error(network, patched, EEG))
    assert errors[0] < 1e-4
    assert errors[-1] > 0.05


@pytest.mark.filterwarnings("ignore:sweep_")
def test_nonlinear_reads_before_tuning_as_in_the_case_study():
    network, patched = eeg()
    sweep = {"sweep_voltage_signal_amplitude": 1, "sweep_voltage_signal_frequency": 0.5}
    patched = apply_nonidealities(patched, [NonIdeality.NonLinear], sweep_duration=2, **sweep)
    patched.tune_()
    assert error(network, patched, EEG) < 1e-4


# --- the novel simulations ----------------------------------------------------------------------------------


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0, self.bn0 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc8 = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn0(torch.max_pool2d(self.conv0(x), 2)))
        x = torch.relu(self.bn1(torch.max_pool2d(self.conv1(x), 2)))
        return self.fc8(x.view(x.size(0), -1))


def vgg(r_on: Any, r_off: Any, kinds: list[NonIdeality], **arguments: Any) -> float:
    """Error of the tuned network."""
    torch.manual_seed(0)
    network, images = Vgg().eval(), torch.rand(8, 3, 16, 16)
    patched = patch_model(
        copy.deepcopy(network),
        memristor_model=VTEAM,
        memristor_model_params={"time_series_resolution": 1e-10, "r_off": r_off, "r_on": r_on},
        module_parameters_to_patch=[nn.Linear, nn.Conv2d],
        verbose=False,
        **WRITE_ROUTINE,
    )
    if kinds:
        patched = apply_nonidealities(patched, kinds, **arguments)
    patched.tune_()
    return error(network, patched, images)


def test_finite_states_from_one_to_ten():
    errors = [
        vgg(200, 500, [NonIdeality.FiniteConductanceStates], conductance_states=int(n))
        for n in np.linspace(1, 10, 10)[[0, 1, 4, 9]]
    ]
    assert errors[0] > errors[2] > errors[3]
    assert errors[3] < 0.5


def test_failed_devices_in_steps():
    for ends in ((1, 1), (1, 0), (0, 1)):
        shares = [
            dict(zip(("lrs_proportion", "hrs_proportion"), (f * e for e in ends), strict=True))
            for f in (0.0, 0.025, 0.25)
        ]
        errors = [vgg(200, 500, [NonIdeality.DeviceFaults], electroform_proportion=0, **s) for s in shares]
        assert errors[0] < 1e-4
        assert errors[0] < errors[1] < errors[2]


@pytest.mark.filterwarnings("ignore:r_on .* overlap")
@pytest.mark.parametrize("std", [0, 20, 100])
@pytest.mark.parametrize("g_ratio", [1, 2, 32])
def test_states_ratio_and_spread_together(g_ratio: int, std: float):
    """r_off/r_on = 1 without spread leaves no weight at all; the sweep goes on."""
    ends = Stochastic(200, std=std, min=1), Stochastic(200 * g_ratio, std=2 * std, min=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = vgg(*ends, [NonIdeality.FiniteConductanceStates], conductance_states=8)
    said = any("no cell can be switched" in str(w.message) for w in caught)
    assert said == (g_ratio == 1 and std == 0)
    assert found > 0.3 if said else found < 3


@pytest.mark.parametrize("scheme", list(memtorch.bh.Scheme))
@pytest.mark.parametrize(
    "name", ["LinearIonDrift", "VTEAM", "Data_Driven", "Data_Driven2021", "Stanford_PKU"]
)
def test_cells_that_cannot_be_switched_give_the_bias(name: str, scheme):
    digital = nn.Linear(6, 4)
    equal = {"r_on": Stochastic(2000.0, std=0), "r_off": Stochastic(2000.0, std=0)}
    model = getattr(memtorch.bh.memristor, name)
    with pytest.warns(UserWarning, match="r_on and r_off are equal, 2000 ohm: no cell can be switched"):
        layer = memtorch.mn.Linear(digital, model, equal, scheme=scheme, verbose=False)
    apply_nonidealities(
        nn.Sequential(layer),
        [NonIdeality.DeviceFaults, NonIdeality.FiniteConductanceStates],
        **{"lrs_proportion": 0.2, "hrs_proportion": 0.2, "electroform_proportion": 0},
        conductance_states=4,
    )
    assert len(layer.matmul.conductance.unique()) == 1
    output = layer(torch.rand(3, 6))
    assert torch.isfinite(output).all()
    if scheme is memtorch.bh.Scheme.DoubleColumn:
        assert torch.equal(output, digital.bias.detach().expand(3, 4))
    layer.tune()
    assert float(layer(torch.rand(5, 6)).var(0).max()) < 0.01


@pytest.mark.filterwarnings("ignore:r_on")
def test_states_failures_and_spread_together():
    ends = Stochastic(500, std=20, min=1), Stochastic(200 * 32, std=40, min=1)
    shares = {"lrs_proportion": 0.05, "hrs_proportion": 0.05, "electroform_proportion": 0}
    kinds = [NonIdeality.FiniteConductanceStates, NonIdeality.DeviceFaults]
    assert 0.02 < vgg(*ends, kinds, conductance_states=10, **shares) < 3


def test_reports_print_without_tiles():
    assert "100.0%" in str(prototype().report)


# --- products of one crossbar -------------------------------------------------------------------------------


def test_simulate_matmul_of_tiles_with_converters():
    torch.manual_seed(0)
    model = memtorch.bh.memristor.Stanford_PKU
    simulate = memtorch.bh.crossbar.simulate_matmul
    volts = torch.rand(3, 6, dtype=torch.float64) - 0.5
    whole = memtorch.bh.crossbar.Crossbar(model, {}, (6, 5))
    tiled = memtorch.bh.crossbar.Crossbar(model, {}, (6, 5), (4, 3))
    matrix = 1e-5 + 1e-4 * torch.rand(6, 5, dtype=torch.float64)
    whole.conductance_matrix = matrix
    tiled.store.write(matrix)
    exact = simulate(volts, whole)
    assert torch.allclose(simulate(volts, tiled, nl=False), exact, rtol=1e-9)
    coded = simulate(volts, tiled, ADC_resolution=10, quant_method="linear")
    assert 0 < float((coded - exact).abs().max()) < 0.01 * float(exact.abs().max())
    clipped = simulate(volts, whole, max_input_voltage=0.1)
    assert torch.allclose(clipped, simulate(volts.clamp(-0.1, 0.1), whole))
    with pytest.raises(SpecError, match="give both for an ADC"):
        simulate(volts, whole, ADC_resolution=8)
