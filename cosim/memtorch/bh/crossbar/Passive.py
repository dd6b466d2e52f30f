"""``solve_passive``: a crossbar without transistors, with source and line resistance."""

from __future__ import annotations

import torch

from cosim.arrays import as_tensor, check_finite, check_positive
from cosim.checks import as_flag
from cosim.errors import SpecError
from cosim.memtorch.bh.crossbar.Tile import checked_resistances
from cosim.solvers.linear import LinearNetwork
from cosim.wires import Wires

__all__ = ["solve_passive"]


def solve_passive(
    conductance_matrix: torch.Tensor,
    V_WL: torch.Tensor,
    V_BL: torch.Tensor,
    R_source: float | None,
    R_line: float | None,
    n_input_batches: int | None = None,
    use_bindings: bool = True,
) -> torch.Tensor:
    """Currents (A) out of the bit lines, ``(columns,)`` or ``(batch, columns)``.

    conductance_matrix: (rows, columns) S, 0 or more. V_WL: (rows,) or (batch, rows) V, driven at column
    0 through R_source (ohm). V_BL: (columns,) V, one value for all, below the last row through R_source.
    R_line: ohm between neighbours. Either resistance may be 0. use_bindings: there is one implementation.
    Raises SpecError for shapes that do not fit.

    >>> solve_passive(torch.tensor([[1e-3]]), torch.tensor([1.0]), torch.zeros(1), 500.0, 0.0).tolist()
    [0.0005000000237487257]
    """
    as_flag(use_bindings, "use_bindings")
    given = {"conductance_matrix": conductance_matrix, "V_WL": V_WL, "V_BL": V_BL}
    conductance_matrix, V_WL, V_BL = (
        check_finite(as_tensor(value, name), name) for name, value in given.items()
    )
    check_positive(conductance_matrix, "conductance_matrix", zero=True)
    _check_shapes(conductance_matrix, V_WL, V_BL)
    if bool((V_BL.flatten()[0] != V_BL).any()):
        raise SpecError("V_BL has different values: give one voltage for all bit lines")
    if n_input_batches is not None and V_WL.ndim == 2 and V_WL.shape[0] != n_input_batches:
        raise SpecError(f"V_WL has {V_WL.shape[0]} vectors, n_input_batches is {n_input_batches}")
    source, line = checked_resistances(R_source, R_line)
    wires = Wires(row=line, column=line, source=source, sense=source)
    transfer = LinearNetwork.factor(conductance_matrix.double(), wires).transfer
    return ((V_WL.double() - float(V_BL.flatten()[0])) @ transfer).to(V_WL)


def _check_shapes(matrix: torch.Tensor, word: torch.Tensor, bit: torch.Tensor) -> None:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise SpecError(f"conductance_matrix has shape {tuple(matrix.shape)}: give (rows, columns)")
    rows, columns = matrix.shape
    if word.ndim not in (1, 2) or word.shape[-1] != rows:
        raise SpecError(f"V_WL has shape {tuple(word.shape)}: give ({rows},) or (batch, {rows})")
    if tuple(bit.shape) not in ((), (1,), (columns,)):
        raise SpecError(f"V_BL has shape {tuple(bit.shape)}: give ({columns},)")
