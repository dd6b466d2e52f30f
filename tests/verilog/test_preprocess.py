"""The preprocessor: what text becomes tokens, which files are read, what macros expand to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosim.errors import CosimError, ParseError
from cosim.verilog.compile import compile_verilog
from cosim.verilog.preprocess import preprocess
from cosim.verilog.tokens import tokenize
from verilog.host import current_of, module, write

# --- tokens ------------------------------------------------------------------------------------


@given(
    st.text(
        alphabet=st.sampled_from(list("aZ_09.eE+-*/\\\n\r\t \"'`$(){}[]<>=!&|^~?:;,@#é\x00")), max_size=80
    )
)
def test_tokens_lose_nothing(text: str):
    tokens = tokenize(text, "f")
    assert "".join(token.text for token in tokens) == text
    assert all(token.text for token in tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1.5e-3+1k-2.M", ["1.5e-3", "+", "1k", "-", "2.M"]),
        ("a<+b<=c<<d", ["a", "<+", "b", "<=", "c", "<<", "d"]),
        ('(* desc="a*)b" *)x', ["(*", "desc", "=", '"a*)b"', "*)", "x"]),
        ("$simparam$str `define \\x+y z", ["$simparam$str", "`define", "\\x+y", "z"]),
        ("a/*b\n*/c//d\ne", ["a", "c", "e"]),
        ("1meg", ["1", "meg"]),
    ],
)
def test_tokens(text: str, tokens: list[str]):
    assert [token.text for token in tokenize(text, "f") if not token.is_trivia] == tokens


def test_tokens_know_line_and_column():
    tokens = [t for t in tokenize("a /* x\n */ b\r\n  c\\\n\td", "f") if not t.is_trivia]
    assert [(t.text, t.line, t.column) for t in tokens][:3] == [("a", 1, 1), ("b", 2, 5), ("c", 3, 3)]


# --- files, includes, macros -------------------------------------------------------------------


def test_files_that_are_no_model(tmp_path: Path):
    with pytest.raises(ParseError, match=r"cannot read .*none\.va: no such file"):
        compile_verilog(tmp_path / "none.va")
    with pytest.raises(ParseError, match="is a folder, not a file"):
        compile_verilog(tmp_path)
    for text in ("", "\n\n", "// only a comment\n", '`include "disciplines.vams"\n'):
        with pytest.raises(ParseError, match="no module in this file"):
            compile_verilog(write(tmp_path, text))
    path = tmp_path / "binary.va"
    path.write_bytes(b"\x7fELF\0\0")
    with pytest.raises(ParseError, match="not a text file"):
        compile_verilog(path)


def test_tokens_know_the_file_that_they_come_from(tmp_path: Path):
    write(tmp_path, 'real x;\n`include "deep/more.inc"\n', "inc/vars.inc")
    write(tmp_path, "real\n  y;\n", "inc/deep/more.inc")
    path = write(tmp_path, module("x = 1; y = 2;\nI(p, n) <+ x*y;", '`include "inc/vars.inc"'))
    places = {token.text: (token.file, token.line) for token in reversed(preprocess(path))}
    assert places["x"] == (str(tmp_path / "inc/vars.inc"), 1)
    assert places["y"] == (str(tmp_path / "inc/deep/more.inc"), 2)
    assert places["analog"] == (str(path), 5)
    assert current_of(tmp_path, path.read_text()) == 2.0


def test_include_errors(tmp_path: Path):
    with pytest.raises(ParseError, match=r"m\.va:4: cannot read .*gone\.inc: no such file"):
        compile_verilog(write(tmp_path, module(declarations='`include "gone.inc"')))
    write(tmp_path, '`include "b.inc"\n', "a.inc")
    write(tmp_path, '\n`include "a.inc"\n', "b.inc")
    with pytest.raises(ParseError, match=r'b\.inc:2: `include "a\.inc" includes itself'):
        compile_verilog(write(tmp_path, module(declarations='`include "a.inc"')))
    with pytest.raises(ParseError, match=r"m\.va:4: `include needs a file name"):
        compile_verilog(write(tmp_path, module(declarations="`include file")))


@pytest.mark.parametrize(
    "head",
    [
        "",  # forgotten
        '`include "disciplines.h"\n`include "constants.h"\n',
        '`include "discipline.h"\n`include "constant.vams"\n',
        "`include <disciplines.vams>\n`include <constants.vams>\n",
        '`include "Disciplines.vams";\n`include "lib/constants.va";\n',
        '`ifndef DISCIPLINES_VAMS\n`include "disciplines.vams"\n`endif\n`timescale 1ns/1ps\n',
        '// \n`resetall\n`default_discipline electrical\n`begin_keywords "VAMS-2.3"\n',
    ],
)
def test_standard_headers_in_every_spelling(tmp_path: Path, head: str):
    text = head + module("I(p, n) <+ `M_PI*V(p, n);").split("\n", 1)[1]
    assert current_of(tmp_path, text) == pytest.approx(1.5707963267948966, abs=1e-15)


def test_standard_header_inside_a_module(tmp_path: Path):
    text = module("I(p, n) <+ `P_CELSIUS0;", '`include "constants.vams"')
    assert current_of(tmp_path, text) == 273.15


@pytest.mark.parametrize(
    ("declarations", "body", "expected"),
    [
        ("`define F(a, b) ((a)*(b)) // product", "I(p, n) <+ `F(3, (1 + 1));", 6),
        ("`define G 3\n`define F(a) a + \\\n  `G", "I(p, n) <+ `F(2);", 5),
        ("`define F (3)", "I(p, n) <+ `F;", 3),
        ("`define F(a) a\n", "I(p, n) <+ `F(`F(4));", 4),
        ("`define A\n`ifdef A\n`define B 1\n`else\n`define B 2\n`endif", "I(p, n) <+ `B;", 1),
        (
            "`ifdef A\n`define B 1\n`elsif __OPENVAF__\n`define B 2\n`else\n`define B 3\n`endif",
            "I(p, n) <+ `B;",
            2,
        ),
        ("`define A 1\n`undef A\n`ifndef A\n`define A 7\n`endif", "I(p, n) <+ `A;", 7),
        ("`define M_PI 3", "I(p, n) <+ `M_PI;", 3),
        ("`ifdef NEVER\nreal x[0:3]; \" ' transition(\n`endif", "I(p, n) <+ 1;", 1),
        ("`define F(x) x = 4; \\\n", "begin : b real q; `F(q) I(p, n) <+ q; end", 4),
    ],
)
def test_macros(tmp_path: Path, declarations: str, body: str, expected: float):
    assert current_of(tmp_path, module(body, declarations)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(p, n) <+ `NONE;", r"m\.va:6: macro `NONE is not defined"),
        ("`define A `A\nI(p, n) <+ `A;", r"m\.va:7: macro `A expands to itself"),
        ("`define A(x, y) x\nI(p, n) <+ `A(1);", r"m\.va:7: macro `A takes 2 arguments, not 1"),
        ("`define A(x) x\nI(p, n) <+ `A;", r"m\.va:7: macro `A takes arguments: write `A\(\.\.\.\)"),
        ("`define A(x) x\nI(p, n) <+ `A(1;", r"m\.va:7: the argument list of macro `A is not closed"),
        ("`define A(1) x\n", r"m\.va:6: the parameter list of macro A is not names"),
        ("`define\n", r"m\.va:6: `define needs a name"),
        ("\n`ifdef A\n", r"m\.va:7: `ifdef without `endif"),
        ("`else\n", r"m\.va:6: `else without `ifdef"),
        ("`ifdef\n`endif\n", r"m\.va:6: `ifdef needs a name"),
        (
            "`define B absdelay(V(p), 0, 1n)\n\nI(p, n) <+ `B;",
            r"m\.va:8: absdelay is .* \(in the expansion of `B\)",
        ),
    ],
)
def test_macro_errors(tmp_path: Path, text: str, message: str):
    with pytest.raises(CosimError, match=message):
        compile_verilog(write(tmp_path, module(text)))
