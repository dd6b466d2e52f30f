"""Devices under a waveform: ngspice against torch, two integrators over the one Verilog-A source."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import cosim
from cosim.devices.start import tracked_node
from cosim.errors import SpecError, ToolFailed
from spice.fake import KLU, fake_ngspice, writes
from tolerances import TRANSIENT, TRANSIENT_REFINED

# model: amplitude (V), frequency (Hz), start (a part of the state range)
LOOPS = {
    "vteam": (1.0, 50e6, 0.3),
    "stanford_pku": (1.5, 1e6, 0.5),
    "data_driven": (0.8, 1e3, 0.5),
    "data_driven_2021": (1.0, 1e3, 0.5),
    "linear_ion_drift": (1.0, 1.0, 0.3),
}
SAMPLES = 201


def wave(amplitude):
    return amplitude * torch.sin(2 * math.pi * torch.linspace(0.0, 1.0, SAMPLES, dtype=torch.float64))


def far(a, b, span):
    return float((a - b).abs().max()) / span


@pytest.mark.parametrize("model", LOOPS)
def test_hysteresis_loop(model):
    amplitude, frequency, part = LOOPS[model]
    device = cosim.Device(model)
    low, high = device.state_range
    dt, start = 1 / frequency / (SAMPLES - 1), low + part * (high - low)
    here = device.simulate(wave(amplitude), dt, state=start, engine="ngspice")
    torched = device.simulate(wave(amplitude), dt, state=start)
    assert here.time.tolist() == pytest.approx(torched.time.tolist())
    peak = float(torched.current.abs().max())
    assert far(here.current, torched.current, peak) < TRANSIENT
    assert far(here.state, torched.state, high - low) < TRANSIENT
    assert far(torched.state, torched.state[0], high - low) > 0.01  # it is a loop: the state moves
    refined = device.simulate(wave(amplitude), dt, state=start, engine="ngspice", max_step=dt / 8)
    assert refined.stats["points"] > here.stats["points"]
    assert far(refined.current, torched.current, peak) < TRANSIENT_REFINED


def test_sign_first_sample_and_cells():
    device = cosim.Device("vteam", r_on=torch.tensor([50.0, 100.0], dtype=torch.float64))
    trace = device.simulate([0.01, 0.01, 0.01], 1e-9, state=[0.0, 1.0], engine="ngspice")
    assert trace.current.shape == trace.state.shape == trace.voltage.shape == (3, 2)
    # below both thresholds: the state rests, and ohm's law holds with the sign of the voltage
    np.testing.assert_allclose(trace.current, np.broadcast_to([0.01 / 50, 0.01 / 1000], (3, 2)), rtol=1e-9)
    np.testing.assert_allclose(trace.state, np.broadcast_to([0.0, 1.0], (3, 2)), atol=1e-9)


def test_the_state_node_of_a_catalogue_model_is_known():
    assert tracked_node(cosim.Device("vteam")) == "y"


def test_errors(tmp_path):
    device = cosim.Device("vteam")
    with pytest.raises(
        SpecError, match="max_step is 2.0: it must be a finite number, above 0 and at most 1.0"
    ):
        device.simulate([0.0, 0.1], 1.0, state=0.5, engine="ngspice", max_step=2.0)
    with pytest.raises(SpecError, match="engine 'ngspice' has no option 'rtol'; it has: reltol, max_step"):
        device.simulate([0.0, 0.1], 1.0, state=0.5, engine="ngspice", rtol=1e-3)
    stuck = fake_ngspice(tmp_path, f"{KLU}print('doAnalyses: TRAN:  Timestep too small');sys.exit(3)")
    with pytest.raises(
        ToolFailed, match="ngspice did not get through the waveform with vteam: sample it more"
    ):
        device.simulate([0.0, 0.1], 1.0, state=0.5, engine="ngspice", program=stuck)


def test_a_sample_without_a_time_point_is_not_interpolated(tmp_path):
    """Points are missing although the largest step is kept: the peak at 1 s has none."""
    names, times = ["time", "v(n1#y)", "v(p)", "i(vdrive)"], [0.0, 0.9, 1.8, 2.5]
    program = fake_ngspice(tmp_path, writes(names, [[time, 0.0, 0.0, 0.0] for time in times]))
    with pytest.raises(ToolFailed, match=r"ngspice wrote no point at 1 s, where the waveform has a sample"):
        cosim.Device("vteam").simulate(
            [0.0, 0.1, 0.0, 0.0], time=[0.0, 1.0, 1.8, 2.5], state=0.5, engine="ngspice", program=program
        )
