"""Non-idealities: each formula, every order, and every engine."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
import torch
from torch.distributions import Gamma, LogNormal, Normal, Uniform

from cosim.devices.device import Device
from cosim.errors import SpecError
from cosim.nn.cells import FREE, STUCK_HIGH, STUCK_LOW, Cells, conductance_range
from cosim.nn.effects import (
    CycleVariability,
    DeviceFaults,
    DeviceVariability,
    Drift,
    Effect,
    Endurance,
    FiniteStates,
    ProgrammingNoise,
    ReadNoise,
    Retention,
    StuckLines,
)
from cosim.nn.hardware import Hardware
from cosim.nn.matmul import CrossbarMatmul
from cosim.wires import Wires
from tolerances import (
    ACTS,
    MEAN_OF_DRAWS,
    NGSPICE_LINEAR,
    ON_A_LEVEL,
    ONE_OHM,
    ROUNDING,
    SHARE_CLIPPED,
    SPREAD_OF_DRAWS,
)

DEVICE = Device("vteam", r_on=10e3, r_off=1e6)
G_MIN, G_MAX = 1e-6, 1e-4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells(groups: int = 1, rows: int = 20, columns: int = 30, device: Device = DEVICE) -> Cells:
    low, high = conductance_range(device, 0.1)
    drawn = torch.rand(groups, rows, columns, generator=seeded(6), dtype=torch.float64)
    return Cells(
        device=device,
        conductance=low + (high - low) * drawn,
        low=low,
        high=high,
        v_read=0.1,
        tile_shape=(8, 10),
    )


def test_faults_are_exact_counts_without_overlap():
    before = cells()
    after = DeviceFaults(lrs=0.2, hrs=0.3, electroform=0.1).apply(before, seeded())
    assert int((after.actual == G_MAX).sum()) == 120
    assert int((after.actual == G_MIN).sum()) == 240
    assert after.stuck is not None
    assert [int((after.stuck == value).sum()) for value in (FREE, STUCK_LOW, STUCK_HIGH)] == [240, 240, 120]
    assert torch.equal(after.actual[after.stuck == FREE], before.actual[after.stuck == FREE])
    assert torch.equal(after.actual, DeviceFaults(lrs=0.2, hrs=0.4).apply(before, seeded()).actual)
    assert not torch.equal(after.actual, DeviceFaults(lrs=0.2, hrs=0.4).apply(before, seeded(1)).actual)


def test_stuck_lines_are_whole_lines_of_one_tile():
    after = StuckLines(rows=0.25, at="lrs").apply(cells(), seeded())
    lines = (after.actual == G_MAX).reshape(1, 20, 3, 10)  # 20 rows across 3 tiles
    assert int(lines.all(-1).sum()) == 15
    assert torch.equal(lines.all(-1), lines.any(-1))
    after = StuckLines(columns=0.1).apply(cells(), seeded())
    low = after.actual == G_MIN
    whole = torch.stack([part.all(1) for part in low.split(8, 1)])  # 3 tiles down: 8, 8, and 4 rows
    assert int(whole.sum()) == 9
    assert int(low.sum()) == sum(int(n) * h for n, h in zip(whole.sum((1, 2)), (8, 8, 4), strict=True))


@pytest.mark.parametrize("states", [2, 5, 16])
def test_finite_states_are_levels_of_each_cell(states: int):
    spread = DeviceVariability(
        parameters={"r_on": Uniform(8e3, 12e3), "r_off": Uniform(5e5, 2e6)},
    )
    before = spread.apply(cells(), seeded())
    after = FiniteStates(states=states).apply(before, seeded()).actual
    level = (after - before.low) / (before.high - before.low) * (states - 1)
    torch.testing.assert_close(level, level.round(), rtol=0, atol=ON_A_LEVEL)
    assert set(level.round().flatten().tolist()) == set(range(states))
    half = 0.5 * (before.high - before.low) / (states - 1) * (1 + ROUNDING)
    assert bool(((after - before.actual).abs() <= half).all())
    uniform = FiniteStates(states=states).apply(cells(), seeded()).actual
    assert len(uniform.unique()) == states


def test_device_variability_draws_the_reach_of_each_cell():
    parameters = {"r_on": Normal(1e4, 1e3), "r_off": Normal(1e6, 5e4)}
    after = DeviceVariability(parameters=parameters).apply(cells(1, 100, 100), seeded())
    torch.testing.assert_close(
        (1 / after.high).mean(), torch.tensor(1e4).double(), rtol=MEAN_OF_DRAWS, atol=0
    )
    torch.testing.assert_close(
        (1 / after.high).std(), torch.tensor(1e3).double(), rtol=SPREAD_OF_DRAWS, atol=0
    )
    assert bool(((after.actual >= after.low) & (after.actual <= after.high)).all())
    stuck = DeviceFaults(lrs=0.5).apply(after, seeded())
    assert torch.equal(stuck.actual[stuck.stuck == STUCK_HIGH], after.high[stuck.stuck == STUCK_HIGH])


def test_cycle_variability_clips_to_what_each_write_reached():
    effect = CycleVariability(r_on=LogNormal(math.log(2e4), 0.3), r_off=LogNormal(math.log(2e5), 0.3))
    before, after = cells(), effect.apply(cells(), seeded())
    moved = after.actual != before.actual
    assert SHARE_CLIPPED[0] < float(moved.double().mean()) < SHARE_CLIPPED[1]
    assert len(after.actual[moved].unique()) == int(moved.sum())  # bounds of its own for every cell
    assert float(before.actual[~moved].max()) < 1 / 5e3
    with pytest.raises(SpecError, match="overlap: after 20 draws .* narrow the distributions"):
        CycleVariability(r_on=Uniform(2e5, 3e5), r_off=Uniform(1e4, 2e4)).apply(cells(), seeded())


def test_programming_noise():
    middle = cells(1, 100, 100).write(torch.full((1, 100, 100), 5e-5, dtype=torch.float64))
    for effect, size in (
        (ProgrammingNoise(sigma=0.05), 0.05 * 5e-5),
        (ProgrammingNoise(sigma=0.05, of="range"), 0.05 * (G_MAX - G_MIN)),
    ):
        after = effect.apply(middle, seeded()).actual
        assert float(after.std()) == pytest.approx(size, rel=SPREAD_OF_DRAWS)
        assert float(after.mean()) == pytest.approx(5e-5, rel=MEAN_OF_DRAWS)


def failed(resistance: float, x: float, sudden: bool, p: tuple[float, ...], stable: float) -> float:
    """One cell by the published equations; T = 350 K, threshold temperature 298 K, 10 nm."""
    exponent = p[1] * 10 + p[2] * (298 / 350)
    threshold = p[0] * math.exp(exponent)
    if x <= threshold:
        return resistance
    if sudden:
        return stable
    log = math.log10(resistance) + p[3] * exponent * (math.log10(x) - math.log10(threshold))
    return 10**log


P_LRS, P_HRS = (1.0, 0.05, 0.8, 0.12), (2.0, 0.08, 1.1, -0.2)


@pytest.mark.parametrize("x", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("sudden", [True, False])
@pytest.mark.parametrize("kind", [Endurance, Retention])
def test_endurance_and_retention(x: float, sudden: bool, kind: Any):
    stable = {"stable_lrs": 12e3, "stable_hrs": 9e5} if sudden else {}
    effect = kind(
        **{"cycles" if kind is Endurance else "seconds": x},
        mode="sudden" if sudden else "gradual",
        p_lrs=P_LRS,
        p_hrs=P_HRS,
        temperature=350.0,
        temperature_threshold=298.0,
        **stable,
    )
    before = cells()
    found = (1 / effect.apply(before, seeded()).actual).flatten().tolist()
    for old, new in zip((1 / before.actual).flatten().tolist(), found, strict=True):
        lrs = old < 0.5 * (1e4 + 1e6)
        wanted = failed(old, x, sudden, P_LRS if lrs else P_HRS, 12e3 if lrs else 9e5)
        assert new == pytest.approx(min(max(wanted, 1e4), 1e6), rel=1e3 * ROUNDING)


def test_failure_of_one_state_only():
    after = Endurance(cycles=1e6, mode="sudden", p_lrs=P_LRS, stable_lrs=2e4).apply(cells(), seeded())
    lrs = 1 / cells().actual < 505e3
    assert after.actual[lrs].unique().tolist() == pytest.approx([5e-5], rel=ROUNDING)
    assert torch.equal(after.actual[~lrs], cells().actual[~lrs])


def test_drift():
    after = Drift(seconds=1e4, initial=1.0, nu=0.1).apply(cells(), seeded()).actual
    wanted = (cells().actual * 1e4**-0.1).clamp(min=G_MIN)
    torch.testing.assert_close(after, wanted, rtol=10 * ROUNDING, atol=0)
    spread = Drift(seconds=1e4, nu=0.1, spread=0.01).apply(cells(1, 100, 100), seeded()).conductance
    nu = -torch.log(spread / cells(1, 100, 100).actual) / math.log(1e4)
    assert (float(nu.mean()), float(nu.std())) == pytest.approx((0.1, 0.01), rel=SPREAD_OF_DRAWS)


EFFECTS: list[Effect] = [
    DeviceFaults(lrs=0.1, hrs=0.1),
    StuckLines(rows=0.1),
    FiniteStates(states=8),
    DeviceVariability(parameters={"r_on": Uniform(9e3, 11e3), "r_off": Uniform(8e5, 12e5)}),
    CycleVariability(r_on=Uniform(9e3, 2e4), r_off=Uniform(5e5, 2e6)),
    ProgrammingNoise(sigma=0.02),
    Drift(seconds=100.0, nu=0.02),
    Retention(seconds=1e3, p_lrs=P_LRS, p_hrs=P_HRS),
    ReadNoise(sigma=0.01),
]


@pytest.mark.parametrize("pair", list(permutations(EFFECTS, 2)))
def test_no_effect_undoes_another(pair: tuple[Effect, Effect]):
    """The faults of the first stay, and what is written stays inside the reach of each cell."""
    first = pair[0].apply(cells(), seeded(1))
    both = pair[1].apply(first, seeded(2))
    actual = both.actual
    assert bool(((actual >= both.low) & (actual <= both.high)).all())
    if first.stuck is not None:
        assert both.stuck is not None
        assert bool((both.stuck[first.stuck != FREE] != FREE).all())
        bound = torch.where(both.stuck == STUCK_HIGH, both.high, both.low)
        where = both.stuck != FREE
        assert torch.equal(actual[where], bound.expand(actual.shape)[where])
    if isinstance(pair[0], ReadNoise):
        assert both.read_noise == 0.01
    if isinstance(pair[0], DeviceVariability):
        assert both.device is first.device
    same = torch.equal(actual, first.actual) and torch.equal(both.high, first.high)
    assert same is isinstance(pair[1], ReadNoise)  # and the second acts


@pytest.mark.parametrize("order", [(0, 2, 3, 5, 1, 6), (6, 5, 3, 2, 1, 0), (3, 0, 5, 6, 2, 1)])
def test_effects_reach_every_engine(order: tuple[int, ...]):
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    inputs = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    hardware = Hardware(
        device=DEVICE,
        tile_shape=(6, 5),
        wires=Wires(row=1.0, column=1.0),
        effects=tuple(EFFECTS[index] for index in order),
    )
    layer = CrossbarMatmul(weight, hardware, generator=seeded())
    plain = CrossbarMatmul(
        weight, Hardware(device=DEVICE, tile_shape=(6, 5), wires=Wires(row=1.0, column=1.0))
    )
    outputs = {}
    for engine in ("ideal", "linear", "newton", "ngspice"):
        layer.set_engine(engine)
        outputs[engine] = layer(inputs)
    scale = outputs["ngspice"].abs().max()
    for engine in ("linear", "newton"):
        assert float((outputs[engine] - outputs["ngspice"]).abs().max() / scale) <= 100 * NGSPICE_LINEAR
    assert float((outputs["linear"] - plain(inputs)).abs().max() / scale) > ACTS
    assert float((outputs["ideal"] - outputs["ngspice"]).abs().max() / scale) < ONE_OHM


def test_the_spread_of_a_device_is_drawn_per_cell_and_mapped_by_its_mean():
    device = Device("vteam", r_on=Normal(1e4, 5e2), r_off=Uniform(9e5, 11e5))
    hardware = Hardware(device=device, tile_shape=(6, 5))
    assert hardware.conductances == pytest.approx((1e-6, 1e-4))
    weight = torch.randn(4, 9, generator=seeded(8))
    layer = CrossbarMatmul(weight, hardware, generator=seeded())
    assert layer.high.shape == (1, 9, 8)
    assert len(layer.high.unique()) == 72
    other = CrossbarMatmul(weight, hardware, generator=seeded(1))
    assert not torch.equal(layer.high, other.high)
    torch.testing.assert_close(layer.tile().device.conductance(0.0).max(), layer.high.double().max())


@pytest.mark.parametrize("r_on", [5e3, 2e4])
def test_given_resistances_are_honoured(r_on: float):
    layer = CrossbarMatmul(
        torch.tensor([[1.0, -0.3]]), Hardware(device=Device("vteam", r_on=r_on, r_off=1e6))
    )
    assert float(layer.conductance.max()) == pytest.approx(1 / r_on)
    assert float(layer.conductance.min()) == pytest.approx(1e-6)
    layer.add_effects([DeviceFaults(lrs=1.0)], generator=seeded())
    assert layer.conductance.unique().tolist() == pytest.approx([1 / r_on])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeviceFaults(lrs=0.7, hrs=0.4), "lrs=0.7, hrs=0.4, electroform=0.0: shares .* at most 1"),
        (lambda: StuckLines(rows=2.0), "StuckLines.rows is 2.0: it must be a finite number, at least 0"),
        (lambda: StuckLines(at="on"), "StuckLines.at is 'on': choose from hrs, lrs"),
        (lambda: FiniteStates(states=1), "FiniteStates.states is 1: it must be a whole number, at least 2"),
        (lambda: DeviceVariability(parameters={}), "needs at least one parameter"),
        (lambda: DeviceVariability(parameters={"r_on": 3.0}), "r_on is 3.0, not a torch distribution"),
        (
            lambda: DeviceVariability(parameters={"ron": Normal(0.0, 1.0)}).apply(cells(), seeded()),
            "vteam has no parameter 'ron'",
        ),
        (
            lambda: CycleVariability(r_on=Gamma(1.0, 1.0), r_off=Normal(1e6, 1.0)).apply(cells(), seeded()),
            "Gamma has no inverse CDF",
        ),
        (
            lambda: ProgrammingNoise(sigma=-1.0),
            "ProgrammingNoise.sigma is -1.0: it must be a finite number, at least 0",
        ),
        (
            lambda: ProgrammingNoise(sigma=0.1, of="x"),
            "of is 'x': choose from target, range",
        ),
        (lambda: ReadNoise(sigma=math.nan), "ReadNoise.sigma is nan"),
        (lambda: Endurance(cycles=1.0), "Endurance needs p_lrs=, p_hrs=, or both"),
        (lambda: Retention(seconds=1.0, p_lrs=P_LRS, mode="slow"), "Retention.mode is 'slow'"),
        (lambda: Retention(seconds=1.0, p_lrs=P_LRS, mode="sudden"), "stable_lrs= goes with p_lrs="),
        (
            lambda: Retention(seconds=1.0, p_lrs=(0.0, 1.0, 1.0, 1.0)),
            "four finite numbers",
        ),
        (lambda: Endurance(cycles=1.0, p_lrs=P_LRS, temperature=300.0), "temperature_threshold= go"),
        (lambda: Drift(seconds=1.0, nu=2.0), "Drift.nu is 2.0: it must be a finite number, at least 0"),
        (
            lambda: Drift(seconds=1.0, nu=0.1, initial=2.0),
            "Drift.initial is 2.0 s: above 0, at most",
        ),
    ],
)
def test_wrong_values_are_refused(make: Any, message: str):
    with pytest.raises(SpecError, match=message):
        make()
