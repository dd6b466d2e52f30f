"""A file as the rest of cosim gets it: what was forgiven, and when it counts as another model."""

from __future__ import annotations

from pathlib import Path

import pytest

import cosim
from cosim.devices.build import compile_model
from cosim.devices.ir import DeviceIR
from cosim.verilog.compile import compile_verilog
from verilog.host import write

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
