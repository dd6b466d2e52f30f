"""Failure of metal-oxide RRAM: Lammie, Azghadi, Ielmini, Semicond. Sci. Technol. 36, 065003, 2021."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np
import torch

from cosim.checks import as_number
from cosim.errors import SpecError
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer
from cosim.nn.effects import Endurance

__all__ = ["OperationMode", "model_endurance_retention", "scale_p_0"]


class OperationMode(enum.Enum):
    """How devices fail: all at once, or by a power law."""

    sudden = 1
    gradual = 2


def model_endurance_retention(
    layer: MemristiveLayer,
    operation_mode: OperationMode,
    x: float,
    p_lrs: Sequence[float] | None = None,
    stable_resistance_lrs: float | None = None,
    p_hrs: Sequence[float] | None = None,
    stable_resistance_hrs: float | None = None,
    cell_size: float | None = 10,
    temperature: float | None = None,
    temperature_threshold: float = 298,
) -> MemristiveLayer:
    """Failure of LRS and HRS cells after x cycles, or x s; see ``cosim.nn.effects.Failure``.

    cell_size: nm, 10 if None. temperature: K. Stable resistances (ohm) count in mode sudden.
    """
    if not isinstance(operation_mode, OperationMode):
        raise SpecError(f"operation_mode is {operation_mode!r}: give an OperationMode")
    layer = checked_layer(layer)
    given = {
        "x": x,
        "stable_resistance_lrs": stable_resistance_lrs,
        "stable_resistance_hrs": stable_resistance_hrs,
        "cell_size": cell_size,
        "temperature": temperature,
        "temperature_threshold": temperature_threshold,
    }
    for name, value in given.items():
        if value is not None:
            as_number(value, name, above=0)
    sudden = operation_mode is OperationMode.sudden
    failure = Endurance(
        cycles=x,
        mode=operation_mode.name,
        p_lrs=_four(p_lrs),
        p_hrs=_four(p_hrs),
        stable_lrs=stable_resistance_lrs if sudden and p_lrs is not None else None,
        stable_hrs=stable_resistance_hrs if sudden and p_hrs is not None else None,
        cell_size=10.0 if cell_size is None else cell_size,
        temperature=temperature,
        temperature_threshold=None if temperature is None else temperature_threshold,
    )
    layer.add_effects([failure])
    return layer


def scale_p_0(
    p_0: float,
    p_1: float,
    v_stop: float,
    v_stop_min: float,
    v_stop_max: float,
    v_stop_optimal: float,
    cell_size: float | None = 10,
) -> float:
    """p_0 at another stop voltage (V), from its value at the best one. cell_size: nm, 10 if None.

    >>> round(scale_p_0(1, 0.1, 1.0, 0.5, 1.5, 1.2, 10), 6)
    1.209826
    """
    arguments = locals()
    for name, value in arguments.items():
        if name != "cell_size" or value is not None:
            as_number(value, name)
    if v_stop_min == v_stop_max:
        raise SpecError(f"v_stop_min and v_stop_max are {v_stop_min} V: they must differ")
    u, best = ((v - v_stop_min) / (v_stop_max - v_stop_min) for v in (v_stop, v_stop_optimal))
    grown = math.exp(p_1 * (10 if cell_size is None else cell_size))
    if best in (0.0, 1.0) or p_0 * grown <= 0:
        raise SpecError(
            f"p_0 is {p_0} and v_stop_optimal {v_stop_optimal} V: p_0 must be above 0, and the best voltage "
            "not v_stop_min or v_stop_max"
        )
    k = math.log10(p_0 * grown) / (1 - (2 * best - 1) ** 2)
    return 10 ** (k * (1 - (2 * u - 1) ** 2)) / grown


def _four(values: Sequence[float] | None) -> tuple[float, float, float, float] | None:
    if values is None:
        return None
    if not isinstance(values, Sequence | np.ndarray | torch.Tensor) or len(values) != 4:
        raise SpecError(f"{values!r}: p_lrs and p_hrs are four numbers")
    a, b, c, d = (as_number(v, "p_lrs or p_hrs") for v in values)
    return a, b, c, d
