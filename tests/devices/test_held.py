"""Held waveforms against closed forms, published points, and the adaptive integrator."""

from __future__ import annotations

import math

import pytest
import torch

from cosim import Device
from cosim.devices import held as held_module
from cosim.devices.held import simulate_held, state_rate, time_to_reach
from cosim.errors import SpecError
from tolerances import HELD, SLIDING_LIMIT, SLIDING_TARGET, TORCH_TRANSIENT


def sine(amplitude: float, frequency: float, dt: float, samples: int) -> torch.Tensor:
    time = dt * (torch.arange(samples, dtype=torch.float64) + 0.5)
    return amplitude * torch.sin(2 * math.pi * frequency * time)


def test_vteam_meets_the_reference_integration():
    held = simulate_held(Device("vteam"), sine(1.0, 50e6, 1e-11, 4800), 1e-11, 0.3)
    assert float(held.state[-1]) == pytest.approx(0.046658, rel=HELD)


@pytest.mark.parametrize(
    ("voltage", "start", "wanted"),
    [
        (0.7, 11e3, (11119.35, 11942.71, 14600.35, 16666.82)),
        (-0.8, 16e3, (15151.86, 13539.09, 11701.19, 10441.50)),
    ],
)
def test_data_driven_follows_its_closed_form(voltage: float, start: float, wanted: tuple[float, ...]):
    held = simulate_held(Device("data_driven"), [voltage] * 1000, 1e-4, start)
    assert held.state[[1, 10, 100, 1000]].tolist() == pytest.approx(wanted, rel=HELD)


@pytest.mark.parametrize(("voltage", "gap"), [(-1.1, 0.968729e-9), (-1.3, 1.566783e-9)])
def test_stanford_reset_slides_along_its_threshold(voltage: float, gap: float):
    held = simulate_held(Device("stanford_pku"), [voltage] * 3, 1.0, 0.2e-9)
    assert held.state[1:].tolist() == pytest.approx([gap] * 3, rel=SLIDING_TARGET)


def test_a_slow_ramp_slides_along_the_threshold_many_samples_at_once(monkeypatch: pytest.MonkeyPatch):
    calls = []
    rate = held_module._Rate.__call__
    monkeypatch.setattr(
        held_module._Rate, "__call__", lambda self, v, x: (calls.append(len(v)), rate(self, v, x))[1]
    )
    device = Device("stanford_pku")
    volts = torch.linspace(-1.1, -1.35, 2001, dtype=torch.float64)
    held = simulate_held(device, volts, 0.1, 0.2e-9)
    p = {name: float(device.parameters[name]) for name in ("gamma0", "beta", "f_min", "t_ox")}
    # the gap, in nm, at which the field enhancement falls to its threshold: gamma |V| / t_ox = F_min
    limit = 1e-9 * ((p["gamma0"] - p["f_min"] * p["t_ox"] / volts.abs()) / p["beta"]) ** (1 / 3)
    low, high = device.state_range
    assert float((held.state[1:] - limit).abs().max()) < SLIDING_LIMIT * (high - low)
    assert len(calls) < len(volts) / 4
    assert held.current.shape == volts.shape


@pytest.mark.parametrize(
    ("name", "voltage", "dt", "start"),
    [
        ("vteam", -0.5, 1e-10, 0.9),
        ("linear_ion_drift", 1.5, 1e-2, 0.2),
        ("data_driven", -1.2, 1e-4, 9e3),
        ("data_driven_2021", 0.9, 1e-6, 2.9e3),
        ("stanford_pku", 1.45, 1e-6, 1.4e-9),
    ],
)
def test_constant_voltage_equals_the_adaptive_integrator(name: str, voltage: float, dt: float, start: float):
    device = Device(name)
    held = simulate_held(device, [voltage] * 20, dt, start)
    trace = device.simulate([voltage] * 21, dt, state=start)
    low, high = device.state_range
    assert float((held.state - trace.state).abs().max()) < TORCH_TRANSIENT * 10 * (high - low)
    assert held.current[1:].tolist() == pytest.approx(trace.current[1:20].tolist(), rel=1e-2)
    assert float(held.state[-1] - held.state[0]) != 0


@pytest.mark.parametrize("name", ["vteam", "data_driven", "data_driven_2021", "stanford_pku"])
def test_parts_give_what_the_whole_gives(name: str):
    device, dt = Device(name), {"vteam": 1e-10, "stanford_pku": 1e-4}.get(name, 1e-8)
    start = sum(device.state_range) / 2
    volts = sine(1.5, 1 / (400 * dt), dt, 400)
    whole = simulate_held(device, volts, dt, start)
    first = simulate_held(device, volts[:137], dt, start)
    second = simulate_held(device, volts[137:], dt, float(first.state[-1]))
    low, high = device.state_range
    assert float((second.state[-1] - whole.state[-1]).abs()) < 1e-6 * (high - low)
    assert torch.cat([first.current, second.current]).tolist() == pytest.approx(
        whole.current.tolist(), rel=1e-4, abs=1e-9
    )


def test_smaller_samples_converge():
    ends = []
    for refined in (1, 4, 16, 64):
        dt = 2e-4 / refined
        held = simulate_held(Device("linear_ion_drift"), sine(5.0, 2.5, dt, 1000 * refined), dt, 0.1)
        ends.append(float(held.state[-1]))
    differences = [abs(a - ends[-1]) for a in ends[:-1]]
    assert differences[0] > 3 * differences[1] > 9 * differences[2]


def test_a_million_samples_stay_in_range():
    device = Device(
        "vteam", v_off=0.5, v_on=-0.53, r_off=2.5e3, r_on=100.0, k_off=4.03e-8, k_on=-80.0, d=1e-8
    )
    held = simulate_held(device, sine(1.0, 1.0, 1e-5, 100_001), 1e-5, 0.0)
    assert 0 <= float(held.state.min()) < 1e-6
    assert float(held.state.max()) <= 1


def test_rate_of_the_state():
    assert state_rate(Device("vteam"), 0.1, 0.5) == pytest.approx(5e-4 * 4 / 3e-9)


@pytest.mark.parametrize(
    ("voltage", "dt", "message"),
    [
        ([[0.1]], 1e-9, "voltage has shape (1, 1): a held waveform is (time,)"),
        ([0.1], 0.0, "dt is 0.0: it must be"),
    ],
)
def test_bad_input_is_refused(voltage: list, dt: float, message: str):
    with pytest.raises(SpecError, match=message.replace("(", r"\(").replace(")", r"\)")):
        simulate_held(Device("vteam"), voltage, dt, 0.1)


def test_devices_with_cells_are_refused():
    device = Device("vteam", r_on=torch.tensor([50.0, 60.0]))
    with pytest.raises(SpecError, match="use Device.simulate"):
        simulate_held(device, [0.1], 1e-9, 0.1)


@pytest.mark.parametrize("distance", [1e-9, 1e-6, 1e-3])
def test_a_state_leaves_a_bound_at_which_its_window_is_0(distance: float) -> None:
    """Linear ion drift in Joglekar's window: dt = (1 + (r_off/r_on - 1) d) / (k d (1 - d)) dd, d from ON."""
    device = Device("linear_ion_drift")
    r_on, r_off, volts = 100.0, 16e3, -1.0
    k = 4 * 1e-14 * r_on / (10e-9) ** 2 * -volts / r_on  # 1/s

    def time(d: float) -> float:
        return (math.log(d / (1 - d)) - (r_off / r_on - 1) * math.log1p(-d)) / k

    for reached in (0.1, 0.5, 0.9):
        wanted = time(reached) - time(distance)
        assert time_to_reach(device, volts, 1 - distance, 1 - reached) == pytest.approx(wanted, rel=HELD)
        state = simulate_held(device, [volts], wanted, 1 - distance).state[-1]
        assert float(state) == pytest.approx(1 - reached, abs=SLIDING_LIMIT * 100)
