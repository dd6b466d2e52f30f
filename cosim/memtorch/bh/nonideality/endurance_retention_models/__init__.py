"""Models of endurance and retention with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.bh.nonideality.endurance_retention_models.conductance_drift import (
    model_conductance_drift,
)
from cosim.memtorch.bh.nonideality.endurance_retention_models.empirical_metal_oxide_RRAM import (
    OperationMode,
    model_endurance_retention,
    scale_p_0,
)

__all__ = ["OperationMode", "model_conductance_drift", "model_endurance_retention", "scale_p_0"]
