"""Device: values, inverse, parameters per cell, gradients, and every error by its text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cosim
from cosim.devices import build as build_module
from cosim.devices import build as devices_build
from cosim.devices.catalogue import CATALOGUE
from cosim.devices.device import Device
from cosim.errors import ModelError, SolveError, SpecError, ToolFailed, ToolNotFound
from models import reference
from tolerances import CLOSED_FORM, INVERSE, LINEAR_FLOAT32, NGSPICE_NEWTON, ROUNDED_CURRENT

VA = Path(__file__).parents[1] / "data" / "va"


REFERENCES = {
    "vteam": reference.Vteam(),
    "data_driven": reference.DataDriven(),
    "data_driven_2021": reference.DataDriven2021(),
    "stanford_pku": reference.StanfordPku(),
    "linear_ion_drift": reference.LinearIonDrift(),
}


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", CATALOGUE)
def test_current_is_the_closed_form(name: str) -> None:
    device = Device(name)
    low, high = device.state_range
    states = torch.linspace(low, high, 7, dtype=torch.float64)
    volts = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64)[:, None]
    found = device.current(volts, states)
    expected = torch.as_tensor(REFERENCES[name].current(volts.numpy(), states.numpy()))
    assert torch.all((found - expected).abs() <= CLOSED_FORM * expected.abs())


@pytest.mark.parametrize("name", CATALOGUE)
def test_state_for_inverts_conductance(name: str) -> None:
    device = Device(name)
    low, high = device.state_range
    for v_read in (0.1, -0.2):
        states = torch.linspace(low, high, 101, dtype=torch.float64)
        wanted = device.conductance(states, v_read=v_read)
        found = device.conductance(device.state_for(wanted, v_read=v_read), v_read=v_read)
        assert torch.all((found / wanted - 1).abs() <= INVERSE)


def test_stanford_targets() -> None:
    """Currents of the published model (Jiang et al. 2016), as in tests/models/test_reference.py."""
    device = Device("stanford_pku")
    assert float(device.current(0.1, 0.2e-9)) == pytest.approx(1.845629e-4, rel=1e-6)
    assert float(device.current(2.0, 1.7e-9)) == pytest.approx(1.660058e-3, rel=1e-6)


def test_linearity_is_known_from_the_model() -> None:
    assert Device("vteam").is_linear
    assert Device("linear_ion_drift").is_linear
    assert Device("vteam", iv=1).is_linear  # exponential in the state, still ohmic in the voltage
    assert not Device("stanford_pku").is_linear
    assert not Device("data_driven").is_linear


def test_parameters_per_cell_broadcast_with_the_states() -> None:
    r_on = torch.tensor([[50.0, 60.0], [70.0, 80.0]], dtype=torch.float64)
    device = Device("vteam", r_on=r_on)
    state = torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=torch.float64)
    expected = 0.1 / (r_on + (1000.0 - r_on) * state)
    assert torch.allclose(device.current(0.1, state), expected, rtol=1e-14, atol=0)
    assert device.current(torch.tensor([0.1, 0.2, 0.3])[:, None, None], state).shape == (3, 2, 2)


BOUNDS = [
    ("data_driven", "r_min", "r_max"),
    ("data_driven_2021", "r_min", "r_max"),
    ("stanford_pku", "g_min", "g_max"),
]


@pytest.mark.parametrize(("name", "lowest", "highest"), BOUNDS)
def test_cells_may_have_states_of_different_reach(name: str, lowest: str, highest: str) -> None:
    plain = Device(name)
    low, high = plain.state_range
    shares = torch.tensor([[0.0, 0.1, 0.3], [0.2, 0.4, 0.15]], dtype=torch.float64)
    bounds = low + shares * (high - low), high - 0.5 * shares * (high - low)
    device = Device(name, **{lowest: bounds[0], highest: bounds[1]})
    assert device.state_range == (low, high)
    assert all(torch.equal(a, b) for a, b in zip(device.state_bounds, bounds, strict=True))
    state = torch.lerp(*bounds, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    wanted = plain.conductance(state)  # a bound changes what a cell reaches, not its current
    assert torch.all((device.conductance(state) / wanted - 1).abs() <= CLOSED_FORM)
    assert torch.all((device.state_for(wanted) / state - 1).abs() <= INVERSE * high / low)
    out = state.clone()
    out[1, 1] = 0.5 * (low + bounds[0][1, 1])
    with pytest.raises(
        SpecError, match=rf"state\[1, 1\] is .*: {device.state_parameter} of {name} goes from"
    ):
        device.check_state(out)
    with pytest.raises(SpecError, match=rf"conductance\[1, 1\] is .* S: {name} reaches"):
        device.state_for(plain.conductance(out))
    with pytest.raises(
        SpecError, match=rf"state range of {name} is .*: low must be below|allows \({lowest}:inf"
    ):
        device.replace(**{highest: bounds[0]})


def test_a_default_state_out_of_reach_is_no_error() -> None:
    """Each cell sets its own state, so the default of a model does not limit its range."""
    device = Device("data_driven", r_min=12e3)
    assert float(device.conductance(12e3)) == pytest.approx(float(Device("data_driven").conductance(12e3)))
    with pytest.raises(SpecError, match=r"parameter r_init of data_driven is 11000.0: the model allows"):
        Device("data_driven", r_min=12e3, r_init=11e3)
    with pytest.raises(SpecError, match=r"parameter r_max of data_driven is 17000.0: the model allows"):
        Device("data_driven", r_min=20e3)


@pytest.mark.parametrize("name", CATALOGUE)
def test_float32_reaches_the_ends(name: str) -> None:
    """A conductance rounded to float32 may lie outside what float64 reaches, by rounding alone."""
    device = Device(name)
    ends = [device.conductance(state) for state in device.state_range]
    found = device.state_for(torch.stack(ends).float())
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(device.state_range, rel=1e-6, abs=1e-6)


def test_distributions_are_drawn_with_the_generator() -> None:
    spread = Device("vteam", r_on=torch.distributions.Normal(50.0, 2.0))
    draws = [
        spread.sample((4, 5), generator=torch.Generator().manual_seed(seed)).given["r_on"]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert tuple(torch.as_tensor(draws[0]).shape) == (4, 5)
    with pytest.raises(SpecError, match=r"parameter r_on of vteam is a distribution: draw it first"):
        spread.current(0.1, 0.5)
    with pytest.raises(SpecError, match=r"Poisson has no inverse CDF"):
        Device("vteam", r_on=torch.distributions.Poisson(50.0)).sample((2,), generator=torch.Generator())


@pytest.mark.parametrize("name", CATALOGUE)
def test_gradients(name: str) -> None:
    device = Device(name)
    low, high = device.state_range
    scale = high - low
    volts = torch.tensor([-0.7, 0.05, 0.3, 1.1], dtype=torch.float64, requires_grad=True)
    unit = torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64, requires_grad=True)
    current = device.current_and_slope(torch.tensor(0.3, dtype=torch.float64), torch.tensor(low + scale / 2))[
        0
    ]
    factor = float(1 / current)
    assert torch.autograd.gradcheck(
        lambda v, u: factor * device.current_and_slope(v, low + scale * u)[0], (volts, unit), rtol=1e-5
    )


def test_state_for_is_differentiable() -> None:
    device = Device("stanford_pku")
    wanted = torch.tensor([1e-5, 1e-4], dtype=torch.float64, requires_grad=True)
    state = device.state_for(wanted)
    (slope,) = torch.autograd.grad(state.sum(), wanted)
    step = 1e-4
    moved = (
        device.state_for(wanted.detach() * (1 + step)) - device.state_for(wanted.detach() * (1 - step))
    ) / (2 * step * wanted.detach())
    assert torch.allclose(slope, moved, rtol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_state_for_follows_the_parameters(name: str) -> None:
    """A cell of a given conductance moves its state when a parameter moves."""
    parameter = {"vteam": "r_off", "stanford_pku": "g0", "linear_ion_drift": "r_off"}.get(name, "a_p")
    if parameter not in Device(name).parameters:
        parameter = "a"
    value = float(Device(name).parameters[parameter])  # type: ignore[arg-type]  # a number
    ends = [float(Device(name).conductance(state)) for state in Device(name).state_range]
    wanted = 0.7 * ends[0] + 0.3 * ends[1]

    def found(x: torch.Tensor | float) -> torch.Tensor:
        return Device(name, **{parameter: x}).state_for(wanted)

    varied = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(found(varied).sum(), varied)
    step = 1e-6 * value
    moved = float((found(value + step) - found(value - step)).sum()) / (2 * step)
    assert float(slope) == pytest.approx(moved, rel=1e-4)


def test_the_state_parameter_is_the_state_unless_one_is_given() -> None:
    given = Device("vteam", x_init=0.25)
    assert torch.equal(given.current(0.1), Device("vteam").current(0.1, 0.25))
    assert torch.equal(given.current(0.1, 0.5), Device("vteam").current(0.1, 0.5))
    assert float(given.simulate([0.0, 0.0], 1e-9).state[0]) == 0.25
    cells = Device("vteam", x_init=torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    assert torch.equal(cells.current(0.1), given.current(0.1, [[0.25, 0.75]]))
    tile, other = (cosim.Tile(device, state=[[0.5, 0.5]]) for device in (cells, given))
    for engine in ("ideal", "linear", "newton", "ngspice"):
        found, wanted = (cosim.solve(part, [0.1], engine=engine).currents for part in (tile, other))
        assert torch.allclose(found, wanted, rtol=CLOSED_FORM, atol=0)


def test_series_resistance_is_solved_inside_the_device() -> None:
    """A node in the model: exact against the closed form of two resistors, and merged at 0 ohm."""
    device = Device(VA / "series.va", state="x_init", state_range=(0.0, 1.0), rs=150.0)
    state = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    cell = 100.0 + 900.0 * state
    current, slope = device.current_and_slope(torch.tensor(0.3, dtype=torch.float64), state)
    assert torch.allclose(current, 0.3 / (cell + 150.0), rtol=1e-13, atol=0)
    assert torch.allclose(slope, 1 / (cell + 150.0), rtol=1e-13, atol=0)
    merged = device.replace(rs=0.0)
    assert torch.allclose(merged.current(0.3, state), 0.3 / cell, rtol=1e-14, atol=0)
    assert merged.is_linear


def test_a_cell_whose_internal_node_is_not_found_leaves_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "half.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule half(p, n); inout p, n; electrical p, n, s;\n'
        "analog begin I(p, s) <+ V(p, s) / 100; I(s, n) <+ 1e-3 * ln(1 + V(s, n)); end\nendmodule\n"
    )
    volts = torch.tensor([0.3, -50.0, 0.6], dtype=torch.float64)
    wanted = r"half has no current at -50 V: no solution was found for the internal nodes s; stay within"
    with pytest.raises(SolveError, match=wanted) as caught:
        Device(path).current(volts)
    assert torch.isfinite(caught.value.solution).tolist() == [True, False, True]
    tile = cosim.Tile(Device(path), shape=(1, 1))
    assert cosim.solve(tile, volts[:, None], engine="newton", throw=False).status.tolist() == [0, 3, 0]


def test_an_internal_node_may_go_to_kilovolts() -> None:
    device = Device(VA / "series.va", rs=100.0)
    assert float(device.current(5e3)) == pytest.approx(5e3 / (550.0 + 100.0), rel=1e-12)


# cells with internal nodes whose solutions Newton's method does not find from 0 V: equations, and voltages
STIFF = {
    "junction": ("s", "I(p, s) <+ V(p, s)/100; I(s, n) <+ 1e-14*(exp(V(s, n)/0.02585) - 1);", 20.0),
    "sinh": ("s", "I(p, s) <+ 1e-6*sinh(20*V(p, s)); I(s, n) <+ 1e-9*sinh(40*V(s, n));", 5.0),
    "three": (
        "s, t",
        "I(p, s) <+ 1e-12*(exp(38*V(p, s)) - 1); I(s, t) <+ 1e-12*(exp(38*V(s, t)) - 1);"
        "I(t, n) <+ 1e-12*(exp(38*V(t, n)) - 1);",
        5.0,
    ),
    "opposite": (
        "s",
        "I(p, s) <+ 1e-12*(exp(38*V(p, s)) - 1); I(s, n) <+ 1e-12*(1 - exp(-38*V(s, n)));",
        20.0,
    ),
    "branch": ("s", "V(p, s) <+ 100*I(p, s); I(s, n) <+ 1e-14*(exp(V(s, n)/0.02585) - 1);", 20.0),
}


@pytest.mark.parametrize("name", STIFF)
def test_stiff_cells_are_solved_as_in_ngspice(name: str, tmp_path: Path) -> None:
    nodes, equations, most = STIFF[name]
    path = tmp_path / "stiff.va"
    path.write_text(
        f'`include "disciplines.vams"\nmodule stiff(p, n); inout p, n; electrical p, n, {nodes};\n'
        f"analog begin {equations} end\nendmodule\n"
    )
    device = Device(path)
    volts = torch.tensor([0.05, 0.1, 0.2, 0.5, 1.0], dtype=torch.float64) * most
    tile = cosim.Tile(device, shape=(1, 1))
    reference = cosim.solve(tile, volts[:, None], engine="ngspice").currents[:, 0]
    newton = cosim.solve(tile, volts[:, None], engine="newton").currents[:, 0]
    # a junction carries 1e-14 A beside 0.01 S: rounding of the voltage across the resistance
    for found in (device.current(volts), newton):
        assert torch.all((found - reference).abs() <= NGSPICE_NEWTON * reference.abs() + ROUNDED_CURRENT)
    moved = volts.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(device.current(moved).sum(), moved)
    slope = device.current_and_slope(volts, None)[1]
    assert torch.all((gradient - slope).abs() <= INVERSE * slope.abs() + ROUNDED_CURRENT)


def test_a_current_that_overflows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "steep.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule steep(p, n); inout p, n; electrical p, n;\n'
        "analog I(p, n) <+ 1e-12*(exp(38*V(p, n)) - 1);\nendmodule\n"
    )
    with pytest.raises(SolveError, match=r"steep has no current at 50 V: its equations give inf; stay"):
        Device(path).current([0.1, 50.0])


STEPPED = (
    '`include "disciplines.vams"\nmodule stepped(p, n); inout p, n; electrical p, n; real g;\n'
    '(* type = "instance" *) parameter real x0 = 0.5 from [0:1];\n'
    "analog begin if (x0 < 0.5) g = 1e-5 * (1 + x0); else g = 1e-3 * (1 + x0); I(p, n) <+ g * V(p, n); end\n"
    "endmodule\n"
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_conductance_inside_a_jump_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "stepped.va"
    path.write_text(STEPPED)
    device = Device(path, state="x0", state_range=(0.0, 1.0))
    wanted = torch.tensor([[1.2e-5, 1.8e-3], [1.5e-3, 1e-3]], dtype=dtype)
    message = (
        r"conductance\[1, 1\] is 0.001\d* S: the conductance of stepped jumps there; "
        r"the nearest that it reaches are 0.0015 and 1.5e-05 S"
    )
    with pytest.raises(SpecError, match=message):
        cosim.Tile(device, conductance=wanted)
    wanted[1, 1] = 1.4e-5
    tile = cosim.Tile(device, conductance=wanted)
    assert device.conductance(tile.state).double() == pytest.approx(wanted.double(), rel=LINEAR_FLOAT32)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_rounding_beyond_a_bound_is_on_it(name: str, dtype: torch.dtype) -> None:
    device = Device(name)
    for bound, beyond in zip(device.state_bounds, (-1, 1), strict=True):
        size = float(bound.abs() or max(device.state_range))
        step = beyond * 4 * torch.finfo(dtype).eps * size
        asked = (bound + step).to(dtype).requires_grad_()
        assert float(device.check_state(asked).detach()) == float(bound.to(dtype))
        device.current(0.1, asked).backward()
        assert asked.grad is not None
        with pytest.raises(SpecError, match=r"state\[\] is .* goes from"):
            device.check_state((bound + 1e-5 * beyond * size).to(dtype))
    ends = [float(device.conductance(bound)) for bound in device.state_bounds]
    for end, beyond in ((min(ends), -1), (max(ends), 1)):
        near = torch.tensor(end * (1 + beyond * 4 * torch.finfo(dtype).eps), dtype=dtype)
        assert float(device.conductance(device.state_for(near))) == pytest.approx(end, rel=1e-5)
    assert float(Device("stanford_pku").current(0.1, 1.7 * 1e-9)) > 0


def test_arrays_that_change_later_do_not_come_in() -> None:
    """A tile, a device and wires own their values; gradients still lead to the caller's."""
    g = torch.full((2, 3), 1e-2, dtype=torch.float64)
    x, r, w = torch.full_like(g, 0.5), torch.full_like(g, 60.0), torch.full((2,), 5.0, dtype=torch.float64)
    device, wires = Device("vteam", r_on=r), cosim.Wires(row=2.0, source=w)
    tiles = [cosim.Tile(device, conductance=g, wires=wires), cosim.Tile(device, state=x, wires=wires)]
    own = np.full((2, 3), 0.5)
    tiles.append(cosim.Tile(device, state=own, wires=wires))

    def currents() -> list[torch.Tensor]:
        return [cosim.solve(t, [0.1, 0.1], engine=e).currents for t in tiles for e in ("linear", "newton")]

    before = currents()
    for changed in (g, x, r, w):
        changed.mul_(40.0)
    own *= 40.0
    assert all(torch.equal(a, b) for a, b in zip(before, currents(), strict=True))
    half = torch.full((2, 3), 0.25, dtype=torch.float64, requires_grad=True)
    cosim.solve(cosim.Tile(Device("vteam"), state=2 * half), [0.1, 0.1]).currents.sum().backward()
    assert half.grad is not None
    assert bool((half.grad != 0).all())


def test_second_compile_starts_no_compiler(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Device(VA / "series.va").osdi()

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("a compiler was started")

    monkeypatch.setattr(build_module, "_compile", forbidden)
    monkeypatch.setattr(build_module, "compile_tokens", forbidden)
    assert Device(VA / "series.va").osdi() == first
    assert first.parent == private_cache


def test_digest_tells_parameters_apart() -> None:
    digests = {Device("vteam", **p).digest for p in ({}, {"r_on": 60.0}, {"r_on": torch.full((2,), 60.0)})}
    assert len(digests) == 3
    assert Device("vteam", r_on=60.0).digest == Device("vteam").replace(r_on=60).digest


# --- errors -------------------------------------------------------------------------------------------

BAD = [
    (
        lambda: Device("memristor"),
        SpecError,
        r"no bundled model 'memristor': choose from data_driven, .*vteam",
    ),
    (lambda: Device("nowhere.va"), SpecError, r"nowhere.va does not exist"),
    (lambda: Device("vteam", **{"": 5.0}), SpecError, r"vteam has no parameter ''; it has: .*r_on"),
    (lambda: Device("vteam", ron=5.0), SpecError, r"vteam has no parameter 'ron'; it has: .*r_on"),
    (
        lambda: Device("vteam", r_on=-5.0),
        SpecError,
        r"parameter r_on of vteam is -5.0: the model allows \(0:inf\)",
    ),
    (
        lambda: Device("vteam", r_on=torch.tensor([1.0, -1.0])),
        SpecError,
        r"r_on of vteam is between -1.0 and 1.0",
    ),
    (
        lambda: Device("vteam", r_on=float("nan")),
        SpecError,
        r"parameter r_on\[\] is nan: every entry must be",
    ),
    (lambda: Device("vteam", window=1.5), SpecError, r"window of vteam is 1.5: it must be an integer"),
    (lambda: Device("vteam", window=[0, 1]), SpecError, r"window of vteam is an integer: give it one value"),
    (lambda: Device("vteam", r_on="soft"), SpecError, r"parameter r_on is 'soft': give numbers"),
    (lambda: Device("vteam", state="x_init"), SpecError, r"'vteam' is a bundled model: its state"),
    (
        lambda: Device(VA / "series.va", state="y0", state_range=(0, 1)),
        ModelError,
        r"series has no parameter 'y0'; it has: x_init, rs",
    ),
    (
        lambda: Device(VA / "series.va", state="x_init", state_range=(1, 0)),
        SpecError,
        r"state_range is \(1, 0\): it must be two finite numbers, low below high",
    ),
    (lambda: Device(VA / "series.va").state_range, SpecError, r"series has no state: give state="),
    (lambda: Device(VA / "series.va").set_polarity, SpecError, r"SET polarity of series is not known"),
    (lambda: Device("vteam").current(0.1), SpecError, r"vteam needs a state: give state= \(x_init\)"),
    (
        lambda: Device("vteam").current(0.1, 1.5),
        SpecError,
        r"state\[\] is 1.5: x_init of vteam goes from 0.0 to 1.0",
    ),
    (lambda: Device("vteam").current(float("inf"), 0.5), SpecError, r"voltage\[\] is inf"),
    (lambda: Device("vteam").conductance(0.5, v_read=0.0), SpecError, r"v_read is 0.0 V"),
    (
        lambda: Device("vteam").current([0.1, 0.2], [0.5, 0.5, 0.5]),
        SpecError,
        r"shapes of vteam that do not broadcast: voltage \(2,\), state \(3,\)",
    ),
    (
        lambda: Device("vteam").state_for([1e-3, 0.5]),
        SpecError,
        r"conductance\[1\] is 0.5 S: vteam reaches 0.001 to 0.02 S",
    ),
    (
        lambda: Device("vteam").state_for(-1e-3),
        SpecError,
        r"conductance\[\] is -0.001: it must be greater than 0",
    ),
    (lambda: Device("vteam").simulate([0, 1], 1e-9, state=0.5, engine="hspice"), SpecError, r"hspice"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_errors(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]  # a lambda


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    path = tmp_path / "talks.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule talks(p, n); inout p, n; electrical p, n;\n'
        'analog begin $strobe("hello"); I(p, n) <+ 1e-3 * V(p, n); end\nendmodule\n'
    )
    assert any("$strobe" in note for note in Device(path).notes)
    assert Device("vteam").notes == ()


@pytest.mark.parametrize("kind", ["", '(* type = "instance" *) '])
@pytest.mark.parametrize("name", ["node", "double", "NONE", "mfactor", "given_r", "lambda"])
def test_names_that_c_or_the_printer_use_are_free(name: str, kind: str, tmp_path: Path) -> None:
    """A parameter, and a node that is called the same in another file."""
    head = '`include "disciplines.vams"\nmodule free(p, n); inout p, n; electrical p, n'
    one, two = tmp_path / "parameter.va", tmp_path / "node.va"
    one.write_text(
        f"{head};\n{kind}parameter real {name} = 1e-3;\nanalog I(p, n) <+ {name} * V(p, n);\nendmodule"
    )
    two.write_text(
        f"{head}, {name};\n{kind}parameter real r = 1.0;\n"
        f"analog begin I(p, {name}) <+ r * V(p, {name}); I({name}, n) <+ r * V({name}, n); end\nendmodule"
    )
    for device, conductance in ((cosim.Device(one, **{name: 2e-3}), 2e-3), (cosim.Device(two, r=4e-3), 2e-3)):
        for engine in ("torch", "ngspice"):
            trace = device.simulate([0.0, 1.0, 1.0], 1e-6, engine=engine)
            assert trace.current.tolist() == pytest.approx([0.0, conductance, conductance], rel=CLOSED_FORM)


def test_two_modules_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pair.va"
    module = "module {}(p, n); inout p, n; electrical p, n; analog I(p, n) <+ 1e-3 * V(p, n); endmodule\n"
    path.write_text('`include "disciplines.vams"\n' + module.format("one") + module.format("two"))
    with pytest.raises(
        ModelError, match=r"2 modules \(one, two\) that no other uses: put the one of the device into a file"
    ):
        Device(path)


def test_three_terminals_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t3.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule t3(d, g, s); inout d, g, s; electrical d, g, s;\n'
        "analog I(d, s) <+ 1e-3 * V(g, s) * V(d, s);\nendmodule\n"
    )
    with pytest.raises(ModelError, match=r"t3 has the ports d, g, s, and it is not clear what its port g is"):
        Device(path)


def test_current_that_depends_on_absolute_voltage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leaky.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule leaky(p, n); inout p, n; electrical p, n;\n'
        "analog begin I(p, n) <+ 1e-3 * V(p, n); I(p) <+ 1e-6 * V(p); end\nendmodule\n"
    )
    with pytest.raises(ModelError, match=r"leaky: the current into p is not the current out of n"):
        Device(path)


def test_no_compiler(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    build_module.compiler.cache_clear()
    try:
        with pytest.raises(ToolNotFound, match=r"no C compiler .*apt-get install gcc libc6-dev, or set CC"):
            Device("vteam").osdi()
    finally:
        build_module.compiler.cache_clear()


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("COSIM_CACHE", str(blocked / "cache"))
    with pytest.raises(ToolFailed, match=r"the cache folder .* cannot be written .*: set COSIM_CACHE"):
        Device("vteam").osdi()


def test_generated_c_that_is_refused(private_cache: Path) -> None:
    with pytest.raises(ToolFailed, match=r"refused the generated C of broken: model.c:.* error") as caught:
        build_module.build("int main( {", "broken")
    assert "error" in caught.value.log
    assert not list(private_cache.iterdir())


def test_device_is_public() -> None:
    assert cosim.Device is Device


def test_an_integral_of_any_size_is_found(tmp_path: Path) -> None:
    """The initial value of idt is far beyond the 1 V steps of node voltages."""
    path = tmp_path / "grows.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule grows(p, n); inout p, n; electrical p, n; real r;\n'
        "analog begin r = idt(1e9 * V(p, n), 2000.0); I(p, n) <+ V(p, n) / r; end\nendmodule\n"
    )
    assert float(Device(path).current(0.3)) == pytest.approx(0.3 / 2000.0, rel=1e-12)


def test_a_scale_per_cell_is_refused() -> None:
    device = Device("data_driven", r_scale=torch.tensor([1e3, 2e3]))
    with pytest.raises(SpecError, match=r"r_scale of data_driven scales the state: give it one value"):
        device.simulate([0.0, 0.5], 1e-6, state=5e3)


def test_another_version_of_the_front_end_compiles_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COSIM_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "r.va"
    source.write_text("module r(p, n); inout p, n; electrical p, n; analog I(p, n) <+ V(p, n); endmodule\n")
    for version in ("one", "one", "two"):
        monkeypatch.setattr(devices_build, "_front_end", lambda version=version: version)
        devices_build.compile_model(source)
    assert len(list((tmp_path / "cache").glob("r-*.json"))) == 2
