"""Memristor models of the compatibility namespace: right physics by default, MemTorch's numbers on demand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

from cosim.errors import SpecError
from cosim.memtorch.bh import memristor as models
from tolerances import MEMTORCH_DEVICE, NGSPICE_NEWTON

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "compat" / "devices.json").read_text())
NAMES = ["LinearIonDrift", "VTEAM", "Data_Driven", "Data_Driven2021", "Stanford_PKU"]
SET_SIGN = {"LinearIonDrift": 1, "VTEAM": -1, "Data_Driven": -1, "Data_Driven2021": 1, "Stanford_PKU": 1}


def make(name: str, **arguments) -> Any:
    if name == "Data_Driven2021":
        arguments.setdefault("time_series_resolution", 1e-8)
    return getattr(models, name)(**arguments)


@pytest.mark.parametrize("name", NAMES)
def test_attributes_of_a_new_device(name: str):
    device = make(name)
    assert device.r_on < device.r_off
    assert device.time_series_resolution > 0
    assert device.g == pytest.approx(1 / device.get_resistance())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_set_is_read(name: str, share: float):
    device = make(name)
    low, high = device.physics.lowest, device.physics.highest
    device.set_conductance(low + share * (high - low))
    assert device.g == pytest.approx(low + share * (high - low), rel=1e-9)
    assert device.current(0.1) == pytest.approx(0.1 * device.g, rel=1e-9)
    device.set_conductance(10 * high)
    assert device.g == pytest.approx(high)


@pytest.mark.parametrize("name", NAMES)
def test_the_sign_that_sets(name: str):
    amplitude = 1.8 if name != "LinearIonDrift" else 5.0
    for sign in (1, -1):
        device = make(name, time_series_resolution=1e-5)
        device.set_conductance(0.3 * device.physics.highest + 0.7 * device.physics.lowest)
        before = device.g
        device.simulate(np.full(20, sign * amplitude))
        assert (device.g > before) == (sign == SET_SIGN[name])
        assert device.g != before


@pytest.mark.parametrize("name", NAMES)
def test_simulate_returns_conductances_or_the_current(name: str):
    device = make(name)
    conductance = device.simulate(torch.zeros(100, 1))
    assert torch.equal(conductance, torch.full((100,), device.g, dtype=torch.float64))
    current = device.simulate(torch.zeros(100, 1), return_current=True)
    assert current.shape == (100,)
    assert not current.any()


@pytest.mark.parametrize("name", NAMES)
def test_plots(name: str, monkeypatch: pytest.MonkeyPatch):
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    device = make(name)
    duration, amplitude, frequency = device.loop
    short = (min(duration, 4 / frequency), amplitude, 40 * frequency)
    volts, current = device.plot_hysteresis_loop(short[0] / 40, *short[1:], return_result=True)
    assert volts.shape == current.shape
    assert volts[0] == 0
    assert device.plot_hysteresis_loop(short[0] / 40, *short[1:]) is None
    assert device.plot_bipolar_switching_behaviour(amplitude, 40 * frequency) is None
    plt.close("all")


def test_default_loop_of_vteam_is_pinched_and_switches():
    volts, current = make("VTEAM").plot_hysteresis_loop(return_result=True)
    assert len(volts) == 2001
    assert not current[volts == 0].any()
    resistance = volts[1:600] / current[1:600]
    assert resistance.min() == pytest.approx(50)
    assert 60 < resistance.max() < 1000


@pytest.mark.parametrize("name", NAMES)
def test_memtorchs_numbers_of_a_pulse_train(name: str):
    pulse = REFERENCE["pulses"][name]
    device = make(name, as_memtorch=True, time_series_resolution=pulse["dt"])
    device.set_conductance(pulse["set_conductance"])
    volts = np.concatenate([np.full(count, value) for value, count in pulse["voltage_runs"]])
    current = np.concatenate([device.simulate(np.array([v]), return_current=True) for v in volts])
    wanted = np.array(pulse["current"])
    assert np.abs(current - wanted).max() <= MEMTORCH_DEVICE * np.abs(wanted).max()
    assert device.g == pytest.approx(pulse["g_end"], rel=MEMTORCH_DEVICE)


@pytest.mark.parametrize("name", NAMES)
def test_memtorchs_numbers_of_the_default_loop(name: str):
    loop = REFERENCE["loops"][name]
    _, current = make(name, as_memtorch=True).plot_hysteresis_loop(return_result=True)
    assert len(current) == loop["samples"]
    assert np.abs(current[loop["index"]] - loop["current"]).max() <= MEMTORCH_DEVICE * loop["peak"]


def test_both_arithmetics_meet_in_the_quadratic_model():
    """MemTorch steps through the closed form of this model, so the two must meet while it moves."""
    signals = [make("Data_Driven2021", as_memtorch=flag) for flag in (False, True)]
    signals[0].physics.state = 2900.0
    signals[1].set_conductance(1 / 2900.0)
    volts = np.full(50, 0.9)
    right, stepped = (device.simulate(volts, return_current=True) for device in signals)
    assert right == pytest.approx(stepped, rel=1e-4)


def test_windows():
    points = REFERENCE["windows"]
    x, p = np.array(points["x"]), points["p"]
    window = models.window
    for right in (window.Jogelkar, window.Prodromakis):
        assert float(right(1.0, p)) == pytest.approx(0, abs=1e-12)
        assert float(right(0.0, p)) == pytest.approx(0, abs=1e-12)
        memtorchs = [right(float(u), p, as_memtorch=True) for u in x]
        assert memtorchs == pytest.approx(points[right.__name__])
    for voltage, key in ((1.0, "Biolek_positive"), (-1.0, "Biolek_negative")):
        assert [window.Biolek(voltage, float(u), p) for u in x] == pytest.approx(points[key])


def test_currents_and_rates_by_name():
    device = models.VTEAM()
    assert device.dxdt(0.1) == pytest.approx(5e-4 * 4, rel=NGSPICE_NEWTON)
    drift = models.LinearIonDrift(p=2)
    drift.set_conductance(1 / 8050)
    x = float(drift.physics.state)
    wanted = 1e-14 * 100 / (10e-9) ** 2 * 2e-4 * (1 - (2 * x - 1) ** 4)
    assert drift.dxdt(2e-4) == pytest.approx(wanted)
    assert models.Data_Driven().resistance(0.1) == pytest.approx(models.Data_Driven().get_resistance())
    filament = models.Stanford_PKU()
    assert filament.T_current(1.0, 1e-3) == pytest.approx(298 + 2.1)
    own = filament.current(1.4)
    assert filament.dg_dt(1.4, own) == pytest.approx(filament.dg_dt(1.4))
    assert abs(filament.dg_dt(1.4, 2 * own)) > 2 * abs(filament.dg_dt(1.4, own))


def test_cycles_of_the_dynamic_stanford_model_differ():
    torch.manual_seed(0)
    ends = []
    for _ in range(2):
        device = models.Stanford_PKU(model_switch=1, delta_g_init=0.5)
        device.simulate(np.full(2, -1.2))
        device.simulate(np.full(3, -1.2))
        ends.append(device.g)
    assert ends[0] != ends[1]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("VTEAM", {"r_on": 1000}, "equal, or too close"),
        ("VTEAM", {"r_on": 2000}, "r_off must be above r_on"),
        ("VTEAM", {"time_series_resolution": 0.0}, r"time_series_resolution \(s\) is 0.0"),
        ("Data_Driven", {"r_p": [1, 2, 3, 4]}, "r_p has 4 coefficients: the model takes 1 to 3"),
        ("Data_Driven2021", {"k_p": 1.0}, "Data_Driven2021 has no such parameters"),
    ],
)
def test_impossible_arguments_are_refused(name: str, arguments: dict, message: str):
    with pytest.raises(SpecError, match=message):
        make(name, **arguments)


def test_bad_signals_are_refused():
    with pytest.raises(SpecError, match="one device takes"):
        models.VTEAM().simulate(torch.zeros(3, 2))
    with pytest.raises(SpecError, match=r"conductance \(S\) is -1.0"):
        models.VTEAM().set_conductance(-1.0)
    with pytest.raises(SpecError, match="as_memtorch=True"):
        models.VTEAM(as_memtorch=True).device  # noqa: B018  the access is what is tested
