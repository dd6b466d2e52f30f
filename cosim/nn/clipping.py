"""Clipping: how much of what passed drivers and ADCs was outside their ranges; a large share is told once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cosim.errors import CosimWarning

__all__ = ["Clipping", "Tally"]

_LARGE = 0.05  # share beyond what was asked for: well above the tail that a calibration leaves


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """Shares of one product, of everything that it computed since its ranges were set.

    inputs: values that the DAC clipped. vectors: input vectors beyond full scale, which were driven
    weaker as a whole; they lose nothing but signal. currents: conversions beyond the ADC's range.

    >>> str(Clipping(name="fc", currents=0.25))
    "fc: 25 % of the currents beyond the ADC's range"
    """

    name: str
    inputs: float = 0.0
    vectors: float = 0.0
    currents: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.inputs or self.vectors or self.currents)

    def __str__(self) -> str:
        parts = (
            (self.inputs, "of the inputs clipped by the DAC"),
            (self.vectors, "of the input vectors beyond full scale and driven weaker"),
            (self.currents, "of the currents beyond the ADC's range"),
        )
        return f"{self.name}: " + ", ".join(f"{100 * share:.2g} % {what}" for share, what in parts if share)


class Tally:
    """Counts what lies outside, on the device where it is found.

    The counts are read after 1, 2, 4, 8, ... additions, so that a GPU is seldom waited for.
    """

    def __init__(self) -> None:
        self._outside: dict[str, torch.Tensor] = {}
        self._all: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._told = False

    def add(self, what: str, outside: torch.Tensor) -> bool:
        """Count booleans; True when it is time to look at ``share``."""
        found = outside.detach().sum()
        before = self._outside.get(what)
        self._outside[what] = found if before is None else before.to(found.device) + found
        self._all[what] = self._all.get(what, 0) + outside.numel()
        times = self._times[what] = self._times.get(what, 0) + 1
        return not self._told and times & (times - 1) == 0

    def share(self, what: str) -> float:
        """What was outside, of all; 0 where nothing was counted."""
        return int(self._outside[what]) / self._all[what] if self._all.get(what) else 0.0

    def tell(self, what: str, message: Callable[[float], str], *, allowed: float = 0.0) -> None:
        """Warn, once for this tally, if the share is well above ``allowed``."""
        share = self.share(what)
        if share > allowed + _LARGE:
            self._told = True
            warnings.warn(message(share), CosimWarning, stacklevel=2)
