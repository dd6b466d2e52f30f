"""Writing: weights into the cells of a product, when, and with which random numbers.

The cells of a trainable product follow its weights. In training every step writes them anew, with new
draws of everything random, and keeps the graph from the weights to the currents. In eval mode they are
those of one chip: always the same draws, written again only when the weights have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from cosim.nn.cells import Cells
from cosim.nn.effects import Effect
from cosim.nn.hardware import Hardware
from cosim.nn.mapping import Mapped
from cosim.nn.tiling import Tiling

__all__ = ["Writes", "write"]

Draws = Iterable[tuple[Effect, torch.Generator]]


def write(weight: torch.Tensor, hardware: Hardware, tiling: Tiling, draws: Draws) -> tuple[Mapped, Cells]:
    """``weight (groups, outputs, inputs)`` as conductances, and as what the non-idealities leave of them.

    Differentiable in the weight.
    """
    low, high = hardware.conductances
    mapped = hardware.scheme.map(weight, low, high)
    cells = Cells(
        device=hardware.nominal,
        conductance=mapped.conductance,
        low=mapped.conductance.new_tensor(low),
        high=mapped.conductance.new_tensor(high),
        v_read=hardware.v_read,
        tile_shape=(tiling.height, tiling.used),
    )
    for effect, generator in draws:
        cells = effect.apply(cells, generator)
    return mapped, cells


class Writes:
    """The writes of one product: what its cells hold now, and what comes on top of its hardware.

    A step of training ends when a gradient has passed through its cells, or with ``expire``.
    """

    def __init__(self) -> None:
        self._added: list[tuple[tuple[Effect, ...], int]] = []
        self.expire()

    def __getstate__(self) -> dict[str, Any]:
        return {"_added": list(self._added)}  # a copy writes its cells itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.expire()

    @property
    def added(self) -> bool:
        """True when effects came after the conversion."""
        return bool(self._added)

    def add(self, effects: Sequence[Effect], seed: int) -> None:
        """Further effects, on top of what the cells have; ``seed`` draws those of the chip."""
        self._added.append((tuple(effects), seed))
        self.expire()

    def draws(
        self, effects: Sequence[Effect], seed: int, step: torch.Generator | None
    ) -> Iterator[tuple[Effect, torch.Generator]]:
        """Every effect with its random numbers: of one ``step``, or the chip's, always the same."""
        for some, own in [(tuple(effects), seed), *self._added]:
            generator = torch.Generator().manual_seed(own) if step is None else step
            yield from ((effect, generator) for effect in some)

    def expire(self) -> None:
        """The cells do not hold the weights any more: the step is over, or something else changed."""
        self._held: tuple[object, ...] = ()
        self._graph = False
        self._spent: list[bool] = []

    def current(self, weight: torch.Tensor, *, training: bool, graph: bool) -> bool:
        """True when the cells hold ``weight`` in this mode, with an unused graph if one is asked for."""
        same = self._held == _version(weight, training)
        return same and not self._spent and (self._graph or not graph)

    def mark(self, weight: torch.Tensor, conductance: torch.Tensor, *, training: bool, graph: bool) -> None:
        """``conductance`` was written from ``weight``."""
        self._held, self._graph = _version(weight, training), graph
        self._spent = spent = []  # of this write alone: an older graph does not end a newer step
        if conductance.requires_grad:
            conductance.register_hook(lambda gradient: spent.append(True))


def _version(weight: torch.Tensor, training: bool) -> tuple[object, ...]:
    """What changes when the weights do: in place, or by a tensor in their place."""
    changes = 0 if weight.is_inference() else weight._version
    return training, changes, weight.data_ptr(), weight.device, weight.dtype
