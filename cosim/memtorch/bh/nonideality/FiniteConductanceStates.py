"""A finite number of conductance states."""

from __future__ import annotations

import torch

from cosim.errors import SpecError
from cosim.memtorch.mn.layer import MemristiveLayer
from cosim.nn.cells import Cells
from cosim.nn.effects import Effect, FiniteStates

__all__ = ["apply_finite_conductance_states"]


def apply_finite_conductance_states(layer: MemristiveLayer, num_conductance_states: int) -> MemristiveLayer:
    """Every cell at the nearest of so many conductances, evenly spaced over its own reach.

    One state is the lowest conductance.
    """
    if isinstance(num_conductance_states, bool) or int(num_conductance_states) != num_conductance_states:
        raise SpecError(f"num_conductance_states is {num_conductance_states!r}: it must be an integer")
    if num_conductance_states < 1:
        raise SpecError(f"num_conductance_states is {num_conductance_states}: it must be 1 or more")
    states = int(num_conductance_states)
    layer.add_effects([FiniteStates(states=states) if states > 1 else _Lowest()])
    return layer


class _Lowest(Effect):
    """One state: the lowest conductance."""

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        return cells.write(cells.low.expand(cells.shape))
