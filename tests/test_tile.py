"""Tile: what describes its cells, devices without state in every engine, and names that SPICE has taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cosim
from cosim.devices.catalogue import CATALOGUE
from cosim.errors import SpecError
from reference.nodal import dense_currents, nodal_solve
from tolerances import CHORD_AT_HALF, INVERSE, LINEAR_EXACT, NEWTON_EXACT, NGSPICE_EXACT, PARAMETER_FLOAT32

DIODE = Path(__file__).parent / "data" / "va" / "diode.va"
I_S, N_VT = 1e-9, 0.05
WIRES = cosim.Wires(row=20.0, column=30.0, sense=0.0)
VOLTAGES = torch.tensor([[0.3, 0.5, -0.2], [0.1, 0.0, 0.6]], dtype=torch.float64)
LEAK = 1e-4 * torch.rand(3, 5, generator=torch.Generator().manual_seed(14), dtype=torch.float64)


def tile(**parameters: Any) -> cosim.Tile:
    return cosim.Tile(cosim.Device(DIODE, **parameters), shape=(3, 5), wires=WIRES)


def distance(found: torch.Tensor, wanted: np.ndarray | torch.Tensor) -> float:
    truth = torch.as_tensor(wanted)
    return float((found - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize(("engine", "limit"), [("newton", NEWTON_EXACT), ("ngspice", NGSPICE_EXACT)])
@pytest.mark.parametrize("leak", [1e-6, LEAK, LEAK[0]], ids=["alike", "per cell", "per column"])
def test_diodes_without_state_equal_a_nodal_analysis(engine: str, limit: float, leak: Any):
    ohmic = np.broadcast_to(np.asarray(leak), (3, 5))

    def cell(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rise = I_S * np.exp(u / N_VT)
        return rise - I_S + ohmic * u, rise / N_VT + ohmic

    wanted = nodal_solve(VOLTAGES, (3, 5), cell=cell, row=20.0, column=30.0, sense=0.0).currents
    found = cosim.solve(tile(g_leak=leak), VOLTAGES, engine=engine).currents
    assert distance(found, wanted) <= limit


def test_matrix_engines_take_the_chord_of_a_device_without_state():
    cells = tile(g_leak=LEAK)
    chord = I_S * (np.exp(0.1 / N_VT) - 1) / 0.1 + LEAK.numpy()
    assert distance(cells.conductance, chord) <= LINEAR_EXACT
    assert distance(cosim.solve(cells, VOLTAGES, engine="ideal").currents, VOLTAGES.numpy() @ chord) <= (
        LINEAR_EXACT
    )
    wanted = dense_currents(chord, VOLTAGES, 20.0, 30.0, sense=0.0)
    assert distance(cosim.solve(cells, VOLTAGES, engine="linear").currents, wanted) <= LINEAR_EXACT
    assert tile().conductance.shape == (3, 5)


def test_leading_axes_and_gradients_without_state():
    stack = cosim.Tile(cosim.Device(DIODE, g_leak=LEAK), shape=(2, 3, 5), wires=WIRES)
    found = cosim.solve(stack, VOLTAGES).currents
    assert found.shape == (2, 2, 5)
    assert torch.equal(found[0], found[1])
    leak = LEAK.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cosim.solve(tile(g_leak=leak), VOLTAGES).currents.sum(), leak)
    assert bool((slope != 0).all())


@pytest.mark.parametrize("name", CATALOGUE)
def test_gradients_to_conductances_at_the_ends_of_the_range(name: str):
    """At v_read the current is G times v_read, at the ends too, where models limit their state."""
    device = cosim.Device(name)
    ends = [float(device.conductance(state)) for state in device.state_range]
    cells = torch.tensor([[*ends, sum(ends) / 2]], dtype=torch.float64, requires_grad=True)
    for engine in ("linear", "newton"):
        currents = cosim.solve(cosim.Tile(device, conductance=cells), [0.1], engine=engine).currents
        (slope,) = torch.autograd.grad(currents.sum(), cells)
        assert slope.flatten().tolist() == pytest.approx([0.1] * 3, rel=INVERSE)


@pytest.mark.parametrize("name", ["diode", "Resistor", "switch", "d", "npn"])
def test_a_module_may_have_the_name_of_a_spice_device(name: str, tmp_path: Path):
    """And a parameter the names that SPICE gives to every instance."""
    path = tmp_path / f"{name}.va"
    path.write_text(
        f'`include "disciplines.vams"\nmodule {name}(p, n); inout p, n; electrical p, n;\n'
        "parameter real r = 1e-5; parameter real temp = 1; parameter real off = 1;\n"
        "analog I(p, n) <+ r * temp * off * V(p, n);\nendmodule\n"
    )
    device = cosim.Device(path, r=torch.full((1, 2), 2e-5), temp=3.0, off=5.0)
    found = cosim.solve(cosim.Tile(device, shape=(1, 2)), [0.1], engine="ngspice").currents
    assert found.flatten().tolist() == pytest.approx([3e-5, 3e-5], rel=PARAMETER_FLOAT32)


VTEAM = cosim.Device("vteam")
PER_CELL = cosim.Device("vteam", r_on=torch.tensor([[50.0, 60.0], [70.0, 80.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cosim.Tile(VTEAM), "exactly one of conductance=, state= and shape="),
        (
            lambda: cosim.Tile(VTEAM, state=[[0.5]], shape=(1, 1)),
            "exactly one of conductance=, state= and sh",
        ),
        (lambda: cosim.Tile(VTEAM, shape=(2, 2)), "vteam has a state: give conductance= or state="),
        (
            lambda: cosim.Tile(cosim.Device(DIODE), conductance=[[1e-4]]),
            r"diode has no state to set its cells by: give shape=\(rows, columns\)",
        ),
        (
            lambda: cosim.Tile(cosim.Device(DIODE), shape=(2, 0)),
            r"shape is \(2, 0\): it must be \(\*tiles",
        ),
        (lambda: cosim.Tile(cosim.Device(DIODE), shape=4), "shape is 4: it must be"),
        (
            lambda: tile(g_leak=LEAK.T),
            r"parameter g_leak of diode has the shape \(5, 3\): it does not broadcast",
        ),
        (
            lambda: cosim.Tile(PER_CELL, state=torch.full((3, 2), 0.5)),
            r"r_on of vteam has the shape \(2, 2\): it does not broadcast to the cells of the tile, \(3, 2\)",
        ),
        (lambda: cosim.Tile(PER_CELL, conductance=[[1e-3, 1e-3]]), r"r_on of vteam has the shape \(2, 2\)"),
        (lambda: cosim.Tile(VTEAM, state=torch.zeros(2, 2, dtype=torch.complex64)), "state is complex"),
    ],
)
def test_cells_that_do_not_fit_are_refused(call: Any, message: str):
    with pytest.raises(SpecError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("engine", ["ideal", "linear", "newton", "ngspice"])
def test_half_precision_is_computed_in_single_at_least(dtype: torch.dtype, engine: str):
    """Half precision would lose the gap of a Stanford cell, and a fifth of a small resistance."""
    cells = torch.tensor([[1e-3, 1e-4]]).to(dtype)
    voltages = torch.tensor([[0.1]]).to(dtype)
    found = cosim.solve(cosim.Tile(cosim.Device("stanford_pku"), conductance=cells), voltages, engine=engine)
    assert found.currents.dtype == (torch.float64 if engine == "ngspice" else torch.float32)
    assert distance(found.currents, (voltages.float() @ cells.float())) <= CHORD_AT_HALF
