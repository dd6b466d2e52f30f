"""What is compared: each contender as a set-up, timed once per tile, and a solve, timed per batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from cosim.bench.problems import Case, Problem, SparseNetwork
from cosim.engines import solve
from cosim.errors import CosimError, SolveError
from cosim.jobs import cores
from cosim.solvers.linear import LinearNetwork
from cosim.spice.ngspice import find_ngspice

__all__ = ["Contender", "SetUp", "Solver", "own_contenders", "refined_splu"]

Solver: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Voltages (batch, rows) V to column currents (batch, columns) A."""
SetUp: TypeAlias = Callable[[], Solver]

_BLOCK = 64  # right-hand sides that splu solves at once, so that they stay small
_SYMMETRIC = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to the column currents.

    load: problem -> set-up; not timed: brings the input into the form that the contender takes.
    sets_up: False where the set-up has nothing to do. fits: whether it can solve a case at all.
    missing: why it cannot run on this machine, with the command that installs it.
    """

    name: str
    load: Callable[[Problem], SetUp]
    sets_up: bool = True
    fits: Callable[[Case], bool] = lambda case: True
    missing: str = ""


def own_contenders() -> tuple[Contender, ...]:
    """Those that every user of cosim has: its engines, and scipy's sparse LU on the nodal matrix."""
    return (
        Contender(name="ideal", load=_load_ideal, sets_up=False),
        Contender(name="linear", load=_load_linear),
        Contender(name="linear, one call", load=_load_engine("linear"), sets_up=False, fits=_linear),
        Contender(name="newton", load=_load_engine("newton"), sets_up=False, fits=_nonlinear),
        Contender(name="splu", load=_load_splu({}), fits=_linear),
        Contender(name="splu, symmetric", load=_load_splu(_SYMMETRIC), fits=_linear),
        Contender(name="splu Newton", load=_load_splu_newton, sets_up=False, fits=_nonlinear),
        Contender(name="ngspice", load=_load_ngspice, sets_up=False, missing=_missing_ngspice()),
    )


def _linear(case: Case) -> bool:
    return case.linear


def _nonlinear(case: Case) -> bool:
    return not case.linear


def _load_ideal(problem: Problem) -> SetUp:
    conductance = problem.tile.conductance
    return lambda: lambda voltages: voltages @ conductance


def _load_linear(problem: Problem) -> SetUp:
    conductance = problem.tile.conductance

    def set_up() -> Solver:
        return LinearNetwork.factor(conductance, problem.tile.wires).currents

    return set_up


def _load_engine(engine: str) -> Callable[[Problem], SetUp]:
    def load(problem: Problem) -> SetUp:
        return lambda: lambda voltages: solve(problem.tile, voltages, engine=engine).currents

    return load


# --- scipy -----------------------------------------------------------------------------------------


def _load_splu(options: dict[str, object]) -> Callable[[Problem], SetUp]:
    def load(problem: Problem) -> SetUp:
        from scipy.sparse.linalg import splu

        network = SparseNetwork.of(problem.tile)
        matrix = network.matrix(problem.tile.conductance)

        def set_up() -> Solver:
            factors = splu(matrix, **options)

            def currents(voltages: torch.Tensor) -> torch.Tensor:
                parts = voltages.split(_BLOCK)
                return torch.cat([network.currents(factors.solve(network.right_side(v))) for v in parts])

            return currents

        return set_up

    return load


def refined_splu(problem: Problem, voltages: torch.Tensor) -> torch.Tensor:
    """Currents of linear cells by splu with a step of refinement: what the others are judged by."""
    from scipy.sparse.linalg import splu

    network = SparseNetwork.of(problem.tile)
    matrix = network.matrix(problem.tile.conductance)
    factors = splu(matrix, **_SYMMETRIC)
    right = network.right_side(voltages)
    nodes = factors.solve(right)
    return network.currents(nodes + factors.solve(right - matrix @ nodes))


def _load_splu_newton(problem: Problem) -> SetUp:
    """Newton's method as one writes it with scipy: a sparse factorisation for each step of each vector."""
    network = SparseNetwork.of(problem.tile)

    def currents(voltages: torch.Tensor) -> torch.Tensor:
        return torch.cat([network.currents(_newton(problem, network, v[None])) for v in voltages])

    return lambda: currents


def _newton(problem: Problem, network: SparseNetwork, voltages: torch.Tensor) -> np.ndarray:
    from scipy.sparse.linalg import splu

    tile = problem.tile
    right = network.right_side(voltages)
    nodes = splu(network.matrix(tile.conductance), **_SYMMETRIC).solve(right)
    for _ in range(50):
        word, bit = nodes.reshape(2, tile.rows, tile.columns)
        current, slope = tile.device.current_and_slope(
            torch.from_numpy(word - bit).to(tile.state), tile.state
        )
        flow = current.cpu().numpy().reshape(-1, 1)
        gap = network.wires @ nodes + np.concatenate([flow, -flow]) - right
        step = splu(network.matrix(slope), **_SYMMETRIC).solve(gap)
        nodes = nodes - step
        if np.abs(step).max() <= 1e-10 * np.abs(nodes).max():
            return nodes
    raise SolveError("splu Newton did not converge in 50 steps")


# --- ngspice ---------------------------------------------------------------------------------------


def _missing_ngspice() -> str:
    try:
        find_ngspice()
    except CosimError as error:
        return " ".join(str(error).split())
    return ""


def _load_ngspice(problem: Problem) -> SetUp:
    """The engine's best batch mode: one sweep per core, a share of the vectors each."""

    def currents(voltages: torch.Tensor) -> torch.Tensor:
        workers = min(cores(), len(voltages))
        with ThreadPoolExecutor(workers) as executor:
            share = -(-len(voltages) // workers)
            return solve(problem.tile, voltages, engine="ngspice", executor=executor, chunk=share).currents

    return lambda: currents
