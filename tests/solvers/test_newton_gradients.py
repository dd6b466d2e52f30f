"""Gradients through newton: against differences, through every kind of input, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cosim.crossbar import Status, Tile
from cosim.devices.device import Device
from cosim.errors import SolveError
from cosim.solvers import implicit
from cosim.solvers.newton import solve_newton
from cosim.wires import Wires
from reference.nodal import nodal_solve
from solvers.cases import UNEQUAL, cells, distance, inputs, ohms
from solvers.stand_in import Diode, Sinh, stand_in_tile
from tolerances import GRADIENT_DIFFERENCE

OHMS = {name: ohm for name, ohm in ohms(UNEQUAL).items() if ohm is not None}


def check(function: Any, *variables: Tensor) -> None:
    """Currents in mA, so that the differences of gradcheck see numbers near 1."""
    free = [value.clone().requires_grad_() for value in variables]
    assert torch.autograd.gradcheck(
        lambda *x: 1e3 * solve_newton(*function(*x), tolerance=1e-14).currents, free, atol=1e-7, rtol=1e-6
    )


def scalars(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 3, 2)], ids=str)
def test_of_everything_that_a_tile_has(shape: tuple[int, ...]):
    """State, voltages, a parameter for all cells and one for each, and every wire."""

    def tile(g: Tensor, v: Tensor, a: Tensor, more: Tensor, *ohm: Tensor) -> tuple[Tile, Tensor]:
        wires = Wires(**dict(zip(OHMS, ohm, strict=True)))
        return stand_in_tile(Sinh(a + more), state=1e-3 * g, wires=wires), v

    v = inputs(*shape[:-2], 2, shape[-2])
    check(tile, 1e4 * cells(*shape), v, *scalars(2.5), 1e4 * cells(*shape[-2:]), *scalars(*OHMS.values()))


def test_of_single_segments():
    def tile(row: Tensor, column: Tensor, far: Tensor) -> tuple[Tile, Tensor]:
        wires = Wires(row=row, column=column, source=5.0, sense=0.7, source_far=far)
        return stand_in_tile(Sinh(4.0), state=1e2 * cells(3, 4), wires=wires), inputs(2, 3)

    check(tile, 5 * inputs(3, 3).abs(), 5 * inputs(2, 4).abs(), *scalars(3.0))


def test_of_wires_without_resistance():
    """At 0 ohm the nodes are one, and the derivative is still there."""

    def tile(ohm: Tensor) -> tuple[Tile, Tensor]:
        wires = Wires(row=ohm.square(), column=2.0 * ohm.square() + ohm, sense=0.0, source=0.0)
        return stand_in_tile(Sinh(2.5), state=1e2 * cells(3, 4), wires=wires), inputs(2, 3)

    # one-sided: a resistance may not be negative
    (zero,) = scalars(0.0)
    zero.requires_grad_()
    current = solve_newton(*tile(zero), tolerance=1e-14).currents.sum()
    current.backward()
    step = 1e-6
    moved = solve_newton(*tile(torch.tensor(step, dtype=torch.float64)), tolerance=1e-14).currents.sum()
    assert zero.grad is not None
    assert float(zero.grad) == pytest.approx(float((moved - current).detach()) / step, rel=1e-4)


def test_of_stanford_cells():
    device = Device("stanford_pku")

    def tile(gap: Tensor, v: Tensor, v0: Tensor, i0: Tensor) -> tuple[Tile, Tensor]:
        return Tile(device.replace(v0=v0, i0=1e-3 * i0), state=1e-9 * gap, wires=UNEQUAL), v

    gap = 0.3 + inputs(3, 4).abs()
    check(tile, gap, inputs(2, 3), torch.full((3, 4), 0.25, dtype=torch.float64), *scalars(1.0))


def test_of_exponential_vteam_cells():
    device = Device("vteam", iv=1)

    def tile(x: Tensor, v: Tensor, r_on: Tensor) -> tuple[Tile, Tensor]:
        return Tile(device.replace(r_on=r_on), state=x, wires=UNEQUAL), v

    x = 0.1 + 0.8 * inputs(3, 4).abs()
    check(tile, x, inputs(2, 3), 50 + inputs(3, 4))


def test_of_given_conductances():
    def tile(g: Tensor) -> tuple[Tile, Tensor]:
        return stand_in_tile(Sinh(2.5), conductance=1e-3 * g, wires=UNEQUAL, v_read=0.3), inputs(2, 3)

    check(tile, 1e4 * cells(3, 4))


def test_against_differences_of_the_reference():
    """Steep cells: d(weighted sum of currents)/d(driver voltage) from the dense Newton."""
    state, v = 1e2 * cells(6, 5), inputs(1, 6)
    weight = inputs(5, seed=9)
    device = Sinh(4.0)

    def total(volts: Tensor) -> float:
        def cell(u: Any) -> Any:
            return tuple(part.numpy() for part in device.current_and_slope(torch.as_tensor(u), state))

        truth = nodal_solve(volts.numpy(), (6, 5), cell=cell, **ohms(UNEQUAL)).currents
        return float((torch.as_tensor(truth) * weight).sum())

    free = v.clone().requires_grad_()
    tile = stand_in_tile(device, state=state, wires=UNEQUAL)
    (solve_newton(tile, free).currents * weight).sum().backward()
    step = 1e-4 * torch.eye(6, dtype=torch.float64)
    differences = torch.tensor([(total(v + row) - total(v - row)) / 2e-4 for row in step])
    assert free.grad is not None
    assert distance(free.grad[0], differences) <= GRADIENT_DIFFERENCE


def test_chunks_of_tiles_and_vectors_give_the_same():
    state, v = cells(3, 6, 5), inputs(3, 7, 6)
    found = []
    for memory in (1 << 30, 60_000):
        g, volts = state.clone().requires_grad_(), v.clone().requires_grad_()
        tile = stand_in_tile(Sinh(4.0), state=g, wires=UNEQUAL)
        solve_newton(tile, volts, memory=memory).currents.square().sum().backward()
        assert g.grad is not None
        assert volts.grad is not None
        found.append((g.grad, volts.grad))
    for whole, parts in zip(*found, strict=True):
        assert distance(parts, whole) <= GRADIENT_DIFFERENCE


def test_of_nodes():
    g = (1e4 * cells(4, 3)).requires_grad_()
    v = inputs(2, 4)

    def word(x: Tensor) -> Tensor:
        tile = stand_in_tile(Sinh(2.5), state=1e-3 * x, wires=UNEQUAL)
        solution = solve_newton(tile, v, nodes=True, tolerance=1e-14)
        assert solution.nodes is not None
        return solution.nodes.word

    assert torch.autograd.gradcheck(word, (g,), atol=1e-7, rtol=1e-6)


def test_a_vector_that_failed_has_no_gradient_and_spoils_no_other():
    state, v = cells(3, 4), inputs(3, 3)
    v[1] = 1e4
    grads = []
    for chosen in (v, v[0::2]):
        g = state.clone().requires_grad_()
        solution = solve_newton(stand_in_tile(Sinh(2.5), state=g, wires=Wires()), chosen)
        solution.currents[solution.solved].sum().backward()
        assert g.grad is not None
        grads.append(g.grad)
    assert distance(grads[0], grads[1]) <= GRADIENT_DIFFERENCE


def test_a_gradient_that_cannot_be_solved_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(implicit, "_ACCEPTED", -1.0)
    unknown = cells(2, 4, 1, 3) * torch.nan
    monkeypatch.setattr(implicit, "adjoint_voltages", lambda network: unknown)
    g = cells(3, 4).requires_grad_()
    solution = solve_newton(stand_in_tile(Sinh(2.5), state=g, wires=UNEQUAL), inputs(2, 3))
    with pytest.raises(SolveError, match="gradient did not converge for 2 of 2 vectors: leave them out"):
        solution.currents.sum().backward()


def test_memory_does_not_grow_with_the_iterations():
    """What the graph keeps: the same after 4 and after many Newton steps."""
    kept = []
    for device, volt in ((Sinh(2.5), 0.1), (Diode(), 0.6)):
        g = cells(6, 5).requires_grad_()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=saved: s.append(x.numel()) or x, lambda x: x
        ):
            solution = solve_newton(stand_in_tile(device, state=g, wires=UNEQUAL), inputs(4, 6, volt=volt))
        assert solution.status.tolist() == [Status.SOLVED] * 4
        kept.append((int(solution.stats["iterations"].sum()), sum(saved)))
    assert kept[1][0] > 2 * kept[0][0]
    assert kept[1][1] == kept[0][1]


def test_no_graph_where_none_is_asked_for():
    g = cells(3, 4).requires_grad_()
    tile = stand_in_tile(Sinh(2.5), state=g, wires=UNEQUAL)
    with torch.no_grad():
        assert not solve_newton(tile, inputs(2, 3)).currents.requires_grad
    plain = stand_in_tile(Sinh(2.5), state=g.detach(), wires=UNEQUAL)
    assert not solve_newton(plain, inputs(2, 3)).currents.requires_grad
