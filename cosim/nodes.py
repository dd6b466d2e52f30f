"""Inside a solved tile: node voltages, wire currents, and where the power goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cosim.errors import SpecError
from cosim.wires import Segments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Nodes", "Power"]


@dataclass(frozen=True, kw_only=True)
class Power:
    """Power of every vector, ``(*tiles, batch)`` W: ``cells + wires + drivers + sense = source``.

    cells, wires: dissipated in the cells and in the segments of the lines; drivers, sense: in the
    resistances at the ends of word and bit lines; source: delivered by the voltage sources.
    """

    cells: torch.Tensor
    wires: torch.Tensor
    drivers: torch.Tensor
    sense: torch.Tensor
    source: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Voltages V and currents A inside the tile, each ``(*tiles, batch, rows, columns)`` unless said.

    word, bit: the nodes where the cell meets its lines. current: through the cell, word to bit line.
    word_current: towards higher columns in the segment before the cell (of column 0: out of the
    driver). bit_current: downwards in the segment below the cell (of the last row: into the sense node).
    source_far_current ``(*tiles, batch, rows)``, sense_far_current ``(*tiles, batch, columns)``: out of
    the driver, into the sense node, at the far ends; 0 where they are open.

    >>> segments = Segments(word=torch.ones(1, 2), bit=torch.zeros(1, 2), word_far=None, bit_far=None)
    >>> nodes = Nodes.of(segments, torch.tensor([[5.0]]), torch.tensor([[[1.0, 2.0]]]))
    >>> nodes.word.tolist(), nodes.word_current.tolist(), nodes.power.drivers.tolist()
    ([[[2.0, 0.0]]], [[[3.0, 2.0]]], [9.0])
    """

    voltages: torch.Tensor  # (*tiles, batch, rows), of the drivers
    word: torch.Tensor
    bit: torch.Tensor
    current: torch.Tensor
    word_current: torch.Tensor
    bit_current: torch.Tensor
    source_far_current: torch.Tensor
    sense_far_current: torch.Tensor
    segments: Segments

    @classmethod
    def of(cls, segments: Segments, voltages: torch.Tensor, current: torch.Tensor) -> Nodes:
        """From the currents of the cells, by Kirchhoff's laws; the near ends must not be open."""
        flows = segments.flows(current)
        word = voltages.unsqueeze(-1) - segments.word_drop(flows[0])
        return cls._of(segments, voltages, word, segments.bit_drop(flows[1]), current, flows)

    @classmethod
    def at(
        cls,
        segments: Segments,
        voltages: torch.Tensor,
        conductance: torch.Tensor,
        word: torch.Tensor,
        bit: torch.Tensor,
    ) -> Nodes:
        """From the voltages of the nodes, beside cells of ``conductance (*tiles, rows, columns)`` S."""
        current = conductance.unsqueeze(-3) * (word - bit)
        sense = torch.zeros_like(current[..., 0, :])
        flows = segments.ohmic_flows(word, bit, conductance, voltages, sense)
        return cls._of(segments, voltages, word, bit, current, flows)

    @classmethod
    def _of(
        cls,
        segments: Segments,
        voltages: torch.Tensor,
        word: torch.Tensor,
        bit: torch.Tensor,
        current: torch.Tensor,
        flows: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> Nodes:
        return cls(
            voltages=voltages.expand(current.shape[:-1]),
            word=word,
            bit=bit,
            current=current,
            word_current=flows[0],
            bit_current=flows[1],
            source_far_current=flows[2],
            sense_far_current=flows[3],
            segments=segments,
        )

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every field but the segments."""
        return {name: value for name, value in vars(self).items() if name != "segments"}

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Nodes:
        """The same with ``change`` of every tensor but those of the segments."""
        return replace(self, **{name: change(value) for name, value in self.tensors.items()})

    @property
    def cell_voltage(self) -> torch.Tensor:
        """Voltage across each cell, V."""
        return self.word - self.bit

    @property
    def power(self) -> Power:
        """Where the power goes, per vector."""
        s = self.segments
        word = _heat(self.word_current, s.word.unsqueeze(-3))
        bit = _heat(self.bit_current, s.bit.unsqueeze(-3))
        drivers, sense = word[..., 0].sum(-1), bit[..., -1, :].sum(-1)
        if s.word_far is not None:
            drivers = drivers + _heat(self.source_far_current, s.word_far.unsqueeze(-2)).sum(-1)
        if s.bit_far is not None:
            sense = sense + _heat(self.sense_far_current, s.bit_far.unsqueeze(-2)).sum(-1)
        delivered = self.voltages * (self.word_current[..., 0] + self.source_far_current)
        return Power(
            cells=(self.cell_voltage * self.current).sum((-2, -1)),
            wires=word[..., 1:].sum((-2, -1)) + bit[..., :-1, :].sum((-2, -1)),
            drivers=drivers,
            sense=sense,
            source=delivered.sum(-1),
        )

    def plot(self, vector: int = 0, tile: tuple[int, ...] = ()) -> Figure:
        """The IR drop map of one vector: what the wires take from each cell, then both line voltages.

        tile: index of the leading axes, where there are any. Raises SpecError for a wrong index.
        """
        from matplotlib.figure import Figure

        index = (*tile, vector)
        shape = self.word.shape[:-2]
        if len(index) != len(shape) or any(not -n <= k < n for k, n in zip(index, shape, strict=True)):
            raise SpecError(
                f"no vector {vector} of tile {tuple(tile)}: the tiles are {tuple(shape[:-1])}, "
                f"with {shape[-1]} vectors each"
            )
        drop = self.voltages.unsqueeze(-1) - self.cell_voltage
        maps = {"taken by the wires": drop, "word lines": self.word, "bit lines": self.bit}
        figure = Figure(figsize=(13, 4), layout="constrained")
        for axes, (title, values) in zip(figure.subplots(1, 3), maps.items(), strict=True):
            millivolts = 1e3 * values[index].detach().cpu().numpy()
            image = axes.imshow(millivolts, aspect="auto", interpolation="nearest")
            axes.set(title=f"{title}, mV", xlabel="column", ylabel="row")
            figure.colorbar(image, ax=axes)
        return figure


def _heat(current: torch.Tensor, ohm: torch.Tensor) -> torch.Tensor:
    """W; none in an open segment."""
    return current.square() * torch.where(torch.isinf(ohm), 0.0, ohm)
