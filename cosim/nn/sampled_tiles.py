"""Sampled tiles of one product: its engine and a reference solve the same cells and voltages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad

from cosim.arrays import Currents, Voltages
from cosim.crossbar import Solution, Status, Tile
from cosim.engines import find_engine
from cosim.errors import OutOfMemory, SolveError, ToolError
from cosim.nn.estimates import Errors, share_beyond
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.recording import Recorder
from cosim.nn.validation_report import LayerValidation

__all__ = ["Reference", "TileSample", "validate_tiles"]

_TILES_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The engine that is believed, and its options."""

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _solved(engine: str, tile: Tile, volts: Voltages, **options: Any) -> Solution:
    """Without an exception where nothing could be solved: no vector is then, and stats say why."""
    try:
        return find_engine(engine).solve(tile, volts, **options)
    except (ToolError, SolveError, OutOfMemory) as error:
        tiles, vectors = volts.shape[:2]
        return Solution(
            currents=volts.new_full((tiles, vectors, tile.columns), math.nan),
            status=torch.full((tiles, vectors), int(Status.NOT_RUN), device=volts.device),
            engine=engine,
            stats={"errors": (str(error),)},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TileSample:
    """Tiles of a product and input vectors of each: numbers ``(k,)``, volts ``(k, each, height)``.

    per_volt: ``(k, each, 1)``, what one volt stands for.
    """

    numbers: torch.Tensor
    volts: Voltages
    per_volt: torch.Tensor

    @classmethod
    def draw(cls, product: CrossbarMatmul, recorder: Recorder, samples: int, seed: int) -> TileSample:
        """At least ``samples`` pairs of tile and vector, as far as there are so many.

        Equal numbers for every tile; with more tiles than samples, that many tiles with one vector
        each. Vectors repeat only where there are fewer than samples, and then evenly.
        """
        assert recorder.rows is not None
        tiling, kept = product.tiling, recorder.rows.shape[1]
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randperm(tiling.tiles, generator=generator)[:samples].sort().values
        each = min(math.ceil(samples / len(numbers)), kept)
        # the rows are in random order already
        vectors = torch.arange(len(numbers) * each).reshape(-1, each) % kept  # (k, each)
        driven, per_volt = product.drive(recorder.rows)
        volts = tiling.split_rows(driven).flatten(0, 1)  # (groups * R, kept, rows of a tile)
        lines = numbers // tiling.across
        chosen, vectors = lines[:, None].to(volts.device), vectors.to(volts.device)
        volts = volts[chosen, vectors]
        per_volt = per_volt.expand(tiling.groups, kept, 1)[chosen // tiling.down, vectors]
        return cls(
            numbers=numbers,
            volts=pad(volts, (0, tiling.height - volts.shape[-1])).double(),
            per_volt=per_volt,
        )

    def split(self, size: int) -> Iterator[TileSample]:
        """Some tiles at a time."""
        parts = (self.numbers.split(size), self.volts.split(size), self.per_volt.split(size))
        for numbers, volts, per_volt in zip(*parts, strict=True):
            yield TileSample(numbers=numbers, volts=volts, per_volt=per_volt)

    def __len__(self) -> int:
        return math.prod(self.volts.shape[:2])


def validate_tiles(
    name: str,
    product: CrossbarMatmul,
    recorder: Recorder,
    reference: Reference,
    *,
    samples: int,
    seed: int,
    confidence: float,
    advance: Callable[[float], None],
) -> LayerValidation:
    """Draw pairs of tile and input vector, solve them twice, compare; ``advance`` hears of each share."""
    sample = TileSample.draw(product, recorder, samples, seed)
    failures: Counter[str] = Counter()
    found: list[tuple[Errors, Errors]] = []
    for part in sample.split(_TILES_AT_ONCE):
        tile = product.some_tiles(part.numbers)
        mine = _solved(product.engine, tile, part.volts)
        truth = _solved(reference.engine, tile, part.volts, **reference.options)
        failures += _reasons(mine, truth)
        found += _errors(product, part, mine, truth)
        advance(len(part.numbers) / len(sample.numbers))
    currents, outputs = (Errors.joined(column) for column in zip(*found, strict=True))
    known = {"confidence": confidence, "population": product.tiling.tiles * recorder.seen}
    return LayerValidation(
        name=name,
        engine=product.engine,
        tiles=product.tiling.tiles,
        vectors=recorder.seen,
        samples=len(currents),
        failures=dict(failures),
        current=currents.scale,
        current_error=currents.rms(**known),
        largest_current_error=currents.worst,
        output_error=outputs.rms(**known),
        largest_output_error=outputs.worst,
        beyond=share_beyond(len(currents), **known),
    )


def _reasons(*solutions: Solution) -> Counter[str]:
    """Why pairs are missing; one that both engines failed on counts for the first."""
    found: Counter[str] = Counter()
    left = torch.ones_like(solutions[0].solved.cpu())
    for solution in solutions:
        for value in solution.status.cpu()[left & ~solution.solved.cpu()].tolist():
            status = Status(value)
            why = f"{status.name}, {status.remedy}"
            if status is Status.NOT_RUN and solution.stats.get("errors"):
                why = "; ".join(dict.fromkeys(solution.stats["errors"]))
            found[f"{solution.engine}: {why}"] += 1
        left &= solution.solved.cpu()
    return found


def _errors(
    product: CrossbarMatmul, sample: TileSample, mine: Solution, truth: Solution
) -> list[tuple[Errors, Errors]]:
    """For every tile the errors of its currents and of its outputs, over the vectors that both solved."""
    found = []
    for k, number in enumerate(sample.numbers.tolist()):
        both = mine.solved[k] & truth.solved[k]
        volts, per_volt = sample.volts[k][both], sample.per_volt[k][both]
        read = [_read(product, number, s.currents[k][both], volts, per_volt) for s in (mine, truth)]
        found.append(tuple(Errors.between(a, b) for a, b in zip(*read, strict=True)))
    return found


def _read(
    product: CrossbarMatmul, number: int, currents: Currents, volts: Voltages, per_volt: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one tile, the currents that are read and what they add to the outputs, both ``(n, values)``."""
    tiling = product.tiling
    line, across = divmod(number, tiling.across)
    place = divmod(line, tiling.down)
    left = across * tiling.used
    columns = slice(left, min(left + tiling.used, tiling.columns))
    read = currents[:, : columns.stop - left]
    everywhere = read.new_zeros(tiling.groups, tiling.down, len(read), tiling.columns)
    everywhere[(*place, slice(None), columns)] = read
    driven = volts.new_zeros(tiling.groups, tiling.down, *volts.shape)
    driven[place] = volts
    per_output = product.hardware.scheme.columns
    outputs = slice(columns.start // per_output, columns.stop // per_output)
    return read, product.read_out(everywhere, driven, per_volt[None])[place][:, outputs]
