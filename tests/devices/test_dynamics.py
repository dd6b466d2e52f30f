"""Transients in torch against closed forms, scipy and target numbers; batches; every error by its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

from cosim.devices.device import Device
from cosim.devices.dynamics import ENGINES, Trace, register_engine
from cosim.devices.tableau import ESDIRK32
from cosim.errors import SolveError, SpecError
from models.reference import (
    DataDriven,
    DataDriven2021,
    LinearIonDrift,
    StanfordPku,
    Vteam,
    trajectory,
    vteam_sine,
)
from tolerances import (
    DISPLACEMENT,
    PULSE_TARGET,
    ROUNDING,
    SLIDING_TARGET,
    TORCH_TRANSIENT,
    VTEAM_TARGET,
)

VA = Path(__file__).parents[1] / "data" / "va"

PREAMBLE = '`include "disciplines.vams"\n'


def write(folder: Path, name: str, body: str) -> Path:
    """A module with the terminals p and n."""
    path = folder / f"{name}.va"
    path.write_text(f"{PREAMBLE}module {name}(p, n);\ninout p, n; electrical p, n;\n{body}\nendmodule\n")
    return path


def sine(samples: int, amplitude: float = 1.0) -> np.ndarray:
    """One period, both ends included."""
    return amplitude * np.sin(2 * np.pi * np.arange(samples + 1) / samples)


def scipy_path(
    rate: Callable[[float, np.ndarray, float], list[float]],
    start: list[float],
    wave: np.ndarray,
    dt: float,
    scale: float = 1e-9,
) -> np.ndarray:
    """Unknowns (n, T) of dy/dt = rate(t, y, v(t)), sample by sample because the corners are not smooth."""
    y, path = np.array(start, float), [np.array(start, float)]
    for k in range(len(wave) - 1):
        low, high = wave[k], wave[k + 1]
        done = solve_ivp(
            lambda t, y, low=low, high=high: rate(t, y, low + (high - low) * t / dt),
            (0.0, dt),
            y,
            method="Radau",
            rtol=1e-9,
            atol=scale * 1e-3,
        )
        assert done.success
        y = done.y[:, -1]
        path.append(y)
    return np.stack(path, 1)


# --- the method ---------------------------------------------------------------------------------------


def test_the_tableau_has_its_order() -> None:
    c, gamma = np.array(ESDIRK32.c), ESDIRK32.gamma
    a = np.zeros((4, 4))
    for i, row in enumerate(ESDIRK32.a):
        a[i, : len(row)] = row
        a[i, i] = gamma if i else 0.0
    b, embedded = a[-1], np.array(ESDIRK32.embedded)
    assert a.sum(1) == pytest.approx(c, abs=ROUNDING)
    order3 = [b.sum(), b @ c, b @ c**2, b @ a @ c]
    assert order3 == pytest.approx([1, 1 / 2, 1 / 3, 1 / 6], abs=ROUNDING)
    assert [embedded.sum(), embedded @ c] == pytest.approx([1, 1 / 2], abs=ROUNDING)
    assert embedded @ c**2 != pytest.approx(1 / 3, abs=1e-3)  # or it would estimate nothing
    # L-stable: nothing of the start is left in an infinitely stiff step
    assert np.linalg.solve(a[1:, 1:], a[1:, 0])[-1] == pytest.approx(0, abs=ROUNDING)


# --- targets of the bundled models --------------------------------------------------------------------


def test_vteam_sine() -> None:
    dt = 1e-10
    time = dt * np.arange(481)
    trace = Device("vteam").simulate(np.sin(2 * np.pi * 50e6 * time), dt, state=0.3)
    assert float(trace.state[-1]) == pytest.approx(0.046658, rel=VTEAM_TARGET)
    # it rises to its largest value at half a period, then falls to 0 and stays there
    assert float(trace.state.max()) == pytest.approx(
        vteam_sine(Vteam(), 1.0, 50e6, 0.3, 1e-8), rel=VTEAM_TARGET
    )
    assert float(trace.state[200]) == pytest.approx(0.0, abs=VTEAM_TARGET)
    assert float(trace.state.min()) >= 0.0


PULSES = {
    0.6: [11062.60, 11546.83, 13698.39, 16403.83],
    0.7: [11119.35, 11942.71, 14600.35, 16666.82],
    0.8: [11223.52, 12518.97, 15460.28, 16717.14],
    -0.6: [15997.30, 15973.58, 15781.26, 15202.47],
    -0.7: [15926.71, 15457.08, 14109.46, 12844.85],
    -0.8: [15151.86, 13539.09, 11701.19, 10441.50],
}


def test_data_driven_pulse_table() -> None:
    """Six amplitudes at once; 100 us pulses without a pause are one long pulse."""
    volts = list(PULSES)
    start = [11e3 if v > 0 else 16e3 for v in volts]
    wave = np.broadcast_to(volts, (1001, 6))
    trace = Device("data_driven").simulate(wave, 1e-4, state=start)
    found = trace.state[[1, 10, 100, 1000]].T.numpy()
    moved = np.array(list(PULSES.values())) - np.array(start)[:, None]
    assert found == pytest.approx(np.array(list(PULSES.values())), rel=PULSE_TARGET)
    # the table has two decimals: hold the movement itself to the closed form
    exact = [
        [DataDriven().pulse(v, r, k * 1e-4) for k in (1, 10, 100, 1000)]
        for v, r in zip(volts, start, strict=True)
    ]
    assert found - np.array(start)[:, None] == pytest.approx(
        np.array(exact) - np.array(start)[:, None], rel=PULSE_TARGET
    )
    assert np.abs(moved).min() > 1.0


@pytest.mark.parametrize(("v", "r0"), [(1.0, 2600.0), (-1.0, 1700.0)])
def test_data_driven_2021_closed_form(v: float, r0: float) -> None:
    dt = 2e-7
    trace = Device("data_driven_2021").simulate([v] * 51, dt, state=r0)
    exact = [DataDriven2021().pulse(v, r0, k * dt) for k in range(51)]
    assert trace.state.numpy() == pytest.approx(np.array(exact), rel=TORCH_TRANSIENT)
    assert trace.current.numpy() == pytest.approx(
        DataDriven2021().current(v, np.array(exact)), rel=TORCH_TRANSIENT
    )
    assert abs(exact[-1] - r0) > 50.0


def test_stanford_reset_slides_on_the_threshold() -> None:
    """|v| rises slowly; the gap follows the line where the field is f_min, in a few hundred steps."""
    volts = np.array([1.1, 1.2, 1.3, 1.39])
    ramp = np.minimum(1.0, np.arange(201) / 100)
    trace = Device("stanford_pku").simulate(-ramp[:, None] * volts, 5e-6, state=0.2e-9)
    model = StanfordPku()
    line = np.array([model.sliding_gap(v) for v in volts])
    assert trace.state[-1].numpy() == pytest.approx(line, rel=SLIDING_TARGET)
    targets = [8.45172e-4, 2.66588e-4, 1.71992e-4, 1.46095e-4]
    assert -trace.current[-1].numpy() == pytest.approx(np.array(targets), rel=SLIDING_TARGET)
    assert trace.stats["steps"] < 1000
    # from 1.7 nm a SET jumps when 1.3919 V is passed
    jump = Device("stanford_pku").simulate(1.45 * ramp, 5e-6, state=1.7e-9)
    before = 1.45 * ramp < model.threshold(1.7e-9)
    assert jump.state[before].numpy() == pytest.approx(1.7e-9, rel=TORCH_TRANSIENT)
    assert float(jump.state[-1]) == pytest.approx(0.2e-9, rel=SLIDING_TARGET)


def test_linear_ion_drift_against_scipy() -> None:
    """A wave that stays above the threshold, because the file smooths that one."""
    wave, dt = 1.0 + 0.4 * sine(100), 5e-3
    times = dt * np.arange(101)
    trace = Device("linear_ion_drift", window=1).simulate(wave, dt, state=0.1)
    model = LinearIonDrift()
    exact = trajectory(model, lambda t: float(np.interp(t, times, wave)), 0.1, times)
    assert trace.state.numpy() == pytest.approx(exact, rel=TORCH_TRANSIENT)
    assert trace.current.numpy() == pytest.approx(model.current(wave, exact), rel=TORCH_TRANSIENT)
    assert exact[-1] > 0.3


# --- models of the user -------------------------------------------------------------------------------


def test_diode_with_series_resistance_and_charge() -> None:
    """The current through the resistance, which also charges the junction."""
    wave, dt = sine(100), 1e-10
    trace = Device(VA / "diode_rs_cj.va").simulate(wave, dt)
    i_s, nvt, rs, cj0, vj, tt, gmin = 1e-14, 0.0258, 20.0, 2e-12, 0.8, 1e-10, 1e-12

    def rate(t: float, y: np.ndarray, v: float) -> list[float]:
        u = y[0]
        current = i_s * np.expm1(u / nvt) + gmin * u
        slope = i_s * np.exp(u / nvt) / nvt + gmin
        half = 0.5 * vj
        depletion = cj0 / np.sqrt(1 - u / vj) if u < half else cj0 * 2**0.5 * (1 + (u - half) / vj)
        return [((v - u) / rs - current) / (depletion + tt * slope)]

    (inside,) = scipy_path(rate, [0.0], wave, dt)
    current = (wave - inside) / rs
    assert trace.state.numpy() == pytest.approx(inside, abs=TORCH_TRANSIENT)  # V(a): the node with the charge
    assert trace.current.numpy() == pytest.approx(current, abs=TORCH_TRANSIENT * np.abs(current).max())
    assert current[:60].min() < -1e-3  # the stored charge flows back


def threshold_exp() -> Device:
    return Device(
        VA / "threshold_exp.va", state="x0", state_range=(0, 1), state_node="y", write="write", set_polarity=1
    )


def threshold_exp_path(wave: np.ndarray, dt: float, x0: float) -> tuple[np.ndarray, np.ndarray]:
    """Current and state of threshold_exp.va, in numpy."""
    i_off, i_on, vs, rs, c, rate0 = 1e-7, 2e-5, 0.3, 500.0, 1e-13, 2e7

    def rate(t: float, y: np.ndarray, v: float) -> list[float]:
        u, x = y
        current = i_off * (i_on / i_off) ** x * np.sinh(u / vs)
        up, down = max(u / 0.6 - 1, 0.0) * (1 - x), max(u / -0.5 - 1, 0.0) * x
        return [((v - u) / rs - current) / c, rate0 * (up - down)]

    inside, x = scipy_path(rate, [0.0, x0], wave, dt)
    return (wave - inside) / rs, x


def test_threshold_memristor_with_series_resistance() -> None:
    wave, dt = sine(80, 1.5), 1e-8
    trace = threshold_exp().simulate(wave, dt, state=0.1)
    current, x = threshold_exp_path(wave, dt, 0.1)
    assert trace.state.numpy() == pytest.approx(x, abs=TORCH_TRANSIENT)
    assert trace.current.numpy() == pytest.approx(current, abs=TORCH_TRANSIENT * np.abs(current).max())
    assert x.max() > 0.9
    assert x[-1] < 0.1


def test_two_states() -> None:
    device = Device(VA / "two_state.va", state="x0", state_range=(0, 1), state_node="y", write="write")
    wave, dt = sine(100, 1.2), 2e-8
    trace = device.simulate(wave, dt, state=0.2)

    def conductance(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        return (1e-6 + (1e-4 - 1e-6) * x) * (1 + 0.1 * z)

    def rate(t: float, y: np.ndarray, v: float) -> list[float]:
        x, z = y
        power = float(conductance(x, z)) * v * v
        return [2e4 * np.sinh(v / 0.4) * np.exp(z) * x * (1 - x), 5e11 * power - z / 2e-7]

    x, z = scipy_path(rate, [0.2, 0.0], wave, dt)
    assert trace.state.numpy() == pytest.approx(x, abs=TORCH_TRANSIENT)
    current = conductance(x, z) * wave
    assert trace.current.numpy() == pytest.approx(current, abs=TORCH_TRANSIENT * np.abs(current).max())
    assert x.max() - 0.2 > 0.1
    assert z.max() > 0.5


def test_a_capacitance_at_the_terminal(tmp_path: Path) -> None:
    """No internal node at all: the current jumps with the slope; the first sample is the static one."""
    path = write(tmp_path, "cap", "analog I(p, n) <+ 1e-3*V(p, n) + ddt(1e-9*V(p, n));")
    trace = Device(path).simulate([1.0, 1.0, 3.0, 2.0], 1e-6)
    slope = np.array([0.0, 0.0, 2e6, -1e6])
    expected = 1e-3 * np.array([1.0, 1.0, 3.0, 2.0]) + 1e-9 * slope
    assert trace.current.numpy() == pytest.approx(expected, rel=DISPLACEMENT)
    assert trace.state.tolist() == [0.0] * 4


def test_a_charge_between_terminal_and_internal_node(tmp_path: Path) -> None:
    """Series C and R: i = C v' (1 - exp(-t/RC)) under a ramp, all of it displacement current at p."""
    body = "electrical a; analog begin I(p, a) <+ ddt(1e-9*V(p, a)); I(a, n) <+ V(a, n)/1e3; end"
    trace = Device(write(tmp_path, "rc", body)).simulate([0.0, 1.0, 2.0, 2.0, 2.0], 1e-6)
    rising = 1e-9 * 1e6 * (1 - np.exp(-np.array([0.0, 1.0, 2.0])))
    expected = [*rising, *(rising[-1] * np.exp(-np.array([1.0, 2.0])))]
    assert trace.current.numpy() == pytest.approx(np.array(expected), abs=TORCH_TRANSIENT * 1e-3)


def test_an_integral_starts_at_its_initial_condition(tmp_path: Path) -> None:
    """x = idt(k v, 2000): the state is the integral itself, of any size."""
    body = "real r; analog begin r = idt(1e9*V(p, n), 2000.0); I(p, n) <+ V(p, n)/r; end"
    trace = Device(write(tmp_path, "flux", body)).simulate([0.0, 1.0, 1.0, 0.0, -1.0], 1e-6)
    r = np.array([2000.0, 2500.0, 3500.0, 4000.0, 3500.0])
    assert trace.state.numpy() == pytest.approx(r, rel=TORCH_TRANSIENT)
    assert trace.current.numpy() == pytest.approx(np.array([0, 1, 1, 0, -1]) / r, rel=TORCH_TRANSIENT)


def test_time_in_the_model_is_that_of_each_device(tmp_path: Path) -> None:
    """$abstime inside a condition that is not folded, and in arithmetic."""
    body = """real g; analog begin
        g = ($abstime > 2.5e-6) ? 2e-3 : 1e-3;
        I(p, n) <+ g*V(p, n)*(1 + $abstime/1e-6);
    end"""
    trace = Device(write(tmp_path, "timed", body)).simulate(np.ones((5, 2)), 1e-6)
    expected = np.array([1e-3, 2e-3, 3e-3, 8e-3, 1e-2])
    assert trace.current.numpy() == pytest.approx(np.stack([expected] * 2, 1), rel=ROUNDING)


# --- batches ------------------------------------------------------------------------------------------


def test_shapes_broadcast() -> None:
    device = Device("vteam", r_on=torch.tensor([[40.0], [60.0]], dtype=torch.float64))
    trace = device.simulate(sine(20), 1e-10, state=[0.1, 0.5, 0.9])
    assert trace.time.shape == (21,)
    assert trace.voltage.shape == trace.current.shape == trace.state.shape == (21, 2, 3)
    for name in ("time", "voltage", "current", "state"):
        assert getattr(trace, name).dtype == torch.float64
    single = Device("vteam", r_on=60.0).simulate(sine(20), 1e-10, state=0.5)
    assert trace.current[:, 1, 1].numpy() == pytest.approx(single.current.numpy(), rel=ROUNDING, abs=ROUNDING)


def test_a_device_does_not_see_its_neighbours() -> None:
    """Every device has its own time and step, so a difficult neighbour changes nothing."""
    device = Device("stanford_pku")
    amplitude = torch.tensor([0.5, 1.8], dtype=torch.float64)
    wave = torch.as_tensor(sine(40))
    together = device.simulate(wave[:, None] * amplitude, 1e-5, state=1e-9)
    for k in range(2):
        alone = device.simulate(wave * amplitude[k], 1e-5, state=1e-9)
        assert together.state[:, k].numpy() == pytest.approx(alone.state.numpy(), rel=ROUNDING)


def test_a_pulse_in_two_parts() -> None:
    """The last state of one waveform is a start for the next, also at a bound."""
    device = Device("vteam")
    first = device.simulate([-1.0] * 11, 1e-9, state=0.5)
    assert float(first.state[-1]) == 0.0  # rests at its bound, reported inside
    second = device.simulate([0.1] * 11, 1e-9, state=first.state[-1])
    assert float(second.state[-1]) == pytest.approx(6.6667e5 * 1e-8, rel=VTEAM_TARGET)


def test_tighter_tolerances_come_closer() -> None:
    wave, dt = sine(40, 1.5), 2e-8
    current, _ = threshold_exp_path(wave, dt, 0.1)

    def error(tolerance: float) -> float:
        trace = threshold_exp().simulate(wave, dt, state=0.1, rtol=tolerance, atol=tolerance)
        return float(np.abs(trace.current.numpy() - current).max())

    assert error(1e-7) < 0.1 * error(1e-4)


def test_plot_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Device("vteam").simulate(sine(20)[:, None] * np.ones(17), 1e-10, state=0.5, progress=True)
    assert "simulating vteam: 100 %" in capsys.readouterr().err
    figure = trace.plot()
    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "current (A)",
        "voltage (V)",
        "current (A)",
        "state",
    ]
    assert figure.get_suptitle() == "16 of 17 devices"
    loop = figure.axes[0].lines[0]
    assert loop.get_xdata() == pytest.approx(trace.voltage[:, 0].numpy())
    assert loop.get_ydata() == pytest.approx(trace.current[:, 0].numpy())
    trace = Device("vteam").simulate(sine(20), 1e-10, state=0.5)
    assert capsys.readouterr() == ("", "")
    assert len(trace.plot().axes[0].lines) == 1


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"engine": "spectre"}, r"no engine 'spectre' simulates a device: use one of .*torch"),
        ({"steps": 3}, r"engine 'torch' has no option 'steps'; it has: rtol, atol, max_steps, progress"),
        ({"dt": 0.0}, "dt is 0.0: it must be a finite number, above 0"),
        ({"dt": float("nan")}, "dt is nan: "),
        ({"dt": "1n"}, "dt is '1n': "),
        ({"voltage": [1.0]}, r"voltage has shape \(1,\): a waveform is \(time,\)"),
        ({"voltage": 1.0}, r"voltage has shape \(\)"),
        ({"voltage": [0.0, float("inf")]}, r"voltage\[1\] is inf: every entry must be finite"),
        ({"state": 1.5}, r"state\[\] is 1.5: x_init of vteam goes from 0.0 to 1.0"),
        ({"state": None}, r"vteam needs a state"),
        ({"rtol": 0.0}, "rtol is 0.0: it must be a finite number, above 0"),
        ({"atol": -1.0}, r"atol is -1.0"),
        ({"max_steps": 0}, r"max_steps is 0"),
    ],
)
def test_bad_arguments(change: dict, text: str) -> None:
    arguments = {"voltage": [0.0, 1.0], "dt": 1e-9, "state": 0.5} | change
    with pytest.raises(SpecError, match=text):
        Device("vteam").simulate(**arguments)


def test_cells_that_do_not_broadcast() -> None:
    with pytest.raises(SpecError, match=r"do not broadcast: voltage \(2,\), state \(3,\)"):
        Device("vteam").simulate(np.zeros((4, 2)), 1e-9, state=[0.1, 0.2, 0.3])


def test_a_state_for_a_device_without_one() -> None:
    with pytest.raises(SpecError, match="has no state"):
        Device(VA / "diode_rs_cj.va").simulate([0.0, 1.0], 1e-9, state=0.5)


@pytest.mark.parametrize("engine", ["torch", "ngspice"])
def test_a_write_parameter_that_is_given_is_meant(engine: str) -> None:
    """write=0 keeps the state still, also under a voltage that would move it; write=1 is what moves it."""
    wave = torch.full((5,), -0.5, dtype=torch.float64)
    paths = {
        on: Device("vteam", write=on).simulate(wave, 1e-9, state=0.6, engine=engine).state for on in (0, 1)
    }
    assert paths[0].tolist() == [0.6] * 5
    assert float(paths[1][-1]) < 0.5


def test_an_unknown_state_node() -> None:
    path, how = VA / "threshold_exp.va", {"state": "x0", "state_range": (0, 1), "write": "write"}
    with pytest.raises(SpecError, match="threshold_exp has no internal node 'w'; it has: a, y"):
        Device(path, **how, state_node="w")


STOPS = (
    "electrical y; parameter real x0 = 1.0 from [0:1]; parameter real k = 1.0; real x; analog begin "
    "x = x0 + V(y); I(p, n) <+ V(p, n); "
    'I(y) <+ ddt(V(y)); if (analysis("static")) I(y) <+ V(y); else I(y) <+ k + 1e-9*sqrt(x); end'
)


def test_a_device_that_cannot_be_integrated(tmp_path: Path) -> None:
    """x = 1 - k t ends where the square root does; the neighbour with a small k is not lost."""
    k = torch.tensor([1.0, 0.1], dtype=torch.float64)
    device = Device(write(tmp_path, "stops", STOPS), state="x0", state_range=(0, 1), state_node="y", k=k)
    with pytest.raises(
        SolveError,
        match=r"simulation of stops stopped at t = (0\.99|1)\S* s \(device 0, the first of 1 among 2\): "
        r"the step fell below .*; sample the waveform more finely there, or loosen rtol \(now 1e-06\)",
    ) as caught:
        device.simulate([1.0] * 7, 0.3, state=1.0)
    trace = caught.value.solution
    assert isinstance(trace, Trace)
    assert trace.state[4:, 0].isnan().all()
    assert trace.state[:4, 0].numpy() == pytest.approx(np.array([1.0, 0.7, 0.4, 0.1]), abs=TORCH_TRANSIENT)
    assert trace.state[:, 1].numpy() == pytest.approx(1 - 0.03 * np.arange(7), rel=TORCH_TRANSIENT)


def test_too_many_steps() -> None:
    with pytest.raises(SolveError, match=r"stopped at t = \S+ s: max_steps = 5 steps were made"):
        Device("vteam").simulate(sine(20), 1e-10, state=0.5, max_steps=5)


def test_no_operating_point(tmp_path: Path) -> None:
    body = "electrical y; analog begin I(p, n) <+ V(p, n); I(y) <+ ddt(V(y)) + exp(V(y)) - 2 + V(p, n); end"
    device = Device(write(tmp_path, "restless", body))
    with pytest.raises(SolveError, match=r"no operating point at the first sample \(3.0 V\): .*write="):
        device.simulate([3.0, 1.0], 1e-6)


def test_another_engine_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosim.devices.dynamics.ENGINES", dict(ENGINES))

    @register_engine("frozen")
    def frozen(device, drive, state, *, gain: float = 1.0) -> Trace:
        volts = drive.voltage
        return Trace(time=drive.time, voltage=volts, current=gain * volts, state=state, device_voltage=volts)

    trace = Device("vteam").simulate([0.0, 1.0], 1e-9, state=0.5, engine="frozen", gain=2.0)
    assert trace.current.tolist() == [0.0, 2.0]
    with pytest.raises(SpecError, match="engine 'frozen' has no option 'rtol'; it has: gain"):
        Device("vteam").simulate([0.0, 1.0], 1e-9, state=0.5, engine="frozen", rtol=1.0)
