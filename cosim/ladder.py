"""The fidelity ladder: the same tile and voltages through several engines, against a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from cosim.arrays import Array
from cosim.checks import as_choices, as_flag, as_instance, shown
from cosim.crossbar import Solution, Status, Tile
from cosim.engines import ENGINES, check_tools, find_engine
from cosim.errors import SpecError
from cosim.text import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LadderReport", "Rung", "compare"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One engine: its error against the reference, and its time.

    max_error, rms_error: over all currents of the vectors that both solved, relative to the
    largest reference current (to 1 A where that is 0); NaN if there is no such vector.
    milliseconds: wall time per vector without ``setup_milliseconds``, which is paid once: the factors of
    the tile, and what had to be compiled.
    statuses: how many vectors ended in each ``Status``.
    """

    engine: str
    max_error: float
    rms_error: float
    milliseconds: float
    setup_milliseconds: float
    statuses: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class LadderReport:
    """What ``compare`` found: the rungs in the order asked for, the reference last.

    shape: of the tile; vectors: number of input vectors; largest_current: of the reference, A.
    ``str(report)`` is a table.
    """

    rungs: tuple[Rung, ...]
    reference: str
    shape: tuple[int, ...]
    vectors: int
    largest_current: float

    def __getitem__(self, engine: str) -> Rung:
        for rung in self.rungs:
            if isinstance(engine, str) and rung.engine == engine:
                return rung
        known = ", ".join(rung.engine for rung in self.rungs)
        raise SpecError(f"engine {shown(engine)} is not in this report: it has {known}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON; NaN (nothing compared) as None."""
        found = {**asdict(self), "shape": list(self.shape)}
        found["rungs"] = [
            {name: None if value != value else value for name, value in asdict(rung).items()}
            for rung in self.rungs
        ]
        return found

    def __rich__(self) -> Table:
        size = "x".join(str(n) for n in self.shape)
        table = Table(
            title=f"{size} tile, {self.vectors} vectors, errors relative to {self.largest_current:.3g} A"
        )
        table.add_column("engine")
        for heading in ("max error", "rms error", "ms per vector", "set-up ms"):
            table.add_column(heading, justify="right")
        table.add_column("vectors")
        for rung in self.rungs:
            is_reference = rung.engine == self.reference
            errors = ("reference", "") if is_reference else (f"{rung.max_error:.2e}", f"{rung.rms_error:.2e}")
            statuses = ", ".join(f"{count} {name.lower()}" for name, count in rung.statuses.items())
            times = (f"{rung.milliseconds:.3g}", f"{rung.setup_milliseconds:.3g}")
            table.add_row(rung.engine, *errors, *times, statuses)
        return table

    def __str__(self) -> str:
        return format_table(self.__rich__())

    def plot(self) -> Figure:
        """Error against time per vector (set-up shared out), both logarithmic, one point per engine."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        for rung in self.rungs:
            if rung.engine == self.reference:
                continue
            time = rung.milliseconds + rung.setup_milliseconds / self.vectors
            # a logarithmic axis has no 0: an exact agreement is drawn at the rounding error
            error = max(rung.max_error, torch.finfo(torch.float64).eps)
            axes.loglog([time], [error], "o", label=rung.engine)
            axes.annotate(rung.engine, (time, error), textcoords="offset points", xytext=(6, 6))
        if any(rung.engine == self.reference for rung in self.rungs):
            rung = self[self.reference]
            time = rung.milliseconds + rung.setup_milliseconds / self.vectors
            axes.axvline(time, color="0.5", linestyle="--", label=self.reference)
        axes.set(
            xlabel="time per vector, ms",
            ylabel=f"largest error against {self.reference}, relative to the largest current",
            title=f"{'x'.join(str(n) for n in self.shape)} tile, {self.vectors} vectors",
        )
        axes.legend()
        return figure


def compare(
    tile: Tile,
    voltages: Array,
    *,
    engines: Sequence[str] = ("ideal", "linear", "newton"),
    reference: str = "ngspice",
    throw: bool = True,
) -> LadderReport:
    """Solve with each engine and with the reference; error and time of every rung.

    throw: raise SolveError if any engine failed for any vector; otherwise the vectors that the
    engine and the reference both solved are compared, and ``statuses`` tells about the rest.

    >>> import cosim
    >>> device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    >>> tile = cosim.Tile(device, conductance=[[1e-4, 1e-5]], wires=cosim.Wires(row=100.0))
    >>> report = compare(tile, [0.1], engines=("ideal", "linear"), reference="newton")
    >>> print(f"{report['ideal'].max_error:.4f} {report['linear'].max_error < 1e-9}")
    0.0110 True
    """
    as_instance(tile, "tile", Tile, "cosim.Tile(device, ...)")
    reference = find_engine(reference).name
    judged = as_choices(engines, "engines", ENGINES)
    names = [*(name for name in judged if name != reference), reference]
    rungs = [find_engine(name) for name in names]
    check_tools(names)
    throw = as_flag(throw, "throw")
    vectors = tile.check_voltages(voltages)
    if not vectors.numel():
        raise SpecError(f"voltages of shape {tuple(vectors.shape)} hold no vector to compare")
    solutions = {}
    with torch.no_grad():
        for rung in reversed(rungs):
            solution = rung.solve(tile, vectors)
            solutions[rung.name] = solution.check() if throw else solution
    truth = solutions[reference]
    solved = truth.currents[truth.solved]
    largest = float(solved.abs().max()) if solved.numel() else 0.0
    return LadderReport(
        rungs=tuple(_rung(solutions[name], truth, largest) for name in names),
        reference=reference,
        shape=tile.shape,
        vectors=truth.status.numel(),
        largest_current=largest,
    )


def _rung(solution: Solution, truth: Solution, largest: float) -> Rung:
    both = solution.solved & truth.solved
    error = (solution.currents[both] - truth.currents[both]).double().abs() / (largest or 1.0)
    setup = float(solution.stats["setup_seconds"])
    counted = Counter(Status(value).name for value in solution.status.flatten().tolist())
    return Rung(
        engine=solution.engine,
        max_error=float(error.max()) if error.numel() else float("nan"),
        rms_error=float(error.square().mean().sqrt()) if error.numel() else float("nan"),
        milliseconds=1e3 * (float(solution.stats["seconds"]) - setup) / solution.status.numel(),
        setup_milliseconds=1e3 * setup,
        statuses=dict(counted),
    )
