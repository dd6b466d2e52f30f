"""The ladder for input vectors that do not converge: what is tried next, and what became of each.

A vector that fails leaves the others alone: a sweep that stops goes on behind it, and where ngspice
reports a singular matrix without saying for which vector, the vectors are halved until it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cosim.crossbar import Status
from cosim.errors import CosimError
from cosim.jobs import JobResult
from cosim.spice.deck import Options, Save, Sweep
from cosim.spice.dialects.ngspice import save_name
from cosim.spice.ngspice import Reading, read_result, usable

__all__ = ["INDEX", "LADDER", "Attempt", "Findings", "Rung"]

INDEX = "Vindex"  # the source that is swept
_RAMP_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to look for a solution. form: "sweep" goes from vector to vector, "alone" starts each
    at 0 V, "ramp" leads each along a line from 0 V, so that no Newton step is large (damped)."""

    name: str
    form: str
    homotopy: str = "none"
    loosened: float = 1.0  # factor on the tolerances
    patience: int = 1  # factor on the iteration limit

    def options(self, options: Options) -> Options:
        loose = {
            name: min(1.0, getattr(options, name) * self.loosened) for name in ("reltol", "abstol", "vntol")
        }
        return replace(
            options, homotopy=self.homotopy, iterations=options.iterations * self.patience, **loose
        )


LADDER = (
    Rung(name="sweep", form="sweep"),
    Rung(name="gmin", form="alone", homotopy="gmin", patience=2),
    Rung(name="source", form="alone", homotopy="source", patience=2),
    Rung(name="damped", form="ramp", patience=2),
    Rung(name="loosened", form="ramp", homotopy="source", loosened=1e3, patience=5),
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Vectors of one tile for one job. tile: its index; vectors: their numbers; rung: of ``LADDER``."""

    tile: tuple[int, ...]
    vectors: tuple[int, ...]
    rung: int = 0

    @property
    def form(self) -> str:
        return LADDER[self.rung].form

    def table(self, volts: np.ndarray) -> np.ndarray:
        """What the drivers look up, of ``volts (*tiles, batch, rows)``; a ramp has 0 V before a vector."""
        chosen = volts[self.tile][list(self.vectors)]
        if self.form != "ramp":
            return chosen
        return np.stack([np.zeros_like(chosen), chosen], axis=1).reshape(-1, chosen.shape[-1])

    def sweeps(self) -> tuple[Sweep, ...]:
        count = len(self.vectors)
        if self.form == "sweep":
            return (_sweep(0, count - 1, 1.0),)
        if self.form == "alone":
            return tuple(_sweep(k, k, 1.0) for k in range(count))
        return tuple(_sweep(2 * k, 2 * k + 1, 1 / _RAMP_STEPS) for k in range(count))

    def vector_at(self, point: float) -> int | None:
        """The vector that the swept index ``point`` stands for; None on the way along a ramp."""
        place = (point - 1) / 2 if self.form == "ramp" else point
        return self.vectors[int(place)] if place >= 0 and place == int(place) else None

    def halves(self) -> tuple[Attempt, ...]:
        middle = len(self.vectors) // 2
        return replace(self, vectors=self.vectors[:middle]), replace(self, vectors=self.vectors[middle:])


def _sweep(start: int, stop: int, step: float) -> Sweep:
    return Sweep(source=INDEX, start=float(start), stop=float(stop), step=step)


class Findings:
    """What is known so far, in the shape of the result; ``take`` says what to attempt next."""

    def __init__(self, shape: tuple[int, ...], saves: tuple[Save, ...]) -> None:
        self.currents = np.full((*shape, len(saves)), np.nan)  # (*tiles, batch, columns) A
        self.status = np.full(shape, int(Status.NOT_RUN))  # (*tiles, batch)
        self.rung = np.full(shape, -1)  # (*tiles, batch) number in LADDER, -1 where unsolved
        self.errors: list[CosimError] = []
        self.seconds = 0.0  # of ngspice
        self.jobs = 0
        self._saves = saves

    def first(self, chunk: int | None) -> Iterator[Attempt]:
        """Every vector, ``chunk`` (or all) of a tile at a time."""
        batch = self.status.shape[-1]
        for tile in np.ndindex(self.status.shape[:-1]):
            for start in range(0, batch, chunk or max(batch, 1)):
                stop = min(start + (chunk or batch), batch)
                yield Attempt(tile=tile, vectors=tuple(range(start, stop)))

    def take(self, attempt: Attempt, outcome: JobResult | CosimError) -> list[Attempt]:
        """Note what ``attempt`` solved; the attempts for what is left of it."""
        self.jobs += 1
        try:
            if isinstance(outcome, CosimError):
                raise outcome
            self.seconds += outcome.seconds
            reading = read_result(outcome, attempt.sweeps(), self._saves)
        except CosimError as error:
            self.errors.append(error)
            return []
        for plot in reading.plots:
            order = [plot.names.index(save_name(save)) for save in self._saves]
            good = usable(plot.values)
            for point, row, fine in zip(plot.values[:, 0], plot.values[:, order], good, strict=True):
                vector = attempt.vector_at(point)
                if vector is not None:
                    self._note((*attempt.tile, vector), row if fine else None, attempt.rung)
        return self._next(attempt, reading)

    def _note(self, where: tuple[int, ...], currents: np.ndarray | None, rung: int) -> None:
        self.status[where] = Status.NOT_FINITE if currents is None else Status.SOLVED
        if currents is not None:
            self.currents[where] = currents
            self.rung[where] = rung

    def _next(self, attempt: Attempt, reading: Reading) -> list[Attempt]:
        if reading.singular and len(attempt.vectors) > 1:
            return list(attempt.halves())
        settled = (Status.SOLVED, Status.NOT_FINITE)
        left = tuple(k for k in attempt.vectors if self.status[(*attempt.tile, k)] not in settled)
        if not left:
            return []
        status = Status.SINGULAR if reading.singular else Status.NOT_CONVERGED
        failed, rest = (left[:1], left[1:]) if attempt.form == "sweep" else (left, ())
        for vector in failed:
            self.status[(*attempt.tile, vector)] = status
        follow = [replace(attempt, vectors=rest)] if rest else []
        if attempt.rung + 1 < len(LADDER):
            follow.append(replace(attempt, vectors=failed, rung=attempt.rung + 1))
        return follow
