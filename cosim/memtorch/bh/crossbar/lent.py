"""``LentMatrix``: the conductances of a crossbar as a tensor; what is written into it reaches the cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["LentMatrix", "lend"]

# torch's own tensors inside: their methods do not come back here
_plainly = torch._C.DisableTorchFunctionSubclass


class Loan:
    """What was lent, as it was, and where changes go."""

    def __init__(self, matrix: torch.Tensor, replace: Callable[[Callable], torch.Tensor]) -> None:
        self.matrix, self._replace = matrix, replace
        self._lent = matrix.clone()

    def owns(self, value: object) -> bool:
        """True for a tensor in the memory of the loan, such as a row of it."""
        if not isinstance(value, torch.Tensor):
            return False
        return value.untyped_storage().data_ptr() == self.matrix.untyped_storage().data_ptr()

    def write(self) -> None:
        """Write what changed to the cells, and show what they made of it; after an error, what was."""
        changed, wanted = self.matrix != self._lent, self.matrix.clone()
        try:
            self._lent = self._replace(lambda now: torch.where(changed, wanted, now))
        finally:
            self.matrix.copy_(self._lent)


class LentMatrix(torch.Tensor):
    """A tensor in which ``matrix[0, 0] = x``, ``matrix.mul_(2)`` and the like write to the cells.

    Views write through as well; results of other operations are plain tensors, numpy arrays of it read-only.
    """

    loan: Loan

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, LentMatrix)]
        with _plainly():
            before = [x._version for x in given]
            result = func(*args, **(kwargs or {}))
            loans = {id(x.loan): x.loan for x in given}
            for loan in {id(x.loan): x.loan for x, v in zip(given, before, strict=True) if x._version != v}.values():
                loan.write()
            return tree_map(lambda value: _shown(value, list(loans.values())), result)

    def __iter__(self) -> Any:
        return iter(self.unbind(0))

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)


def _shown(value: Any, loans: list[Loan]) -> Any:
    if isinstance(value, np.ndarray):
        value.flags.writeable = False  # numpy would not tell of a change
        return value
    owner = next((loan for loan in loans if loan.owns(value)), None)
    return value if owner is None else _lent(value, owner)
