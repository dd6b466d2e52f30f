"""$table_model against numpy and scipy: values and slopes, from files and from arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from cosim.devices.build import compile_model
from cosim.devices.print_torch import TorchModel
from cosim.errors import CosimError
from cosim.verilog.compile import compile_verilog
from tolerances import CLOSED_FORM, FINITE_DIFFERENCE
from verilog.host import at, cell

X = np.array([-1.0, -0.25, 0.0, 0.5, 0.75, 2.0])
Y = np.array([-2.0, 1.0, 0.5, 0.0, 3.0, -1.0])
PLACES = [-3.0, -1.0, -0.9, -0.25, -0.1, 0.2, 0.6, 1.3, 2.0, 5.0]


def line(x: float) -> float:
    slopes = np.diff(Y) / np.diff(X)
    if x < X[0]:
        return Y[0] + slopes[0] * (x - X[0])
    return Y[-1] + slopes[-1] * (x - X[-1]) if x > X[-1] else float(np.interp(x, X, Y))


def spline(x: float) -> float:
    curve = CubicSpline(X, Y, bc_type="natural")
    inside = min(max(x, X[0]), X[-1])
    return float(curve(inside) + curve(inside, 1) * (x - inside))


def clamped(x: float) -> float:
    return spline(min(max(x, X[0]), X[-1]))


def nearest(x: float) -> float:
    return float(Y[np.abs(X - x).argmin()])


def written(values: np.ndarray) -> str:
    return "'{" + ", ".join(f"{v!r}" for v in values.tolist()) + "}"


@pytest.mark.parametrize(
    ("control", "truth"),
    [
        ("", line), ("1L", line), ("3", spline), ("3CC", clamped), ("D", nearest), ("3E", spline),
        ("1CL", lambda x: line(max(x, X[0]))), ("1LC", lambda x: line(min(x, X[-1]))),
    ],
)  # fmt: skip
def test_one_input_written_out_and_from_arrays(control: str, truth):
    places = [x for x in PLACES if "E" not in control or X[0] <= x <= X[-1]]
    order = [3, 0, 5, 1, 4, 2]  # a file need not be in order
    points = f'{written(X[order])}, {written(Y[order])}, "{control}"'
    numbers = cell(f"I(p, n) <+ $table_model(V(p, n), {points});")
    arrays = cell(
        f'I(p, n) <+ $table_model(V(p, n), a, b, "{control}");',
        f"parameter real a[0:5] = {written(X)}; parameter real b[1:6] = {written(Y)};",
    )
    for ir in (numbers, arrays):
        model = TorchModel(ir, {})
        terms = model([torch.tensor(places, dtype=torch.float64), torch.zeros(len(places))], {})
        for k, x in enumerate(places):
            found = at(ir, [x, 0.0])
            assert found.resist[0] == pytest.approx(truth(x), rel=CLOSED_FORM, abs=1e-14), (control, x)
            in_torch = torch.as_tensor(terms.resist[0]).expand(len(places))[k]
            assert float(in_torch) == pytest.approx(truth(x), rel=CLOSED_FORM, abs=1e-14)
            if x not in X and control != "D":
                slope = (truth(x + 1e-6) - truth(x - 1e-6)) / 2e-6
                assert found.jacobian_resist[0, 0] == pytest.approx(slope, rel=FINITE_DIFFERENCE, abs=1e-9)


FIRST, SECOND = np.array([0.0, 1.0, 3.0, 4.0]), np.array([-1.0, 0.0, 0.5, 2.0])
GRID = np.random.default_rng(1).normal(size=(4, 4))


def with_table(folder: Path, expression: str, table: str) -> Path:
    path = folder / "m.va"
    path.write_text(
        f"module m(p, q, n); inout p, q, n; electrical p, q, n;\nanalog I(p, n) <+ {expression};\nendmodule\n"
    )
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "data.tbl").write_text(table)
    return path


def grid_text(grid: np.ndarray) -> str:
    """Two columns of values, as a measurement has them; the second is the one that is meant."""
    rows = [
        f"{a} {b} 99 {float(grid[i, k])!r} # row"
        for i, a in enumerate(FIRST.tolist())
        for k, b in enumerate(SECOND.tolist())
    ]
    return "# first second other value\n\n" + "\n".join(rows)


@pytest.mark.parametrize("control", ["1L,1L;2", "3L,1L;2", "1C,3C;2", "3,3;2"])
def test_two_inputs_from_a_file(tmp_path: Path, control: str):
    expression = f'$table_model(V(p, n), V(q, n), "sub/data.tbl", "{control}")'
    path = with_table(tmp_path, expression, grid_text(GRID))
    ir = compile_verilog(path)
    degrees = [part[0] for part in control.split(",")]

    def truth(a: float, b: float) -> float:
        curves = [CubicSpline(SECOND, row, bc_type="natural") for row in GRID]
        inner = [
            curve(b) if degrees[1] == "3" else np.interp(b, SECOND, row)
            for curve, row in zip(curves, GRID, strict=True)
        ]
        outer = CubicSpline(FIRST, inner, bc_type="natural")
        return float(outer(a)) if degrees[0] == "3" else float(np.interp(a, FIRST, inner))

    for a, b in ((0.3, 0.2), (1.0, 0.0), (3.7, 1.9), (2.0, -0.9), (4.0, 2.0)):
        found = at(ir, {"p": a, "q": b})
        assert found.resist[0] == pytest.approx(truth(a, b), rel=CLOSED_FORM, abs=1e-14)
        if a in FIRST:
            continue
        h = 1e-6
        slopes = [(truth(a + h, b) - truth(a - h, b)) / 2 / h, (truth(a, b + h) - truth(a, b - h)) / 2 / h]
        assert found.jacobian_resist[0, :2] == pytest.approx(slopes, rel=FINITE_DIFFERENCE, abs=1e-8)


def test_isolines_need_not_have_the_same_points(tmp_path: Path):
    path = with_table(
        tmp_path, '$table_model(V(p, n), V(q, n), "sub/data.tbl", "1,1")', "0 0 1\n0 2 3\n2, -1, 0\n2, 1, 4\n"
    )
    ir = compile_verilog(path)
    for a, b in ((0.5, 0.5), (1.0, 3.0)):
        lines = (1 + b, 2 + 2 * b)
        assert at(ir, {"p": a, "q": b}).resist[0] == pytest.approx(lines[0] + (lines[1] - lines[0]) * a / 2)


def test_another_table_is_another_model(tmp_path: Path):
    path = with_table(tmp_path, '$table_model(V(p, n), "sub/data.tbl", "1L")', "0 0\n1 1\n")
    first = compile_model(path)
    with_table(tmp_path, '$table_model(V(p, n), "sub/data.tbl", "1L")', "0 0\n1 2\n")
    assert [at(ir, {"p": 1.0}).resist[0] for ir in (first, compile_model(path))] == [1.0, 2.0]


def test_beyond_a_table_that_forbids_it_there_is_no_solution():
    ir = cell("I(p, n) <+ $table_model(V(p, n), '{0, 1}, '{0, 2}, \"1E\");")
    assert at(ir, [0.5, 0.0]).resist[0] == pytest.approx(1.0)
    assert np.isnan(at(ir, [1.5, 0.0]).resist[0])


@pytest.mark.parametrize(
    ("expression", "table", "message"),
    [
        ('$table_model(V(p, n), "../secret", "1L")', "", "lies outside the folder of the model"),
        ('$table_model(V(p, n), "/etc/hostname", "1L")', "", "lies outside the folder of the model"),
        ('$table_model(V(p, n), "none.tbl", "1L")', "", "there is no table 'none.tbl' beside the model"),
        ('$table_model(V(p, n), "sub/data.tbl", "1L")', "0 0\n1 x\n", "line 2: '1 x' is not numbers"),
        ('$table_model(V(p, n), "sub/data.tbl", "1L")', "0 0\n1\n", "line 2: 1 columns, not 2"),
        ('$table_model(V(p, n), "sub/data.tbl", "1L")', "0 0\n0 1\n", "two values for the same point"),
        ('$table_model(V(p, n), "sub/data.tbl", "1L")', "# no\n", "is empty"),
        ('$table_model(V(p, n), "sub/data.tbl", "1L;3")', "0 0\n1 1\n", "2 columns, at least 4 are needed"),
        ('$table_model(V(p, n), "sub/data.tbl", "2L")', "0 0\n1 1\n", "use degree 1 or 3"),
        ('$table_model(V(p, n), "sub/data.tbl", "4L")', "0 0\n1 1\n", "holds '4L': expected 1, 3, D or I"),
        ('$table_model(V(p, n), "sub/data.tbl", "1,1")', "0 0\n1 1\n", "is for 2 inputs, 1 are given"),
        ('$table_model(V(p, n))', "", "takes inputs, then a file or arrays"),
        ("$table_model(V(p, n), '{0, 1}, '{0})", "", "takes 2 arrays of one length"),
    ],
)  # fmt: skip
def test_wrong_tables_are_told_with_their_place(tmp_path: Path, expression: str, table: str, message: str):
    with pytest.raises(CosimError) as raised:
        compile_verilog(with_table(tmp_path, expression, table))
    assert message in str(raised.value)
    assert "m.va:2" in str(raised.value)
