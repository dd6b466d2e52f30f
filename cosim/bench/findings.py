"""What follows from the times: the ratios that one wants to know, and how times grow with the size."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cosim.bench.measure import Measurement, growth, spread

__all__ = [
    "HEADLINE_LINEAR",
    "HEADLINE_NONLINEAR",
    "LINEAR",
    "SINH",
    "STANFORD",
    "STEEP",
    "find",
    "find_growth",
    "find_ratios",
]

LINEAR = "linear cells, 2 ohm"
SINH = "sinh cells, 0.3 V, 2 ohm"
STEEP = "sinh cells, 1 V, 5 ohm"
STANFORD = "Stanford cells, 0.3 V, 2 ohm"
HEADLINE_LINEAR, HEADLINE_NONLINEAR = 256, 128  # sizes of the ratios, or the largest below that ran
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class _Ratio:
    """upper over lower, each a contender; part: which of their times, see ``_parts``."""

    title: str
    case: str
    upper: str
    lower: str
    part: str
    lower_part: str = ""


_RATIOS = (
    _Ratio(
        title="G_eff once / splu: factorisation and one solve",
        case=LINEAR,
        upper="linear",
        part="set-up",
        lower="splu",
        lower_part="one",
    ),
    _Ratio(
        title="G_eff once / splu in symmetric mode: factorisation and one solve",
        case=LINEAR,
        upper="linear",
        part="set-up",
        lower="splu, symmetric",
        lower_part="one",
    ),
    _Ratio(
        title="linear / ideal product: each further vector",
        case=LINEAR,
        upper="linear",
        lower="ideal",
        part="vector",
    ),
    _Ratio(
        title="splu / linear: each further vector", case=LINEAR, upper="splu", lower="linear", part="vector"
    ),
    _Ratio(
        title="badcrossbar / linear: batch of {vectors} with set-up",
        case=LINEAR,
        upper="badcrossbar",
        lower="linear",
        part="batch",
    ),
    _Ratio(
        title="ngspice / linear: batch of {vectors} with set-up",
        case=LINEAR,
        upper="ngspice",
        lower="linear",
        part="batch",
    ),
    *(
        _Ratio(title=f"{peer} / newton: {what}", case=case, upper=peer, lower="newton", part=part)
        for case in (SINH, STEEP, STANFORD)
        for peer, what, part in (
            ("ngspice", "batch of {vectors}", "batch"),
            ("splu Newton", "each vector of the largest batch", "vector"),
        )
    ),
)


def find(measurements: Sequence[Measurement], case: str, contender: str) -> dict[int, Measurement]:
    """What was measured of a contender on a kind of case, by size."""
    return {m.size: m for m in measurements if (m.case, m.contender) == (case, contender) and m.runs}


def find_ratios(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Median, low and high over the rounds of every ratio of which both sides ran.

    upper_error and lower_error: of the two contenders, with what they are errors against.
    """
    found = (_ratio(ratio, measurements) for ratio in _RATIOS)
    return [ratio for ratio in found if ratio is not None]


def _ratio(ratio: _Ratio, measurements: Sequence[Measurement]) -> dict[str, Any] | None:
    upper = find(measurements, ratio.case, ratio.upper)
    lower = find(measurements, ratio.case, ratio.lower)
    most = HEADLINE_LINEAR if ratio.case == LINEAR else HEADLINE_NONLINEAR
    for size in sorted(upper.keys() & lower.keys(), reverse=True):
        above, below = upper[size], lower[size]
        vectors = max((v for v in above.runs if v in below.runs and v <= _BATCH), default=0)
        top = _parts(above, ratio.part, vectors)
        bottom = _parts(below, ratio.lower_part or ratio.part, vectors)
        values = [a / b for a, b in zip(top, bottom, strict=False)]  # the same rounds
        if size <= most and values:
            return {
                "title": ratio.title.format(vectors=vectors),
                "case": ratio.case,
                "size": size,
                **asdict(spread(values)),
                "upper_error": above.error,
                "lower_error": below.error,
                "reference": above.reference or below.reference,
            }
    return None


def _parts(measurement: Measurement, part: str, vectors: int) -> tuple[float, ...]:
    if part == "set-up":
        return measurement.setup
    if part == "vector":
        return measurement.per_vector()
    return measurement.total(1 if part == "one" else vectors)


def find_growth(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Exponent p of seconds ~ size^p for each contender and kind of case that ran at two sizes or more.

    Of set-up and solve together, for the same number of vectors at every size (at most 64).
    """
    found = []
    for case, contender in dict.fromkeys((m.case, m.contender) for m in measurements):
        sizes = find(measurements, case, contender)
        common = set.intersection(*(set(m.runs) for m in sizes.values())) if sizes else set()
        vectors = max((v for v in common if v <= _BATCH), default=0)
        if len(sizes) > 1 and vectors:
            seconds = [statistics.median(m.total(vectors)) for m in sizes.values()]
            found.append(
                {
                    "case": case,
                    "contender": contender,
                    "vectors": vectors,
                    "sizes": list(sizes),
                    "exponent": growth(list(sizes), seconds),
                }
            )
    return found
