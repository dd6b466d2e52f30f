"""The source pre-pass: what it keeps, mends, refuses, and how it leads diagnostics back."""

from __future__ import annotations

import os
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cosim
from cosim.devices.diagnostics import capture_stderr, compile_checked, map_diagnostics
from cosim.devices.print_c import print_c
from cosim.devices.source import PreparedSource, prepare
from cosim.devices.tokens import tokenize
from cosim.errors import CosimError, ModelError, ParseError
from cosim.shipped import VERILOG_A
from tolerances import LONG_SUM

openvaf_py = pytest.importorskip("openvaf_py", reason="no wheel of openvaf-py for this Python")

BUNDLED = sorted(VERILOG_A.glob("*/*.va"))


def write(folder: Path, text: str, name: str = "m.va") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def module(
    body: str = "I(p, n) <+ V(p, n)/r;", declarations: str = "", parameter: str = "real r = 2.0"
) -> str:
    """A module whose declarations start in line 4 and whose body starts in line 6."""
    return (
        '`include "disciplines.vams"\n'
        "module m(p, n); inout p, n; electrical p, n;\n"
        f"parameter {parameter};\n"
        f"{declarations}\n"
        "analog begin\n"
        f"{body}\n"
        "end\n"
        "endmodule\n"
    )


def compiled(folder: Path, text: str) -> Any:
    return compile_checked(prepare(write(folder, text)), openvaf_py.compile_va)[0]


def current(folder: Path, text: str, **values: float) -> float:
    """The residual at node p of the compiled module: at V(p, n) = 0.5 V and r = 2 unless given."""
    one = compiled(folder, text)
    names = {*one.param_names, *one.init_param_names}
    given_values = {"V(p,n)": 0.5, "V(p)": 0.5, "mfactor": 1.0, "r": 2.0, "$temperature": 300.0, **values}
    residuals, _ = one.run_init_eval({name: given_values.get(name, 0.0) for name in names})
    return residuals[0][0]


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
        prepare(tmp_path / "none.va")
    with pytest.raises(ParseError, match="is a folder, not a file"):
        prepare(tmp_path)
    for text in ("", "\n\n", "// only a comment\n", '`include "disciplines.vams"\n'):
        with pytest.raises(ParseError, match="no module in this file"):
            prepare(write(tmp_path, text))
    path = tmp_path / "latin.va"
    path.write_bytes(module().encode() + "// \xb5m".encode("latin-1"))
    with pytest.raises(ParseError, match=r"latin\.va:9: not UTF-8 text: save the file as UTF-8"):
        prepare(path)
    path.write_bytes(b"\x7fELF\0\0")
    with pytest.raises(ParseError, match="not a text file"):
        prepare(path)


def test_includes_are_inlined_and_mapped(tmp_path: Path):
    write(tmp_path, 'real x;\n`include "deep/more.inc"\n', "inc/vars.inc")
    write(tmp_path, "real\n  y;\n", "inc/deep/more.inc")
    source = prepare(write(tmp_path, module("x = 1; y = 2;\nI(p, n) <+ x*y;", '`include "inc/vars.inc"')))
    files = {Path(file).name for file, _ in source.line_map}
    assert files == {"m.va", "vars.inc", "more.inc"}
    assert "include" not in source.text.replace('`include "disciplines.vams"', "")
    line = source.text.splitlines().index("  y;") + 1
    assert source.place(line) == (str(tmp_path / "inc/deep/more.inc"), 2)
    assert compile_checked(source, openvaf_py.compile_va)[0].name == "m"


def test_include_errors(tmp_path: Path):
    with pytest.raises(ParseError, match=r"m\.va:4: cannot read .*gone\.inc: no such file"):
        prepare(write(tmp_path, module(declarations='`include "gone.inc"')))
    write(tmp_path, '`include "b.inc"\n', "a.inc")
    write(tmp_path, '\n`include "a.inc"\n', "b.inc")
    with pytest.raises(ParseError, match=r'b\.inc:2: `include "a\.inc" includes itself'):
        prepare(write(tmp_path, module(declarations='`include "a.inc"')))
    with pytest.raises(ParseError, match=r"m\.va:4: `include needs a file name"):
        prepare(write(tmp_path, module(declarations="`include file")))


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
    assert current(tmp_path, text) == pytest.approx(1.5707963267948966, abs=1e-15)


def test_standard_header_inside_a_module(tmp_path: Path):
    text = module("I(p, n) <+ `P_CELSIUS0;", '`include "constants.vams"')
    assert current(tmp_path, text) == 273.15


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
    assert current(tmp_path, module(body, declarations)) == expected


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
            "`define B transition(V(p), 0, 1n)\n\nI(p, n) <+ `B;",
            r"m\.va:8: transition is .* \(in the expansion of `B\)",
        ),
    ],
)
def test_macro_errors(tmp_path: Path, text: str, message: str):
    with pytest.raises(CosimError, match=message):
        prepare(write(tmp_path, module(text)))


# --- parameters --------------------------------------------------------------------------------


def test_declared_parameters(tmp_path: Path):
    text = module(
        parameter="real r = 2.0 from (0:inf) exclude 1; "
        '(* desc="count", type = "instance", units="" *) '
        'parameter integer k = 3, l = k + 1; parameter string s = "a"; parameter u = 4; '
        "localparam real loc = 1; "
        'aliasparam R2 = r; (* units="V" *) (* desc="volts" *) parameter real v = 1'
    )
    source = prepare(write(tmp_path, text))
    facts = [
        (p.name, p.type, p.is_instance, p.default, p.ranges, p.units, p.description, p.line)
        for p in source.parameters
    ]
    assert facts == [
        ("r", "real", False, "2.0", "from (0:inf) exclude 1", "", "", 3),
        ("k", "integer", True, "3", "", "", "count", 3),
        ("l", "integer", True, "k+1", "", "", "count", 3),
        ("s", "string", False, '"a"', "", "", "", 3),
        ("u", "integer", False, "4", "", "", "", 3),
        ("v", "real", False, "1", "", "V", "volts", 3),
    ]
    assert "string_parameter" in source.features
    one = compile_checked(source, openvaf_py.compile_va)[0]
    seen = {p["name"]: p for p in one.get_osdi_descriptor()["params"]}
    assert {"r", "k", "l", "s", "u", "v"} <= set(seen)
    assert all(seen[name]["is_instance"] for name in ("r", "k", "l", "s", "u", "v"))
    assert (seen["v"]["units"], seen["v"]["description"]) == ("V", "volts")


def test_digest_is_of_the_meaning(tmp_path: Path):
    first = prepare(write(tmp_path, module())).digest
    assert prepare(write(tmp_path, module() + "// comment\n", "other.va")).digest == first
    assert prepare(write(tmp_path, module(parameter="real r = 3.0"))).digest != first
    instance = module().replace("parameter", '(* type="instance" *) parameter')
    assert prepare(write(tmp_path, instance)).digest != first
    include = module(declarations='`include "x.inc"')
    write(tmp_path, "localparam real z = 1;", "x.inc")
    before = prepare(write(tmp_path, include)).digest
    write(tmp_path, "localparam real z = 2;", "x.inc")
    assert prepare(write(tmp_path, include)).digest != before


def test_two_modules(tmp_path: Path):
    text = module() + module().replace("module m(", "module other(")
    source = prepare(write(tmp_path, text))
    assert source.modules == ("m", "other")
    assert [(p.module, p.name) for p in source.parameters] == [("m", "r"), ("other", "r")]
    assert len(compile_checked(source, openvaf_py.compile_va)) == 2


# --- dialect slips: each compiles, and means what its plain form means -------------------------


@pytest.mark.parametrize(
    ("slip", "plain"),
    [
        ("real r = 2 from (0,inf)", "real r = 2 from (0:inf)"),
        ("real r = 2 from [0, 10] exclude (3,4)", "real r = 2 from [0:10] exclude (3:4)"),
        ("real r = 2 from (-inf:+inf)", "real r = 2 from (-inf:inf)"),
        ("real r = .5", "real r = 0.5"),
        ("real r = 1.e1", "real r = 1.0e1"),
        ('real r = 2 from (0:inf) (* desc="x" *)', "real r = 2 from (0:inf)"),
        ('real r = 2 (* desc="x" *) from (0:inf)', "real r = 2 from (0:inf)"),
        ('(* desc="x" *) real r = 2 from (0:inf)', "real r = 2 from (0:inf)"),
        ('real (* desc="x" *) r = 2 from (0:inf)', "real r = 2 from (0:inf)"),
        ('real r = 2 (* desc="x" units="V" *), q = 3 (* units="A" *)', "real r = 2; parameter real q = 3"),
    ],
)
def test_parameter_slips(tmp_path: Path, slip: str, plain: str):
    mended = compiled(tmp_path, module(parameter=slip))
    written = compiled(tmp_path, module(parameter=plain))
    assert mended.get_param_defaults() == written.get_param_defaults()
    for kind in ("get_mir_instructions", "get_init_mir_instructions"):
        assert getattr(mended, kind)() == getattr(written, kind)()


def test_moved_attributes_reach_the_compiler(tmp_path: Path):
    text = module(parameter='real r = 2 (* desc="one" units="Ohm" *), q = 3 (* desc="two" *)')
    source = prepare(write(tmp_path, text))
    assert [(p.name, p.units, p.description) for p in source.parameters] == [
        ("r", "Ohm", "one"),
        ("q", "", "two"),
    ]
    one = compile_checked(source, openvaf_py.compile_va)[0]
    seen = {p["name"]: p["description"] for p in one.get_osdi_descriptor()["params"]}
    assert (seen["r"], seen["q"]) == ("one", "two")


@pytest.mark.parametrize(
    ("slip", "plain"),
    [
        ("end;\nendmodule", "end\nendmodule"),
        ("end\nendmodule : m", "end\nendmodule"),
        ("macromodule m(", "module m("),
    ],
)
def test_module_slips(tmp_path: Path, slip: str, plain: str):
    text = module()
    assert plain in text
    assert current(tmp_path, text.replace(plain, slip)) == current(tmp_path, text) == 0.25


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("if (r > 1) begin x = .5; end; else x = 7; I(p, n) <+ x;", 0.5),
        ("begin real z; z = 3; x = z; end I(p, n) <+ x;", 3),
        ("begin : b x = 3; end : b I(p, n) <+ x;", 3),
        ('@(initial_step or initial_step("tran")) x = 3*r; I(p, n) <+ x;', 6),
        ('I(p, n) <+ $limit(V(p, n), "pnjlim", .026, 1)*2;', 1),
        ('x = 1; if (V(p, n) > 0) $strobe("v %g, (%g)", V(p, n), x); else x = 2; I(p, n) <+ x;', 1),
        ('$display; x = 1; $monitor(""); $error("a;b"); @(final_step) $strobe("end"); I(p, n) <+ x;', 1),
    ],
)
def test_statement_slips(tmp_path: Path, body: str, expected: float):
    assert current(tmp_path, module(body, "real x;")) == expected


def test_what_is_dropped_is_noted(tmp_path: Path):
    source = prepare(write(tmp_path, module('$strobe(V(p));\nI(p, n) <+ $limit(V(p, n), "pnjlim", 1, 2);')))
    assert [note.split("m.va:")[1] for note in source.notes] == [
        "6: $strobe is dropped: nothing is printed during a solve",
        "7: $limit is taken as its first argument",
    ]
    assert "$" not in source.text


# --- refusals ----------------------------------------------------------------------------------

REFUSED = [
    ("x = ~3 * V(p);", r"~ is compiled as a negation by OpenVAF: write -x - 1 instead of ~x"),
    ("x = transition(V(p), 0, 1n);", "transition is not supported: use an internal node"),
    ("x = slew(V(p), 1, 1);", "slew is not supported: use an internal node"),
    ("x = absdelay(V(p), 1n);", "absdelay is not supported .*undelayed"),
    ("x = last_crossing(V(p), 1);", "last_crossing is not supported"),
    ("x = laplace_nd(V(p), '{1}, '{1, 2});", r"laplace_nd: laplace_\* is not supported: write the filter"),
    ("x = zi_zp(V(p), '{1}, '{1, 2}, 1);", r"zi_zp: zi_\* is not supported: write the filter"),
    ('x = $table_model(V(p), "t.tbl");', r"\$table_model is not supported: use a polynomial"),
    ("x = $rdist_normal(seed, 0, 1);", r"\$rdist_normal: random numbers are not drawn .* draw in Python"),
    ("x = $dist_normal(seed, 0, 1);", r"\$dist_normal: random numbers are not drawn"),
    ("x = $random;", r"\$random: random numbers are not drawn"),
    ("x = $arandom(seed);", r"\$arandom: random numbers are not drawn"),
    ("@(cross(V(p), 1)) x = 1;", r"@\(cross\) is not supported: write the condition as a smooth"),
    ("@(above(V(p))) x = 1;", r"@\(above\) is not supported"),
    ("@(timer(0, 1n)) x = 1;", r"@\(timer\) is not supported: make the waveform in the source"),
    ("@(posedge p) x = 1;", r"@\(posedge\) is not supported: only @\(initial_step\) is"),
    ("@(final_step) x = 1;", r"@\(final_step\) would run at every evaluation"),
    (
        '@(initial_step("tran")) x = 1;',
        r"@\(initial_step\(\.\.\.\)\) with a list of analyses is not supported",
    ),
    ("$bound_step(1n);", r"\$bound_step is not supported: .*set the maximum step of the analysis"),
    ('$fatal(1, "no");', r"\$fatal: a model cannot end the run: give the parameter a range"),
    ("if (V(p) > 1) $finish;", r"\$finish: a model cannot end the run"),
    ("$stop(0);", r"\$stop: a model cannot end the run"),
    ('x = $fopen("f");', r"\$fopen: file access is not supported: pass the values as parameters"),
    ('$fstrobe(1, "f");', r"\$fstrobe: file access is not supported"),
    ("V(p, n) : V(p) == 0;", "indirect branch contribution: solve the equation"),
    ("V(p, n) = 1;", r"'=' cannot set a branch: write V\(\.\.\.\) <\+"),
    ("repeat (3) x = 1;", "repeat is not supported: use for with constant bounds"),
    ("generate x = 1; endgenerate", "generate constructs are not supported: write the statements out"),
    ("x[0] = 1;", "arrays and buses are not supported: use one scalar per element"),
    ("x = V(p[1]);", "arrays and buses are not supported"),
    ("x = $realtime;", r"\$realtime is not supported: use \$abstime"),
    ('x = ac_stim("ac", 1);', "ac_stim is not supported"),
    ("x = noise_table('{1, 2});", "noise_table is not supported"),
    ('x = $test$plusargs("A");', r"\$test\$plusargs is not supported: use a parameter"),
    ("casex (1) 1: x = 1; endcase", "'casex' is digital Verilog: write 'case'"),
    ("x = top.y;", "hierarchical names are not supported"),
    (
        "begin : b parameter real q = 1; x = q; end",
        "parameter inside a block: declare it in the module's body",
    ),
    ("@(initial_step) I(p, n) <+ 1;", r"contribution in @\(initial_step\): move it out"),
]


@pytest.mark.parametrize(("statement", "message"), REFUSED, ids=[statement for statement, _ in REFUSED])
def test_refused_statements(tmp_path: Path, statement: str, message: str):
    with pytest.raises(CosimError, match=rf"m\.va:7: {message}"):
        prepare(write(tmp_path, module(f"I(p, n) <+ 0;\n{statement}", "real x; integer seed;")))


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("real x[0:3];", "arrays and buses are not supported"),
        ("real [0:3] x;", "arrays and buses are not supported"),
        ("parameter real a[0:1] = '{1, 2};", "arrays and buses are not supported"),
        ("electrical [0:3] b;", "arrays and buses are not supported"),
        ("genvar i;", "generate constructs are not supported"),
        ("other #(.r(1)) o1(p, n);", "module instances are not supported: write the equations"),
        ("other o1(p, n);", "module instances are not supported"),
        ("wire w;", "'wire' is digital Verilog"),
        ("initial x = 1;", "'initial' is digital Verilog"),
    ],
)
def test_refused_declarations(tmp_path: Path, declaration: str, message: str):
    with pytest.raises(ModelError, match=rf"m\.va:4: .*{message}"):
        prepare(write(tmp_path, module(declarations=declaration)))


def test_parameters_in_the_header_are_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"m\.va:2: parameters in the module header"):
        prepare(write(tmp_path, module().replace("m(p, n);", "m #(parameter real z = 1) (p, n);")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(p, n) <+ ;", r"m\.va:6: unexpected ';': expected a value"),
        ("I(p, n) + 1;", r"m\.va:6: unexpected '\+': expected '=', '<\+' or ';'"),
        ("x + 1", r"m\.va:6: unexpected '\+'"),
        ("if x = 1;", r"m\.va:6: unexpected 'x': expected '\('"),
        ('$strobe("open);', r"m\.va:6: string is not closed on its line"),
        ("x = 1; /* open", r"m\.va:6: comment /\* is not closed"),
        ("x = é;", r"m\.va:6: character 'é' has no meaning here"),
        ("begin", r"m\.va:8: unexpected 'endmodule': expected a statement"),
        ("x = " + "(" * 300 + "1" + ")" * 300 + ";", r"m\.va:6: nested more than 100 deep"),
    ],
)
def test_syntax_errors(tmp_path: Path, text: str, message: str):
    with pytest.raises(ParseError, match=message):
        prepare(write(tmp_path, module(text, "real x;")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("endmodule\n", "", r"m\.va:2: module m without endmodule"),
        ("module m(p, n);", "module m(p, n", r"m\.va:2: '\(' is not closed"),
        ("real r = 2.0;", "real r = 2.0", r"m\.va:5: unexpected 'analog': expected ','"),
        ("electrical p, n;", "electrical p, n", r"m\.va:3: ';' is missing behind 'electrical' of line 2"),
        ("endmodule\n", "endmodule\nI(p)", r"m\.va:9: unexpected 'I': expected a module"),
    ],
)
def test_module_errors(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(ParseError, match=message):
        prepare(write(tmp_path, module().replace(old, new)))


# --- variables carried from one evaluation to the next -------------------------------------------

FUNCTION = "analog function real f; input a; output b; real a, b; begin b = a; f = 2*a; end endfunction"


@pytest.mark.parametrize(
    "body",
    [
        "I(p, n) <+ x;",
        "x = x + 1; I(p, n) <+ x;",
        "if (V(p) > 0) x = 1; I(p, n) <+ x;",
        "if (V(p) > 0) x = 1; else y = 1; I(p, n) <+ x;",
        "case (k0) 1: x = 1; 2: x = 2; endcase I(p, n) <+ x;",
        "case (k0) 1: x = 1; default: y = 2; endcase I(p, n) <+ x;",
        "for (k = 0; k < r; k = k + 1) x = k; I(p, n) <+ x;",
        "for (k = 3; k < 3; k = k + 1) x = k; I(p, n) <+ x;",
        "while (V(p) > 0) x = 1; I(p, n) <+ x;",
        "@(initial_step) x = 1; x = x + 1; I(p, n) <+ x;",
        "x = 7; @(initial_step) x = 1; I(p, n) <+ x;",
        "y = 0; if (V(p) > 0 && f(1, x) > 0) y = 1; I(p, n) <+ x;",
        "y = V(p) > 0 ? f(1, x) : 0; I(p, n) <+ x;",
        "begin : b real x; x = 1; end I(p, n) <+ x;",
        "I(p, n) <+ ddt(x*V(p)); x = 1;",
        "if (V(p) > 0) x = 1; if (V(n) > 0) I(p, n) <+ x;",
        "y = 1; if (y > 0) x = 1; y = 2; if (y > 0) I(p, n) <+ x;",
        "y = 1; if (y > 0) begin x = 1; y = -1; end if (y > 0) I(p, n) <+ x;",
        "y = 0; if (y > 0) x = 1; for (k = 0; k < 3; k = k + 1) begin if (y > 0) I(p, n) <+ x; y = 1; end",
    ],
)
def test_carried_variables_are_refused(tmp_path: Path, body: str):
    text = module(body, f"real x, y; integer k, k0; {FUNCTION}").replace("case (k0)", "k0 = r; case (k0)")
    with pytest.raises(ModelError, match=r"m\.va:6: variable 'x' would be carried .* internal node"):
        prepare(write(tmp_path, text))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = 1; I(p, n) <+ x;", 1),
        ("if (V(p, n) > 0) x = 1; else x = 2; I(p, n) <+ x;", 1),
        ("if (r > 5) x = 1; else if (r > 1) x = 2; else x = 3; I(p, n) <+ x;", 2),
        ("k = r; case (k) 1, 2: x = 5; default: x = 6; endcase I(p, n) <+ x;", 5),
        ("for (k = 0; k < 3; k = k + 1) x = k; I(p, n) <+ x;", 2),
        ("y = f(3, x); I(p, n) <+ x + y;", 9),
        ("f(3, x); I(p, n) <+ x;", 3),
        ("begin : b real z; z = 4; x = z; end I(p, n) <+ x;", 4),
        ("@(initial_step) begin y = 3*r; x = y; end I(p, n) <+ x;", 6),
        ("@(initial_step) begin if (r > 1) x = 2; else x = 1; end I(p, n) <+ x;", 2),
        ("if (r > 1) x = 2; y = 0; if (r > 1) y = x; I(p, n) <+ y;", 2),
        ("if (r > 1) begin if (V(p, n) > 0) x = 3; end if (r > 1) if (V(p, n) > 0) I(p, n) <+ x;", 3),
        ("if (r > 5) y = 1; else begin y = 2; x = 8; end if (r > 5) I(p, n) <+ 0; else I(p, n) <+ x;", 8),
        ("I(p, n) <+ c;", 6),
        ("x = c; d = x; I(p, n) <+ d;", 6),
    ],
)
def test_variables_set_on_every_path_are_accepted(tmp_path: Path, body: str, expected: float):
    text = module(body, f"real x, y; real c = 3*r, d = 1; integer k; {FUNCTION}")
    assert current(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("declarations", "body", "message"),
    [
        ("real x = 1;", "I(p, n) <+ x; x = 2;", "x.*its initialiser holds only before the first evaluation"),
        ("real x = V(p, n);", "I(p, n) <+ x;", "the initialiser of x uses V, which changes during the run"),
        ("real x;", "@(initial_step) x = V(p);\nI(p, n) <+ x;", r"@\(initial_step\) uses V, which changes"),
        ("real x;", "@(initial_step) x = $abstime;\nI(p, n) <+ x;", r"@\(initial_step\) uses \$abstime"),
        ("real x, y;", "y = V(p); @(initial_step) x = y;\nI(p, n) <+ x;", r"@\(initial_step\) reads 'y'"),
        ("real x;", "if (V(p) > 0) @(initial_step) x = 1;", r"a condition around @\(initial_step\) uses V"),
        (
            "real x; analog initial x = 1;",
            "I(p, n) <+ x; x = 2;",
            "x.* set in analog initial and again in line 6",
        ),
    ],
)
def test_presets_that_change_are_refused(tmp_path: Path, declarations: str, body: str, message: str):
    with pytest.raises(ModelError, match=message):
        prepare(write(tmp_path, module(body, declarations)))


def test_analog_initial_of_constants_is_accepted(tmp_path: Path):
    assert current(tmp_path, module("I(p, n) <+ x;", "real x; analog initial x = 3*r;")) == 6


def test_locals_of_functions_are_checked(tmp_path: Path):
    """OpenVAF really gives the second call what the first one left."""
    function = "analog function real g; input a; real a, q; begin g = q + a; q = 3; end endfunction"
    with pytest.raises(ModelError, match=r"m\.va:4: variable 'q' would be carried"):
        prepare(write(tmp_path, module("I(p, n) <+ g(1) + g(2);", function)))


def test_long_chains_are_checked_quickly(tmp_path: Path):
    """Remembered conditions must not double with each `if`."""
    tests = "\n".join(f"if (V(p) > {k}) x{k} = 1; if (V(p) > {k}) I(p, n) <+ x{k};" for k in range(400))
    names = ", ".join(f"x{k}" for k in range(400))
    assert prepare(write(tmp_path, module(tests, f"real {names};"))).modules == ("m",)
    chain = "".join(f"if (r > {k}) x = {k}; else " for k in range(90)) + "x = 0;"
    assert prepare(write(tmp_path, module(f"{chain} I(p, n) <+ x;", "real x;"))).modules == ("m",)


@pytest.mark.parametrize(
    ("body", "features"),
    [
        ("I(p, n) <+ V(p, n);", set()),
        ("I(p, n) <+ ddt(V(p, n)) + idt(V(p, n), 0) + idtmod(V(p, n));", {"ddt", "idt", "idtmod"}),
        (
            'I(p, n) <+ limexp(V(p)) + white_noise(1) + $abstime + analysis("dc");',
            {"limexp", "noise", "abstime", "analysis"},
        ),
        ("for (k = 0; k < 3; k = k + 1) ; I(p, n) <+ $vt + ddx(V(p), V(p));", {"loop", "temperature", "ddx"}),
    ],
)
def test_features(tmp_path: Path, body: str, features: set[str]):
    assert prepare(write(tmp_path, module(body, "integer k;"))).features == features


# --- diagnostics ---------------------------------------------------------------------------------


def test_diagnostics_name_the_author_s_lines(tmp_path: Path):
    write(tmp_path, "\n\n  I(p, n) <+ nope;\n", "part.inc")
    text = '// a comment\n`define M parameter real a = 1,\n`M b = 2 (* desc="x" *);\n'
    path = write(tmp_path, module('`include "part.inc"\nI(p, n) <+ also;', text))
    with pytest.raises(ModelError) as caught:
        compile_checked(prepare(path), openvaf_py.compile_va)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[0] == f"{tmp_path}/part.inc:3: 'nope' was not found in the current scope"
    assert f"--> {path}:10" in lines
    assert "10 | I(p, n) <+ also;" in lines
    assert "\x1b" not in str(caught.value)
    assert "could not compile" not in str(caught.value)
    assert "/cosim-" not in str(caught.value)


def test_a_crash_of_the_compiler_is_one_clear_error(tmp_path: Path):
    text = module("I(p, n) <+ V(p, n);", "string s;").replace("string s;", "string s; integer i;")
    with pytest.raises(ModelError, match=r"m\.va:1: the Verilog-A compiler failed: internal error"):
        compile_checked(prepare(write(tmp_path, text)), openvaf_py.compile_va)


def test_modules_are_counted(tmp_path: Path):
    with pytest.raises(ModelError, match="the compiler found 0 modules, not 1"):
        compile_checked(prepare(write(tmp_path, module())), lambda path: [])


def test_captured_output_comes_from_the_descriptor(capfd: pytest.CaptureFixture[str]):
    def call() -> int:
        os.write(2, b"\x1b[31mred\x1b[0m\n")
        return 7

    assert capture_stderr(call) == (7, None, "red\n")
    os.write(2, b"behind")
    assert capfd.readouterr().err == "behind"


def test_captures_of_many_threads_do_not_mix():
    found: dict[int, str] = {}

    def work(number: int) -> None:
        def call() -> None:
            for _ in range(20):
                os.write(2, b"%d;" % number)

        found[number] = capture_stderr(call)[2]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"{number};" * 20 for number in range(8)}


def test_interrupts_pass_through():
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_stderr(interrupt)


def test_silent_failures_have_a_message(tmp_path: Path):
    source = prepare(write(tmp_path, module()))
    assert map_diagnostics(source, "", ValueError("it broke")).endswith(
        "the Verilog-A compiler failed: it broke"
    )
    assert map_diagnostics(source, "").endswith("no reason given")


# --- bundled models, and arbitrary input -----------------------------------------------------------


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_models_pass_unchanged(path: Path):
    """The models that ship with cosim need no mending: only the attribute lists differ."""
    source = prepare(path)
    assert source.notes == ()
    attributes = re.compile(r"\(\*.*?\*\)", re.DOTALL)
    before, after = (
        [t.text for t in tokenize(attributes.sub("", text), "f") if not t.is_trivia and t.text[0] != "`"]
        for text in (path.read_text(), source.text)
    )
    if "`define" not in path.read_text():
        assert sorted(before) == sorted(after)
    assert [m.name for m in compile_checked(source, openvaf_py.compile_va)] == list(source.modules)


SEED_TEXT = module(
    "if (V(p) > 0) x = 1; else begin : b real q; q = f(x0, x); x = q; end\n@(initial_step) x0 = 1;\n"
    'for (k = 0; k < 3; k = k + 1) x = x + `F(k);\n$strobe("%g", x);\nI(p, n) <+ $limit(V(p), "a")*x;',
    f"`define F(a) (a*2)\n`ifdef Z\nreal no[0:1];\n`endif\nreal x, x0; integer k;\n{FUNCTION}",
    'real r = 1.e3 from (0,inf) (* desc="d" units="V" *), s = 2',
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mutated_sources_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, seed: int):
    """Tokens dropped, doubled, swapped: a source is prepared, or refused with one of our errors."""
    draw = random.Random(seed)
    texts = [token.text for token in tokenize(SEED_TEXT, "f")]
    for _ in range(draw.randint(1, 4)):
        a, b = draw.randrange(len(texts)), draw.randrange(len(texts))
        match draw.randrange(4):
            case 0:
                del texts[a]
            case 1:
                texts.insert(a, texts[b])
            case 2:
                texts[a], texts[b] = texts[b], texts[a]
            case _:
                texts[a] = draw.choice(
                    ["(", ")", "`", "(*", "*)", '"', "begin", "end", ";", "\\", "é", "/*", "@"]
                )
    path = write(tmp_path_factory.mktemp("mutated"), "".join(texts))
    try:
        source = prepare(path)
    except CosimError as error:
        source = error
    if isinstance(source, PreparedSource):
        assert len(source.line_map) == source.text.count("\n")
    else:
        assert path.name in str(source)


LONG = {
    "sum": "I(p, n) <+ 1e-9*(" + " + ".join(["V(p, n)"] * 8000) + ");",
    "signs": "I(p, n) <+ 8e-6*(" + "- " * 8000 + "V(p, n));",
    "statements": "v = 0; " + "v = v + V(p, n); " * 8000 + "I(p, n) <+ 1e-9*v;",
}


@pytest.mark.parametrize(
    "kind", ["sum", *(pytest.param(k, marks=pytest.mark.slow) for k in ("signs", "statements"))]
)
def test_8000_terms_are_evaluated(kind: str, tmp_path: Path):
    """In torch with its gradient; an overflow of the stack would end this process."""
    path = tmp_path / "long.va"
    path.write_text(
        f'`include "disciplines.vams"\nmodule long(p, n); inout p, n; electrical p, n; real v;\n'
        f"analog begin {LONG[kind]} end\nendmodule\n"
    )
    device = cosim.Device(path)
    volts = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    device.current(volts).backward()
    assert float(device.current_and_slope(volts.detach(), None)[1]) == pytest.approx(8e-6, rel=LONG_SUM)
    assert float(volts.grad) == pytest.approx(8e-6, rel=LONG_SUM)  # type: ignore[arg-type]  # it has one
    print_c(device.ir, device.ir.parameter_names)


def test_expressions_nested_too_deeply_are_refused(tmp_path: Path):
    path = tmp_path / "deep.va"
    path.write_text(
        '`include "disciplines.vams"\nmodule deep(p, n); inout p, n; electrical p, n;\n'
        f"analog I(p, n) <+ {'(' * 8000}V(p, n){')' * 8000};\nendmodule\n"
    )
    with pytest.raises(ParseError, match=r"nested more than 100 deep: use variables in between"):
        cosim.Device(path)
