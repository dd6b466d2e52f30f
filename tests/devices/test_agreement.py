"""Interpreter, compiled C and torch evaluate every model to the same residuals and Jacobians."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cosim.devices.build import build, compile_model
from cosim.devices.catalogue import CATALOGUE
from cosim.devices.interp import Conditions, Evaluation, Setup, evaluate, run_setup
from cosim.devices.ir import DeviceIR
from cosim.devices.print_c import print_c
from cosim.devices.print_torch import TorchModel
from devices.osdi_host import OsdiDevice
from tolerances import FINITE_DIFFERENCE, LEAST_CURRENT, PRINTERS

USER = sorted((Path(__file__).parents[1] / "data" / "va").glob("*.va"))  # files the package never saw
OPERATORS = next(path for path in USER if path.stem == "operators")
MODELS = [*(entry.path for entry in CATALOGUE.values()), *USER]
STATIC = Conditions()
RUNNING = Conditions(abstime=1e-9, analyses=frozenset({"tran"}), integrating=True)

# variants that reach every branch of the bundled models
VARIANTS = {
    "vteam": [{}, {"write": 1}, *({"write": 1, "iv": 1, "window": w} for w in range(5))],
    "data_driven": [{}, {"write": 1}],
    "data_driven_2021": [{}, {"write": 1}],
    "stanford_pku": [{}, {"write": 1}],
    "linear_ion_drift": [{}, *({"write": 1, "window": w} for w in range(4))],
    "operators": [{"k": k, "a": a} for k in (-7, -1, 0, 3) for a in (-1.5, 0.0, 2.0)],
}
CLASSIC = sorted((Path(__file__).parents[1] / "verilog" / "classic").glob("*.va"))
CASES = [
    *((path, parameters) for path in MODELS for parameters in VARIANTS.get(path.stem, [{}])),
    *(pytest.param(path, {}, marks=pytest.mark.slow) for path in CLASSIC),
]


def compiled(path: Path) -> DeviceIR:
    return compile_model(path)


def points(ir: DeviceIR) -> list[list[float]]:
    """Random and edge voltages, (points, nodes)."""
    generator = np.random.default_rng(0)
    random = generator.uniform(-2, 2, (12, len(ir.nodes)))
    edges = [[v] * len(ir.nodes) for v in (0.0, -0.0, 0.5, 1.0)]
    swings = [[v, 0.0] + [0.0] * (len(ir.nodes) - 2) for v in (-20.0, -1e-9, 1e-9, 20.0)]
    return [*random.tolist(), *edges, *swings]


def largest(found: Evaluation, name: str) -> np.ndarray:
    value = getattr(found, name)
    return np.abs(value)


def assert_same(left: Evaluation, right: Evaluation, scale: Evaluation, tolerance: float) -> None:
    for name in ("resist", "react", "jacobian_resist", "jacobian_react"):
        a, b = getattr(left, name), getattr(right, name)
        assert np.array_equal(np.isfinite(a), np.isfinite(b)), name
        ok = np.isfinite(a)
        bound = tolerance * np.maximum(np.abs(a), np.abs(getattr(scale, name)).max(initial=0.0) * 1e-3)
        assert np.all(np.abs(a - b)[ok] <= bound[ok] + LEAST_CURRENT), (name, a, b)


@pytest.mark.parametrize("conditions", [STATIC, RUNNING], ids=["static", "running"])
@pytest.mark.parametrize(("path", "parameters"), CASES, ids=lambda v: getattr(v, "stem", None))
def test_c_equals_interpreter(path: Path, parameters: dict[str, float], conditions: Conditions) -> None:
    ir = compiled(path)
    setup = run_setup(ir, parameters)
    library = build(print_c(ir, ir.parameter_names), ir.name)
    device = OsdiDevice(library, parameters)
    assert device.out_of_range == list(setup.out_of_range)
    assert device.collapsed == setup.collapsed
    analysis = "dc" if conditions is STATIC else "tran"
    for unknowns in points(ir):
        expected = evaluate(ir, setup, unknowns, parameters, conditions)
        found, flags = device.evaluate(unknowns, analysis, conditions.abstime)
        assert flags == 0
        assert_same(expected, found, expected, PRINTERS)


def stands(ir: DeviceIR, setup: Setup) -> list[int]:
    """The node that each node is merged with, the first of them; -1: ground."""
    stand = list(range(len(ir.nodes)))
    for k in sorted(setup.collapsed):
        pair = ir.collapsible[k]
        kept, merged = sorted((stand[pair.first], -1 if pair.second is None else stand[pair.second]))
        stand = [kept if s == merged else s for s in stand]
    return stand


def reduce(ir: DeviceIR, setup: Setup, full: Evaluation, model: TorchModel) -> Evaluation:
    """Rows and columns of merged and removed nodes folded as the torch model folds them."""
    size, stand = len(ir.nodes), stands(ir, setup)
    names = [node.name for node in ir.nodes]
    matrix = np.zeros((len(model.nodes), size))
    for k in range(size):
        if stand[k] >= 0 and names[stand[k]] in model.nodes:
            matrix[model.nodes.index(names[stand[k]]), k] = 1.0
    return Evaluation(
        matrix @ full.resist,
        matrix @ full.react,
        matrix @ full.jacobian_resist @ matrix.T,
        matrix @ full.jacobian_react @ matrix.T,
    )


def torch_evaluation(model: TorchModel, unknowns: torch.Tensor, abstime: float) -> list[Evaluation]:
    """The torch model at a batch of points, (points, nodes)."""
    terms = model(list(unknowns.unbind(-1)), {}, abstime)
    count, size = unknowns.shape

    def rows(values: object) -> np.ndarray:
        return np.stack([np.broadcast_to(np.asarray(v), (count,)) for v in values], -1)  # type: ignore[attr-defined]  # a sequence

    def matrix(values: dict[tuple[int, int], object]) -> np.ndarray:
        full = np.zeros((count, size, size))
        for (row, column), value in values.items():
            full[:, row, column] = np.asarray(value)
        return full

    resist, react = rows(terms.resist), rows(terms.react)
    jr, jc = matrix(dict(terms.jacobian_resist)), matrix(dict(terms.jacobian_react))
    return [Evaluation(resist[k], react[k], jr[k], jc[k]) for k in range(count)]


@pytest.mark.parametrize("conditions", [STATIC, RUNNING], ids=["static", "running"])
@pytest.mark.parametrize(("path", "parameters"), CASES, ids=lambda v: getattr(v, "stem", None))
def test_torch_equals_interpreter(path: Path, parameters: dict[str, float], conditions: Conditions) -> None:
    ir = compiled(path)
    setup = run_setup(ir, parameters)
    model = TorchModel(ir, parameters, static=conditions is STATIC)
    names = [node.name for node in ir.nodes]
    batch = torch.tensor(points(ir), dtype=torch.float64)
    merged = batch.clone()
    for k, stand in enumerate(stands(ir, setup)):  # merged nodes have one voltage
        merged[:, k] = batch[:, stand] if stand >= 0 else 0.0
    for k, name in enumerate(names):  # a node that the torch model removed is where its equation says
        stays = name in model.nodes or any(
            k in (ir.collapsible[c].first, ir.collapsible[c].second) for c in setup.collapsed
        )
        if not stays:
            merged[:, k] = 0.0
            merged[:, k] = -evaluate(ir, setup, merged[0].tolist(), parameters, conditions).resist[k]
    kept = merged[:, [names.index(name) for name in model.nodes]]
    found = torch_evaluation(model, kept, conditions.abstime)
    for k, unknowns in enumerate(merged.tolist()):
        full = evaluate(ir, setup, unknowns, parameters, conditions)
        expected = reduce(ir, setup, full, model)
        assert_same(expected, found[k], expected, PRINTERS)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_jacobian_is_the_derivative(path: Path) -> None:
    ir = compiled(path)
    parameters = VARIANTS.get(path.stem, [{}])[-1]
    setup = run_setup(ir, parameters)
    for unknowns in points(ir)[:6]:
        exact = evaluate(ir, setup, unknowns, parameters, RUNNING)
        for column in range(len(ir.nodes)):
            for kind in ("resist", "react"):
                slope = _central_difference(ir, setup, unknowns, parameters, column, kind)
                entry = getattr(exact, f"jacobian_{kind}")[:, column]
                scale = np.abs(getattr(exact, f"jacobian_{kind}")).max() + 1e-30
                assert np.allclose(slope, entry, rtol=FINITE_DIFFERENCE, atol=FINITE_DIFFERENCE * scale)


def _central_difference(
    ir: DeviceIR, setup: Setup, unknowns: list[float], parameters: dict[str, float], column: int, kind: str
) -> np.ndarray:
    step = 1e-6
    sides = []
    for sign in (1, -1):
        moved = list(unknowns)
        moved[column] += sign * step
        sides.append(getattr(evaluate(ir, setup, moved, parameters, RUNNING), kind))
    return (sides[0] - sides[1]) / (2 * step)


def test_operators_reach_the_awkward_points() -> None:
    """The values themselves, not only their agreement: C's semantics at its corners."""
    ir = compiled(OPERATORS)
    setup = run_setup(ir, {"k": -7, "a": 0.0})
    values = dict(zip(("p", "n"), evaluate(ir, setup, [1.0, 0.0], {"k": -7, "a": 0.0}).resist, strict=False))
    # -7 % 3 = -1, -7 / 2 = -3, round(-3.5) = -4, round(2.5) = 3, pow(0, 0) = 1: see operators.va
    assert math.isclose(values["p"], -1 - 3 - 4 + 3 + 1, rel_tol=1e-15)
