"""Parameters that are drawn anew for every device: ``StochasticParameter`` and ``unpack_parameters``.

Draws come from torch's default generator, as in MemTorch: ``torch.manual_seed`` makes them repeat.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.distributions import Distribution, Normal

from cosim.checks import as_flag, as_integer, as_number
from cosim.errors import SpecError

__all__ = [
    "Dict2Obj",
    "Sampler",
    "StochasticParameter",
    "check_order",
    "draw_resistances",
    "unpack_parameters",
]

_ALIASES = {"mean": "loc", "std": "scale"}  # of Normal, as in MemTorch's case study
_OWN = ("self", "__class__")  # of locals() in a constructor
_RELATIVE = 1e-9  # tolerance of math.isclose
_APART = 1 + 1e-6  # r_off over r_on of a device that cannot be switched


class Dict2Obj:
    """The entries of a dictionary as attributes.

    >>> Dict2Obj({"r_on": 50.0}).r_on
    50.0
    """

    def __init__(self, dictionary: Mapping[str, Any]) -> None:
        if not isinstance(dictionary, Mapping):
            raise SpecError(f"dictionary is {dictionary!r}: give a dictionary")
        self.__dict__.update(dictionary)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no parameter {name!r}: there are {', '.join(self.__dict__)}")


class Sampler:
    """Draws a parameter when called, clamped to min and max. ``mean`` is the mean before clamping."""

    def __init__(self, distribution: Distribution | float, low: float, high: float) -> None:
        self.distribution, self.low, self.high = distribution, low, high

    @property
    def mean(self) -> float:
        mean = self.distribution.mean if isinstance(self.distribution, Distribution) else self.distribution
        return float(torch.as_tensor(mean).double().clamp(self.low, self.high))

    @property
    def constant(self) -> float | None:
        """The one value of a parameter without spread; None with spread."""
        return None if isinstance(self.distribution, Distribution) else self.mean

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Independent draws, float64."""
        if isinstance(self.distribution, Distribution):
            drawn = self.distribution.sample(torch.Size(shape)).double()
        else:
            drawn = torch.full(shape, float(self.distribution), dtype=torch.float64)
        return drawn.clamp(self.low, self.high)

    def __call__(self, return_mean: bool = False) -> float:
        return self.mean if return_mean else float(self.draw(()))

    def __repr__(self) -> str:
        if self.constant is not None:
            return f"{self.constant:g}"
        return f"StochasticParameter({self.distribution}, min={self.low}, max={self.high})"


def StochasticParameter(
    distribution: type[Distribution] | float = Normal,
    min: float = 0,
    max: float = math.inf,
    function: bool = True,
    **kwargs: Any,
) -> Any:
    """A parameter with device-to-device spread; the keyword arguments are those of ``distribution``.

    A number in place of the distribution is the mean of a normal one; ``std`` is its scale, and may
    be 0. Returns a ``Sampler``; with ``function=False`` one drawn number. Raises SpecError for an
    argument that the distribution does not take.

    >>> _ = torch.manual_seed(0)
    >>> sampler = StochasticParameter(loc=200.0, scale=20.0, min=2)
    >>> sampler.mean, 100 < sampler() < 300
    (200.0, True)
    """
    if not isinstance(distribution, type):
        kwargs = {"loc": as_number(distribution, "distribution"), **kwargs}
        distribution = Normal
    if not issubclass(distribution, Distribution):
        raise SpecError(f"distribution is {distribution!r}: give a class of torch.distributions")
    if distribution is Normal:
        kwargs = {_ALIASES.get(name, name): value for name, value in kwargs.items()}
    known = inspect.signature(distribution.__init__).parameters
    for name in kwargs:
        if name not in known or name == "self":
            taken = ", ".join(n for n in known if n not in ("self", "validate_args"))
            raise SpecError(f"{distribution.__name__} has no argument {name!r}; it takes: {taken}")
    least = [n for n, p in known.items() if p.default is p.empty and n not in ("self", "args", "kwargs")]
    if any(name not in kwargs for name in least):
        raise SpecError(f"{distribution.__name__} needs {', '.join(least)}: give them by name")
    low, high = (as_number(v, n, infinite=True) for v, n in ((min, "min"), (max, "max")))
    if not low <= high:
        raise SpecError(f"min is {min} and max is {max}: min must not be above max")
    sampler = Sampler(_distribution(distribution, kwargs), low, high)
    return sampler if as_flag(function, "function") else sampler()


def _distribution(kind: type[Distribution], arguments: Mapping[str, Any]) -> Distribution | float:
    """The distribution, or its mean where it has no spread."""
    values = {name: value for name, value in arguments.items() if name != "validate_args"}
    if kind is Normal:
        values = {name: as_number(value, name) for name, value in values.items()}
        if values["scale"] == 0:
            return values["loc"]
    try:
        made = kind(**arguments)
        mean = torch.as_tensor(made.mean)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise SpecError(f"{kind.__name__} of {dict(arguments)} is no distribution: {error}") from error
    if mean.numel() != 1 or not bool(torch.isfinite(mean).all()):
        raise SpecError(
            f"{kind.__name__} of {dict(arguments)} has the mean {mean}: it must be one finite number"
        )
    return made


def unpack_parameters(
    local_args: Mapping[str, Any],
    r_rel_tol: float | None = None,
    r_abs_tol: float | None = None,
    resample_threshold: int = 5,
) -> Dict2Obj:
    """``local_args`` with every sampler replaced by one draw.

    r_off and r_on are drawn again, at most ``resample_threshold`` times, while r_off is not above r_on
    or closer to it than the tolerances. Raises SpecError where they stay that close.
    """
    if not isinstance(local_args, Mapping):
        raise SpecError(f"local_args is {local_args!r}: give locals(), or another dictionary")
    as_integer(resample_threshold, "resample_threshold", at_least=0)
    for name, value in (("r_rel_tol", r_rel_tol), ("r_abs_tol", r_abs_tol)):
        if value is not None:
            as_number(value, name)
    drawn = {name: _value(value) for name, value in local_args.items() if name not in _OWN}
    if {"r_on", "r_off"} <= set(drawn):
        r_on, r_off = draw_resistances(
            local_args["r_on"], local_args["r_off"], (), r_rel_tol, r_abs_tol, resample_threshold
        )
        drawn |= {"r_on": float(r_on), "r_off": float(r_off)}
    return Dict2Obj(drawn)


def draw_resistances(
    r_on: Any,
    r_off: Any,
    shape: tuple[int, ...],
    r_rel_tol: float | None = None,
    r_abs_tol: float | None = None,
    resample_threshold: int = 5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """r_on and r_off of ``shape`` devices, float64; numbers or samplers. r_off is above r_on.

    Cells that overlap are drawn again; what then still is the wrong way round is exchanged, with a
    warning, and where both are the same (at ``min``, say) a warning tells how many cells that are.
    Raises SpecError where they are equal, within the tolerances, in all devices.
    """
    check_order(r_on, r_off)
    low, high = _draw(r_on, shape), _draw(r_off, shape)
    for _ in range(resample_threshold):
        bad = _overlap(low, high, r_rel_tol, r_abs_tol)
        if not bool(bad.any()) or not (_drawn(r_on) or _drawn(r_off)):
            break
        low = torch.where(bad, _draw(r_on, shape), low)
        high = torch.where(bad, _draw(r_off, shape), high)
    wrong = low > high
    if bool(wrong.any()):
        warnings.warn(
            f"r_on {r_on} and r_off {r_off} overlap: in {int(wrong.sum())} of {wrong.numel()} devices the "
            "lower resistance was taken as r_on",
            UserWarning,
            stacklevel=2,
        )
        low, high = torch.minimum(low, high), torch.maximum(low, high)
    same = _overlap(low, high, r_rel_tol, r_abs_tol)
    if not bool(same.any()):
        return low, high
    if bool(same.all()):
        raise SpecError(
            f"r_on {r_on} and r_off {r_off} are equal, or too close, after {resample_threshold} draws: "
            "give them more distance"
        )
    warnings.warn(
        f"r_on {r_on} and r_off {r_off} are the same in {int(same.sum())} of {same.numel()} devices, which "
        "hold nothing",
        UserWarning,
        stacklevel=2,
    )
    return low, torch.where(same, low * _APART, high)


def check_order(r_on: Any, r_off: Any) -> None:
    """SpecError for two numbers (ohm) the wrong way round; samplers may overlap."""
    for name, value in (("r_on", r_on), ("r_off", r_off)):
        if not _drawn(value):
            as_number(value, f"{name} (ohm)", above=0)
    if not (_drawn(r_on) or _drawn(r_off)) and float(r_on) > float(r_off):
        raise SpecError(f"r_on is {r_on} ohm and r_off is {r_off} ohm: r_off must be above r_on")


def _overlap(
    low: torch.Tensor, high: torch.Tensor, relative: float | None, absolute: float | None
) -> torch.Tensor:
    close = (_RELATIVE if relative is None else relative) * torch.maximum(low.abs(), high.abs())
    return high - low <= torch.clamp(close, min=0.0 if absolute is None else absolute)


def _draw(value: Any, shape: tuple[int, ...]) -> torch.Tensor:
    if isinstance(value, Sampler):
        return value.draw(shape)
    if _drawn(value):
        draw: Callable[[], Any] = value
        drawn = [float(draw()) for _ in range(math.prod(shape))]
        return torch.tensor(drawn, dtype=torch.float64).reshape(shape)
    return torch.full(shape, float(value), dtype=torch.float64)


def _value(value: Any) -> Any:
    return value() if _drawn(value) else value


def _drawn(value: Any) -> bool:
    """True for what gives a number when called: a ``Sampler``, or a function of the user."""
    return callable(value) and not isinstance(value, type | torch.nn.Module)
