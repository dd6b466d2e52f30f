"""What is attempted next, from the results of jobs made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cosim.crossbar import Status
from cosim.errors import ToolNotFound
from cosim.jobs import JobResult
from cosim.spice.deck import Current, Options
from cosim.spice.retry import LADDER, Attempt, Findings
from spice.fake import raw_bytes

SAVES = (Current(source="Vsense0"),)


def result(*points: tuple[float, float], code: int = 0, says: str = "") -> JobResult:
    """A job that solved ``points`` (index, current), one plot for all of them."""
    raw = raw_bytes(["v(v-sweep)", "i(vsense0)"], [list(point) for point in points])
    return JobResult(returncode=code, stdout="Using KLU", stderr=says, files={"result.raw": raw}, seconds=1.0)


def findings(batch: int) -> Findings:
    return Findings((batch,), SAVES)


def test_every_vector_is_attempted_once_in_chunks():
    found = Findings((2, 5), SAVES)
    attempts = list(found.first(2))
    assert [(a.tile, a.vectors) for a in attempts] == [
        (tile, vectors) for tile in ((0,), (1,)) for vectors in ((0, 1), (2, 3), (4,))
    ]
    assert [a.vectors for a in found.first(None)] == [(0, 1, 2, 3, 4)] * 2


def test_a_sweep_that_stops_goes_on_behind_the_vector_that_failed():
    found = findings(5)
    (sweep,) = found.first(None)
    follow = found.take(sweep, result((0.0, 1.0), (1.0, 2.0), code=3))
    assert [(a.vectors, a.rung) for a in follow] == [((3, 4), 0), ((2,), 1)]
    assert found.status.tolist() == [0, 0, Status.NOT_CONVERGED, Status.NOT_RUN, Status.NOT_RUN]
    assert found.take(follow[0], result((0.0, 4.0), (1.0, 5.0))) == []
    assert found.take(follow[1], result((0.0, 3.0))) == []
    assert found.currents[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert found.rung.tolist() == [0, 0, 1, 0, 0]
    assert (found.jobs, found.seconds) == (3, 3.0)


def test_vectors_alone_climb_together_and_the_last_rung_ends_it():
    found = findings(3)
    attempt = Attempt(tile=(), vectors=(0, 1, 2), rung=1)
    (follow,) = found.take(attempt, result((1.0, 2.0), code=3))
    assert (follow.vectors, follow.rung) == ((0, 2), 2)
    last = Attempt(tile=(), vectors=(0, 2), rung=len(LADDER) - 1)
    assert found.take(last, result(code=3)) == []
    assert found.status.tolist() == [Status.NOT_CONVERGED, 0, Status.NOT_CONVERGED]
    assert np.isnan(found.currents[[0, 2]]).all()


def test_a_singular_matrix_counts_for_no_vector_until_each_is_alone():
    found = findings(3)
    (sweep,) = found.first(None)
    singular = result((0.0, 1.0), (1.0, 1.0), (2.0, 1.0), says="Warning: singular matrix:  check node x")
    follow = found.take(sweep, singular)
    assert [(a.vectors, a.rung) for a in follow] == [((0,), 0), ((1, 2), 0)]
    assert np.isnan(found.currents).all()
    (alone,) = found.take(follow[0], singular)
    assert (alone.vectors, alone.rung) == ((0,), 1)
    assert found.status[0] == Status.SINGULAR


def test_a_value_that_is_not_finite_is_final():
    found = findings(2)
    (sweep,) = found.first(None)
    assert found.take(sweep, result((0.0, math.nan), (1.0, 1.0))) == []
    assert found.status.tolist() == [Status.NOT_FINITE, Status.SOLVED]
    assert np.isnan(found.currents[0]).all()


def test_a_job_that_did_not_run_leaves_its_vectors_not_run():
    found = findings(2)
    (sweep,) = found.first(None)
    assert found.take(sweep, ToolNotFound("gone")) == []
    assert found.status.tolist() == [Status.NOT_RUN] * 2
    assert [str(error) for error in found.errors] == ["gone"]


@pytest.mark.parametrize("rung", range(len(LADDER)))
def test_points_of_the_sweeps_are_those_of_the_vectors(rung):
    volts = np.arange(12.0).reshape(4, 3)
    attempt = Attempt(tile=(), vectors=(1, 3), rung=rung)
    table = attempt.table(volts)
    ends = [sweep.stop for sweep in attempt.sweeps()]
    for point in ends if len(ends) > 1 else (0.0, 1.0):
        vector = attempt.vector_at(point)
        assert vector in attempt.vectors
        np.testing.assert_array_equal(table[int(point)], volts[vector])
    if attempt.form == "ramp":
        assert attempt.vector_at(0.0) is None
        assert attempt.vector_at(2.5) is None
        np.testing.assert_array_equal(table[0::2], 0.0)


def test_rungs_change_the_options_they_name():
    options = Options(reltol=1e-9, iterations=100)
    assert LADDER[0].options(options) == options
    assert LADDER[1].options(options).homotopy == "gmin"
    assert LADDER[-1].options(options).reltol == pytest.approx(1e-6)
