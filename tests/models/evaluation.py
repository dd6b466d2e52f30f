"""One point of a .va file as OpenVAF-Reloaded compiles it: no code of cosim involved."""

from __future__ import annotations

import functools
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices.osdi_host import OsdiDevice
from verilog.judge import judge

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
        copy = Path(tempfile.mkdtemp(prefix="cosim-judge-"), path.name)
        copy.write_text(path.read_text())
        self.library = judge(copy)
        self.declarations = {d.name: d for d in declarations(path.read_text())}

    def parameters(self, **given: float) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, declaration in self.declarations.items():
            default = declaration.default  # a number, or a parameter declared before
            values[name] = values[default] if default in values else float(default)
            values[name] = given.get(name, values[name])
        assert not set(given) - set(values), f"no such parameter: {set(given) - set(values)}"
        return values

    @functools.lru_cache(maxsize=8)  # noqa: B019  a model lives as long as the tests
    def _device(self, parameters: tuple[tuple[str, float], ...]) -> OsdiDevice:
        whole = {name for name, declared in self.declarations.items() if declared.kind == "integer"}
        device = OsdiDevice(self.library, {n: int(v) if n in whole else v for n, v in parameters})
        assert device.nodes == ["p", "n", "y"]
        return device

    def at(self, v: float, y: float = 0.0, *, time: float = 1.0, **given: float) -> Point:
        device = self._device(tuple(self.parameters(**given).items()))
        found, _ = device.evaluate([v, 0.0, y], "tran", time)
        return Point(found.resist, found.react, found.jacobian_resist, found.jacobian_react)
