"""Peak memory without a clock, an allocator or an operating system in it: bytes of live tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "peak_bytes"]


class LiveBytes(TorchDispatchMode):
    """Counts the storages of all results of operations until they are freed.

    now, peak: bytes, of storages made inside of the ``with`` alone. What an operation takes for itself
    and gives back before it returns is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            _of(value)._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)
        }
        results = func(*args, **(kwargs or {}))
        for value in tree_leaves(results):
            if isinstance(value, torch.Tensor) and _of(value)._cdata not in given:
                self._count(_of(value))
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


def _of(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes that live at once in ``call()``, on top of what was there."""
    with LiveBytes() as live:
        call()
    return live.peak
