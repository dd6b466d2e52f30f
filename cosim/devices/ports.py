"""What the ports of a model are for: the pair that carries the current, and those that only show a state.

A port shows something where the currents of the pair sum to zero without it and the model itself
determines its voltage. All is read from the slopes of the equations at a few points.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cosim.checks import shown
from cosim.devices.ir import DeviceIR, Scalar
from cosim.devices.print_torch import TorchModel
from cosim.errors import ModelError, SpecError

__all__ = ["Ports", "choose_ports", "on_the_way"]

_POINTS = 3
_SIZE = 0.3  # V: where the equations are probed, small enough for exponentials of a thermal voltage
_HALVINGS = 6  # of that size, where they overflow all the same
_NOTHING = 1e-9  # relative; far above rounding, far below any real leak
_SINGULAR = 1e-12  # singular values of scaled equations


@dataclass(frozen=True, kw_only=True)
class Ports:
    """terminals: the pair, then those that the caller drives. shown, unused: found to be so by themselves."""

    terminals: tuple[str, ...]
    open: tuple[str, ...] = ()
    ground: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def driven(self) -> tuple[str, ...]:
        return self.terminals[2:]


def choose_ports(
    ir: DeviceIR,
    given: Mapping[str, Scalar],
    temperature: float,
    wired: Mapping[str, object],
) -> Ports:
    """What each port of ``ir`` is; ``wired`` names some, as ``terminals``, ``open`` and ``ground``.

    Raises SpecError for names that do not fit, ModelError where it is not clear.
    """
    pair, opened, grounded = (_names(ir, what, wired.get(what)) for what in ("terminals", "open", "ground"))
    _check_apart(ir, terminals=pair, open=opened, ground=grounded)
    if pair and len(pair) < 2:
        raise SpecError(f"terminals={pair!r}: name two, the pair that carries the current of the cell")
    rest = tuple(name for name in ir.terminals if name not in (*pair, *opened, *grounded))
    if not pair and len(rest) == 2:
        pair, rest = rest, ()
    if len(pair) + len(rest) < 2:
        left = f"only {rest[0]} is left" if rest and (opened or grounded) else f"it has {len(ir.terminals)}"
        raise ModelError(f"{ir.name} needs two terminals that carry a current: {left}")
    if not rest:
        return Ports(terminals=pair, open=opened, ground=grounded)
    slopes = _Slopes(ir, given, temperature)
    pairs = [pair] if pair else [p for p in itertools.combinations(rest, 2) if slopes.sums_to_zero(*p)]
    found = []
    for ends in pairs:
        others = [name for name in rest if name not in ends]
        kinds = {name: slopes.kind(name, {*others, *opened}) for name in others}
        if None not in kinds.values():
            shows, unused = (tuple(n for n, kind in kinds.items() if kind == k) for k in ("shown", "unused"))
            more = {"open": (*opened, *shows), "ground": (*grounded, *unused)}
            found.append(Ports(terminals=ends, shown=shows, unused=unused, **more))
    if len(found) != 1:
        raise _unclear(ir, pairs[0] if len(pairs) == 1 else (), rest)
    return found[0]


def on_the_way(ir: DeviceIR, given: Mapping[str, Scalar], temperature: float) -> set[str]:
    """Internal nodes of ``ir`` through which the currents of its terminals flow."""
    return _Slopes(ir, given, temperature).on_the_way()


def _names(ir: DeviceIR, what: str, names: object) -> tuple[str, ...]:
    if names is None:
        return ()
    found = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Sequence) else None
    if found is None or not all(isinstance(name, str) for name in found):
        raise SpecError(f'{what}={shown(names)}: give names of ports, such as {what}=("{ir.terminals[0]}",)')
    for name in found:
        if name not in ir.terminals:
            raise SpecError(
                f"{what}={shown(names)}: {ir.name} has no port {name!r}; it has {', '.join(ir.terminals)}"
            )
    return found


def _check_apart(ir: DeviceIR, **named: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for what, names in named.items():
        for name in names:
            if name in seen:
                raise SpecError(f"port {name} of {ir.name} is named in {seen[name]}= and in {what}=: in one")
            seen[name] = what


def _unclear(ir: DeviceIR, pair: Sequence[str], rest: Sequence[str]) -> ModelError:
    ends = tuple(pair or rest[:2])
    other = next(name for name in rest if name not in ends)
    what = f"what its port {other} is" if pair else "which two carry the current of a cell"
    known = "" if pair else f"name the pair, terminals={_listed(ends)}, and say what each other port is: "
    return ModelError(
        f"{ir.name} has the ports {', '.join(ir.terminals)}, and it is not clear {what}: {known}"
        f"open={_listed([other])} leaves a port without current, ground={_listed([other])} puts it at 0 V, "
        f"terminals={_listed([*ends, other])} makes it one that you drive, device.current(0.1, {other}=0.5)"
    )


def _listed(names: Sequence[str]) -> str:
    """As a tuple is written."""
    return "(" + ", ".join(f'"{name}"' for name in names) + ("," if len(names) == 1 else "") + ")"


class _Slopes:
    """The slopes of all equations by all unknowns at a few points."""

    def __init__(self, ir: DeviceIR, given: Mapping[str, Scalar], temperature: float) -> None:
        model = TorchModel(ir, given, static=False, temperature=temperature)
        self._ir, self._names = ir, list(model.nodes)
        self.static, self.reactive = _evaluate(model)  # each (points, rows, columns)
        self._at_rest = _residuals(model)

    def sums_to_zero(self, first: str, second: str) -> bool:
        """What flows into ``first`` flows out of ``second``, on ways through internal nodes alone."""
        _, _, left = self._ways([self._names.index(first), self._names.index(second)])
        return left <= _NOTHING

    def _ways(self, ends: Sequence[int]) -> tuple[list[int], np.ndarray, float]:
        """Internal nodes, with what weights their rows make those of ``ends`` sum to 0, and what is left."""
        names, kinds = self._names, {node.name: node for node in self._ir.nodes}
        inner = [k for k, n in enumerate(names) if kinds[n].kind == "voltage" and not kinds[n].terminal]
        rows = np.concatenate([self.static, self.reactive]).transpose(1, 0, 2).reshape(len(names), -1)
        scale = np.abs(rows[[*ends, *inner]]).max(0)
        rows = rows[:, scale > 0] / scale[scale > 0]
        total, ways = rows[ends].sum(0), rows[inner]
        size = np.abs(ways).max(1, initial=0.0)
        inner = [k for k, most in zip(inner, size, strict=True) if most > 0]
        ways, size = ways[size > 0], size[size > 0]
        if not inner:
            return [], np.zeros(0), float(np.abs(total).max(initial=0.0))
        weights = np.linalg.lstsq((ways / size[:, None]).T, -total, rcond=_SINGULAR)[0] / size
        return inner, weights, float(np.abs(total + weights @ ways).max(initial=0.0))

    def on_the_way(self) -> set[str]:
        """Internal nodes through which the currents of the terminals flow, and not to ground."""
        kinds = {node.name: node for node in self._ir.nodes}
        ends = [k for k, n in enumerate(self._names) if kinds[n].terminal]
        inner, weights, _ = self._ways(ends)
        return {self._names[k] for k, weight in zip(inner, weights, strict=True) if abs(weight) > 0.5}

    def kind(self, port: str, opened: Collection[str]) -> str | None:
        """ "shown", "unused", or None: with ``opened`` open, its voltage is not the model's to say."""
        at = self._names.index(port)
        both = np.concatenate([self.static, self.reactive])
        if not both[:, at].any() and not both[:, :, at].any() and not self._at_rest[at]:
            return "unused"
        return "shown" if self._says_something(port, at) and self._determined(at, opened) else None

    def _says_something(self, port: str, at: int) -> bool:
        """Its equation is more than a load: a heater's resistance, or the capacitor of a gate."""
        row = [node.name for node in self._ir.nodes].index(port)
        others = any(e.row == row and e.column != row for e in self._ir.jacobian)
        return others or bool(self._at_rest[at])

    def _determined(self, at: int, opened: Collection[str]) -> bool:
        terminals = set(self._ir.terminals) - set(opened)
        free = [k for k, name in enumerate(self._names) if name not in terminals]
        for static, reactive in zip(self.static, self.reactive, strict=True):
            largest = np.abs(reactive).max(initial=0.0)
            rate = 1.7 * np.abs(static).max(initial=0.0) / largest if largest else 0.0
            matrix = (static + rate * reactive)[np.ix_(free, free)]
            for axis in (1, 0):
                size = np.abs(matrix).max(axis, keepdims=True, initial=0.0)
                matrix = matrix / np.where(size > 0, size, 1.0)
            _, values, vectors = np.linalg.svd(matrix)
            loose = vectors[values <= _SINGULAR * values.max(initial=0.0)]
            if (np.abs(loose[:, free.index(at)]) > _NOTHING).any():
                return False
        return True


def _evaluate(model: TorchModel) -> tuple[np.ndarray, np.ndarray]:
    generator, count = np.random.default_rng(1), len(model.nodes)
    points = generator.uniform(-_SIZE, _SIZE, (count, _POINTS))
    for _ in range(_HALVINGS):
        like = torch.from_numpy(points)
        terms = model(list(like), model.initial({}, like[0]), 1.0)
        found = []
        for entries in (terms.jacobian_resist, terms.jacobian_react):
            matrix = np.zeros((_POINTS, count, count))
            for (row, column), value in entries.items():
                matrix[:, row, column] = torch.as_tensor(value, dtype=like.dtype).expand(_POINTS).numpy()
            found.append(matrix)
        if all(np.isfinite(matrix).all() for matrix in found):
            return found[0], found[1]
        points = 0.5 * points
    raise ModelError(f"{model.ir.name} has no finite slopes near 0 V: its equations overflow there")


def _residuals(model: TorchModel) -> np.ndarray:
    zero = [torch.zeros(1, dtype=torch.float64) for _ in model.nodes]
    terms = model(zero, model.initial({}, zero[0]), 1.0)
    return np.array([float(torch.as_tensor(value)) for value in terms.resist])
