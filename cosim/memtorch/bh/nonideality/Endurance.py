"""Endurance: what becomes of the devices after many SET-RESET cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cosim.memtorch.mn.layer import MemristiveLayer

__all__ = ["apply_endurance_model"]


def apply_endurance_model(
    layer: MemristiveLayer,
    x: float,
    endurance_model: Callable[..., MemristiveLayer],
    endurance_model_kwargs: Mapping[str, Any],
) -> MemristiveLayer:
    """``endurance_model(layer=..., x=..., **endurance_model_kwargs)``; x: cycles."""
    return endurance_model(layer=layer, x=x, **endurance_model_kwargs)
