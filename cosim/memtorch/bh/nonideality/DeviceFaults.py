"""Device failure, and resistances that differ from write to write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import Distribution, Normal

from cosim.checks import as_flag, as_number
from cosim.errors import SpecError
from cosim.memtorch.bh.StochasticParameter import StochasticParameter, draw_resistances
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer
from cosim.nn import effects
from cosim.nn.cells import Cells

__all__ = ["apply_cycle_variability", "apply_device_faults"]


def apply_device_faults(
    layer: MemristiveLayer, lrs_proportion: float, hrs_proportion: float, electroform_proportion: float
) -> MemristiveLayer:
    """Exact shares of the cells stuck at their highest (lrs) or lowest conductance (hrs, electroform).

    Which ones comes from torch's default generator. Raises SpecError for shares above 1 together.
    """
    shares = {"lrs": lrs_proportion, "hrs": hrs_proportion, "electroform": electroform_proportion}
    faults = effects.DeviceFaults(**{k: as_number(v, f"{k}_proportion") for k, v in shares.items()})
    checked_layer(layer).add_effects([faults], fresh_generator())
    return layer


def apply_cycle_variability(
    layer: MemristiveLayer,
    distribution: type[Distribution] = Normal,
    min: float = 0,
    max: float = math.inf,
    parallelize: bool = False,
    r_off_kwargs: dict[str, Any] | None = None,
    r_on_kwargs: dict[str, Any] | None = None,
) -> MemristiveLayer:
    """New bounds r_on, r_off (ohm) of this write in every cell; conductances are clipped to them.

    r_off_kwargs, r_on_kwargs: arguments of ``distribution``. parallelize: all cells are always drawn at once.
    Raises SpecError without them where it needs
    some, as the normal one does.
    """
    as_flag(parallelize, "parallelize")
    layer = checked_layer(layer)
    draws = []
    for name, kwargs in (("r_on_kwargs", r_on_kwargs), ("r_off_kwargs", r_off_kwargs)):
        if not isinstance(kwargs, Mapping | None):
            raise SpecError(f"{name} is {kwargs!r}: give a dictionary of arguments of the distribution")
        try:
            draws.append(StochasticParameter(distribution, min=min, max=max, **(kwargs or {})))
        except SpecError as error:
            raise SpecError(f"{name} is {kwargs or {}}: {error}") from error
    layer.add_effects([_Cycle(*draws)])
    return layer


class _Cycle(effects.Effect):
    """Bounds of one write."""

    def __init__(self, r_on: Any, r_off: Any) -> None:
        self.r_on, self.r_off = r_on, r_off

    def apply(self, cells: Cells, generator: torch.Generator) -> Cells:
        r_on, r_off = draw_resistances(self.r_on, self.r_off, cells.shape)
        low, high = (1 / part.to(cells.conductance) for part in (r_off, r_on))
        return cells.write(torch.minimum(torch.maximum(cells.actual, low), high))


def fresh_generator() -> torch.Generator:
    """A generator whose seed comes from torch's default one, so that ``manual_seed`` decides."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
