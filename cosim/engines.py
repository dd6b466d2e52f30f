"""The four engines behind one interface: the rungs of the fidelity ladder, and ``solve``."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, final

from cosim.arrays import Array, out_of_memory
from cosim.checks import as_flag, as_instance, shown
from cosim.crossbar import Solution, Tile
from cosim.devices.build import compile_seconds, compiler
from cosim.errors import SpecError
from cosim.spice.ngspice import find_ngspice

__all__ = ["ENGINES", "Engine", "check_tools", "find_engine", "solve"]


@final
@dataclass(frozen=True, kw_only=True)
class Engine:
    """One way to compute the currents of a tile.

    exact_for: the physics without approximation. module, function: where it is; imported at first
    use. The function takes ``(tile, voltages, *, ...)``, returns a ``Solution`` with a status per
    vector, and its keyword arguments are the engine's options.
    """

    name: str
    exact_for: str
    module: str
    function: str

    def _load(self) -> Callable[..., Solution]:
        return getattr(importlib.import_module(self.module), self.function)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that ``solve`` takes."""
        parameters = inspect.signature(self._load()).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def solve(self, tile: Tile, voltages: Array, **options: Any) -> Solution:
        """Currents of every vector; failures are in ``status``, ``stats["seconds"]`` is the wall time.

        ``stats["setup_seconds"]`` of it are paid once: factors of a tile, compilation of a model.

        Raises SpecError for an option that this engine does not have, OutOfMemory where memory ends.
        """
        as_instance(tile, "tile", Tile, "cosim.Tile(device, ...)")
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise SpecError(f"engine {self.name!r} has no option {unknown[0]!r}; its options are: {known}")
        start = time.perf_counter()
        fewer = "lower memory=, or give it" if "memory" in self.options else "give it"
        remedy = f"{fewer} fewer vectors or tiles at a time"
        with out_of_memory(f"engine {self.name!r}", remedy=remedy), compile_seconds() as compiled:
            solution = self._load()(tile, voltages, **options)
        seconds = time.perf_counter() - start
        setup = sum(compiled, float(solution.stats.get("setup_seconds", 0.0)))
        return replace(solution, stats={**solution.stats, "seconds": seconds, "setup_seconds": setup})


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            Engine(
                name="ideal",
                exact_for="linear cells, no wires",
                module="cosim.solvers.linear",
                function="solve_ideal",
            ),
            Engine(
                name="linear",
                exact_for="linear cells, the whole wire network",
                module="cosim.solvers.linear",
                function="solve_linear",
            ),
            Engine(
                name="newton",
                exact_for="nonlinear cells, the whole wire network",
                module="cosim.solvers.newton",
                function="solve_newton",
            ),
            Engine(
                name="ngspice",
                exact_for="the same, with ngspice and the compiled Verilog-A: the reference",
                module="cosim.spice.tile",
                function="solve_tile",
            ),
        )
    }
)


def find_engine(name: str) -> Engine:
    """The engine of that name; SpecError, which lists the known ones, if there is none."""
    if not (isinstance(name, str) and name in ENGINES):
        raise SpecError(f"no engine {shown(name)}: choose from {', '.join(ENGINES)}")
    return ENGINES[name]


def check_tools(engines: Iterable[str]) -> None:
    """Raise ToolNotFound now, not after minutes of work, where one of ``engines`` lacks a program.

    newton works without a C compiler, slower, and says so.
    """
    if "ngspice" in engines:
        find_ngspice()
        compiler()


def solve(
    tile: Tile, voltages: Array, *, engine: str = "newton", throw: bool = True, **options: Any
) -> Solution:
    """Column currents of a tile for a batch of input vectors.

    voltages: ``(*tiles, batch, rows)`` V, or ``(rows,)`` for one vector.
    engine: "ideal", "linear", "newton" or "ngspice"; the options are those of the engine.
    throw: raise SolveError (which carries the solution) if any vector failed; otherwise look at
    ``solution.status``, one integer per vector.

    Returns a ``Solution`` with currents ``(*tiles, batch, columns)`` A. Raises SpecError for an
    unknown engine or option and for voltages that do not fit the tile.

    >>> import cosim
    >>> device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    >>> tile = cosim.Tile(device, conductance=[[1e-4, 1e-5]], wires=cosim.Wires(row=100.0))
    >>> solution = solve(tile, [0.1], engine="linear")
    >>> [f"{current:.4g}" for current in solution.currents[0].tolist()]
    ['9.891e-06', '9.881e-07']
    """
    throw = as_flag(throw, "throw")
    solution = find_engine(engine).solve(tile, voltages, **options)
    return solution.check() if throw else solution
