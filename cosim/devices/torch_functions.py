"""Functions of the opcodes in torch, for the text that ``print_torch`` writes.

Where a function has a value but its slope is an infinity or NaN, autograd gets the slope of a point
beside it, as ``derivatives`` gives it to the Jacobian: 0 times an infinity would lose every gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from cosim.devices.ir import BESIDE

__all__ = ["NAMES"]

_Real: TypeAlias = torch.Tensor | float


def _guarded(
    function: Callable[..., Any], moved: int, singular: Callable[..., Any], step: Callable[[Any], Any]
) -> Callable[..., Any]:
    """``function``, its gradient taken where operand ``moved`` is ``step`` of itself further on.

    singular: tells from the operands where that has to be; elsewhere it is the function as it is.
    """

    def call(*operands: _Real) -> Any:
        value = function(*operands)
        if not (torch.is_grad_enabled() and isinstance(value, torch.Tensor) and value.requires_grad):
            return value
        with torch.no_grad():
            here = singular(*operands)
            if value.device.type == "cpu" and not bool(here.any()):
                return value
            away = torch.where(here, step(operands[moved]), 0.0)
        beside = function(*operands[:moved], operands[moved] + away, *operands[moved + 1 :])
        # the value itself may not be part of the graph: a slope of infinity times 0 is NaN there
        return beside + torch.where(here, value - beside, 0.0).detach()

    return call


def _at_zero(*operands: Any) -> Any:
    return operands[-1] == 0


def _at_one(x: torch.Tensor) -> torch.Tensor:
    return x.abs() == 1


def _both_zero(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a == 0) & (b == 0)


def _steep_power(base: _Real, exponent: _Real) -> torch.Tensor:
    return torch.as_tensor((base == 0) & (exponent < 1))  # type: ignore[operator]  # one of them is a tensor


def _inwards(x: torch.Tensor) -> torch.Tensor:
    """From 1 or -1 to the next number towards 0."""
    return -0.5 * torch.finfo(x.dtype).eps * x


def _overflows(x: torch.Tensor) -> torch.Tensor:
    return (x.abs() > math.log(torch.finfo(x.dtype).max)) & torch.isfinite(x)


def _back(x: torch.Tensor) -> torch.Tensor:
    """From where an exponential overflows to where it does not yet."""
    return torch.copysign(torch.full_like(x, math.log(torch.finfo(x.dtype).max)), x) * 0.999 - x


def _pow_slope(x: torch.Tensor, y: Any, value: torch.Tensor) -> torch.Tensor:
    y = torch.as_tensor(y, dtype=value.dtype, device=value.device)
    at_zero = torch.where(y > 1, 0.0, torch.where(y == 1, 1.0, y / BESIDE))
    zero = x == 0
    return torch.where(zero, at_zero, y * value / torch.where(zero, 1.0, x))


def _ln_positive(x: torch.Tensor) -> torch.Tensor:
    above = x > 0
    return torch.where(above, torch.log(torch.where(above, x, 1.0)), 0.0)


def _nearest(value: torch.Tensor) -> torch.Tensor:
    whole = torch.trunc(value)
    return (whole + torch.sign(value) * ((value - whole).abs() >= 0.5)).to(torch.int32)


def _shift(value: torch.Tensor, count: torch.Tensor, left: bool) -> torch.Tensor:
    wide = value.to(torch.int64) & 0xFFFFFFFF
    safe = count.clamp(0, 31)
    moved = (wide << safe) & 0xFFFFFFFF if left else wide >> safe
    moved = torch.where(moved >= 2**31, moved - 2**32, moved)
    return torch.where((count >= 0) & (count < 32), moved, 0).to(torch.int32)


def _clog2(value: torch.Tensor) -> torch.Tensor:
    exponents = torch.arange(31, device=value.device)
    return ((2**exponents) < value[..., None]).sum(-1).to(torch.int32)


def _signed(value: int) -> int:
    """The 64-bit word as torch has it."""
    return value - 2**64 if value >= 2**63 else value


def _mixed(state: torch.Tensor, shift: int, factor: int) -> torch.Tensor:
    """(state ^ (state >> shift)) * factor, of words without a sign."""
    return (state ^ ((state >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)


def _uniform(*key: torch.Tensor) -> torch.Tensor:
    state = torch.zeros((), dtype=torch.int64, device=key[0].device)
    for word in key:
        state = (state ^ (word.to(torch.int64) & 0xFFFFFFFF)) + _signed(0x9E3779B97F4A7C15)
        state = _mixed(state, 30, 0xBF58476D1CE4E5B9)
        state = _mixed(state, 27, 0x94D049BB133111EB)
        state = _mixed(state, 31, 1)
    return (((state >> 12) & (2**52 - 1)).to(torch.float64) + 0.5) * 2.0**-52


def _constant(value: float) -> Callable[[Any], float]:
    return lambda operand: value


# what the printed text may call, by name
NAMES: dict[str, Any] = {
    "torch": torch,
    "inf": math.inf,
    "nan": math.nan,
    "divide": _guarded(lambda a, b: a / b, 1, _at_zero, _constant(BESIDE)),
    "sqrt": _guarded(torch.sqrt, 0, _at_zero, _constant(BESIDE * BESIDE)),
    "log": _guarded(torch.log, 0, _at_zero, _constant(BESIDE)),
    "log10": _guarded(torch.log10, 0, _at_zero, _constant(BESIDE)),
    "asin": _guarded(torch.asin, 0, _at_one, _inwards),
    "acos": _guarded(torch.acos, 0, _at_one, _inwards),
    "atanh": _guarded(torch.atanh, 0, _at_one, _inwards),
    "acosh": _guarded(torch.acosh, 0, lambda x: x == 1, lambda x: torch.finfo(x.dtype).eps),
    **{name: _guarded(getattr(torch, name), 0, _overflows, _back) for name in ("exp", "sinh", "cosh")},
    "power": _guarded(torch.pow, 0, _steep_power, _constant(BESIDE * BESIDE)),
    "hypot": _guarded(torch.hypot, 1, _both_zero, _constant(BESIDE)),
    "atan2": _guarded(torch.atan2, 1, _both_zero, _constant(BESIDE)),
    "uniform": _uniform,
    "pow_slope": _pow_slope,
    "ln_positive": _ln_positive,
    "nearest": _nearest,
    "clog2": _clog2,
    "shift_left": lambda value, count: _shift(value, count, left=True),
    "shift_right": lambda value, count: _shift(value, count, left=False),
}
