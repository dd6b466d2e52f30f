"""Random numbers of a model: their distributions, and that every engine draws the same ones, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import cosim
from cosim.devices.build import build
from cosim.devices.interp import Conditions, evaluate, run_setup
from cosim.devices.print_c import print_c
from cosim.devices.print_torch import TorchModel
from cosim.errors import CosimError
from devices.osdi_host import OsdiDevice
from tolerances import CHANCE, CLOSED_FORM, NEWTON_EXACT, PRINTERS
from verilog.host import at, cell
from verilog.simulator import plot

DISTRIBUTIONS = {
    "$rdist_uniform(s, -1, 3)": stats.uniform(-1, 4),
    "$rdist_normal(s, 2, 0.5)": stats.norm(2, 0.5),
    "$rdist_exponential(s, 3)": stats.expon(scale=3),
    "$rdist_chi_square(s, 3)": stats.chi2(3),
    "$rdist_t(s, 4)": stats.t(4),
    "$rdist_erlang(s, 3, 6.0)": stats.gamma(3, scale=2.0),
    "$random/4294967296.0": stats.uniform(-0.5, 1),
    "$urandom(s)/2147483648.0": stats.uniform(0, 1),
}
COUNTS: dict[str, Any] = {
    "$rdist_poisson(s, 4)": stats.poisson(4),
    "$dist_uniform(s, -2, 3)": stats.randint(-2, 4),
    "$dist_poisson(s, 0.7)": stats.poisson(0.7),
}
N = 20_000


def draws(expression: str, count: int = N, seed: int = 1) -> np.ndarray:
    """What ``count`` instances draw at their operating point."""
    ir = cell(f"I(p, n) <+ {expression};", "integer s;")
    model = TorchModel(ir, {"random_seed": seed}, ["random_instance"])
    zero = torch.zeros(count, dtype=torch.float64)
    found = model([zero, zero], {"random_instance": torch.arange(count, dtype=torch.float64)})
    return torch.as_tensor(found.resist[0]).numpy()


@pytest.mark.parametrize("expression", DISTRIBUTIONS)
def test_draws_follow_their_distribution(expression: str):
    found = draws(expression)
    assert len(np.unique(found)) > 0.99 * N
    assert stats.kstest(found, DISTRIBUTIONS[expression].cdf).pvalue > CHANCE
    # neighbours are not alike
    ranks = stats.rankdata(found)
    assert abs(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.parametrize("expression", COUNTS)
def test_counts_follow_their_distribution(expression: str):
    found, truth = draws(expression), COUNTS[expression]
    values = np.arange(found.min(), found.max() + 1)
    seen = np.array([(found == v).sum() for v in values])
    expected = N * truth.pmf(values)
    assert expected.sum() == pytest.approx(N, rel=1e-3)
    common = expected > 5
    chi = ((seen - expected)[common] ** 2 / expected[common]).sum()
    assert stats.chi2(common.sum() - 1).sf(chi) > CHANCE


def test_calls_seeds_instances_and_seed_arguments_differ_and_runs_repeat():
    one = draws("$rdist_uniform(s, 0, 1)", 100)
    assert np.array_equal(one, draws("$rdist_uniform(s, 0, 1)", 100))
    others = [
        draws("$rdist_uniform(s, 0, 1)", 100, seed=2),
        draws("(0*$rdist_uniform(s, 0, 1) + $rdist_uniform(s, 0, 1))", 100),
        draws("$rdist_uniform(7, 0, 1)", 100),
    ]
    for other in others:
        assert np.abs(one - other).min() > 1e-6


def test_all_engines_draw_the_same():
    ir = cell(
        "@(initial_step) begin k = 5; g = 1m*$rdist_normal(k, 1, 0.1); end"
        " I(p, n) <+ g*V(p, n)*(1 + 0.01*$rdist_exponential(k, 1)) + 1e-12*$random;",
        "integer k; real g;",
    )
    library = build(print_c(ir, [p.name for p in ir.parameters]), "m")
    for instance in (0.0, 1.0, 2.0, -7.0, 123456.0):
        given = {"random_seed": -3, "random_instance": instance}
        expected = at(ir, [0.7, 0.0], **given).resist[0]
        in_c, _ = OsdiDevice(library, given).evaluate([0.7, 0.0])
        assert in_c.resist[0] == pytest.approx(expected, rel=PRINTERS)
        in_torch = TorchModel(ir, given)([torch.full((1,), 0.7, dtype=torch.float64), torch.zeros(1)], {})
        assert float(in_torch.resist[0]) == pytest.approx(expected, rel=PRINTERS)


def test_what_is_drawn_at_the_start_stays():
    ir = cell("@(initial_step) g = $rdist_normal(k, 1, 0.1); I(p, n) <+ g*V(p, n);", "integer k; real g;")
    setup = run_setup(ir, {})
    still, running = (
        evaluate(ir, setup, [1.0, 0.0], {}, Conditions(starting=starting)) for starting in (True, False)
    )
    assert still.resist[0] == running.resist[0] != 0.0


def test_one_draw_for_each_accepted_step():
    ir = cell("I(p, n) <+ $rdist_uniform(k, 0, 1);", "integer k;")
    setup = run_setup(ir, {})
    values = []
    for steps in range(200):
        conditions = Conditions(starting=False, kept={"$steps": steps}, abstime=1.0)
        found = [evaluate(ir, setup, [v, 0.0], {}, conditions) for v in (0.0, 0.3)]
        assert found[0].resist[0] == found[1].resist[0]  # Newton's iterations draw nothing
        assert found[0].kept["$steps"] == steps + 1
        values.append(found[0].resist[0])
    assert stats.kstest(values, "uniform").pvalue > CHANCE
    deck = "v1 a 0 sin(0 1 1k)\nn1 a 0 dev"
    runs = [plot(ir, deck, "tran 10u 1m 0 10u")["i(v1)"] for _ in range(2)]
    assert np.array_equal(*runs)
    assert len(np.unique(runs[0][1:])) > 0.9 * len(runs[0])
    assert set(-runs[0][2:]) <= set(values)


def test_cells_of_a_device_draw_their_own(tmp_path: Path):
    path = tmp_path / "m.va"
    path.write_text(
        "module m(p, n); inout p, n; electrical p, n; integer k; real g;\n"
        "analog begin @(initial_step) g = 1m*(1 + 0.1*$rdist_normal(k, 0, 1)); I(p, n) <+ g*V(p, n); end\n"
        "endmodule\n"
    )
    device = cosim.Device(path, random_seed=4, random_instance=torch.arange(5.0))
    volts = torch.ones(5, dtype=torch.float64)
    current = device.current(volts).numpy()
    assert len(np.unique(current)) == 5
    again = cosim.Device(path, random_seed=4, random_instance=torch.arange(5.0).flip(0))
    assert again.current(volts).numpy() == pytest.approx(current[::-1], rel=CLOSED_FORM)
    tile = cosim.Tile(cosim.Device(path, random_seed=4), shape=(5, 1))  # numbers its cells
    inputs = torch.eye(5, dtype=torch.float64)
    for engine in ("linear", "newton", "ngspice"):
        found = cosim.solve(tile, inputs, engine=engine).currents[:, 0].numpy()
        assert found == pytest.approx(current, rel=NEWTON_EXACT), engine


@pytest.mark.parametrize(
    ("body", "declarations", "message"),
    [
        ("I(p, n) <+ $rdist_poisson(k, 99);", "integer k;", "the mean of $rdist_poisson must be a number"),
        ("I(p, n) <+ $rdist_t(k, 0);", "integer k;", "the degree of $rdist_t must be a number from 1 to 200"),
        ("I(p, n) <+ $rdist_normal(k, 0);", "integer k;", "$rdist_normal takes 3 to 4 arguments, not 2"),
        ("I(p, n) <+ $random;", "parameter real random_seed = 1;", "give the file's own another name"),
    ],
)  # fmt: skip
def test_wrong_draws_are_told(body: str, declarations: str, message: str):
    with pytest.raises(CosimError) as raised:
        cell(body, declarations)
    assert message in str(raised.value)
