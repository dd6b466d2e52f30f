"""Layers and models with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.mn import Module
from cosim.memtorch.mn.Conv1d import Conv1d
from cosim.memtorch.mn.Conv2d import Conv2d
from cosim.memtorch.mn.Conv3d import Conv3d
from cosim.memtorch.mn.GRU import GRU
from cosim.memtorch.mn.Linear import Linear
from cosim.memtorch.mn.LSTM import LSTM
from cosim.memtorch.mn.RNN import RNN

__all__ = ["GRU", "LSTM", "RNN", "Conv1d", "Conv2d", "Conv3d", "Linear", "Module"]
