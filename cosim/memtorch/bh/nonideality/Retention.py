"""Retention: what becomes of the devices after some time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cosim.memtorch.mn.layer import MemristiveLayer

__all__ = ["apply_retention_model"]


def apply_retention_model(
    layer: MemristiveLayer,
    time: float,
    retention_model: Callable[..., MemristiveLayer],
    retention_model_kwargs: Mapping[str, Any],
) -> MemristiveLayer:
    """``retention_model(layer=..., x=time, **retention_model_kwargs)``; time: s."""
    return retention_model(layer=layer, x=time, **retention_model_kwargs)
