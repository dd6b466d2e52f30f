"""Mapping, scaling and tuning with MemTorch's names."""

from __future__ import annotations

from cosim.memtorch.map import Input, Module, Parameter

__all__ = ["Input", "Module", "Parameter"]
