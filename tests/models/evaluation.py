"""One point of a .va file, evaluated by openvaf-py's own interpreter (no code of cosim involved)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvaf_py

PARAMETER = re.compile(
    r"(?P<attributes>\(\*[^\n]*\*\))?\s*"
    r"parameter\s+(?P<kind>real|integer)\s+(?P<name>\w+)\s*=\s*(?P<default>[^;]+?)"
    r"(?P<range>\s+from\s+[^;]+)?;"
)
C_STATE = 1e-9  # F, of every bundled model


@dataclass(frozen=True)
class Declaration:
    kind: str
    name: str
    default: str
    range: str
    attributes: dict[str, str]


def declarations(source: str) -> list[Declaration]:
    found = []
    for match in PARAMETER.finditer(source):
        attributes = dict(re.findall(r'(\w+) = "([^"]*)"', match["attributes"] or ""))
        bounds = (match["range"] or "").strip()
        found.append(Declaration(match["kind"], match["name"], match["default"].strip(), bounds, attributes))
    return found


@dataclass(frozen=True)
class Point:
    """Residuals and Jacobian over the nodes (p, n, y): resistive and reactive part."""

    resist: np.ndarray  # (3,)
    react: np.ndarray  # (3,)
    jacobian: np.ndarray  # (3, 3)
    jacobian_react: np.ndarray  # (3, 3)

    @property
    def current(self) -> float:
        return float(self.resist[0])

    @property
    def node_rate(self) -> float:
        """dV(y)/dt in V/s, in write mode."""
        return -float(self.resist[2]) / C_STATE


class VaModel:
    """A compiled file with the defaults of its text."""

    def __init__(self, path: Path) -> None:
        (self.module,) = openvaf_py.compile_va(str(path))
        self.declarations = {d.name: d for d in declarations(path.read_text())}

    def parameters(self, **given: float) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, declaration in self.declarations.items():
            default = declaration.default  # a number, or a parameter declared before
            values[name] = values[default] if default in values else float(default)
            values[name] = given.get(name, values[name])
        assert not set(given) - set(values), f"no such parameter: {set(given) - set(values)}"
        return values

    def at(self, v: float, y: float = 0.0, *, time: float = 1.0, **given: float) -> Point:
        inputs = {"V(p,n)": float(v), "V(y)": float(y), "$abstime": float(time), "mfactor": 1.0}
        for name, value in self.parameters(**given).items():
            integer = self.declarations[name].kind == "integer"
            # openvaf-py reads the bits of an integer where it takes a float
            inputs[name] = struct.unpack("<d", struct.pack("<q", int(value)))[0] if integer else float(value)
        residuals, entries = self.module.run_init_eval(inputs)
        jacobian = np.zeros((2, 3, 3))
        for row, column, resist, react in entries:
            jacobian[:, row, column] = resist, react
        resist, react = np.array(residuals).T
        return Point(resist, react, jacobian[0], jacobian[1])
