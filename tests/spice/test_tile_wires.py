"""Wires with a resistance per segment and with far ends: the deck through ngspice against nodal analysis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import cosim
from cosim.errors import SpecError
from cosim.spice.deck import Resistor
from cosim.spice.tile import lower_tile, solve_tile
from reference.nodal import dense_currents
from reference.star_mesh import star_mesh_transfer
from solvers.cases import distance, inputs, ohms, segments
from tolerances import NGSPICE_LINEAR


@pytest.fixture(scope="module")
def device():
    return cosim.Device("vteam", r_on=10e3, r_off=1e6)


def states(*shape):
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 1, shape))


@pytest.mark.parametrize("far", ["", "source", "sense", "source sense"])
@pytest.mark.parametrize("zeros", [0.0, 0.4, 0.8])
def test_a_resistance_for_every_segment(device, zeros: float, far: str):
    wires = segments(4, 6, zeros=zeros, far=far)
    tile, v = cosim.Tile(device, state=states(4, 6), wires=wires), inputs(2, 4)
    truth = dense_currents(tile.conductance, v, **ohms(wires))
    assert distance(solve_tile(tile, v).currents, truth) < NGSPICE_LINEAR


@pytest.mark.parametrize("far", [0.0, 8.0])
@pytest.mark.parametrize("near", [0.0, 5.0])
@pytest.mark.parametrize("segment", [0.0, 2.0])
def test_far_ends_given_as_numbers(device, segment: float, near: float, far: float):
    ends = {"source": near, "sense": near, "source_far": far, "sense_far": far}
    wires = cosim.Wires(row=segment, column=segment, **ends)
    tile, v = cosim.Tile(device, state=states(3, 4), wires=wires), inputs(2, 3)
    truth = dense_currents(tile.conductance, v, **ohms(wires))
    assert distance(solve_tile(tile, v).currents, truth) < NGSPICE_LINEAR
    assert distance(cosim.solve(tile, v, engine="linear").currents, truth) < NGSPICE_LINEAR


def test_tiles_have_the_wires_of_their_index(device):
    wires = segments(3, 4, 2, far="sense")
    tile, v = cosim.Tile(device, state=states(2, 3, 4), wires=wires), inputs(2, 3)
    expected = cosim.solve(tile, v, engine="linear").currents
    assert distance(solve_tile(tile, v).currents, expected) < NGSPICE_LINEAR


def test_numbers_are_parameters_and_tensors_literals(device):
    wires = cosim.Wires(row=2.0, column=torch.tensor([[3.0, 4.0]]), source=0.0, sense=5.0, source_far=6.0)
    subcircuit = lower_tile(cosim.Tile(device, state=states(2, 2), wires=wires)).subcircuit
    assert dict(subcircuit.parameters) == {"row": 2.0, "sense": 5.0, "source_far": 6.0}
    resistors = {e.name: (e.p, e.n, e.ohm) for e in subcircuit.elements if isinstance(e, Resistor)}
    assert resistors == {
        "Rw0_0": ("r0", "w0_1", "row"),
        "Rsourcefar0": ("w0_1", "r0", "source_far"),
        "Rb0_0": ("b0_0", "b1_0", 3.0),
        "Rb0_1": ("b0_1", "b1_1", 4.0),
        "Rw1_0": ("r1", "w1_1", "row"),
        "Rsourcefar1": ("w1_1", "r1", "source_far"),
        "Rsense0": ("b1_0", "c0", "sense"),
        "Rsense1": ("b1_1", "c1", "sense"),
    }


OPEN = math.inf
OPEN_ENDS = [
    {"sense": OPEN, "sense_far": 2.0},
    {"source": [OPEN, 1.0, OPEN, 1.0], "source_far": [1.0, OPEN, 1.0, OPEN]},
    {"source": [OPEN, 1.0, 1.0, 1.0], "sense": [OPEN, 1.0, 1.0]},  # both lines float
    {"row": [[2.0, 2.0], [2.0, OPEN], [OPEN, 2.0], [2.0, 2.0]], "source": 1.0},
    {"sense": 1e18, "sense_far": 1e18},
    {"source": OPEN, "source_far": 2.0, "sense": OPEN, "sense_far": 2.0},
]


@pytest.mark.parametrize("ends", OPEN_ENDS)
def test_open_lines(device, ends: dict):
    """An open segment is no resistor; a line that only its cells hold is solved all the same."""
    tile = cosim.Tile(device, state=states(4, 3), wires=cosim.Wires(**{"row": 2.0, "column": 3.0} | ends))
    v = inputs(2, 4)
    truth = v.numpy() @ star_mesh_transfer(tile.conductance, **ohms(tile.wires)).astype(float)
    assert distance(solve_tile(tile, v).currents, truth) < NGSPICE_LINEAR
    assert distance(cosim.solve(tile, v, engine="linear").currents, truth) < NGSPICE_LINEAR
    resistors = [e for e in lower_tile(tile).subcircuit.elements if isinstance(e, Resistor)]
    assert OPEN not in [e.ohm for e in resistors] + [x for _, x in lower_tile(tile).subcircuit.parameters]


def test_a_tile_that_no_driver_and_no_sense_node_reaches_is_refused(device):
    tile = cosim.Tile(
        device, state=states(2, 2), wires=cosim.Wires(row=1.0, column=1.0, source=OPEN, sense=OPEN)
    )
    with pytest.raises(SpecError, match=r"island of nodes b0_0.* has no DC path to ground: connect it"):
        solve_tile(tile, inputs(1, 2))
