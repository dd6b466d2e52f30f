"""ngspice and its quirks, in one place: find it, run a deck safely, believe it only after checks.

ngspice ends with exit code 0 after many kinds of failure, so a result counts only if every check of
``read_result`` holds. It runs without any init file but ours, in an empty folder (see ``jobs``).
"""

from __future__ import annotations

import functools
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cosim.checks import as_path
from cosim.errors import ParseError, ToolFailed, ToolNotFound
from cosim.jobs import Job, JobResult, run_job
from cosim.spice.deck import (
    GROUND,
    Current,
    Deck,
    Resistor,
    Save,
    Sweep,
    Transient,
    VoltageSource,
)
from cosim.spice.dialects.ngspice import RESULT, TESTBENCH, save_name, write_deck
from cosim.spice.rawfile import Plot, parse_raw
from cosim.spice.rules import check_deck

__all__ = [
    "MINIMUM_VERSION",
    "Ngspice",
    "Reading",
    "find_ngspice",
    "make_job",
    "probe",
    "read_result",
    "run_deck",
]

MINIMUM_VERSION = 42  # the first that Debian and Ubuntu build with OSDI and KLU

INSTALL = (
    "install it with 'apt install ngspice' (Debian 12: 'apt install -t bookworm-backports ngspice' "
    f"after adding bookworm-backports); version {MINIMUM_VERSION} or newer is needed"
)

_SPINIT = b"set num_threads=1\n"
_NOT_CONVERGED = 3  # the exit code that our testbench asks for when an analysis fails
_TOO_LARGE = 1e50  # ngspice puts +-1e99 in place of an overflow
_SCALES = {Sweep: "v(v-sweep)", Transient: "time"}  # what ngspice calls the first variable of a plot
_OFF = 1e-3  # of a step: ngspice adds steps up, which rounds, and no point may pass for another
_LAST = 1e-9  # of the last time, within which times are the same

# ngspice says these and goes on, often to exit code 0
_BAD = re.compile(
    r"\berror|\bignored\b|couldn't be loaded|could not be loaded|too small|"
    r"out of bounds|unknown parameter|unrecognized parameter|can't find|no such|unable to find",
    re.IGNORECASE,
)
# what an operating point that is not found says; all of it is in the missing points already
_NO_CONVERGENCE = re.compile(
    r"Error: The operating point could not be simulated|Error during 'write': no writable vector found|"
    r"Error: no such vector|timestep too small",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Ngspice:
    """An installed ngspice of a version that will do."""

    path: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The plots of a run that passed the checks.

    converged: False if points are missing. singular: a matrix was, so that no point counts.
    """

    plots: tuple[Plot, ...]
    converged: bool
    singular: bool = False
    log: str
    seconds: float


def find_ngspice(program: str = "ngspice") -> Ngspice:
    """The ngspice on PATH (or at the path ``program``); ToolNotFound if missing or too old."""
    path = shutil.which(as_path(program, "program"))
    if path is None:
        raise ToolNotFound(f"{program} is not installed: {INSTALL}")
    path = str(Path(path).absolute())
    return _version(path, Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _version(path: str, mtime_ns: int) -> Ngspice:
    result = run_job(Job(argv=(path, "--version"), timeout=30.0))
    found = re.search(r"ngspice-(\d+)", result.stdout)
    if found is None:
        raise ToolFailed(f"{path} --version does not say which ngspice it is", log=_log(result))
    version = int(found[1])
    if version < MINIMUM_VERSION:
        raise ToolNotFound(f"{path} is ngspice {version}, too old: {INSTALL}")
    return Ngspice(path=path, version=version)


def make_job(deck: Deck, libraries: Mapping[str, bytes], *, program: Ngspice, timeout: float) -> Job:
    """The job that runs ``deck`` after its rule check. libraries: name in the deck -> the .osdi's bytes.

    Loading an .osdi runs native code: it is as trusted as the .va that it was compiled from.
    """
    check_deck(deck)
    files = {name: text.encode("ascii") for name, text in write_deck(deck).items()}
    files["spinit"] = _SPINIT
    for name in deck.libraries:
        files[name] = libraries[name]
    return Job(
        argv=(program.path, "-n", "-b", TESTBENCH),
        files=files,
        environment={"SPICE_SCRIPTS": ".", "OMP_NUM_THREADS": "1"},
        outputs=(RESULT,),
        timeout=timeout,
    )


def probe(program: str = "ngspice") -> Ngspice:
    """``find_ngspice``, and a run that shows that OSDI and KLU are built in; ToolFailed if not."""
    found = find_ngspice(program)
    deck = Deck(
        title="probe",
        libraries=("probe.osdi",),
        elements=(
            VoltageSource(name="V1", p="a", n=GROUND, volt=1.0),
            Resistor(name="R1", p="a", n=GROUND, ohm=2.0),
        ),
        analyses=(Sweep(source="V1", start=1.0, stop=1.0, step=1.0),),
        saves=(Current(source="V1"),),
    )
    result = run_job(make_job(deck, {"probe.osdi": b""}, program=found, timeout=60.0))
    if "osdi: no such command" not in result.stderr and "couldn't be loaded" in result.stderr:
        # it tried to load the empty library, as it should; nothing else may be wrong
        lines = [line for line in result.stderr.splitlines() if "osdi" not in line]
        result = replace(result, stderr="\n".join(lines))
    (plot,) = read_result(result, deck.analyses, deck.saves).plots
    if plot["i(v1)"].tolist() != [-0.5]:
        raise ToolFailed(f"{found.path} gives {plot['i(v1)']} A for 1 V over 2 ohm", log=_log(result))
    return found


def run_deck(
    deck: Deck,
    libraries: Mapping[str, bytes] | None = None,
    *,
    program: str = "ngspice",
    timeout: float = 600.0,
) -> tuple[Plot, ...]:
    """Run ``deck`` here and now: one plot per analysis, all complete and finite, or ToolFailed."""
    result = run_job(make_job(deck, libraries or {}, program=find_ngspice(program), timeout=timeout))
    reading = read_result(result, deck.analyses, deck.saves)
    if reading.singular:
        raise ToolFailed("ngspice met a singular matrix: a node may float at this bias", log=reading.log)
    if not reading.converged:
        raise ToolFailed("ngspice found no solution for every point of the analysis", log=reading.log)
    for plot in reading.plots:
        if not usable(plot.values).all():
            raise ToolFailed(f"ngspice answered values that are not finite in {plot.name!r}", log=reading.log)
    return reading.plots


def usable(values: np.ndarray) -> np.ndarray:
    """``(points,)`` True where every variable of ``values (points, variables)`` is a believable number."""
    return np.all(np.isfinite(values) & (np.abs(np.nan_to_num(values)) < _TOO_LARGE), axis=-1)


def read_result(result: JobResult, analyses: Sequence[Sweep | Transient], saves: Sequence[Save]) -> Reading:
    """The plots of a finished run; ToolFailed, with reason and log, unless all checks hold.

    Exit code 0, no alarming line, KLU in use, exactly the saved variables, and every point where its
    analysis puts it. A run that only did not converge is no failure: its plots hold the points found.
    One with a singular matrix has no plots: ngspice does not say which points it spoils.
    """
    log = _log(result)
    if result.timed_out:
        raise ToolFailed(
            f"ngspice was still running after {result.seconds:.3g} s and was killed: "
            "raise timeout, or split the batch",
            log=log,
        )
    if result.returncode < 0:
        raise ToolFailed(f"ngspice was killed by {_signal(-result.returncode)}", log=log)
    if "osdi: no such command" in log:
        raise ToolFailed(f"this ngspice is built without OSDI: {INSTALL}", log=log)
    if result.returncode not in (0, _NOT_CONVERGED):
        raise ToolFailed(f"ngspice ended with exit code {result.returncode}{_complaint(log)}", log=log)
    if "singular matrix" in log.lower():
        return Reading(plots=(), converged=False, singular=True, log=log, seconds=result.seconds)
    converged = result.returncode == 0
    alarm = _alarm(log, converged=converged)
    if alarm:
        raise ToolFailed(f"ngspice reported: {alarm}", log=log)
    if "Using KLU" not in log:
        raise ToolFailed(f"ngspice did not use KLU, it may be built without: {INSTALL}", log=log)
    plots = _plots(result, log) if converged or RESULT in result.files else ()
    _check_plots(plots, analyses, saves, log, converged=converged)
    return Reading(plots=plots, converged=converged, log=log, seconds=result.seconds)


def _plots(result: JobResult, log: str) -> tuple[Plot, ...]:
    if RESULT not in result.files:
        raise ToolFailed(f"ngspice wrote no {RESULT}{_complaint(log)}", log=log)
    try:
        return parse_raw(result.files[RESULT], path=RESULT)
    except ParseError as error:
        raise ToolFailed(f"ngspice wrote a broken raw file: {error}", log=log) from error


def _check_plots(
    plots: tuple[Plot, ...],
    analyses: Sequence[Sweep | Transient],
    saves: Sequence[Save],
    log: str,
    *,
    converged: bool,
) -> None:
    """The variables of every plot, and its points: all of its analysis, or the first if not converged."""
    expected = {save_name(save) for save in saves}
    for plot in plots:
        scale, *names = plot.names or ("",)
        if scale not in _SCALES.values():
            raise ToolFailed(f"ngspice wrote {scale!r} where the swept variable belongs", log=log)
        if np.iscomplexobj(plot.values):
            raise ToolFailed(f"ngspice wrote complex values in {plot.name!r}", log=log)
        if set(names) != expected or len(names) != len(expected):
            missing, extra = sorted(expected - set(names)), sorted(set(names) - expected)
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ToolFailed(
                f"ngspice wrote other variables: without {missing}, with {extra}, twice {twice}", log=log
            )
    if converged and len(plots) != len(analyses):
        raise ToolFailed(f"ngspice wrote {len(plots)} plots for {len(analyses)} analyses", log=log)
    left = iter(analyses)
    for plot in plots:
        wrong = "more plots than analyses"
        for analysis in left:
            wrong = _wrong_points(plot, analysis, converged=converged)
            if not wrong or converged:
                break  # else: that analysis found no point, and wrote no plot
        if wrong:
            raise ToolFailed(f"ngspice wrote {wrong}", log=log)


def _wrong_points(plot: Plot, analysis: Sweep | Transient, *, converged: bool) -> str:
    """What is wrong with the points of ``plot``, in words; "" if they are those of ``analysis``."""
    name, *_ = plot.names
    found = plot.values[:, 0]
    if name != _SCALES[type(analysis)]:
        return f"{name!r} where {_SCALES[type(analysis)]!r} belongs"
    if isinstance(analysis, Transient):
        if not (np.isfinite(found).all() and (np.diff(found) > 0).all() and (found[:1] == 0).all()):
            return "times that do not rise from 0"
        if not (found[-1:] <= analysis.stop * (1 + _LAST)).all():
            return f"times beyond {analysis.stop} s"
        if (np.diff(found) > analysis.max_step + _LAST * analysis.stop).any():
            k = int(np.diff(found).argmax())
            return f"no times from {found[k]:g} to {found[k + 1]:g} s, a gap longer than its step"
        if converged and not (found[-1:] >= analysis.stop * (1 - _LAST)).any():
            return f"no point at {analysis.stop} s: it stopped before, with {len(found)} points"
        return ""
    if len(found) > analysis.points or (converged and len(found) != analysis.points):
        return f"{len(found)} points of {analysis.points}"
    wanted = analysis.start + analysis.step * np.arange(len(found))
    fits = np.abs(found - wanted) <= _OFF * analysis.step
    if not fits.all():
        k = int(fits.argmin())
        return f"{found[k]:g} V as point {k} of the sweep, which is at {wanted[k]:g} V"
    return ""


def _alarm(log: str, *, converged: bool) -> str | None:
    """The first line of the log that no good run has; None without one."""
    for line in log.splitlines():
        if _BAD.search(line) and (converged or not _NO_CONVERGENCE.search(line)):
            return line.strip()[:300]
    return None


def _complaint(log: str) -> str:
    line = _alarm(log, converged=True)
    return f": {line}" if line else ""


def _log(result: JobResult) -> str:
    return f"{result.stdout}\n{result.stderr}".strip()


def _signal(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
