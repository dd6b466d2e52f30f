"""The method of the integrators: a Runge-Kutta tableau, and how steps are chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = [
    "ESDIRK32",
    "FIRST_STEP",
    "GROW",
    "LATCH",
    "NEWTON_LIMIT",
    "NEWTON_TOLERANCE",
    "RESTART",
    "RETREAT",
    "SAFETY",
    "SHRINK",
    "SMALLEST_STEP",
    "Tableau",
]

NEWTON_LIMIT = 6  # iterations; a stage that needs more gets a smaller step instead
# part of the error tolerance: Newton is quadratic, so the step that is still made leaves far less
NEWTON_TOLERANCE = 0.1
SAFETY, SHRINK, GROW, RETREAT = 0.9, 0.1, 5.0, 0.25  # step controller
LATCH = 1e-6  # of the sample distance: a shorter step without a solution is one that a switch leaves none
RESTART = 1e-9  # of the last step: of an implicit Euler step that only brings a jump into balance
FIRST_STEP = 0.01  # of the sample distance
SMALLEST_STEP = 1e-12  # of the sample distance: below it, time differences lose their digits


@dataclass(frozen=True)
class Tableau:
    """An ESDIRK method: an explicit stage, then stages with one diagonal ``gamma``; the last is the result.

    a[i]: coefficients of the rates of the stages before i; embedded: weights of the lower-order result.
    """

    gamma: float
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    embedded: tuple[float, ...]
    order: int

    @property
    def derivative(self) -> list[float]:
        """Weights w: dy/dt at the end = sum_j w_j (Y_j - y_n)/h over the implicit stages.

        The method is L-stable, so this does not depend on the rate at the start of the step.
        """
        return np.linalg.inv(self._implicit)[-1].tolist()

    @property
    def error(self) -> list[float]:
        """Weights w: the difference of the two results = sum_j w_j (Y_j - y_n) over the implicit stages.

        Taken from values and not from rates, it is bounded where the circuit is stiff and needs no filter.
        """
        difference = np.array([*self.a[-1], self.gamma]) - np.array(self.embedded)
        return np.linalg.solve(self._implicit.T, difference[1:]).tolist()

    @property
    def _implicit(self) -> np.ndarray:
        """The coefficients without the explicit first stage."""
        size = len(self.c) - 1
        matrix = np.diag(np.full(size, self.gamma))
        for i, row in enumerate(self.a[1:]):
            matrix[i, : len(row) - 1] = row[1:]
        return matrix

    def predictor(self, stage: int) -> list[float]:
        """Weights that extrapolate the stages before ``stage`` (at least two) to it, by Lagrange."""
        nodes, at = self.c[:stage], self.c[stage]
        return [math.prod((at - x) / (node - x) for x in nodes if x != node) for node in nodes]


# ESDIRK3(2)4L[2]SA: order 3, embedded order 2, L-stable, stiffly accurate.
# C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44, 139-181, 2003.
_GAMMA = 1767732205903 / 4055673282236
ESDIRK32 = Tableau(
    gamma=_GAMMA,
    c=(0.0, 2 * _GAMMA, 0.6, 1.0),
    a=(
        (),
        (_GAMMA,),
        (2746238789719 / 10658868560708, -640167445237 / 6845629431997),
        (
            1471266399579 / 7840856788654,
            -4482444167858 / 7529755066697,
            11266239266428 / 11593286722821,
        ),
    ),
    embedded=(
        2756255671327 / 12835298489170,
        -10771552573575 / 22201958757719,
        9247589265047 / 10645013368117,
        2193209047091 / 5459859503100,
    ),
    order=3,
)
