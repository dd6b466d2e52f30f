"""The shared linear network of newton against a dense inverse, and its conjugate gradients."""

from __future__ import annotations

import pytest
import torch

from cosim.solvers.krylov import newton_update
from cosim.solvers.lines import Lines
from cosim.solvers.preconditioner import Preconditioner
from cosim.wires import Wires
from reference.nodal import nodal_solve
from solvers.cases import UNEQUAL, ZEROS, cells, distance, inputs, name, ohms
from tolerances import CONJUGATE_GRADIENTS, LINEAR_EXACT, LINEAR_FLOAT32, MILLIOHM

SEGMENTS = Wires(row=cells(5, 3) * 1e5, column=cells(4, 4) * 1e5, source=5.0, sense=0.7)
BOTH_ENDS = Wires(row=2.0, column=3.0, source=5.0, sense=0.7, source_far=4.0, sense_far=9.0)


def lines_of(wires: Wires, rows: int, columns: int, *, turned: bool = False) -> Lines:
    return Lines.of(wires.spread(rows, columns), (), turned)


def wire_resistance(lines: Lines, rows: int, columns: int) -> torch.Tensor:
    """R: volts taken from every cell by one ampere through each of them."""
    count = rows * columns
    one = torch.eye(count, dtype=torch.float64).view(1, count, rows, columns).transpose(1, 2).contiguous()
    return lines.drop(one)[0].transpose(0, 1).reshape(count, count).T


def dense(g: torch.Tensor, resistance: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """(I + R g)^-1 R source for (rows, batch, columns)."""
    flat = source.transpose(0, 1).flatten(1).T
    system = torch.eye(len(flat), dtype=torch.float64) + resistance * g.flatten()
    answer = torch.linalg.solve(system, resistance @ flat)
    return answer.T.unflatten(1, g.shape).transpose(0, 1)


@pytest.mark.parametrize("wires", [*ZEROS, UNEQUAL], ids=name)
def test_drop_is_what_the_wires_take(wires: Wires):
    """Against the node voltages of the reference, for the cell currents that it found."""
    g, v = cells(4, 3), inputs(2, 4)
    truth = nodal_solve(v.numpy(), (4, 3), cell=lambda u: (g.numpy() * u, g.numpy()), **ohms(wires))
    voltage = torch.as_tensor(truth.word - truth.bit)
    current = (g * voltage).transpose(0, 1)[None].contiguous()  # (1, rows, batch, columns)
    drop = lines_of(wires, 4, 3).drop(current)[0].transpose(0, 1)
    assert distance(v[..., None] - drop, voltage) <= LINEAR_EXACT


@pytest.mark.parametrize("wires", [*ZEROS[1:], UNEQUAL, SEGMENTS, BOTH_ENDS], ids=repr)
@pytest.mark.parametrize("turned", [False, True])
def test_it_inverts_the_network(wires: Wires, turned: bool):
    lines = lines_of(wires, 5, 4, turned=turned)
    rows, columns = (4, 5) if turned else (5, 4)
    g, source = 10 * cells(rows, columns), inputs(1, rows, 3, columns)
    truth = dense(g, wire_resistance(lines, rows, columns), source[0])
    for dtype, tolerance in ((torch.float64, LINEAR_EXACT), (torch.float32, LINEAR_FLOAT32)):
        answer = Preconditioner(g[None].to(dtype), lines).apply(source.to(dtype))
        assert answer.dtype == dtype
        assert distance(answer[0].double(), truth) <= tolerance


def test_a_short_circuit_at_a_far_end_is_nearly_one():
    wires = Wires(row=2.0, column=3.0, source_far=0.0, sense_far=0.0)
    lines, g, source = lines_of(wires, 5, 4), cells(5, 4), inputs(1, 5, 3, 4)
    truth = dense(g, wire_resistance(lines, 5, 4), source[0])
    assert distance(Preconditioner(g[None], lines).apply(source)[0], truth) <= MILLIOHM


def test_conjugate_gradients_solve_newtons_equation():
    """Slopes up to ten times those of the preconditioner, and a cell with a slightly negative one."""
    lines, g0 = lines_of(UNEQUAL, 5, 4), 10 * cells(5, 4)
    slope = g0[None, :, None] * 10 ** inputs(1, 5, 3, 4, seed=5)
    slope[0, 2, 0, 1] = -1e-6
    residual = 1e-9 * inputs(1, 5, 3, 4)
    update, products = newton_update(
        Preconditioner(g0[None], lines), slope, residual, torch.zeros(1, 3, dtype=torch.float64), 40
    )
    resistance = wire_resistance(lines, 5, 4)
    for k in range(3):
        # dc = -(I + g R)^-1 (c - f)
        system = torch.eye(20, dtype=torch.float64) + slope[0, :, k].reshape(-1, 1) * resistance
        truth = -torch.linalg.solve(system, residual[0, :, k].flatten())
        assert distance(update[0, :, k].flatten(), truth) <= CONJUGATE_GRADIENTS
    assert products == 40


def test_conjugate_gradients_stop_at_the_target_of_each_vector():
    lines, g0 = lines_of(UNEQUAL, 5, 4), cells(5, 4)
    slope, residual = g0[None, :, None].expand(1, 5, 2, 4), inputs(1, 5, 2, 4)
    update, products = newton_update(
        Preconditioner(g0[None], lines), slope, residual, torch.tensor([[1e-9, torch.inf]]), 12
    )
    assert products == 1  # the preconditioner is exact here
    assert bool((update[:, :, 0] != 0).all())
    assert bool((update[:, :, 1] == 0).all())
