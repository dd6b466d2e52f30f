"""The benchmark: which cases, in which order, and the document (plain JSON) that comes out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from cosim.bench.contenders import Contender, own_contenders, refined_splu
from cosim.bench.findings import (
    HEADLINE_LINEAR,
    HEADLINE_NONLINEAR,
    LINEAR,
    SINH,
    STANFORD,
    STEEP,
    find,
    find_growth,
    find_ratios,
)
from cosim.bench.machine import describe_machine
from cosim.bench.many import MemoryCase, measure_memory, measure_throughput
from cosim.bench.measure import Budget, Measurement, measure, relative_error
from cosim.bench.problems import Case, Problem
from cosim.errors import CosimError, SpecError

__all__ = ["Settings", "run"]

_NONLINEAR = {  # name -> model, V, ohm
    SINH: ("data_driven", 0.3, 2.0),
    STEEP: ("data_driven", 1.0, 5.0),
    STANFORD: ("stanford_pku", 0.3, 2.0),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run. sizes: rows (and columns) of the tiles; vectors: batch sizes; budget: seconds.

    rounds: interleaved repetitions; place: torch device of cosim's engines; tiles: number of tiles
    in the memory and throughput cases, which take the largest of ``vectors``.

    Raises SpecError for a value that cannot be used.

    >>> Settings(sizes=(0,))
    Traceback (most recent call last):
    cosim.errors.SpecError: sizes is (0,): give whole numbers, 2 or more
    """

    sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    vectors: tuple[int, ...] = (1, 64, 1024)
    budget: float = 600.0
    rounds: int = 5
    seed: int = 0
    place: str = "cpu"
    tiles: int = 64

    def __post_init__(self) -> None:
        for name, least in (("sizes", 2), ("vectors", 1)):
            values = getattr(self, name)
            if not values or any(value < least for value in values):
                raise SpecError(f"{name} is {values}: give whole numbers, {least} or more")
            object.__setattr__(self, name, tuple(sorted(set(values))))
        for name in ("rounds", "tiles"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if not (math.isfinite(self.budget) and self.budget > 0):
            raise SpecError(f"budget is {self.budget} s: it must be above 0")
        if self.place != "cpu" and not self.place.startswith("cuda"):
            raise SpecError(f"device is {self.place!r}: choose cpu or cuda")
        if self.place != "cpu" and not torch.cuda.is_available():
            raise SpecError(f"device is {self.place!r}, but torch sees no CUDA device: choose cpu")

    @property
    def tile_size(self) -> int:
        """Rows of the tiles in the memory and throughput cases: the largest of ``sizes`` up to 128."""
        return max((size for size in self.sizes if size <= HEADLINE_NONLINEAR), default=self.sizes[0])

    @classmethod
    def create(cls, *, quick: bool = False, **given: Any) -> Settings:
        """The defaults, or with ``quick`` those for about a minute; given: fields, None where not said."""
        settings = cls()
        if quick:
            settings = cls(sizes=(32, 64, 128), vectors=(1, 64), budget=60.0, rounds=3, tiles=8)
        return replace(settings, **{name: value for name, value in given.items() if value is not None})


def run(
    settings: Settings,
    *,
    peers: Sequence[Contender] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Everything, in one document of plain numbers, strings and lists; see ``cosim.bench.report``.

    peers: contenders beyond cosim's own engines and scipy. progress: told what runs next.
    """
    contenders = (*own_contenders(), *peers)
    _warm_up(settings, contenders)
    budget = Budget(settings.budget)
    measurements: list[Measurement] = []
    many: dict[str, Any] = {}
    for case in cases(settings):
        if case is None:
            progress("memory and throughput of many tiles")
            many = _many(settings, measurements)
        else:
            progress(f"{case.size}x{case.size}, {case.name}")
            measurements += _judge(case, settings, contenders, budget)
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": budget.spent,
        "machine": describe_machine(settings.place),
        "settings": asdict(settings),
        "ratios": find_ratios(measurements),
        "growth": find_growth(measurements),
        **many,
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def cases(settings: Settings) -> Iterator[Case | None]:
    """In the order of what matters most, because the budget may end; None: many tiles, at that place."""
    small = [size for size in settings.sizes if size <= HEADLINE_NONLINEAR]
    for size in (size for size in settings.sizes if size <= HEADLINE_LINEAR):
        yield _linear(settings, size)
    for size in small:
        yield _nonlinear(settings, SINH, size)
    for name in (STEEP, STANFORD):
        yield from (_nonlinear(settings, name, size) for size in small[-1:])
    yield None
    for size in (size for size in settings.sizes if size > HEADLINE_LINEAR):
        yield _linear(settings, size)
    for size in (size for size in settings.sizes if size > HEADLINE_NONLINEAR):
        yield _nonlinear(settings, SINH, size)


def _linear(settings: Settings, size: int) -> Case:
    return Case(
        name=LINEAR, model="vteam", size=size, vectors=settings.vectors, volts=0.2, ohm=2.0, linear=True
    )


def _nonlinear(settings: Settings, name: str, size: int) -> Case:
    model, volts, ohm = _NONLINEAR[name]
    return Case(
        name=name, model=model, size=size, vectors=settings.vectors, volts=volts, ohm=ohm, linear=False
    )


def _warm_up(settings: Settings, contenders: Sequence[Contender]) -> None:
    """Imports, compiled models, thread pools: all that only a first call pays."""
    tiny = replace(settings, sizes=(4,), vectors=(2,))
    for case in filter(None, cases(tiny)):
        problem = Problem.draw(case, place=settings.place)
        measure(problem, contenders, rounds=1, budget=Budget(settings.budget))


def _judge(
    case: Case, settings: Settings, contenders: Sequence[Contender], budget: Budget
) -> list[Measurement]:
    """Times of every contender, each with its error against the best reference that ran."""
    problem = Problem.draw(case, seed=settings.seed, place=settings.place)
    found, currents = measure(problem, contenders, rounds=settings.rounds, budget=budget)
    if case.linear and any(name.startswith("splu") for name in currents):
        reference, truth = "splu, refined", refined_splu(problem, problem.voltages[:8])
    else:
        reference = next((name for name in ("ngspice", "splu Newton") if name in currents), "")
        truth = currents.get(reference)
    if truth is None:
        return found
    errors = {name: relative_error(value, truth) for name, value in currents.items() if name != reference}
    return [_with_error(m, errors[m.contender], reference) if m.contender in errors else m for m in found]


def _with_error(measurement: Measurement, error: float, reference: str) -> Measurement:
    if math.isnan(error):
        note = "; ".join(filter(None, [measurement.note, "gave currents that are not numbers"]))
        return replace(measurement, note=note, reference=reference)
    return replace(measurement, error=error, reference=reference)


def _many(settings: Settings, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """64 tiles in one call: memory of both solvers, and tiles per second."""
    memory = []
    for engine in ("linear", "newton"):
        vectors = max(settings.vectors)
        if engine == "newton":
            vectors = _affordable(settings, measurements)
        case = MemoryCase(
            engine=engine,
            tiles=settings.tiles,
            size=settings.tile_size,
            vectors=vectors,
            place=settings.place,
        )
        try:
            memory.append(measure_memory(case, timeout=settings.budget / 2))
        except CosimError as error:
            memory.append({**asdict(case), "note": str(error)})
    return {
        "memory": memory,
        "throughput": measure_throughput(settings.tiles, settings.tile_size, settings.place),
    }


def _affordable(settings: Settings, measurements: Sequence[Measurement]) -> int:
    """Vectors per tile that newton solves for all tiles in an eighth of the budget: a power of two."""
    most = max(settings.vectors)
    known = find(measurements, SINH, "newton")
    if not known:
        return min(most, 16)
    nearest = known[max(known)]
    each = min(nearest.per_vector()) * settings.tiles * (settings.tile_size / nearest.size) ** 3
    share = settings.budget / 8 / each
    return most if share >= most else max(1, 1 << max(0, math.floor(math.log2(max(share, 1)))))
