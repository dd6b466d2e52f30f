"""What a simulation needs of a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from cosim.arrays import Array
from cosim.devices.ir import DeviceIR
from cosim.devices.memory import Memory
from cosim.devices.ports import Ports
from cosim.devices.print_torch import TorchModel

__all__ = ["Simulated"]


class Simulated(Protocol):
    """``cosim.Device`` has it."""

    ir: DeviceIR
    ports: Ports
    memory: Memory | None
    temperature: float

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Path: ...
    @property
    def given(self) -> Mapping[str, Any]: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def state_parameter(self) -> str | None: ...
    @property
    def state_node(self) -> str | None: ...
    @property
    def bounded(self) -> bool: ...
    @property
    def state_scale(self) -> float: ...
    @property
    def state_range(self) -> tuple[float, float]: ...
    @property
    def state_bounds(self) -> tuple[torch.Tensor, torch.Tensor]: ...
    @property
    def write_parameter(self) -> str | None: ...
    @property
    def driven(self) -> tuple[str, ...]: ...
    def check_state(self, state: Array | None) -> torch.Tensor: ...
    def torch_model(
        self, *, static: bool, initial: bool = ..., extra: Mapping[str, Any] = ...
    ) -> TorchModel: ...
