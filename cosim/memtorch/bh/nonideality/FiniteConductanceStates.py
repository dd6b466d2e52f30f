"""A finite number of conductance states."""

from __future__ import annotations

import torch

from cosim.checks import as_integer
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer
from cosim.nn.cells import Cells
from cosim.nn.effects import Effect, FiniteStates

__all__ = ["apply_finite_conductance_states"]


def apply_finite_conductance_states(layer: MemristiveLayer, num_conductance_states: int) -> MemristiveLayer:
    """Every cell at the nearest of so many conductances, evenly spaced over its own reach.

    One state is the lowest conductance.
    """
    states = as_integer(num_conductance_states, "num_conductance_states", at_least=1, at_most=1 << 24)
    checked_layer(layer).add_effects([FiniteStates(states=states) if states > 1 else _Lowest()])
    return layer


class _Lowest(Effect):
    """One state: the lowest conductance."""

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return cells.write(cells.low.expand(cells.shape))
