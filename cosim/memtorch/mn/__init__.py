"""Layers and models with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.mn import Module
from cosim.memtorch.mn.Conv1d import Conv1d
from cosim.memtorch.mn.Conv2d import Conv2d
from cosim.memtorch.mn.Conv3d import Conv3d
from cosim.memtorch.mn.Linear import Linear

__all__ = ["Conv1d", "Conv2d", "Conv3d", "Linear", "Module"]
