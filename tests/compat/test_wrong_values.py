"""Wrong values to any name of the compatibility namespace end in an error of cosim."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import cosim.memtorch as memtorch
from cosim.errors import CosimError
from cosim.memtorch import utils
from cosim.memtorch.bh import memristor as models
from cosim.memtorch.bh.crossbar import Passive, Program, Tile
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, init_crossbar, simulate_matmul
from cosim.memtorch.bh.nonideality import DeviceFaults, FiniteConductanceStates, NonLinear
from cosim.memtorch.bh.nonideality import endurance_retention_models as wear
from cosim.memtorch.bh.Quantize import quantize
from cosim.memtorch.bh.StochasticParameter import Dict2Obj, StochasticParameter, unpack_parameters
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Module import naive_tune
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.mn.Module import patch_model

WRONG = [
    None,
    "x",
    math.nan,
    -1,
    10**400,
    [],
    object(),
    torch.ones(2, 2),
    torch.ones(3, dtype=torch.complex64),
]
ENDS = {"r_on": 100, "r_off": 1600}


def layer() -> Any:
    return memtorch.mn.Linear(nn.Linear(3, 2), models.VTEAM, ENDS, verbose=False)


def crossbar() -> Crossbar:
    return Crossbar(models.VTEAM, ENDS, (3, 2))


def cut() -> dict[str, Any]:
    a, b = torch.rand(2, 3), torch.rand(3, 4)
    names = ("tiles", "tiles_map", "shape")
    first = zip(names, (*Tile.gen_tiles(a, (2, 2), input=True), (2, 3)), strict=True)
    second = zip(names, (*Tile.gen_tiles(b, (2, 2)), (3, 4)), strict=True)
    return {f"mat_a_{n}": v for n, v in first} | {f"mat_b_{n}": v for n, v in second}


def defaults(function: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    return lambda: {n: p.default for n, p in inspect.signature(function).parameters.items()}


ADC = {"ADC_resolution": 6, "ADC_overflow_rate": 0.0, "quant_method": "linear"}
DEVICE = {"memristor_model": models.VTEAM, "memristor_model_params": ENDS}
SHARES = {"lrs_proportion": 0.1, "hrs_proportion": 0.1, "electroform_proportion": 0.1}
NORMAL = {"loc": 1000.0, "scale": 1.0}
# function, right arguments
CALLS: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    "quantize": (quantize, lambda: {"tensor": torch.rand(4), "quant": 4, "overflow_rate": 0.0}),
    "StochasticParameter": (StochasticParameter, lambda: {"min": 0, "max": 10.0, "function": True, **NORMAL}),
    "unpack_parameters": (
        unpack_parameters,
        lambda: {"local_args": {"r_on": 1.0, "r_off": 2.0}, "resample_threshold": 5},
    ),
    "Dict2Obj": (Dict2Obj, lambda: {"dictionary": {}}),
    "convert_range": (
        utils.convert_range,
        lambda: {"old_value": 1, "old_min": 0, "old_max": 1, "new_min": 0, "new_max": 1},
    ),
    "clip": (utils.clip, lambda: {"value": 1, "lower": 0, "upper": 1}),
    "pad_tensor": (utils.pad_tensor, lambda: {"tensor": torch.ones(2, 3), "tile_shape": (2, 2)}),
    "LoadMNIST": (utils.LoadMNIST, lambda: {"data_dir": "no such folder"}),
    "naive_map": (
        naive_map,
        lambda: {
            **{"weight": torch.rand(2, 2), "r_on": 1.0, "r_off": 2.0, "p_l": None},
            "scheme": memtorch.bh.Scheme.DoubleColumn,
        },
    ),
    "naive_scale": (naive_scale, lambda: {"module": layer(), "input": torch.rand(2)}),
    "naive_tune": (naive_tune, lambda: {"module": layer(), "input_shape": (8, 3), "verbose": False}),
    "gen_tiles": (Tile.gen_tiles, lambda: {"tensor": torch.ones(3, 3), "tile_shape": (2, 2), "input": False}),
    "Tile": (Tile.Tile, lambda: {"tile_shape": (2, 2)}),
    "tile_matmul": (
        Tile.tile_matmul,
        lambda: cut() | ADC | {"source_resistance": 1.0, "line_resistance": 1.0},
    ),
    "solve_passive": (
        Passive.solve_passive,
        lambda: {
            **{"conductance_matrix": torch.full((2, 3), 1e-3), "V_WL": torch.ones(2), "V_BL": torch.zeros(3)},
            **{"R_source": 1.0, "R_line": 1.0},
        },
    ),
    "gen_programming_signal": (
        Program.gen_programming_signal,
        lambda: {
            **{"number_of_pulses": 2, "pulse_duration": 1e-3, "refactory_period": 0, "voltage_level": 1.0},
            "time_series_resolution": 1e-3,
        },
    ),
    "naive_program": (
        Program.naive_program,
        lambda: {
            **{"crossbar": crossbar(), "point": (0, 0), "conductance": 1 / 300, "rel_tol": 0.1},
            **{"pulse_duration": 1e-3, "refactory_period": 0, "pos_voltage_level": 1.0, "timeout": 1},
            **{"neg_voltage_level": -1.0, "simulate_neighbours": True, "timeout_adjustment": 1e-9},
        },
    ),
    "Crossbar": (Crossbar, lambda: {**DEVICE, "shape": (2, 3), "tile_shape": None}),
    "conductance_matrix": (
        lambda v: setattr(crossbar(), "conductance_matrix", v),
        lambda: {"v": torch.ones(3, 2)},
    ),
    "g": (lambda v: setattr(crossbar().devices[0, 0], "g", v), lambda: {"v": 0.005}),
    "init_crossbar": (
        init_crossbar,
        lambda: {
            **{"weights": torch.rand(2, 3), **DEVICE, "transistor": True, "mapping_routine": naive_map},
            **{"programming_routine": None, "p_l": None, "tile_shape": (2, 2)},
        },
    ),
    "simulate_matmul": (
        simulate_matmul,
        lambda: {
            **{"input": 0.1 * torch.rand(2, 3), "crossbar": crossbar(), "nl": True, "tiles_map": None, **ADC},
            **{"max_input_voltage": 0.1, "crossbar_shape": None},
        },
    ),
    "device faults": (DeviceFaults.apply_device_faults, lambda: {"layer": layer(), **SHARES}),
    "cycle variability": (
        DeviceFaults.apply_cycle_variability,
        lambda: {"layer": layer(), "min": 0, "max": 1e5, "r_off_kwargs": NORMAL, "r_on_kwargs": NORMAL},
    ),
    "finite states": (
        FiniteConductanceStates.apply_finite_conductance_states,
        lambda: {"layer": layer(), "num_conductance_states": 3},
    ),
    "nonlinear": (
        NonLinear.apply_non_linear,
        lambda: {"layer": layer(), "sweep_duration": 1, "num_conductance_states": None, "simulate": False},
    ),
    "endurance": (
        wear.model_endurance_retention,
        lambda: {
            **{
                "layer": layer(),
                "operation_mode": wear.OperationMode.sudden,
                "x": 100.0,
                "p_lrs": [1, 0, 0, 0],
            },
            **{"stable_resistance_lrs": 100, "cell_size": 10, "temperature": 350},
        },
    ),
    "drift": (
        wear.model_conductance_drift,
        lambda: {"layer": layer(), "x": 10.0, "initial_time": 1.0, "drift_coefficient": 0.1},
    ),
    "scale_p_0": (
        wear.scale_p_0,
        lambda: {
            **{"p_0": 1, "p_1": 0.1, "v_stop": 1.0, "v_stop_min": 0.5, "v_stop_max": 1.5},
            "v_stop_optimal": 1.2,
        },
    ),
    "patch_model": (
        patch_model,
        lambda: {
            **{"model": nn.Sequential(nn.Linear(3, 2)), **DEVICE, "module_parameters_to_patch": [nn.Linear]},
            **{"mapping_routine": naive_map, "transistor": True, "p_l": None, "tile_shape": None, **ADC},
            **{"max_input_voltage": 0.3, "verbose": False, "source_resistance": None, "use_bindings": True},
        },
    ),
    "Linear": (memtorch.mn.Linear, lambda: {"linear_layer": nn.Linear(3, 2), **DEVICE, "verbose": False}),
    "tune": (lambda v: layer().tune(v), lambda: {"v": 100}),
    "forward": (lambda v: layer()(v), lambda: {"v": torch.rand(2, 3)}),
    "transform_output": (lambda v: setattr(layer(), "transform_output", v), lambda: {"v": torch.neg}),
    "forward_legacy": (lambda v: layer().forward_legacy(v), lambda: {"v": torch.rand(2, 3)}),
    "VTEAM": (models.VTEAM, defaults(models.VTEAM)),
    "Data_Driven": (models.Data_Driven, defaults(models.Data_Driven)),
    "simulate": (lambda v, c: models.VTEAM().simulate(v, c), lambda: {"v": [0.1], "c": False}),
    "current": (lambda v: models.VTEAM().current(v), lambda: {"v": 0.1}),
    "dxdt": (lambda v: models.LinearIonDrift().dxdt(v), lambda: {"v": 1e-3}),
    "dg_dt": (lambda v, i: models.Stanford_PKU().dg_dt(v, i), lambda: {"v": 0.1, "i": 1e-3}),
    "Biolek": (models.window.Biolek, lambda: {"voltage": 1.0, "x": 0.5, "p": 1}),
    "Jogelkar": (models.window.Jogelkar, lambda: {"x": 0.5, "p": 1}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_end_in_an_error_of_cosim(name: str):
    function, right = CALLS[name]
    refused = 0  # anything but a CosimError ends the test
    for argument in right():
        for wrong in WRONG:
            try:
                function(**{**right(), argument: wrong})
            except CosimError:
                refused += 1
    assert refused > len(WRONG) // 3
