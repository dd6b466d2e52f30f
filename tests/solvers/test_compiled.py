"""The compiled iteration: cells against torch, currents against a dense Newton, what it leaves to torch."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from cosim.crossbar import Status, Tile, Wires
from cosim.devices import build
from cosim.devices.catalogue import CATALOGUE
from cosim.devices.device import Device
from cosim.errors import SpecError, ToolFailed, ToolNotFound
from cosim.solvers import iteration, kernel, library
from cosim.solvers.iteration import Newton
from cosim.solvers.kernel import compiles, solve_compiled
from cosim.solvers.newton import _network, solve_newton
from reference.nodal import nodal_solve
from solvers.cases import BOTH_ENDS, UNEQUAL, ZEROS, distance, inputs, name, ohms, segments
from tolerances import COMPILED_CELLS, NEWTON_EXACT

DATA = Path(__file__).parents[1] / "data" / "va"
VOLTS = [*torch.linspace(-3, 3, 201).tolist(), 0.0, -0.0, 1e-9, -1e-9, 20.0, -20.0, 100.0, -100.0]
MODELS = [*CATALOGUE, str(DATA / "diode.va"), str(DATA / "operators.va")]

# conducts less from 0.4 V on: a slope below 0
FALLING = """
`include "disciplines.vams"
module falling(p, n);
    inout p, n;
    electrical p, n;
    parameter real g = 1e-4 from (0:inf);
    analog I(p, n) <+ g * V(p, n) * (1 - 2 * V(p, n) * V(p, n) + V(p, n) * V(p, n) * V(p, n) * V(p, n));
endmodule
"""


# what a user may write: a law of two branches, with a state
RECTIFYING = """
`include "disciplines.vams"
module rectifying(p, n);
    inout p, n;
    electrical p, n;
    (* type = "instance" *) parameter real w = 0.5 from [0:1];
    parameter real g = 1e-4 from (0:inf);
    analog begin
        if (V(p, n) > 0)
            I(p, n) <+ w * g * 0.1 * (exp(V(p, n) / 0.1) - 1);
        else
            I(p, n) <+ w * g * V(p, n);
    end
endmodule
"""


def sinh_tile(*shape: int, wires: Wires = UNEQUAL, **parameters: Any) -> Tile:
    """Cells of 1.3 to 17 kilo-ohm whose current is a sinh of the voltage."""
    return Tile(Device("data_driven", **parameters), state=1280 + 15720 * inputs(*shape).abs(), wires=wires)


def truth(tile: Tile, voltages: torch.Tensor) -> torch.Tensor:
    """Currents of one tile from the reference, ``(batch, columns)`` A."""

    def cell(v: Any) -> Any:
        state = None if tile.device.state_parameter is None else tile.state
        i, slope = tile.device.current_and_slope(torch.as_tensor(v), state)
        return i.numpy(), slope.numpy()

    shape = (tile.rows, tile.columns)
    return torch.as_tensor(nodal_solve(voltages.numpy(), shape, cell=cell, **ohms(tile.wires)).currents)


def refuse(*_: Any) -> Any:
    raise AssertionError("not to be used here")


@pytest.fixture
def no_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails if anything is factored."""
    monkeypatch.setattr(iteration, "Preconditioner", refuse)


@pytest.fixture
def no_library():
    """Forget the libraries that are loaded, before and after."""
    for kept in (library._load, library._tell):
        kept.cache_clear()
    yield
    library._load.cache_clear()


# --- cells -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=lambda model: Path(model).stem)
def test_cells_equal_those_of_torch(model: str):
    """Five cells of different states without wires, at one voltage per vector."""
    device = Device(model)
    volts = torch.tensor(VOLTS, dtype=torch.float64)[:, None].expand(-1, 5)
    kind: dict[str, Any] = {"shape": (5, 1)}
    if device.state_parameter is not None:
        low, high = device.state_range
        kind = {"state": low + (high - low) * torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]}
    tile = Tile(device, **kind)
    found = solve_compiled(_network(tile, volts, 1e-10)[0])
    assert found is not None
    state = None if device.state_parameter is None else tile.state
    expected, slope = device.current_and_slope(volts[..., None], state)
    finite = (expected.isfinite() & slope.isfinite() & (slope >= 0) & (slope < 1e25)).all(1)[:, 0]
    assert bool(found.solved[0, finite].all())
    error = (found.current[0].transpose(0, 1) - expected).abs() <= COMPILED_CELLS * expected.abs()
    assert bool(error[finite].all())


def test_other_numbers_need_no_other_library():
    loops = [Device("stanford_pku", v0=v).cell_loop for v in (0.25, 0.4)]
    assert loops[0] is not None
    assert loops[1] is not None
    assert loops[0].text == loops[1].text
    assert loops[0].constants != loops[1].constants


def test_cells_with_internal_nodes_have_no_loop():
    device = Device(DATA / "series.va")
    assert device.cell_loop is None
    tile = Tile(device, shape=(5, 4), wires=UNEQUAL)
    v = inputs(3, 5)
    assert not compiles(_network(tile, v, 1e-10)[0])
    assert distance(solve_newton(tile, v).currents, truth(tile, v)) <= NEWTON_EXACT


# --- currents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wires", [*ZEROS[1:], UNEQUAL, BOTH_ENDS], ids=name)
@pytest.mark.parametrize("shape", [(3, 5), (17, 6)], ids=str)
def test_currents_with_any_wires(no_factors: None, shape: tuple[int, int], wires: Wires):
    tile, v = sinh_tile(*shape, wires=wires), inputs(3, shape[0])
    solution = solve_newton(tile, v)
    assert bool(solution.solved.all())
    assert distance(solution.currents, truth(tile, v)) <= NEWTON_EXACT


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (16, 16), (33, 17), (17, 33)], ids=str)
@pytest.mark.parametrize("far", ["", "source", "source sense"])
def test_currents_of_any_shape(no_factors: None, shape: tuple[int, int], far: str):
    tile, v = sinh_tile(*shape, wires=segments(*shape, far=far)), inputs(3, shape[0])
    solution = solve_newton(tile, v)
    assert bool(solution.solved.all())
    assert distance(solution.currents, truth(tile, v)) <= NEWTON_EXACT


def test_tiles_with_parameters_and_wires_of_their_own(no_factors: None):
    """Against each tile alone; the wires, the steepness of the cells and the inputs differ."""
    steep = 2 + inputs(2, 6, 5, seed=3)
    tiles, wires = sinh_tile(2, 6, 5, b_p=steep), segments(6, 5, 2, far="sense")
    v = inputs(2, 3, 6)
    found = solve_newton(Tile(tiles.device, state=tiles.state, wires=wires), v)
    for k in range(2):
        names = ("row", "column", "source", "sense", "sense_far")
        one = Wires(**{part: getattr(wires, part)[k] for part in names})
        tile = Tile(Device("data_driven", b_p=steep[k]), state=tiles.state[k], wires=one)
        assert distance(found.currents[k], truth(tile, v[k])) <= NEWTON_EXACT


def test_a_file_of_the_users_own(no_factors: None, tmp_path: Path):
    path = tmp_path / "rectifying.va"
    path.write_text(RECTIFYING)
    device = Device(path, state="w", state_range=(0.0, 1.0))
    tile, v = Tile(device, state=inputs(6, 7).abs(), wires=UNEQUAL), inputs(3, 6)
    assert distance(solve_newton(tile, v).currents, truth(tile, v)) <= NEWTON_EXACT


def test_random_cases_are_right(no_factors: None):
    """Sizes, ratios, resistances and voltages at random."""
    generator = torch.Generator().manual_seed(11)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    for case in range(40):
        rows, columns = (int(draw(1, 21)) for _ in range(2))
        lowest, ratio, steepness = 10 ** draw(2, 5), 10 ** draw(0.1, 6), draw(0.5, 5)
        device = Device("data_driven", r_min=lowest, r_max=lowest * ratio, b_p=steepness, b_n=steepness)
        state = lowest * ratio ** inputs(rows, columns, seed=case).abs()
        names = ("row", "column", "source", "sense")
        wires = Wires(**{k: 0.0 if draw(0, 1) < 0.25 else 10 ** draw(-1, 2) for k in names})
        tile, v = Tile(device, state=state, wires=wires), draw(0.01, 1.5) * inputs(3, rows, seed=case + 100)
        solution = solve_newton(tile, v)
        assert bool(solution.solved.all())
        error = (solution.currents - truth(tile, v)).abs().amax(-1)
        assert bool((error <= NEWTON_EXACT * solution.currents.abs().amax(-1)).all())


def test_threads_change_nothing():
    tile, v = sinh_tile(20, 18), inputs(9, 20)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = solve_newton(tile, v).currents
    finally:
        torch.set_num_threads(before)
    assert torch.equal(solve_newton(tile, v).currents, three)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_parameters_of_lower_precision_than_the_states(no_factors: None, dtype: torch.dtype):
    steep, v = torch.full((6, 5), 2.5, dtype=dtype), inputs(3, 6)
    for value in (steep, steep[0, 0].clone().requires_grad_()):
        found = solve_newton(sinh_tile(6, 5, b_p=value), v)
        assert distance(found.currents.detach(), truth(sinh_tile(6, 5, b_p=2.5), v)) <= NEWTON_EXACT


def test_ctrl_c_stops_every_thread():
    class Code:
        def __init__(self) -> None:
            self.both = threading.Barrier(2, timeout=10)
            self.stopped = False

        def cosim_solve(self, reference: Any) -> int:
            if self.both.wait() == 0:
                raise KeyboardInterrupt
            end = time.monotonic() + 10
            while not self.stopped and time.monotonic() < end:
                self.stopped = reference._obj.next >= 50
            return 0

    code: Any = Code()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            kernel._on_every_thread(code, library.Task(), 50)
    finally:
        torch.set_num_threads(before)
    assert code.stopped


def test_no_voltage_no_current(no_factors: None):
    solution = solve_newton(sinh_tile(5, 4), torch.zeros(2, 5, dtype=torch.float64))
    assert solution.currents.abs().max() == 0
    assert bool(solution.solved.all())


def test_gradients_need_no_factors(no_factors: None):
    device = Device("data_driven")
    state = (1280 + 15720 * inputs(4, 3).abs()).requires_grad_()
    row = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    v = inputs(2, 4).requires_grad_()

    def currents(v: torch.Tensor, state: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        tile = Tile(device, state=1e3 * state, wires=Wires(row=row, column=3.0))
        return 1e3 * solve_newton(tile, v, tolerance=1e-12).currents

    assert torch.autograd.gradcheck(currents, (v, (state * 1e-3).detach().requires_grad_(), row), eps=1e-5)


# --- what is left to torch -------------------------------------------------------------------------


def test_vectors_that_it_gives_up_are_solved_in_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernel, "_PRODUCTS", 1)
    tile, v = sinh_tile(6, 5), torch.cat([inputs(2, 6), torch.zeros(1, 6), inputs(1, 6, seed=5)])
    found = solve_compiled(_network(tile, v, 1e-10)[0])
    assert found is not None
    assert found.solved.tolist() == [[False, False, True, False]]
    solution = solve_newton(tile, v)
    assert bool(solution.solved.all())
    assert distance(solution.currents, truth(tile, v)) <= NEWTON_EXACT


def test_far_too_steep_for_conjugate_gradients():
    """Slopes of 1e12 S at the first point."""
    tile = Tile(Device("stanford_pku"), state=0.2e-9 + 1.5e-9 * inputs(8, 8).abs(), wires=UNEQUAL)
    v = torch.cat([inputs(2, 8), 8 * inputs(2, 8)])
    found = solve_compiled(_network(tile, v, 1e-10)[0])
    assert found is not None
    assert not bool(found.solved.all())
    solution = solve_newton(tile, v)
    assert bool(solution.solved.all())
    error = (solution.currents - truth(tile, v)).abs().amax(-1)
    assert bool((error <= NEWTON_EXACT * solution.currents.abs().amax(-1)).all())


def test_negative_slopes_are_left_to_torch(tmp_path: Path):
    path = tmp_path / "falling.va"
    path.write_text(FALLING)
    tile, v = Tile(Device(path), shape=(5, 4), wires=UNEQUAL), inputs(3, 5, volt=0.8)
    found = solve_compiled(_network(tile, v, 1e-10)[0])
    assert found is not None
    assert not bool(found.solved.any())
    solution = solve_newton(tile, v)
    assert bool(solution.solved.all())
    assert distance(solution.currents, truth(tile, v)) <= NEWTON_EXACT


def test_a_point_that_torch_finds_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch):
    """Currents a millionth off, said to be solved."""
    tile, v = sinh_tile(6, 5), inputs(3, 6)
    honest = iteration.solve_compiled

    def boast(network: Any) -> Any:
        found = honest(network)
        assert found is not None
        found.current[:, :, 1] *= 1 + 1e-6
        return found

    monkeypatch.setattr(iteration, "solve_compiled", boast)
    used: list[int] = []
    with_factors = Newton._with_factors

    def count(newton: Newton, network: Any) -> Any:
        used.append(network.drive.shape[2])
        return with_factors(newton, network)

    monkeypatch.setattr(Newton, "_with_factors", count)
    solution = solve_newton(tile, v)
    assert used == [1]
    assert bool(solution.solved.all())
    assert distance(solution.currents, truth(tile, v)) <= NEWTON_EXACT


def test_what_is_solved_stays_so_whatever_becomes_of_another_tile(monkeypatch: pytest.MonkeyPatch):
    tile, v = sinh_tile(2, 6, 5), inputs(2, 3, 6)
    alone = solve_newton(Tile(tile.device, state=tile.state[1], wires=UNEQUAL), v[1])
    honest = iteration.solve_compiled

    def wrong_in_one(network: Any) -> Any:
        found = honest(network)
        assert found is not None
        found.current[0] *= 2
        return found

    def give_up(newton: Newton, network: Any) -> Any:
        return network.evaluate(torch.zeros_like(network.unloaded), network.dtype)

    monkeypatch.setattr(iteration, "solve_compiled", wrong_in_one)
    monkeypatch.setattr(Newton, "_with_factors", give_up)
    monkeypatch.setattr(Newton, "_refined", lambda newton, network, found, tolerance: found)
    solution = solve_newton(tile, v)
    assert solution.status.tolist() == [[Status.NOT_CONVERGED] * 3, [Status.SOLVED] * 3]
    assert torch.equal(solution.currents[1], alone.currents)


def test_float32_is_solved_in_float64():
    tile = Tile(Device("data_driven"), state=sinh_tile(6, 5).state.float(), wires=UNEQUAL)
    v = inputs(3, 6).float()
    assert compiles(_network(tile, v, 1e-10)[0])
    solution = solve_newton(tile, v)
    double = solve_newton(Tile(tile.device, state=tile.state.double(), wires=UNEQUAL), v.double())
    assert torch.equal(solution.currents, double.currents.float())
    error = (solution.currents.double() - double.currents).abs().amax(-1)
    assert bool((error <= solution.stats["error_bound"]).all())


def test_a_large_tile_needs_no_memory_for_factors(monkeypatch: pytest.MonkeyPatch):
    tile, v = sinh_tile(16, 16), inputs(2, 16)
    assert distance(solve_newton(tile, v, memory=1000).currents, truth(tile, v)) <= NEWTON_EXACT
    monkeypatch.setattr(kernel, "_PRODUCTS", 0)
    assert solve_newton(tile, v, memory=1000).status.tolist() == [Status.NOT_CONVERGED] * 2
    monkeypatch.setattr(library, "_load", lambda cells: None)
    with pytest.raises(SpecError, match=r"a 16x16 tile needs \d+ bytes of factors, memory=1000: raise"):
        solve_newton(tile, v, memory=1000)


# --- the compiler ----------------------------------------------------------------------------------


def test_without_a_compiler_torch_solves_and_says_so_once(no_library: None, monkeypatch: pytest.MonkeyPatch):
    def missing(*_: Any, **__: Any) -> Any:
        raise ToolNotFound("no C compiler ('cc' and gcc are not on PATH): apt-get install gcc")

    tile, v = sinh_tile(6, 5), inputs(3, 6)
    monkeypatch.setattr(library, "build", missing)
    with pytest.warns(RuntimeWarning, match="several times as long.*no C compiler.*apt-get install gcc"):
        found = solve_newton(tile, v)
    assert distance(found.currents, truth(tile, v)) <= NEWTON_EXACT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve_newton(Tile(Device("vteam"), state=[[0.5, 0.2]], wires=UNEQUAL), [0.1])


def test_a_compiler_that_fails_is_told_once(no_library: None, monkeypatch: pytest.MonkeyPatch):
    def failing(*_: Any, **__: Any) -> Any:
        raise ToolFailed("cc refused the generated C of newton: no such header")

    tile, v = sinh_tile(6, 5), inputs(3, 6)
    monkeypatch.setattr(library, "build", failing)
    with pytest.warns(RuntimeWarning, match="without compiled code: cc refused the generated C"):
        found = solve_newton(tile, v)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve_newton(tile, v)
    assert distance(found.currents, truth(tile, v)) <= NEWTON_EXACT


def test_two_processors_share_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path))
    here = build._processor(build.compiler()[0])
    assert here
    first = build.build("int f(void) { return 1; }", "f", fast=True)
    monkeypatch.setattr(build, "_processor", lambda compiler: here + " another")
    assert build.build("int f(void) { return 1; }", "f", fast=True) != first
    monkeypatch.setattr(build, "_processor", lambda compiler: "")
    assert build.build("int f(void) { return 1; }", "f", fast=True) != first


def test_the_folder_at_hand_makes_no_other_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """clang tells its working folder beside the processor."""
    script = tmp_path / "cc"
    script.write_text("#!/bin/sh\npwd >&2\n")
    script.chmod(0o755)
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        found.append(build._processor.__wrapped__(str(script)))
    assert found[0] == found[1]
