"""What a user may state about wires, and what the engines see of it."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from cosim.crossbar import Wires
from cosim.errors import SpecError
from cosim.wires import Segments
from solvers.cases import cells
from solvers.stand_in import Resistor, stand_in_tile
from tolerances import ROUNDING


def test_numbers_stay_numbers():
    wires = Wires(row=2, column=torch.tensor(3.0))
    assert repr(wires) == "Wires(row=2.0, column=3.0, source=2.0, sense=3.0)"
    assert wires == Wires(row=2.0, column=3.0, source=2.0, sense=3.0)
    assert hash(wires) == hash(copy.copy(wires))
    assert wires != Wires(row=2.0, column=3.0, source=1.0)
    assert wires != Wires(row=2.0, column=3.0, source_far=2.0)
    assert wires.uniform
    assert not wires.requires_grad


def test_tensors_compare_by_value():
    one, other = Wires(row=[1.0, 2.0]), Wires(row=torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Wires(row=[1.0, 3.0])
    assert one != Wires(row=1.0)
    assert repr(one) == "Wires(row=tensor(2), column=0.0, source=tensor(2), sense=0.0)"
    assert not one.uniform


@pytest.mark.parametrize(
    ("wires", "ideal"),
    [
        (Wires(), True),
        (Wires(row=[0.0, 0.0]), True),
        (Wires(source_far=5.0), True),  # it feeds a line that is at one voltage already
        (Wires(sense=1.0), False),
        (Wires(column=[0.0, 1.0]), False),
        (Wires(row=torch.tensor(0.0, requires_grad=True)), False),  # its gradient is not 0
    ],
)
def test_ideal(wires: Wires, ideal: bool):
    assert wires.ideal is ideal


def test_open_at_any_end():
    """A far end that is open everywhere is a far end that is not there."""
    assert Wires(row=2.0, source_far=math.inf) == Wires(row=2.0)
    wires = Wires(row=2.0, source=[math.inf, 1.0], source_far=[1.0, math.inf], sense=math.inf)
    segments = wires.spread(2, 3)
    assert segments.word[:, 0].tolist() == [math.inf, 1.0]
    assert segments.bit[-1].tolist() == [math.inf] * 3
    assert segments.word_far.tolist() == [1.0, math.inf]
    assert not Wires(sense=math.inf).ideal


def test_flows_beside_open_segments():
    """What an end or a segment in the line keeps out comes from the other side."""
    current = torch.tensor([[[1.0, 2.0, 4.0]]])
    for ohm, expected, far in (
        ([math.inf, 5.0, 5.0], [0.0, -1.0, -3.0], 7.0),
        ([3.0, 5.0, math.inf], [3.0, 2.0, 0.0], 4.0),
    ):
        line = Segments(
            word=torch.tensor([ohm]), bit=torch.zeros(1, 3), word_far=torch.tensor([1.0]), bit_far=None
        )
        flow, _, fed, _ = line.flows(current)
        assert flow[0, 0].tolist() == expected
        assert fed.item() == far


def test_one_per_line_and_one_per_segment():
    wires = Wires(row=[1.0, 2.0], column=[[3.0, 4.0, 5.0]], source=[6.0, 7.0], sense_far=[0.0, 8.0, 9.0])
    segments = wires.spread(2, 3)
    assert segments.word.tolist() == [[6.0, 1.0, 1.0], [7.0, 2.0, 2.0]]
    assert segments.bit.tolist() == [[3.0, 4.0, 5.0], [3.0, 4.0, 5.0]]
    assert segments.word_far is None
    assert segments.bit_far is not None
    assert segments.bit_far.tolist() == [0.0, 8.0, 9.0]


def test_ends_default_to_the_segment_next_to_them():
    wires = Wires(row=[[1.0, 2.0], [3.0, 4.0], [0.0, 9.0]], column=[[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]])
    segments = wires.spread(3, 3)
    assert segments.word[:, 0].tolist() == [1.0, 3.0, 0.0]
    assert segments.bit[-1].tolist() == [8.0, 9.0, 10.0]


def test_leading_axes_spread():
    segments = Wires(row=torch.ones(4, 1, 2, 1), column=2.0, source=torch.zeros(3, 2)).spread(2, 3)
    assert segments.word.shape == (4, 3, 2, 3)
    assert segments.bit.shape == (2, 3)


def test_gradients_reach_what_was_given():
    row = torch.tensor([1.0, 2.0], requires_grad=True)
    Wires(row=row).spread(2, 4).word.sum().backward()
    assert row.grad.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("resistances", "message"),
    [
        ({"row": -1.0}, "Wires.row is -1.0 ohm: it must be 0 or more; inf is open"),
        ({"sense_far": -math.inf}, "Wires.sense_far is -inf ohm: it must be 0 or more; inf is open"),
        ({"sense": math.nan}, "Wires.sense is nan ohm: it must be 0 or more; inf is open"),
        ({"row": [1.0, -math.inf]}, r"Wires.row\[1\] is -inf: every entry must be finite"),
        ({"row": None}, "Wires.row is None: it must be a resistance in ohm"),
        ({"column": "thick"}, "Wires.column is 'thick': it must be a resistance in ohm"),
        ({"source": [1.0, -2.0]}, r"Wires.source\[1\] is -2.0: it must be 0 or more"),
        ({"row": [1.0, float("nan")]}, r"Wires.row\[1\] is nan: every entry must be finite"),
        ({"row": torch.ones(3, 0)}, r"Wires.row of shape \(3, 0\) has no segment: give source= and sense="),
    ],
)
def test_bad_resistances_are_refused(resistances: dict, message: str):
    with pytest.raises(SpecError, match=message):
        Wires(**resistances)


@pytest.mark.parametrize(
    ("resistances", "message"),
    [
        ({"row": [1.0, 2.0]}, r"Wires.row of shape \(2,\) does not fit a 3x4 tile.*broadcast to 3x3"),
        ({"column": torch.ones(3, 4)}, r"Wires.column of shape \(3, 4\) does not fit a 3x4 tile.*2x4"),
        ({"sense": [1.0, 2.0]}, r"Wires.sense of shape \(2,\) does not fit.*broadcast to 4"),
        ({"source": torch.ones(2, 3)}, r"do not fit a tile of shape \(5, 3, 4\): leading axes \(2,\)"),
    ],
)
def test_wires_that_do_not_fit_are_refused(resistances: dict, message: str):
    with pytest.raises(SpecError, match=message):
        stand_in_tile(Resistor(), state=cells(5, 3, 4), wires=Wires(**resistances))


def test_flows_obey_kirchhoff():
    """Both ends of a line are at one voltage, and nodes keep no current."""
    wires = Wires(row=1.0, column=2.0, source=[3.0, 4.0], sense=0.5, source_far=6.0, sense_far=7.0)
    segments, current = wires.spread(2, 3), cells(5, 2, 3)
    word, bit, source_far, sense_far = segments.flows(current)
    torch.testing.assert_close(word[..., :-1] - word[..., 1:], current[..., :-1])
    torch.testing.assert_close(word[..., -1] + source_far, current[..., -1])
    torch.testing.assert_close(bit[..., 1:, :] - bit[..., :-1, :], current[..., 1:, :])
    torch.testing.assert_close(bit[..., 0, :] + sense_far, current[..., 0, :])
    along = segments.word_drop(word)[..., -1]
    torch.testing.assert_close(along, 6.0 * source_far)
    torch.testing.assert_close(segments.bit_drop(bit)[..., 0, :], 7.0 * sense_far)


def test_tiles_are_picked_with_their_wires():
    segments = Wires(row=torch.arange(4.0).reshape(2, 2, 1, 1), column=1.0).spread(2, 3).tiles((2, 2))
    assert segments.word.shape == (4, 2, 3)
    assert segments.bit.shape == (1, 2, 3)
    picked = segments.pick(slice(1, 3))
    assert picked.word[:, 0, 1].tolist() == [1.0, 2.0]
    assert isinstance(picked, Segments)
    assert len(picked.bit) == 1


def test_a_line_that_is_nearly_broken_leaves_each_side_to_its_own_end():
    """What the cells before the break draw through the far end is 1e-25 of it, and counts times 1e25 ohm."""
    segments = Wires(column=torch.tensor([[4e25], [0.0]]).double(), sense=8.0, sense_far=2.0).spread(3, 1)
    current = torch.tensor([[1e-13], [3e-12], [5e-12]], dtype=torch.float64)
    drop = segments.drop(current[None])[0]
    expected = torch.tensor([[2e-13], [6.4e-11], [6.4e-11]], dtype=torch.float64)
    torch.testing.assert_close(drop, expected, atol=0, rtol=ROUNDING)
