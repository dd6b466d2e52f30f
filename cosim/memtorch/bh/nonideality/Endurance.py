"""Endurance: what becomes of the devices after many SET-RESET cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cosim.errors import SpecError
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer

__all__ = ["apply_endurance_model"]


def apply_endurance_model(
    layer: MemristiveLayer,
    x: float,
    endurance_model: Callable[..., MemristiveLayer],
    endurance_model_kwargs: Mapping[str, Any],
) -> MemristiveLayer:
    """``endurance_model(layer=..., x=..., **endurance_model_kwargs)``; x: cycles."""
    if not callable(endurance_model) or not isinstance(endurance_model_kwargs, Mapping):
        raise SpecError(
            f"endurance_model is {endurance_model!r} with {endurance_model_kwargs!r}: give a function, and a "
            "dictionary of its arguments"
        )
    return endurance_model(layer=checked_layer(layer), x=x, **endurance_model_kwargs)
