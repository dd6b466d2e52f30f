"""The transient targets of the bundled models, through ngspice and the compiled .va files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import cosim
from models.reference import DataDriven, DataDriven2021, StanfordPku, Vteam, vteam_sine
from tolerances import PULSE_TARGET, SLIDING_TARGET, VTEAM_TARGET


def end_state(name: str, voltage: Callable[[np.ndarray], np.ndarray], time: float, start: float) -> float:
    """State at ``time`` under ``voltage(t)``, sampled 400 times."""
    seconds = np.linspace(0.0, time, 401)
    wave = torch.as_tensor(voltage(seconds))
    trace = cosim.Device(name).simulate(wave, time / 400, state=start, engine="ngspice")
    return float(trace.state.reshape(-1)[-1])


def test_vteam_sine():
    end = end_state("vteam", lambda t: np.sin(2 * np.pi * 50e6 * t), 48e-9, 0.3)
    assert end == pytest.approx(vteam_sine(Vteam(), 1.0, 50e6, 0.3, 48e-9), rel=VTEAM_TARGET)


@pytest.mark.parametrize(
    ("v", "r0"), [(0.6, 11e3), (0.7, 11e3), (0.8, 11e3), (-0.6, 16e3), (-0.7, 16e3), (-0.8, 16e3)]
)
@pytest.mark.parametrize("pulses", [1, 10, 100, 1000])
def test_data_driven_pulse_table(v: float, r0: float, pulses: int):
    """Between pulses nothing moves, so pulses of 100 us add up to one long one."""
    time = 100e-6 * pulses
    end = end_state("data_driven", lambda t: np.full_like(t, v), time, r0)
    assert end == pytest.approx(DataDriven().pulse(v, r0, time), rel=PULSE_TARGET)


@pytest.mark.parametrize(("v", "r0"), [(1.0, 2600.0), (-1.0, 1700.0)])
def test_data_driven_2021_pulse(v: float, r0: float):
    end = end_state("data_driven_2021", lambda t: np.full_like(t, v), 1e-5, r0)
    assert end == pytest.approx(DataDriven2021().pulse(v, r0, 1e-5), rel=PULSE_TARGET)


@pytest.mark.parametrize("v", [1.1, 1.2, 1.3, 1.39])
def test_stanford_reset_slides_along_the_threshold(v: float):
    model = StanfordPku()
    end = end_state("stanford_pku", lambda t: -v * np.minimum(1.0, t / 5e-4), 1e-3, 0.2e-9)
    expected = float(model.current(-v, model.sliding_gap(v)))
    assert float(model.current(-v, end)) == pytest.approx(expected, rel=SLIDING_TARGET)
