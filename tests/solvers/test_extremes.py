"""Engines on tiles with any resistance anywhere: right within the bound that they state, or they say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim.crossbar import Solution, Status, Wires
from cosim.devices.device import Device
from cosim.solvers.linear import solve_linear
from cosim.solvers.newton import solve_newton
from reference.star_mesh import star_mesh_currents, star_mesh_transfer
from solvers.cases import ohms
from solvers.extremes import extreme_tile
from solvers.stand_in import Resistor, Sinh, stand_in_tile
from tolerances import GIVEN_UP, LINEAR_STATED

DATA = Path(__file__).parents[1] / "data" / "va"
STEEP = 2.5  # of the nonlinear cells, per volt

Stated = Callable[[Solution, torch.Tensor], torch.Tensor]
"""(solution, sum of what each driver alone causes in the largest column (batch) A) -> error (batch) A."""


def of_linear(solution: Solution, scale: torch.Tensor) -> torch.Tensor:
    return LINEAR_STATED[str(solution.currents.dtype).removeprefix("torch.")] * scale


def of_newton(solution: Solution, scale: torch.Tensor) -> torch.Tensor:
    return solution.stats["error_bound"].double()


# engine and cells: what solves, and how far it says that the currents of a solved vector may be off
ENGINES: dict[str, tuple[Callable[..., Solution], Any, Stated]] = {
    "linear": (solve_linear, Resistor(), of_linear),
    "newton": (solve_newton, Resistor(), of_newton),
    "newton compiled": (solve_newton, "conductance.va", of_newton),
}


def truth(
    device: Any, g: torch.Tensor, v: torch.Tensor, wires: Wires, held: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Currents (batch, columns) A and their scale (batch) A; the engine holds resistances in ``held``."""
    cells, volts = g.double().numpy(), v.double().numpy()
    exact = {
        name: torch.as_tensor(ohm, dtype=held).double().numpy()
        for name, ohm in ohms(wires).items()
        if ohm is not None
    }
    if isinstance(device, Sinh):
        law = lambda u: (cells / STEEP * np.sinh(STEEP * u), cells * np.cosh(STEEP * u))  # noqa: E731
        currents = star_mesh_currents(volts, cells.shape, cell=law, **exact)[0]
        return torch.from_numpy(currents.astype(float)), torch.from_numpy(abs(currents).max(1).astype(float))
    transfer = star_mesh_transfer(cells, **exact)
    scale = (abs(volts) @ transfer).max(1)
    return torch.from_numpy((volts @ transfer).astype(float)), torch.from_numpy(scale.astype(float))


def run(engine: str, dtype: torch.dtype, seeds: range) -> None:
    """No solved vector beyond what is stated of it; few of those that the precision can hold given up."""
    solve, device, stated = ENGINES[engine]
    if isinstance(device, str):
        device = Device(DATA / device, state="g", state_range=(0.0, 1.0))
    least = torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    solvable = given_up = 0
    for seed in seeds:
        g, v, wires = extreme_tile(seed)
        g, v = g.to(dtype), v.to(dtype)
        solution = solve(stand_in_tile(device, state=g, wires=wires), v)
        expected, scale = truth(device, g, v, wires, dtype if engine == "linear" else torch.float64)
        error = (solution.currents.double() - expected).abs().amax(-1)
        solved = solution.status == int(Status.SOLVED)
        wrong = solved & ~(error <= stated(solution, scale).clamp(min=least))
        assert not bool(wrong.any()), f"seed {seed}: off by {error.tolist()} A of {scale.tolist()} A"
        possible = (scale == 0) | (scale > least)
        solvable += int(possible.sum())
        given_up += int((possible & ~solved).sum())
    assert given_up <= GIVEN_UP * solvable, f"{given_up} of {solvable} vectors given up"


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@DTYPES
@pytest.mark.parametrize("engine", ENGINES)
def test_a_hundred_tiles(engine: str, dtype: torch.dtype):
    run(engine, dtype, range(50) if dtype == torch.float64 else range(50, 100))


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("engine", ENGINES)
def test_two_thousand_tiles(engine: str, dtype: torch.dtype):
    run(engine, dtype, range(2000))
