"""Retention: what becomes of the devices after some time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cosim.errors import SpecError
from cosim.memtorch.mn.layer import MemristiveLayer, checked_layer

__all__ = ["apply_retention_model"]


def apply_retention_model(
    layer: MemristiveLayer,
    time: float,
    retention_model: Callable[..., MemristiveLayer],
    retention_model_kwargs: Mapping[str, Any],
) -> MemristiveLayer:
    """``retention_model(layer=..., x=time, **retention_model_kwargs)``; time: s."""
    if not callable(retention_model) or not isinstance(retention_model_kwargs, Mapping):
        raise SpecError(
            f"retention_model is {retention_model!r} with {retention_model_kwargs!r}: give a function, and a "
            "dictionary of its arguments"
        )
    return retention_model(layer=checked_layer(layer), x=time, **retention_model_kwargs)
