"""Non-idealities with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.bh.nonideality import (
    DeviceFaults,
    Endurance,
    FiniteConductanceStates,
    NonLinear,
    Retention,
    endurance_retention_models,
)
from cosim.memtorch.bh.nonideality.NonIdeality import NonIdeality, apply_nonidealities

__all__ = [
    "DeviceFaults",
    "Endurance",
    "FiniteConductanceStates",
    "NonIdeality",
    "NonLinear",
    "Retention",
    "apply_nonidealities",
    "endurance_retention_models",
]
