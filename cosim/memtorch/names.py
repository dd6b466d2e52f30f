"""Arguments as MemTorch's versions name them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from cosim.checks import as_number
from cosim.errors import SpecError

__all__ = ["also_called", "check_window", "converter_method"]

P = ParamSpec("P")
R = TypeVar("R")


def also_called(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keyword arguments by further names, ``other="own"``.

    >>> @also_called(bits="quant")
    ... def double(quant): return 2 * quant
    >>> double(bits=3)
    6
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for other, own in names.items():
                if other in kwargs:
                    if own in kwargs:
                        raise SpecError(f"{function.__name__}: {other}= and {own}= are the same: give one")
                    kwargs[own] = kwargs.pop(other)
            return function(*args, **kwargs)

        return call

    return decorate


def converter_method(quant_method: Any) -> Any:
    """``quant_method`` as ``cosim.ADC`` calls it: the documentation writes "min-max".

    >>> converter_method("min-max"), converter_method("log"), converter_method(None)
    ('minmax', 'log', None)
    """
    return "minmax" if quant_method == "min-max" else quant_method


def check_window(x: Any, **above_zero: Any) -> None:
    """SpecError where a window function has no number or array x, or a parameter that is not above 0."""
    if not isinstance(x, np.ndarray | torch.Tensor):
        as_number(x, "x")
    for name, value in above_zero.items():
        as_number(value, name, above=0)
