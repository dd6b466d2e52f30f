"""``LentMatrix``: the conductances of a crossbar as a tensor; what is written into it reaches the cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

__all__ = ["LentMatrix", "lend"]


class Loan:
    """A matrix that was lent, what it held when it was last the same as the cells, and the way back."""

    def __init__(
        self, read: Callable[[], torch.Tensor], write: Callable[[torch.Tensor, torch.Tensor], None]
    ) -> None:
        self._read, self._write = read, write
        self.matrix = read()
        self._known = self.matrix.clone()

    def owns(self, value: torch.Tensor) -> bool:
        """True in the memory of the matrix: the matrix itself, or a row of it."""
        if value.layout is not torch.strided:
            return False
        return value.untyped_storage().data_ptr() == self.matrix.untyped_storage().data_ptr()

    def settle(self) -> None:
        """Write what has changed, and show what the cells make of it; after an error, what was."""
        changed = self.matrix != self._known
        if not bool(changed.any()):
            return
        try:
            self._write(torch.where(changed, self.matrix, self._read()), changed)
            self._known = self._read()
        finally:
            self.matrix.copy_(self._known)


class LentMatrix(torch.Tensor):
    """Conductances (S); ``matrix[0, 0] = x``, ``matrix.mul_(2)`` and the like write to the cells.

    Views write through as well. What else comes out is plain; numpy arrays of it are read-only.
    """

    loan: Loan

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        loans = [x.loan for x in tree_leaves((args, kwargs)) if isinstance(x, LentMatrix)]
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            for loan in loans:
                loan.settle()
            return _shown(result, loans)

    def __deepcopy__(self, memo: Any) -> torch.Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)


def lend(
    read: Callable[[], torch.Tensor], write: Callable[[torch.Tensor, torch.Tensor], None]
) -> torch.Tensor:
    """What ``read()`` gives, a tensor of its own; every change goes through ``write(matrix, changed)``."""
    loan = Loan(read, write)
    return _lent(loan.matrix, loan)


def _lent(tensor: torch.Tensor, loan: Loan) -> LentMatrix:
    lent = tensor.as_subclass(LentMatrix)
    lent.loan = loan
    return lent


def _shown(value: Any, loans: list[Loan]) -> Any:
    """A result; views of what is lent are lent."""
    if type(value) in (tuple, list):  # not torch.Size
        return type(value)(_shown(part, loans) for part in value)
    if isinstance(value, np.ndarray):
        value.flags.writeable = False  # a change in it could not be seen
    if isinstance(value, torch.Tensor):
        for loan in loans:
            if loan.owns(value):
                return _lent(value, loan)
    return value
