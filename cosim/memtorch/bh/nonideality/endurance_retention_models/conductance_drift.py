"""Conductance drift: Boybat et al., NVMTS 2018."""

from __future__ import annotations

from cosim.checks import as_number
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer
from cosim.nn.effects import Drift

__all__ = ["model_conductance_drift"]

_EARLIEST = 1e-12  # s, for an initial time of 0


def model_conductance_drift(
    layer: MemristiveLayer, x: float, initial_time: float = 1e-12, drift_coefficient: float = 0.1
) -> MemristiveLayer:
    """G(x) = G(initial_time) (x/initial_time)^(-drift_coefficient), within the reach of each cell; s."""
    given = {"x": x, "initial_time": initial_time, "drift_coefficient": drift_coefficient}
    seconds, initial, nu = (as_number(value, name) for name, value in given.items())
    drift = Drift(seconds=seconds, nu=nu, initial=initial or _EARLIEST)
    checked_layer(layer).add_effects([drift])
    return layer
