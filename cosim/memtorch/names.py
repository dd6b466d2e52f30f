"""Arguments as MemTorch's versions name them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from cosim.errors import SpecError

__all__ = ["also_called", "converter_method"]

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
