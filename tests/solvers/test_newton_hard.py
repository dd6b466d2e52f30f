"""Newton where it is hard, each against the dense Newton: small here, whole tiles under ``slow``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosim.crossbar import Solution, Status, Tile
from cosim.devices.device import Device
from cosim.solvers.newton import solve_newton
from cosim.wires import Wires
from reference.nodal import nodal_solve
from reference.star_mesh import star_mesh_currents
from solvers.cases import cells, inputs, ohms
from solvers.stand_in import Diode, Sinh, stand_in_tile
from tolerances import NEWTON_EXACT

WIRES = Wires(row=5.0, column=5.0)
SIZES = [24, pytest.param(128, marks=pytest.mark.slow)]


def solved(tile: Tile, voltages: torch.Tensor) -> Solution:
    """The solution, every vector of which is solved and right (of a whole tile, the first is compared)."""

    def cell(v: Any) -> Any:
        i, slope = tile.device.current_and_slope(torch.as_tensor(v), tile.state)
        return i.numpy(), slope.numpy()

    solution = solve_newton(tile, voltages)
    assert solution.status.tolist() == [Status.SOLVED] * len(voltages)
    shape = (tile.rows, tile.columns)
    known = voltages[:1] if tile.rows > 100 else voltages  # seconds of SuperLU for each
    truth = nodal_solve(known.numpy(), shape, cell=cell, **ohms(tile.wires)).currents
    expected = torch.as_tensor(truth)
    error = (solution.currents[: len(known)] - expected).abs().amax(-1)
    assert bool((error <= NEWTON_EXACT * expected.abs().amax(-1)).all())
    return solution


def stanford(gap: torch.Tensor, wires: Wires = WIRES) -> Tile:
    return Tile(Device("stanford_pku"), state=gap, wires=wires)


@pytest.mark.parametrize("n", SIZES)
def test_low_resistance_cells_in_5_ohm_wires(n: int):
    """Every cell between 1 and 100 kilo-ohm, most of the voltage lost on the way."""
    solved(stand_in_tile(Sinh(2.5), state=10 * cells(n, n), wires=WIRES), inputs(3, n).abs())


@pytest.mark.parametrize("n", SIZES)
def test_stanford_cells_at_one_volt(n: int):
    gap = 0.2e-9 + 1.5e-9 * inputs(n, n).abs()
    solved(stanford(gap), torch.cat([torch.ones(1, n, dtype=gap.dtype), inputs(2, n)]))


@pytest.mark.parametrize("n", SIZES)
def test_all_cells_on(n: int):
    gap = torch.full((n, n), 0.2e-9, dtype=torch.float64)
    solved(stanford(gap), inputs(2, n).abs())


@pytest.mark.parametrize("n", SIZES)
def test_one_shorted_cell(n: int):
    state = cells(n, n)
    state[n // 3, n // 2] = 100.0
    solved(stand_in_tile(Sinh(2.5), state=state, wires=WIRES), inputs(3, n))


@pytest.mark.parametrize("n", SIZES)
def test_a_million_between_on_and_off(n: int):
    state = torch.where(inputs(n, n) > 0, 1e-3, 1e-9)
    solved(stand_in_tile(Sinh(4.0), state=state, wires=WIRES), inputs(3, n))


@pytest.mark.parametrize("n", SIZES)
def test_voltages_of_both_signs_on_rectifying_cells(n: int):
    solved(stand_in_tile(Diode(), state=1e-3 * cells(n, n), wires=WIRES), inputs(3, n, volt=0.7))


@pytest.mark.parametrize("seed", range(8))
def test_steep_cells_at_three_volts_in_broken_lines(seed: int):
    """Chords at one voltage say little of cells at another: a factor of 10^9 between 0 and 3 V."""
    generator = torch.Generator().manual_seed(seed)

    def broken(*shape: int) -> torch.Tensor:
        ohm = 10 ** (3 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)
        return torch.where(torch.rand(*shape, generator=generator) < 0.3, torch.inf, ohm)

    wires = Wires(row=broken(4, 2), column=broken(3, 3), source=broken(4), sense=broken(3))
    state, volts = cells(4, 3, seed=seed), inputs(3, 4, volt=3.0, seed=seed)
    solution = solve_newton(stand_in_tile(Sinh(8.0), state=state, wires=wires), volts)
    assert solution.status.tolist() == [Status.SOLVED] * 3

    def cell(v: Any) -> Any:
        return state.numpy() / 8 * np.sinh(8 * v), state.numpy() * np.cosh(8 * v)

    truth = star_mesh_currents(volts.numpy(), (4, 3), cell=cell, **ohms(wires))[0].astype(float)
    error = (solution.currents - torch.from_numpy(truth)).abs().amax(-1)
    assert bool((error <= solution.stats["error_bound"]).all())


def test_vectors_from_nothing_to_ten_volts_in_one_batch():
    v = torch.cat([inputs(1, 12, volt=scale) for scale in (0.0, 1e-9, 1e-3, 0.1, 1.0, 10.0)])
    solution = solved(stand_in_tile(Sinh(2.5), state=cells(12, 10), wires=WIRES), v)
    assert solution.stats["residual"].shape == (6,)
    assert bool((solution.stats["relative_residual"] <= 1e-10).all())


def test_random_cases_are_right_or_say_so():
    """Sizes, ratios, resistances and voltages at random: never a wrong answer with status SOLVED."""
    generator = torch.Generator().manual_seed(7)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    for case in range(60):
        rows, columns = (int(draw(1, 13)) for _ in range(2))
        state = 10 ** (draw(-7, -2) + draw(0, 4) * inputs(rows, columns, seed=case))
        names = ("row", "column", "source", "sense")
        wires = Wires(**{k: 0.0 if draw(0, 1) < 0.25 else 10 ** draw(-1, 3) for k in names})
        tile = stand_in_tile(Sinh(draw(1, 6)), state=state, wires=wires)
        solved(tile, draw(0.01, 3) * inputs(3, rows, seed=case + 100))


_MANY = """
import resource, torch
from cosim.solvers.newton import solve_newton
from cosim.wires import Wires
from solvers.cases import cells, inputs
from solvers.stand_in import Sinh, stand_in_tile
tile = stand_in_tile(Sinh(2.5), state=cells(64, 128, 128), wires=Wires(row=2.0, column=2.0))
solution = solve_newton(tile, inputs(96, 128, volt=0.3))
assert bool(solution.solved.all())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_64_tiles_stay_within_4_gib():
    """Chunks bound it, for any number of vectors; in a process of its own, as a peak never falls."""
    folder = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", _MANY], capture_output=True, text=True, cwd=folder, check=True
    )
    assert int(run.stdout) <= 4 << 30
