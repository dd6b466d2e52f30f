"""The longer OSDI descriptor: VACASK loads our models, and answers what ngspice and torch answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cosim import Device
from cosim.devices.build import build
from cosim.devices.osdi_names import osdi_name
from cosim.devices.print_c import print_c
from cosim.devices.print_descriptor import Layout
from cosim.spice.rawfile import Plot, parse_raw
from devices.osdi_host import OsdiDevice
from tolerances import VACASK
from verilog.judge import program

VOLTS = (-0.4, 0.1, 0.7)
DECK = """one cell
load "model.osdi"
model vsource vsource
model cell {module} {card}
v1 (p 0) vsource dc=[{volts}][k]
n1 (p 0) cell {instance}
control
  abort always
  options reltol=1e-10 abstol=1e-16 vntol=1e-12
  save i(v1)
  var k=0
  sweep k variable="k" values=range(0,{count})
  analysis dc1 op
endc
"""


def library(device: Device, layout: Layout) -> Path:
    instance = {str(device.state_parameter)}
    return build(print_c(device.ir, instance, layout=layout), device.name)


def vacask(folder: Path, deck: str) -> Plot:
    """The vectors that VACASK writes for ``deck``, in an empty folder of its own."""
    (folder / "deck.sim").write_text(deck)
    (folder / "empty.toml").write_text("")
    command = [program("vacask"), "-qp", "-sp", "-se", "--tomlfile", "empty.toml", "deck.sim"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (plot,) = parse_raw((folder / "dc1.raw").read_bytes())
    return plot


@pytest.mark.parametrize("name", ["vteam", "stanford_pku", "data_driven"])
@pytest.mark.parametrize("place", ["card", "instance"])
def test_vacask_reads_what_torch_computes(name: str, place: str, tmp_path: Path):
    """The state is an instance parameter: on the instance, or on the card for all of them."""
    device = Device(name)
    low, high = device.state_range
    state = low + 0.6 * (high - low)
    (tmp_path / "model.osdi").write_bytes(library(device, "0.5").read_bytes())
    places = {"card": "", "instance": ""} | {place: f"{device.state_parameter}={state!r}"}
    volts = ",".join(map(repr, VOLTS))
    deck = DECK.format(module=osdi_name(device.name), volts=volts, count=len(VOLTS), **places)
    found = -vacask(tmp_path, deck)["v1:flow(br)"]
    expected = device.current(np.array(VOLTS), state).numpy()
    assert np.allclose(np.real(found), expected, rtol=VACASK, atol=0)


def test_both_layouts_hold_the_same_equations():
    device = Device("vteam")
    plain = OsdiDevice(library(device, "0.3"), {"x_init": 0.3})
    other = OsdiDevice(library(device, "0.5"), {"x_init": 0.3})
    (a, _), (b, _) = (each.evaluate([0.4, 0.0, 0.1]) for each in (plain, other))
    assert np.array_equal(a.resist, b.resist)
    assert np.array_equal(a.jacobian_resist, b.jacobian_resist)
