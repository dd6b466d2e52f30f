"""Behavioural models with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch import map
from cosim.memtorch.bh import Quantize, crossbar, memristor, nonideality
from cosim.memtorch.bh.crossbar.Crossbar import Crossbar, Scheme
from cosim.memtorch.bh.StochasticParameter import StochasticParameter

__all__ = [
    "Crossbar",
    "Quantize",
    "Scheme",
    "StochasticParameter",
    "crossbar",
    "map",
    "memristor",
    "nonideality",
]
