"""The range that a model declares for a parameter, as numbers."""

from __future__ import annotations

import re

from cosim.devices.ir import DeviceIR

__all__ = ["parameter_range"]

_RANGE = re.compile(r"from [\[(]([^:]+):([^:]+)[\])]")


def parameter_range(ir: DeviceIR, name: str) -> tuple[float, float] | None:
    """The finite range that the model declares for a parameter."""
    text = next((p.range for p in ir.parameters if p.name == name), "")
    match = _RANGE.fullmatch(text) or _RANGE.fullmatch(f"from {text}")
    try:
        low, high = (float(end) for end in match.groups()) if match else (0.0, 0.0)
    except ValueError:
        return None
    return (low, high) if -float("inf") < low < high < float("inf") else None
