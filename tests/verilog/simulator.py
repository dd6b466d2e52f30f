"""A model compiled by cosim.verilog in ngspice: decks written by hand, so that every analysis is possible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosim.devices.build import build
from cosim.devices.ir import DeviceIR
from cosim.devices.osdi_names import osdi_name
from cosim.devices.print_c import print_c
from cosim.jobs import Job, JobResult, run_job
from cosim.spice.ngspice import find_ngspice
from cosim.spice.rawfile import Plot, parse_raw


def run(
    ir: DeviceIR, deck: str, control: str, *, instance: Sequence[str] = (), beside: Path | None = None
) -> JobResult:
    """ngspice on ``deck``; its model is called dev, and ``control`` runs the analyses and writes out.raw.

    beside: a second library, whose models the deck names.
    """
    library = build(print_c(ir, instance), ir.name).read_bytes()
    files = {"model.osdi": library, "spinit": b"set num_threads=1\n"}
    if beside is not None:
        files["beside.osdi"] = beside.read_bytes()
    loads = "".join(f"pre_osdi {name}\n" for name in files if name.endswith(".osdi"))
    text = (
        f"* test\n{deck}\n.model dev {osdi_name(ir.name)}\n.options reltol=1e-6 abstol=1e-15 vntol=1e-9\n"
        f".control\n{loads}set filetype=binary\n{control}\nwrite out.raw all\nquit 0\n"
        ".endc\n.end\n"
    )
    job = Job(
        argv=(find_ngspice().path, "-n", "-b", "deck.cir"),
        files={"deck.cir": text.encode(), **files},
        environment={"SPICE_SCRIPTS": ".", "OMP_NUM_THREADS": "1"},
        outputs=("out.raw",),
        timeout=60.0,
    )
    return run_job(job)


def plot(ir: DeviceIR, deck: str, control: str, *, instance: Sequence[str] = ()) -> Plot:
    """The one plot that ``control`` leaves."""
    result = run(ir, deck, control, instance=instance)
    assert "out.raw" in result.files, result.stdout + result.stderr
    (found,) = parse_raw(result.files["out.raw"])
    return found
