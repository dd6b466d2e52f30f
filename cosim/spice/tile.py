"""A tile as a deck, and the ngspice engine: the reference that every other engine is judged by.

One ``.dc`` sweep of an index source runs a whole batch: every driver is a source that looks its
voltage up by the index. Each point starts from the one before, so ngspice refactors instead of
ordering anew: 128x128 resistor cells, 16 vectors: 2.8 s.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.arrays import Array
from cosim.checks import as_flag, as_integer
from cosim.crossbar import Solution, Tile, Wires
from cosim.devices.osdi_names import osdi_parameters
from cosim.errors import SpecError
from cosim.jobs import Job, as_timeout, run_jobs, workers_pool
from cosim.spice.deck import (
    GROUND,
    Current,
    Deck,
    DeviceInstance,
    Element,
    IndexedSource,
    ModelCard,
    Options,
    Resistor,
    Subcircuit,
    SubcircuitInstance,
    Sweep,
    VoltageSource,
)
from cosim.spice.ngspice import Ngspice, find_ngspice, make_job
from cosim.spice.retry import INDEX, LADDER, Attempt, Findings
from cosim.text import format_number

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = [
    "LIBRARY",
    "TileCircuit",
    "check_batch",
    "given_values",
    "lower_tile",
    "per_cell",
    "solve_tile",
    "tile_deck",
]

LIBRARY = "device.osdi"
_CARD = "cell"
_RESISTANCES = ("row", "column", "source", "sense", "source_far", "sense_far")


@dataclass(frozen=True, kw_only=True)
class TileCircuit:
    """One tile without drivers: a subcircuit with ports r0.. then c0.., and its model card."""

    subcircuit: Subcircuit
    card: ModelCard
    rows: int
    columns: int
    temperature: float  # K
    header: tuple[tuple[str, str], ...]


def lower_tile(tile: Tile, index: tuple[int, ...] = ()) -> TileCircuit:
    """The tile at ``index`` of the (broadcast) leading axes as a subcircuit, cells row-major.

    Word line nodes are w<row>_<column>, bit line nodes b<row>_<column>; nodes without a resistance
    between them are one node, named after the port if there is one.
    """
    rows, columns = tile.rows, tile.columns
    own = index[len(index) - len(tile.shape) + 2 :]  # voltages may have further leading axes
    index = tuple(0 if size == 1 else k for k, size in zip(own, tile.shape, strict=False))
    lines = _Lines.of(tile, index)
    cells = _cell_parameters(tile, index)
    elements: list[Element] = []
    for i in range(rows):
        elements += lines.word_wires(i)
        elements += [
            DeviceInstance(
                name=f"N{i}_{j}",
                nodes=(lines.word[i][j], lines.bit[i][j]),
                model=_CARD,
                parameters=parameters,
            )
            for j, parameters in enumerate(cells[i])
        ]
        elements += lines.bit_wires(i)
    parameters = ((name, getattr(tile.wires, name)) for name in _RESISTANCES)
    device = tile.device
    return TileCircuit(
        subcircuit=Subcircuit(
            name="tile",
            ports=tuple(_ports(rows, columns)),
            elements=tuple(elements),
            parameters=tuple(
                (name, ohm) for name, ohm in parameters if isinstance(ohm, float) and 0 < ohm < math.inf
            ),
        ),
        card=ModelCard(name=_CARD, module=device.name, parameters=_shared_parameters(tile)),
        rows=rows,
        columns=columns,
        temperature=device.temperature,
        header=(
            ("shape", f"{rows} rows x {columns} columns; ports: rows, then columns"),
            ("units", "V, A, ohm; currents positive into the columns' sense nodes"),
            ("temperature", f"{format_number(device.temperature)} K"),
            ("model", f"{device.name}, digest {device.digest}"),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """The lines of one tile: node names ``[row][column]`` after merging, and their resistances, ohm.

    A resistance given as a number is a parameter of the subcircuit, one of a tensor a literal.
    """

    wires: Wires
    word: list[list[str]]
    bit: list[list[str]]
    word_ohm: list[list[float]]
    bit_ohm: list[list[float]]
    word_far: list[float] | None
    bit_far: list[float] | None

    @classmethod
    def of(cls, tile: Tile, index: tuple[int, ...]) -> _Lines:
        rows, columns = tile.rows, tile.columns
        segments = tile.wires.spread(rows, columns)

        def pick(part: torch.Tensor | None, axes: int) -> list | None:
            if part is None:
                return None
            own = part.shape[part.ndim - axes :]
            return part.expand(*tile.shape[:-2], *own)[index].detach().to("cpu").tolist()

        word_ohm, bit_ohm = pick(segments.word, 2), pick(segments.bit, 2)
        assert word_ohm is not None
        assert bit_ohm is not None
        word_far, bit_far = pick(segments.word_far, 1), pick(segments.bit_far, 1)
        word, columns_up = [], []
        for i in range(rows):
            names = [f"w{i}_{j}" for j in range(columns)]
            word.append(_merged(f"r{i}", names, word_ohm[i], None if word_far is None else word_far[i]))
        for j in range(columns):
            names = [f"b{i}_{j}" for i in reversed(range(rows))]
            ohms = [bit_ohm[i][j] for i in reversed(range(rows))]
            columns_up.append(_merged(f"c{j}", names, ohms, None if bit_far is None else bit_far[j]))
        bit = [list(line) for line in zip(*(names[::-1] for names in columns_up), strict=True)]
        return cls(
            wires=tile.wires,
            word=word,
            bit=bit,
            word_ohm=word_ohm,
            bit_ohm=bit_ohm,
            word_far=word_far,
            bit_far=bit_far,
        )

    def word_wires(self, i: int) -> Iterator[Resistor]:
        """Resistors of word line i."""
        nodes, ohms = self.word[i], self.word_ohm[i]
        yield from self._wire(f"Rsource{i}", f"r{i}", nodes[0], "source", ohms[0])
        for j in range(len(nodes) - 1):
            yield from self._wire(f"Rw{i}_{j}", nodes[j], nodes[j + 1], "row", ohms[j + 1])
        if self.word_far is not None:
            yield from self._wire(f"Rsourcefar{i}", nodes[-1], f"r{i}", "source_far", self.word_far[i])

    def bit_wires(self, i: int) -> Iterator[Resistor]:
        """Resistors of all bit lines below row i; of the first row also those at the far ends."""
        for j, node in enumerate(self.bit[i]):
            if i == 0 and self.bit_far is not None:
                yield from self._wire(f"Rsensefar{j}", node, f"c{j}", "sense_far", self.bit_far[j])
        for j, node in enumerate(self.bit[i]):
            if i + 1 < len(self.bit):
                yield from self._wire(f"Rb{i}_{j}", node, self.bit[i + 1][j], "column", self.bit_ohm[i][j])
            else:
                yield from self._wire(f"Rsense{j}", node, f"c{j}", "sense", self.bit_ohm[i][j])

    def _wire(self, name: str, p: str, n: str, parameter: str, ohm: float) -> Iterator[Resistor]:
        if p != n and not math.isinf(ohm):  # an open segment is no resistor
            number = isinstance(getattr(self.wires, parameter), float)
            yield Resistor(name=name, p=p, n=n, ohm=parameter if number else ohm)


def _merged(port: str, names: list[str], ohms: list[float], far: float | None) -> list[str]:
    """Names of the nodes of a line from its port on, one name for nodes with 0 ohm between them."""
    nodes = []
    for name, ohm in zip(names, ohms, strict=True):
        before = nodes[-1] if nodes else port
        nodes.append(name if ohm else before)
    if far == 0:
        last = len(nodes) - 1
        while last > 0 and not ohms[last]:
            last -= 1
        nodes[last:] = [port] * (len(nodes) - last)
    return nodes


def _ports(rows: int, columns: int) -> Iterator[str]:
    yield from (f"r{i}" for i in range(rows))
    yield from (f"c{j}" for j in range(columns))


def per_cell(tile: Tile) -> tuple[str, ...]:
    """Names of the parameters that every instance sets: the state, and those given as tensors."""
    given = [name for name, value in given_values(tile.device).items() if isinstance(value, torch.Tensor)]
    state = tile.device.state_parameter
    return tuple(sorted({*given, *([state] if state else [])}))


def given_values(device: Device) -> dict[str, float | torch.Tensor]:
    """The parameters that were given; SpecError if one is a distribution that nobody has drawn."""
    found = {}
    for name, value in device.given.items():
        if isinstance(value, torch.distributions.Distribution):
            raise SpecError(f"parameter {name} is a distribution: draw it first, with device.sample(...)")
        found[name] = value
    return found


def _shared_parameters(tile: Tile) -> tuple[tuple[str, float], ...]:
    own = set(per_cell(tile))
    called, given = osdi_parameters(tile.device.ir), given_values(tile.device)
    return tuple((called[name], float(value)) for name, value in given.items() if name not in own)


def _cell_parameters(tile: Tile, index: tuple[int, ...]) -> list[list[tuple[tuple[str, float], ...]]]:
    """(name, value) pairs of every cell, [row][column]."""
    cells: list[list[tuple[tuple[str, float], ...]]]
    cells = [[()] * tile.columns for _ in range(tile.rows)]
    given, called = given_values(tile.device), osdi_parameters(tile.device.ir)
    for name in per_cell(tile):
        value = tile.state if name == tile.device.state_parameter else torch.as_tensor(given[name])
        grid = torch.broadcast_to(value, tile.shape)[index].detach().to("cpu", torch.float64).tolist()
        for cell_line, line in zip(cells, grid, strict=True):
            cell_line[:] = [(*cell, (called[name], x)) for cell, x in zip(cell_line, line, strict=True)]
    return cells


def tile_deck(
    circuit: TileCircuit, table: np.ndarray, *, sweeps: Sequence[Sweep] = (), options: Options | None = None
) -> Deck:
    """Testbench around ``circuit``: drivers that look up ``table (batch, rows)`` V, an ammeter per column.

    The index source is at k volt for vector k; sweeps: of that source, one over all by default.
    """
    count = len(table)
    padded = table if count > 1 else np.repeat(table, 2, axis=0)  # a lookup needs two points
    elements: list[Element] = [VoltageSource(name=INDEX, p="index", n=GROUND, volt=0.0)]
    elements += [
        IndexedSource(name=f"B{i}", p=f"r{i}", n=GROUND, index="index", volts=tuple(padded[:, i].tolist()))
        for i in range(circuit.rows)
    ]
    # 0 V sources measure the column currents, also where sense = 0
    elements += [
        VoltageSource(name=f"Vsense{j}", p=f"c{j}", n=GROUND, volt=0.0) for j in range(circuit.columns)
    ]
    ports = circuit.subcircuit.ports
    elements.append(SubcircuitInstance(name="Xtile", nodes=ports, subcircuit=circuit.subcircuit.name))
    return Deck(
        title=f"crossbar tile {circuit.rows}x{circuit.columns}",
        header=circuit.header,
        libraries=(LIBRARY,),
        models=(circuit.card,),
        subcircuits=(circuit.subcircuit,),
        elements=tuple(elements),
        analyses=tuple(sweeps) or (Sweep(source=INDEX, start=0.0, stop=count - 1.0, step=1.0),),
        saves=_saves(circuit.columns),
        options=replace(options or Options(), temperature=circuit.temperature),
    )


def _saves(columns: int) -> tuple[Current, ...]:
    return tuple(Current(source=f"Vsense{j}") for j in range(columns))


def check_batch(tile: Tile, voltages: Array) -> np.ndarray:
    """``voltages`` as (*tiles, batch, rows) V, the leading axes of tile and voltages broadcast."""
    tensor = tile.check_voltages(voltages)
    lead = torch.broadcast_shapes(tile.shape[:-2], tensor.shape[:-2])
    return tensor.expand(*lead, *tensor.shape[-2:]).detach().to("cpu", torch.float64).numpy()


def solve_tile(
    tile: Tile,
    voltages: Array,
    *,
    timeout: float = 600.0,
    workers: int | None = None,
    executor: Executor | None = None,
    chunk: int | None = None,
    reltol: float = 1e-11,
    abstol: float = 1e-16,
    vntol: float = 1e-12,
    max_iterations: int = 100,
    progress: bool = False,
    program: str = "ngspice",
) -> Solution:
    """Column currents of ``tile`` for ``voltages (*tiles, batch, rows)`` through ngspice.

    One job per tile, or per ``chunk`` vectors of it, one after the other, or as many processes at a
    time as ``workers`` says (then with more jobs where a worker would idle), or on an ``executor`` of
    ``concurrent.futures``; timeout (s) is for each job. reltol, abstol (A), vntol (V), max_iterations:
    ngspice's Newton iteration.
    A vector that does not converge climbs ``retry.LADDER``; stats["rungs"] counts which rung solved
    how many, stats["rung"] says it per vector. One that no rung solves is NaN with a status; so are
    the vectors of a job that failed or could not run, with the reason in stats["errors"].

    Raises SpecError for bad input, ToolNotFound without ngspice, ToolFailed if every job fails.

    >>> import cosim
    >>> tile = cosim.Tile(cosim.Device("vteam"), state=[[0.0, 1.0]], wires=cosim.Wires(row=2.0))
    >>> solve_tile(tile, [0.1]).currents.shape
    torch.Size([1, 2])
    """
    start = time.monotonic()
    timeout, progress = as_timeout(timeout), as_flag(progress, "progress")
    options = Options(reltol=reltol, abstol=abstol, vntol=vntol, iterations=max_iterations)
    chunk = None if chunk is None else as_integer(chunk, "chunk", at_least=1)
    volts = check_batch(tile, voltages)
    with workers_pool(workers, executor) as pool, _progress(progress) as watch:
        ngspice = find_ngspice(program)
        libraries = {LIBRARY: tile.device.osdi(per_cell=per_cell(tile)).read_bytes()}
        found = Findings(volts.shape[:-1], _saves(tile.columns))
        lowered = functools.lru_cache(maxsize=1)(functools.partial(lower_tile, tile))

        def job(attempt: Attempt) -> Job:
            deck = tile_deck(
                lowered(attempt.tile),
                attempt.table(volts),
                sweeps=attempt.sweeps(),
                options=LADDER[attempt.rung].options(options),
            )
            return make_job(deck, libraries, program=ngspice, timeout=timeout)

        attempts = list(found.first(chunk or _share(volts.shape[:-1], workers)))
        while attempts:
            outcomes = run_jobs(map(job, attempts), pool, watch(attempts))
            pairs = zip(attempts, outcomes, strict=True)
            attempts = [more for attempt, outcome in pairs for more in found.take(attempt, outcome)]
    if found.errors and not (found.rung >= 0).any():
        raise found.errors[0]
    return _solution(tile, found, ngspice, time.monotonic() - start)


def _share(shape: tuple[int, ...], workers: int | None) -> int | None:
    """Vectors for one job, so that no worker idles; shape: (*tiles, batch). None: all of a tile."""
    tiles = math.prod(shape[:-1])
    return max(1, math.ceil(shape[-1] / math.ceil(workers / tiles))) if workers and tiles else None


@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[Callable[[list[Attempt]], Callable[[int, object], None]]]:
    """Yields what makes, from a list of attempts, the callback for each of their jobs that ends."""
    if not shown:
        yield lambda attempts: lambda job, result: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:

        def watch(attempts: list[Attempt]) -> Callable[[int, object], None]:
            names = ", ".join(dict.fromkeys(LADDER[attempt.rung].name for attempt in attempts))
            task = bar.add_task(f"ngspice, {names}", total=sum(len(a.vectors) for a in attempts))
            return lambda job, result: bar.advance(task, len(attempts[job].vectors))

        yield watch


def _solution(tile: Tile, found: Findings, ngspice: Ngspice, seconds: float) -> Solution:
    place = tile.state.device
    counts = {rung.name: int((found.rung == k).sum()) for k, rung in enumerate(LADDER)}
    return Solution(
        currents=torch.from_numpy(found.currents).to(place),
        status=torch.from_numpy(found.status).to(place),
        engine="ngspice",
        stats={
            "seconds": seconds,
            "ngspice_seconds": found.seconds,
            "ngspice_version": ngspice.version,
            "jobs": found.jobs,
            "rungs": {name: count for name, count in counts.items() if count},
            "rung": torch.from_numpy(found.rung).to(place),
            "errors": tuple(str(error) for error in found.errors),
        },
    )
