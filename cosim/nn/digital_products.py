"""Products that a network computes by itself, with tensors of its own, beside its crossbar layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cosim.nn.matmul import CrossbarMatmul

__all__ = ["DigitalProducts", "held_tensors"]

_PRODUCTS = (
    "linear",
    "matmul",
    "mm",
    "bmm",
    "mv",
    "addmm",
    "einsum",
    "bilinear",
    "conv1d",
    "conv2d",
    "conv3d",
)


class DigitalProducts(TorchFunctionMode):
    """``found``: names of those of ``tensors`` that a product was computed with, or with a view of."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._names = {_memory(tensor): name for name, tensor in tensors.items()}
        self._names.pop(0, None)  # of tensors without numbers
        self.found: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").strip("_").removeprefix("r") in _PRODUCTS:
            for operand in (*args, *(kwargs or {}).values()):
                if isinstance(operand, torch.Tensor) and (name := self._names.get(_memory(operand))):
                    self.found[name] = None
        return func(*args, **(kwargs or {}))


def held_tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Matrices that digital modules hold: parameters, buffers and plain attributes, by name."""
    products = [name for name, module in network.named_modules() if isinstance(module, CrossbarMatmul)]
    layers = {name.rpartition(".")[0] for name in products} | set(products)
    for prefix, module in network.named_modules():
        if prefix in layers:
            continue
        own = {**vars(module), **module._parameters, **module._buffers}
        for name, tensor in own.items():
            if isinstance(tensor, torch.Tensor) and tensor.ndim >= 2 and tensor.layout is torch.strided:
                yield f"{prefix}.{name}" if prefix else name, tensor


def _memory(tensor: torch.Tensor) -> int:
    """Where its numbers lie: that of a view is the same."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return 0
    return tensor.untyped_storage().data_ptr()
