"""A finite number of conductance states."""

from __future__ import annotations

import torch

from cosim.errors import SpecError
from cosim.memtorch.mn.layer import MemristiveLayer, Write
from cosim.nn.effects import FiniteStates

__all__ = ["apply_finite_conductance_states"]


def apply_finite_conductance_states(layer: MemristiveLayer, num_conductance_states: int) -> MemristiveLayer:
    """Every cell at the nearest of so many conductances, evenly spaced over its own reach.

    One state is the lowest conductance.
    """
    if isinstance(num_conductance_states, bool) or int(num_conductance_states) != num_conductance_states:
        raise SpecError(f"num_conductance_states is {num_conductance_states!r}: it must be an integer")
    if num_conductance_states < 1:
        raise SpecError(f"num_conductance_states is {num_conductance_states}: it must be 1 or more")
    product = layer.matmul
    effect = Write(product.low.expand_as(product.conductance))
    if num_conductance_states > 1:
        effect = FiniteStates(states=int(num_conductance_states))
    product.add_effects([effect], generator=torch.Generator())
    return layer
