"""Wrong, hung, killed, too old, missing ngspice: one clear error each. With fakes, then the real one."""

from __future__ import annotations

import pytest

from cosim.errors import ToolFailed, ToolNotFound
from cosim.spice.deck import (
    Current,
    Deck,
    Options,
    Resistor,
    Sweep,
    Transient,
    VoltageSource,
    Waveform,
    WaveformSource,
)
from cosim.spice.ngspice import find_ngspice, probe, run_deck
from spice.fake import KLU, fake_ngspice, writes

DIVIDER = Deck(
    title="divider",
    elements=(
        VoltageSource(name="V1", p="a", n="0", volt=1.0),
        Resistor(name="R1", p="a", n="0", ohm=4.0),
    ),
    analyses=(Sweep(source="V1", start=1.0, stop=2.0, step=1.0),),
    saves=(Current(source="V1"),),
)
NAMES = ["v(v-sweep)", "i(v1)"]
GOOD = [[1.0, -0.25], [2.0, -0.5]]

FAILURES = {
    "exit code": ("print('Error: bad card');sys.exit(1)", r"ended with exit code 1: Error: bad card"),
    "exit code without a word": ("sys.exit(9)", r"ended with exit code 9$"),
    "killed": ("os.kill(os.getpid(), 11)", r"ngspice was killed by signal SIGSEGV"),
    "hung": ("time.sleep(60)", r"still running after .* s and was killed: raise timeout, or split the batch"),
    "says nothing": (
        "",
        r"ngspice did not use KLU, it may be built without: install it with 'apt install ngspice'",
    ),
    "no KLU": (writes(NAMES, GOOD, klu=False), r"ngspice did not use KLU"),
    "no OSDI": (
        "print('osdi: no such command available in ngspice');sys.exit(1)",
        r"built without OSDI: install",
    ),
    "no raw file": (KLU, r"ngspice wrote no result.raw"),
    "not a raw file": (
        KLU + "open('result.raw', 'w').write('hello')",
        r"broken raw file: result.raw: not a whole",
    ),
    "truncated": (
        writes(NAMES, GOOD).replace(";print(", ";os.truncate('result.raw', 100);print("),
        r"broken raw file: result.raw: not a whole",
    ),
    "missing variable": (writes(NAMES[:1], [[1.0], [2.0]]), r"without \['i\(v1\)'\], with \[\]"),
    "other variable": (writes(["v(v-sweep)", "i(v2)"], GOOD), r"without \['i\(v1\)'\], with \['i\(v2\)'\]"),
    "other scale": (
        writes(["frequency", "i(v1)"], GOOD),
        r"wrote 'frequency' where the swept variable belongs",
    ),
    "missing point": (writes(NAMES, GOOD[:1]), r"ngspice wrote 1 points of 2"),
    "repeated index": (
        writes(NAMES, [GOOD[0], [1.0, -0.5]]),
        r"wrote 1 V as point 1 of the sweep, which is at 2 V",
    ),
    "indices out of order": (writes(NAMES, GOOD[::-1]), r"wrote 2 V as point 0 of the sweep, which is at 1"),
    "index between two": (writes(NAMES, [GOOD[0], [1.9, -0.5]]), r"wrote 1.9 V as point 1 of the sweep"),
    "index is NaN": (writes(NAMES, [GOOD[0], [float("nan"), -0.5]]), r"wrote nan V as point 1 of the sweep"),
    "too many points": (writes(NAMES, [*GOOD, [3.0, -0.75]]), r"ngspice wrote 3 points of 2"),
    "variable twice": (writes([*NAMES, NAMES[1]], [[*g, g[1]] for g in GOOD]), r"twice \['i\(v1\)'\]"),
    "time in a sweep": (
        writes(["time", "i(v1)"], GOOD),
        r"wrote 'time' where 'v\(v-sweep\)' belongs",
    ),
    "complex": (
        writes(NAMES, GOOD).replace("Flags: real", "Flags: complex").replace("Points: 2", "Points: 1"),
        r"ngspice wrote complex values in 'DC transfer characteristic'",
    ),
    "not converged, repeated index": (
        writes(NAMES, [GOOD[0], [1.0, -0.5]], code=3),
        r"wrote 1 V as point 1 of the sweep",
    ),
    "not converged, first point missing": (
        writes(NAMES, GOOD[1:], code=3),
        r"wrote 2 V as point 0 of the sweep",
    ),
    "not converged, a plot too many": (
        writes(NAMES, GOOD[:1], code=3).replace("wb').write(", "wb').write(2 * "),
        r"wrote more plots than analyses",
    ),
    "NaN": (writes(NAMES, [[1.0, float("nan")], [2.0, -0.5]]), r"answered values that are not finite"),
    "overflow": (writes(NAMES, [[1.0, -1e99], [2.0, -0.5]]), r"answered values that are not finite"),
    "error on stderr": (writes(NAMES, GOOD, says="Error: odd"), r"ngspice reported: Error: odd"),
    "ignored": (writes(NAMES, GOOD, says="model nch - ignored"), r"ngspice reported: model nch - ignored"),
    "library": (writes(NAMES, GOOD, says="x couldn't be loaded!"), r"reported: x couldn't be loaded"),
    "singular": (
        writes(NAMES, GOOD, says="Warning: singular matrix:  check node a"),
        r"met a singular matrix",
    ),
    "out of range": (
        writes(NAMES, [], code=3, says="Parameter x is out of bounds!"),
        r"reported: Parameter x is out of bounds!",
    ),
    "not converged": (writes(NAMES, GOOD[:1], code=3), r"found no solution for every point"),
}


PULSE = Deck(
    title="pulse",
    elements=(
        WaveformSource(name="V1", p="a", n="0", waveform=Waveform(seconds=(0.0, 2.0), volts=(0.0, 1.0))),
        Resistor(name="R1", p="a", n="0", ohm=4.0),
    ),
    analyses=(Transient(stop=2.0, step=1.0, max_step=1.0),),
    saves=(Current(source="V1"),),
)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 1.0, 1.0, 2.0], "ngspice wrote times that do not rise from 0"),
        ([0.0, 1.0, 0.5, 2.0], "ngspice wrote times that do not rise from 0"),
        ([0.5, 1.0, 2.0], "ngspice wrote times that do not rise from 0"),
        ([0.0, float("nan"), 2.0], "ngspice wrote times that do not rise from 0"),
        ([0.0, 0.4, 1.6, 2.0], r"ngspice wrote no times from 0\.4 to 1\.6 s, a gap longer than its step"),
        ([0.0, 1.0, 2.0, 3.0], r"ngspice wrote times beyond 2\.0 s"),
        ([0.0, 1.0], r"ngspice wrote no point at 2\.0 s: it stopped before, with 2 points"),
        ([], r"ngspice wrote no point at 2\.0 s: it stopped before, with 0 points"),
    ],
)
def test_times_that_cannot_be_are_not_believed(tmp_path, times, message):
    program = fake_ngspice(tmp_path, writes(["time", "i(v1)"], [[time, 0.0] for time in times]))
    with pytest.raises(ToolFailed, match=message):
        run_deck(PULSE, program=program)


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_has_its_message(tmp_path, name):
    code, message = FAILURES[name]
    with pytest.raises(ToolFailed, match=message):
        run_deck(DIVIDER, program=fake_ngspice(tmp_path, code), timeout=1.0 if name == "hung" else 60.0)


def test_the_log_is_attached(tmp_path):
    program = fake_ngspice(tmp_path, "print('on stdout');print('on stderr', file=sys.stderr);sys.exit(1)")
    with pytest.raises(ToolFailed) as caught:
        run_deck(DIVIDER, program=program)
    assert caught.value.log == "on stdout\n\non stderr"


def test_a_good_fake_is_believed(tmp_path):
    (plot,) = run_deck(DIVIDER, program=fake_ngspice(tmp_path, writes(NAMES, GOOD)))
    assert plot["i(v1)"].tolist() == [-0.25, -0.5]


def test_the_run_is_safe(tmp_path):
    """No init files, no input, the environment of the allow-list, our own spinit."""
    code = (
        "open('result.raw', 'w').write('');print(sys.argv[1:], sorted(os.listdir('.')),"
        " open('spinit').read(), os.environ['SPICE_SCRIPTS'], os.environ['OMP_NUM_THREADS'],"
        " sys.stdin.read());sys.exit(1)"
    )
    with pytest.raises(ToolFailed) as caught:
        run_deck(DIVIDER, program=fake_ngspice(tmp_path, code))
    assert caught.value.log == (
        "['-n', '-b', 'testbench.sp'] ['result.raw', 'spinit', 'testbench.sp'] set num_threads=1\n . 1"
    )


def test_missing():
    with pytest.raises(
        ToolNotFound, match=r"no-ngspice is not installed: .*apt install -t bookworm-backports"
    ):
        find_ngspice("no-ngspice")


def test_too_old(tmp_path):
    program = fake_ngspice(tmp_path, version="** ngspice-39 : Circuit level simulation program")
    with pytest.raises(ToolNotFound, match=r"is ngspice 39, too old: install it with 'apt install ngspice'"):
        find_ngspice(program)


def test_not_ngspice_at_all(tmp_path):
    with pytest.raises(ToolFailed, match="--version does not say which ngspice it is"):
        find_ngspice(fake_ngspice(tmp_path, version="hello"))


def test_probe_needs_osdi_and_klu(tmp_path):
    with pytest.raises(ToolFailed, match="built without OSDI"):
        probe(fake_ngspice(tmp_path, "print('osdi: no such command available in ngspice')"))
    with pytest.raises(ToolFailed, match="did not use KLU"):
        probe(fake_ngspice(tmp_path, ""))
    with pytest.raises(ToolFailed, match=r"gives \[-0.25\] A for 1 V over 2 ohm"):
        probe(fake_ngspice(tmp_path, writes(NAMES, GOOD[:1])))


# --- the real one -----------------------------------------------------------------------------------


def test_the_real_one_passes_the_probe():
    assert probe().version >= 42


def test_the_real_one_solves_and_keeps_the_order_of_points():
    (plot,) = run_deck(DIVIDER)
    assert plot["v(v-sweep)"].tolist() == [1.0, 2.0]
    assert plot["i(v1)"].tolist() == [-0.25, -0.5]


def test_the_real_one_follows_a_waveform_exactly():
    deck = Deck(
        title="waveform",
        elements=(
            WaveformSource(
                name="V1", p="a", n="0", waveform=Waveform(seconds=(0.0, 1e-6, 3e-6), volts=(0.0, 0.3, -0.1))
            ),
            Resistor(name="R1", p="a", n="0", ohm=0.5),
        ),
        analyses=(Transient(stop=3e-6, step=1e-7, max_step=1e-7),),
        saves=(Current(source="V1"),),
        options=Options(reltol=1e-6, vntol=1e-9, abstol=1e-12),
    )
    (plot,) = run_deck(deck)
    time, current = plot["time"], plot["i(v1)"]
    assert time[0] == 0.0
    assert time[-1] == pytest.approx(3e-6, rel=1e-12)
    expected = [0.3e6 * t if t <= 1e-6 else 0.3 - 0.2e6 * (t - 1e-6) for t in time]
    assert (-0.5 * current).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_real_one_is_killed_at_the_time_limit():
    elements = [VoltageSource(name="V1", p="n0", n="0", volt=1.0)]
    elements += [Resistor(name=f"R{k}", p=f"n{k}", n=f"n{k + 1}", ohm=1.0) for k in range(2000)]
    elements += [Resistor(name=f"Rg{k}", p=f"n{k + 1}", n="0", ohm=1.0) for k in range(2000)]
    deck = Deck(
        title="slow",
        elements=tuple(elements),
        analyses=(Sweep(source="V1", start=0.0, stop=1e6, step=1.0),),
        saves=(Current(source="V1"),),
    )
    with pytest.raises(ToolFailed, match=r"still running after 1.* s and was killed"):
        run_deck(deck, timeout=1.0)
