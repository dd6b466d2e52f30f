"""Tiles through ngspice against a nodal solve that shares no code with cosim."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cosim
from cosim.crossbar import Status
from cosim.errors import SpecError, ToolFailed, ToolNotFound
from cosim.spice.deck import DeviceInstance, Resistor
from cosim.spice.rules import check_deck
from cosim.spice.tile import lower_tile, solve_tile, tile_deck
from reference.nodal import dense_currents, nodal_solve
from spice.fake import fake_ngspice, writes
from tolerances import NGSPICE_EXACT, NGSPICE_LINEAR

WIRES = [(2, 3, 5, 7), (0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (0, 0, 5, 7), (2, 3, 0, 0)]
WIRES += [(0, 3, 0, 0), (2, 0, 0, 0), (0, 0, 0, 0), (1e-6, 1e-6, 1e-6, 1e-6), (1e5, 1e5, 1e5, 1e5)]


@pytest.fixture(scope="module")
def linear():
    return cosim.Device("vteam", r_on=10e3, r_off=1e6)


@pytest.fixture(scope="module")
def nonlinear():
    return cosim.Device("stanford_pku")


def wires(row, column, source, sense):
    return cosim.Wires(row=row, column=column, source=source, sense=sense)


def random_tile(device, shape, resistances, seed=0):
    low, high = device.state_range
    states = low + (high - low) * np.random.default_rng(seed).uniform(size=shape)
    return cosim.Tile(device, state=states, wires=wires(*resistances))


def volts(batch, rows, amplitude=1.0, seed=1):
    return amplitude * np.random.default_rng(seed).uniform(-1, 1, (batch, rows))


def nodal(tile, voltages):
    """Currents by Newton on the nodal equations, with the cell current from torch."""

    def cell(u):
        current, slope = tile.device.current_and_slope(torch.from_numpy(u), tile.state)
        return current.numpy(), slope.numpy()

    w = tile.wires
    solved = nodal_solve(
        voltages,
        tile.shape,
        cell=cell,
        row=w.row,
        column=w.column,
        source=w.source,
        sense=w.sense,
    )
    return solved.currents


def error(solution, expected):
    return np.abs(solution.currents.numpy() - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("resistances", WIRES)
def test_linear_cells_and_every_merging_of_nodes(linear, resistances):
    tile, v = random_tile(linear, (3, 5), resistances), volts(4, 3)
    solution = solve_tile(tile, v)
    assert solution.engine == "ngspice"
    assert solution.status.tolist() == [0] * 4
    assert solution.stats["rungs"] == {"sweep": 4}
    assert error(solution, dense_currents(tile.conductance.numpy(), v, *resistances)) < NGSPICE_LINEAR


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (7, 3), (64, 64)])
def test_linear_cells_of_every_shape(linear, shape):
    tile, v = random_tile(linear, shape, (2, 3, 5, 7)), volts(2, shape[0])
    expected = dense_currents(tile.conductance.numpy(), v, 2, 3, 5, 7)
    assert error(solve_tile(tile, v), expected) < NGSPICE_LINEAR


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 3.0])
def test_nonlinear_cells(nonlinear, amplitude):
    tile, v = random_tile(nonlinear, (6, 4), (2, 3, 5, 7)), volts(5, 6, amplitude)
    solution = solve_tile(tile, v)
    assert solution.solved.all()
    assert error(solution, nodal(tile, v)) < NGSPICE_EXACT


def test_one_vector_is_a_batch_of_one(linear):
    tile = random_tile(linear, (3, 2), (2, 3, 5, 7))
    assert solve_tile(tile, [0.1, 0.2, 0.3]).currents.shape == (1, 2)


def test_parameters_per_cell(linear):
    r_on = torch.linspace(5e3, 20e3, 6, dtype=torch.float64).reshape(2, 3)
    device = cosim.Device("vteam", r_on=r_on, r_off=1e6)
    tile, v = random_tile(device, (2, 3), (2, 3, 5, 7)), volts(3, 2)
    assert (
        error(solve_tile(tile, v), dense_currents(tile.conductance.numpy(), v, 2, 3, 5, 7)) < NGSPICE_LINEAR
    )
    cards = [e.parameters for e in lower_tile(tile).subcircuit.elements if isinstance(e, DeviceInstance)]
    assert [dict(card)["r_on"] for card in cards] == r_on.flatten().tolist()
    assert dict(lower_tile(tile).card.parameters) == {"r_off": 1e6}


@pytest.mark.parametrize(
    "make", [lambda: None, lambda: ThreadPoolExecutor(2), lambda: ProcessPoolExecutor(2)]
)
def test_leading_axes_and_chunks_on_any_executor(linear, make):
    tiles, v = random_tile(linear, (2, 1, 3, 2), (2, 3, 5, 7)), volts(5, 3)
    executor = make()
    try:
        solution = solve_tile(tiles, v, executor=executor, chunk=2)
    finally:
        if executor is not None:
            executor.shutdown()
    assert solution.currents.shape == (2, 1, 5, 2)
    assert solution.status.shape == (2, 1, 5)
    assert solution.stats["jobs"] == 2 * 3
    for k in range(2):
        expected = dense_currents(tiles.conductance[k, 0].numpy(), v, 2, 3, 5, 7)
        assert (
            np.abs(solution.currents[k, 0].numpy() - expected).max() < NGSPICE_LINEAR * np.abs(expected).max()
        )


def test_voltages_with_leading_axes_of_their_own(linear):
    tile = random_tile(linear, (3, 2), (2, 3, 5, 7))
    v = volts(8, 3).reshape(4, 2, 3)
    expected = dense_currents(tile.conductance.numpy(), v.reshape(8, 3), 2, 3, 5, 7).reshape(4, 2, 2)
    assert error(solve_tile(tile, v), expected) < NGSPICE_LINEAR


def test_progress_is_shown_and_changes_nothing(linear):
    tile, v = random_tile(linear, (3, 2), (2, 3, 5, 7)), volts(2, 3)
    shown = solve_tile(tile, v, progress=True)
    assert torch.equal(shown.currents, solve_tile(tile, v).currents)


# --- the deck ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resistances", WIRES)
def test_no_zero_ohm_resistor_and_only_legal_decks(linear, resistances):
    circuit = lower_tile(random_tile(linear, (3, 5), resistances))
    check_deck(tile_deck(circuit, np.zeros((1, 3))))
    row, column, source, sense = resistances
    expected = 3 * 4 * bool(row) + 2 * 5 * bool(column) + 3 * bool(source) + 5 * bool(sense)
    assert sum(isinstance(e, Resistor) for e in circuit.subcircuit.elements) == expected
    assert all(ohm > 0 for _, ohm in circuit.subcircuit.parameters)


def test_ports_are_rows_then_columns_and_cells_row_major(linear):
    circuit = lower_tile(random_tile(linear, (2, 3), (2, 3, 5, 7)))
    assert circuit.subcircuit.ports == ("r0", "r1", "c0", "c1", "c2")
    cells = [e for e in circuit.subcircuit.elements if isinstance(e, DeviceInstance)]
    assert [e.name for e in cells] == ["N0_0", "N0_1", "N0_2", "N1_0", "N1_1", "N1_2"]
    assert cells[1].nodes == ("w0_1", "b0_1")


# --- what does not converge -------------------------------------------------------------------------


def test_hard_vectors_climb_the_ladder_and_the_others_are_kept(nonlinear):
    """50 V over a sinh of V/0.25 V: plain Newton overflows, the ramp does not."""
    tile = random_tile(nonlinear, (4, 4), (2, 2, 2, 2))
    v = volts(5, 4)
    v[1], v[3] = 50.0 * volts(1, 4, seed=7)[0], 50.0 * volts(1, 4, seed=8)[0]
    solution = solve_tile(tile, v)
    assert solution.status.tolist() == [0] * 5
    assert solution.stats["rungs"] == {"sweep": 3, "damped": 2}
    assert solution.stats["rung"].tolist() == [0, 3, 0, 3, 0]
    assert error(solution, nodal(tile, v)) < NGSPICE_EXACT


def test_a_hopeless_vector_is_marked_and_the_others_are_kept(nonlinear):
    tile = random_tile(nonlinear, (2, 2), (2, 2, 2, 2))
    v = volts(4, 2)
    good = solve_tile(tile, v)
    v[2] = 1e9
    solution = solve_tile(tile, v)
    assert solution.status[[0, 1, 3]].tolist() == [0, 0, 0]
    assert Status(int(solution.status[2])) in (Status.SINGULAR, Status.NOT_CONVERGED, Status.NOT_FINITE)
    assert solution.currents[2].isnan().all()
    assert solution.stats["rung"].tolist() == [0, 0, -1, 0]
    kept = [0, 1, 3]
    assert torch.allclose(solution.currents[kept], good.currents[kept], rtol=NGSPICE_LINEAR, atol=0.0)


def test_a_job_that_fails_keeps_the_others(linear, tmp_path):
    """The fake fails for the tile with one state, and is the real ngspice for the other."""
    code = (
        "if 'x_init=0.125' in open('dut.sp').read(): print('Error: no'); sys.exit(1)\n"
        "os.execvp('ngspice', ['ngspice', *sys.argv[1:]])"
    )
    tiles = cosim.Tile(linear, state=[[[0.5]], [[0.125]], [[0.25]]])
    solution = solve_tile(tiles, [[0.1], [0.2]], program=fake_ngspice(tmp_path, code))
    assert solution.status.tolist() == [[0, 0], [Status.NOT_RUN] * 2, [0, 0]]
    assert solution.stats["errors"] == ("ngspice ended with exit code 1: Error: no",)
    assert solution.currents[0, :, 0].tolist() == pytest.approx([0.1 / 505e3, 0.2 / 505e3])


def twelve_jobs(linear, folder, fault, executor=None, workers=None):
    """Twelve tiles of one cell, a job each; where the state is 0.125, ``fault`` comes before ngspice."""
    code = (
        f"if 'x_init=0.125' in open('dut.sp').read(): {fault}\n"
        "os.execvp('ngspice', ['ngspice', *sys.argv[1:]])"
    )
    state = torch.full((12, 1, 1), 0.5, dtype=torch.float64)
    state[5] = 0.125
    program = fake_ngspice(folder, code)
    tiles = cosim.Tile(linear, state=state)
    return solve_tile(tiles, [[0.1]], program=program, executor=executor, workers=workers)


@pytest.mark.parametrize("workers", [None, 2])
def test_a_job_that_ends_in_an_error_of_the_system_costs_its_own_vectors(linear, tmp_path, workers):
    """A folder stands where the log is read: an OSError, as a full or broken disk gives."""
    fault = "os.remove('../log/stderr'); os.mkdir('../log/stderr')"
    solution = twelve_jobs(linear, tmp_path, fault, workers=workers)
    assert solution.status.flatten().tolist() == [0] * 5 + [Status.NOT_RUN] + [0] * 6
    (found,) = solution.stats["errors"]
    assert found.startswith("a job was not finished: IsADirectoryError: [Errno 21] Is a directory")


class CountingPool(ProcessPoolExecutor):
    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


def test_a_pool_that_breaks_keeps_what_is_finished_and_is_left_alone(linear, tmp_path):
    """The worker is killed during job 5, as the kernel does when memory is short."""
    with CountingPool(1) as pool:
        solution = twelve_jobs(linear, tmp_path, "os.kill(os.getppid(), 9)", executor=pool)
        status = solution.status.flatten().tolist()
        assert status[:5] == [0] * 5
        assert status[5] == Status.NOT_RUN
        assert set(status) == {0, Status.NOT_RUN}
        assert all("BrokenProcessPool: A process in the" in error for error in solution.stats["errors"])
        assert all("use fewer workers, or a smaller chunk" in error for error in solution.stats["errors"])
        used = pool.submitted
        with pytest.raises(ToolFailed, match="BrokenProcessPool"):
            twelve_jobs(linear, tmp_path, "pass", executor=pool)
        assert pool.submitted == used + 1  # it said no once, and was not asked for the other eleven


def test_a_closed_executor_is_named(linear, tmp_path):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ToolFailed, match="not finished: RuntimeError: cannot schedule new futures after shu"):
        twelve_jobs(linear, tmp_path, "pass", executor=pool)


def test_workers_share_the_vectors_of_one_tile(linear):
    tile, v = random_tile(linear, (3, 2), (2, 3, 5, 7)), volts(5, 3)
    solution = solve_tile(tile, v, workers=2)
    assert solution.stats["jobs"] == 2
    assert torch.equal(solution.currents, solve_tile(tile, v, chunk=3).currents)


def test_a_vector_is_not_taken_for_another(linear, tmp_path):
    """Both points say that they are the first vector: once the second was believed, and the first lost."""
    code = writes(["v(v-sweep)", "i(vsense0)"], [[0.0, 1e-4], [0.0, 2e-4]])
    tile = cosim.Tile(linear, state=[[0.5]])
    with pytest.raises(ToolFailed, match="wrote 0 V as point 1 of the sweep, which is at 1 V"):
        solve_tile(tile, [[0.1], [0.2]], program=fake_ngspice(tmp_path, code))


def test_errors_that_stop_everything(linear, tmp_path):
    tile = random_tile(linear, (3, 2), (2, 3, 5, 7))
    with pytest.raises(ToolFailed, match="ngspice ended with exit code 1: Error: no"):
        solve_tile(tile, volts(2, 3), program=fake_ngspice(tmp_path, "print('Error: no'); sys.exit(1)"))
    with pytest.raises(ToolFailed, match="still running after .* s and was killed"):
        solve_tile(tile, volts(2, 3), program=fake_ngspice(tmp_path, "time.sleep(60)"), timeout=0.5)
    with pytest.raises(ToolNotFound, match="no-ngspice is not installed"):
        solve_tile(tile, volts(2, 3), program="no-ngspice")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk is 0: it must be a whole number, at least 1"),
        ({"reltol": 0.0}, "reltol is 0.0: it must be a finite number, above 0 and at most 1"),
        ({"max_iterations": 10}, "the limit is 10 iterations: ngspice never does fewer than 100"),
        ({"timeout": -1.0}, "timeout is -1.0: it must be"),
        ({"timeout": None}, "timeout is None: it must be a finite number, above 0"),
        ({"workers": 0}, "workers is 0: it must be a whole number, at least 1"),
        ({"workers": 1.5}, "workers is 1.5: it must be a whole number"),
        ({"workers": True}, "workers is True: it must be a whole number"),
        ({"executor": 4}, "executor is 4: give None, or for instance a ThreadPoolExecutor"),
        (
            {"executor": ThreadPoolExecutor},
            "executor is <class .*Executor'>: give None",
        ),
        ({"executor": ThreadPoolExecutor(1), "workers": 2}, "workers is 2 and there is an executor, too"),
    ],
)
def test_bad_options(linear, options, message):
    with pytest.raises(SpecError, match=message):
        solve_tile(random_tile(linear, (3, 2), (2, 3, 5, 7)), volts(2, 3), **options)


def test_bad_input(linear):
    tiles = random_tile(linear, (2, 3, 2), (2, 3, 5, 7))
    with pytest.raises(
        SpecError, match=r"voltages of shape \(3, 5, 3\) do not fit a tile of shape \(2, 3, 2\)"
    ):
        solve_tile(tiles, np.zeros((3, 5, 3)))
    spread = cosim.Device("vteam", r_on=torch.distributions.Uniform(40.0, 60.0))
    with pytest.raises(SpecError, match="parameter r_on of .* is a distribution: draw it first"):
        solve_tile(cosim.Tile(spread, state=[[0.5]]), [0.1])
