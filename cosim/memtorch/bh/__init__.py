"""Behavioural models with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.bh import Quantize, crossbar, memristor, nonideality
from cosim.memtorch.bh.crossbar.Crossbar import Scheme
from cosim.memtorch.bh.StochasticParameter import StochasticParameter

__all__ = ["Quantize", "Scheme", "StochasticParameter", "crossbar", "memristor", "nonideality"]
