"""A file as the rest of cosim gets it: what was forgiven, and when it counts as another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import cosim
from cosim.devices.build import compile_model
from cosim.devices.ir import DeviceIR
from cosim.verilog.compile import compile_verilog
from tolerances import CLOSED_FORM, NGSPICE_EXACT
from verilog.host import module, write

LINES = """module m(p, n); inout p, n; electrical p, n;
parameter real g = 1m;
parameter string table = "beside.tbl";
analog begin
I(p, n) <+ g*$limit(V(p, n), "pnjlim", 1, 2);
$strobe("%g", V(p, n));
end
endmodule
"""


def test_what_was_left_out_is_noted_with_its_line(tmp_path: Path):
    path = write(tmp_path, LINES)
    expected = (
        f"{path}:5: $limit is taken as its first argument",
        f"{path}:6: $strobe is dropped: nothing is printed during a solve",
    )
    assert cosim.Device(path).notes == expected
    assert cosim.Device(path).notes == expected  # from the cache too
    write(tmp_path, "\n" + LINES)
    assert cosim.Device(path).notes[0] == f"{path}:6: $limit is taken as its first argument"


def test_a_note_is_no_part_of_the_model(tmp_path: Path):
    models = [compile_model(write(tmp_path / name, LINES)) for name in ("one", "two")]
    assert models[0].notes != models[1].notes
    assert models[0].digest == models[1].digest


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_operators_in_every_engine(tmp_path: Path, mode: str):
    """What another front end got wrong: ~, the slope of %, a case of voltages, texts."""
    body = (
        "case (1) V(p, n) > 0.5: i = 2*V(p, n); V(p, n) > 0: i = 3*V(p, n);\n"
        "default: i = ~k*V(p, n); endcase\n"
        'if (mode == "cubic") I(p, n) <+ 1m*pow(V(p, n), 3); else I(p, n) <+ 1m*(i + V(p, n) % 0.3);'
    )
    declarations = f'parameter string mode = "{mode}" from \'{{"linear", "cubic"}}; parameter integer k = 6;'
    device = cosim.Device(write(tmp_path, module(body, f"{declarations} real i;")))
    tile = cosim.Tile(device, shape=(1, 1))
    for volts, linear, slope in ((0.7, 1.4 + 0.1, 3.0), (0.2, 0.6 + 0.2, 4.0), (-1.0, 7.0 - 0.1, -6.0)):
        current, expected = (
            1e-3 * x for x in ((linear, slope) if mode == "linear" else (volts**3, 3 * volts**2))
        )
        found = device.current_and_slope(torch.tensor(volts, dtype=torch.float64), None)
        assert [float(x) for x in found] == pytest.approx([current, expected], rel=CLOSED_FORM)
        for engine in ("newton", "ngspice"):
            solved = float(cosim.solve(tile, [[volts]], engine=engine).currents)
            assert solved == pytest.approx(current, rel=NGSPICE_EXACT), engine


def source_digest(folder: Path, text: str) -> str:
    return compile_verilog(write(folder, text)).source_digest


def test_the_digest_is_of_what_the_source_says(tmp_path: Path):
    first = source_digest(tmp_path, LINES)
    assert source_digest(tmp_path, "// a comment\n" + LINES) == first
    assert source_digest(tmp_path, LINES.replace("g = 1m", "g = 2m")) != first
    assert (
        source_digest(tmp_path, LINES.replace("parameter real", '(* type="instance" *) parameter real'))
        != first
    )


@pytest.mark.parametrize("name", ["beside.tbl", "declarations.inc"])
def test_files_that_belong_to_a_model_are_read_again(tmp_path: Path, name: str):
    text = LINES.replace("analog begin", '`include "declarations.inc"\nanalog begin')
    write(tmp_path, "real x;", "declarations.inc")
    write(tmp_path, "0 1", "beside.tbl")

    def made() -> DeviceIR:
        return compile_model(write(tmp_path, text))

    first = made()
    assert made() is first
    write(tmp_path, "real y;", name)
    assert made().source_digest != first.source_digest
