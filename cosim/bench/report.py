"""The document of a run as Markdown tables and as a figure."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosim.bench.findings import LINEAR
from cosim.files import check_writable, write_asked
from cosim.text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["details", "headline", "plot", "summary", "write"]

_BATCH = 64
_CONTENDERS = ("ideal", "linear", "splu", "splu, symmetric", "badcrossbar", "ngspice")
_NONLINEAR_CONTENDERS = ("newton", "splu Newton", "ngspice")
_COLOURS = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(_CONTENDERS + _NONLINEAR_CONTENDERS))}


def headline(document: dict[str, Any]) -> str:
    """What fits a README: where it ran, the ratios, many tiles in one call."""
    return _join(_origin(document), _ratios(document), _many(document), _missing(document))


def summary(document: dict[str, Any]) -> str:
    """The headline, times with errors, figures of others."""
    return _join(headline(document).rstrip(), _linear(document), _nonlinear(document), _published(document))


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def file_names(name: str) -> tuple[str, str, str]:
    """What ``write`` makes: numbers, tables, figure."""
    return f"{name}.json", f"{name}.md", f"{name}.png"


def write(document: dict[str, Any], folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Write ``name``.json (the document), .md (all tables) and .png to ``folder``."""
    numbers, text, figure = (check_writable(folder) / file for file in file_names(name))
    write_asked(numbers, json.dumps(plain(document), indent=1, allow_nan=False) + "\n")
    write_asked(text, f"# Benchmark\n\n{summary(document)}\n{details(document)}")
    plot(document).savefig(figure, dpi=110)
    return numbers, text, figure


def details(document: dict[str, Any]) -> str:
    """Every measurement: set-up and each batch in ms, median (low to high)."""
    vectors = sorted({int(count) for m in document["measurements"] for count in m["runs"]})
    header = ["case", "size", "contender", "set-up", *(f"{v} vectors" for v in vectors), "error", "note"]
    rows = []
    for m in document["measurements"]:
        runs = {int(count): seconds for count, seconds in m["runs"].items()}
        times = [
            _range([1e3 * s for s in seconds])
            for seconds in (m["setup"], *(runs.get(v, ()) for v in vectors))
        ]
        rows.append([m["case"], m["size"], m["contender"], *times, _error(m), m["note"]])
    growth = [
        [g["case"], g["contender"], g["vectors"], ", ".join(map(str, g["sizes"])), f"{g['exponent']:.2f}"]
        for g in document["growth"]
    ]
    return (
        "\n\n".join(
            [
                "Times in ms, without the set-up unless it has none: median (lowest to highest round).",
                _table(header, rows),
                "Growth: seconds ~ size^p, set-up and solve, least squares of the logarithms.",
                _table(["case", "contender", "vectors", "sizes", "p"], growth),
            ]
        )
        + "\n"
    )


def _origin(document: dict[str, Any]) -> str:
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items() if name != "cosim")
    place = machine.get("gpu", f"{machine['torch_threads']} torch threads")
    return (
        f"One run on {document['date']}: {machine['cpu']}, {machine['cores']} cores, {place}; {versions}. "
        f"Up to {settings['rounds']} interleaved rounds; median (lowest to highest). "
        "Error: largest current error over the largest current."
    )


def _ratios(document: dict[str, Any]) -> str:
    rows = [
        [
            r["title"],
            r["case"],
            f"{r['size']}x{r['size']}",
            _spread(r),
            r["rounds"],
            _errors(r),
        ]
        for r in document["ratios"]
    ]
    return (
        _table(["time of A / B", "cells, wires", "tile", "ratio", "rounds", "error A / B"], rows)
        if rows
        else ""
    )


def _errors(ratio: dict[str, Any]) -> str:
    pair = (ratio["upper_error"], ratio["lower_error"])
    return " / ".join("reference" if error is None else _scientific(error) for error in pair)


def _linear(document: dict[str, Any]) -> str:
    """Set-up and up to 64 vectors, one line for each size, growth below."""
    found = {(m["size"], m["contender"]): m for m in document["measurements"] if m["case"] == LINEAR}
    names = [name for name in _CONTENDERS if any(m["runs"] for (_, n), m in found.items() if n == name)]
    if not names:
        return ""
    vectors = _common_batch(m for m in found.values() if m["runs"])
    rows: list[list[Any]] = []
    for size in sorted({size for size, _ in found}):
        cells = [_cell(found.get((size, name)), vectors, 1e3) for name in names]
        rows.append([f"{size}x{size}", *cells])
    rows.append(["growth", *(_growth(document, LINEAR, name) for name in names)])
    title = f"{LINEAR.capitalize()}: {vectors} vectors with the set-up, ms (error)."
    return f"{title}\n\n{_table(['tile', *names], rows)}"


def _nonlinear(document: dict[str, Any]) -> str:
    """Milliseconds per vector of the largest batch that ran."""
    measured = [m for m in document["measurements"] if m["case"] != LINEAR]
    found = {(m["case"], m["size"], m["contender"]): m for m in measured}
    rows: list[list[Any]] = []
    for case in dict.fromkeys(m["case"] for m in measured):
        for size in sorted({m["size"] for m in measured if m["case"] == case}):
            cells = []
            for name in _NONLINEAR_CONTENDERS:
                m = found.get((case, size, name))
                vectors = max(map(int, m["runs"]), default=0) if m else 0
                text = _cell(m, vectors, 1e3 / max(vectors, 1))
                cells.append(f"{text}, of {vectors}" if vectors else text)
            rows.append([case, f"{size}x{size}", *cells])
        powers = [_growth(document, case, name) for name in _NONLINEAR_CONTENDERS]
        if any(powers):
            rows.append([case, "growth", *powers])
    if not rows:
        return ""
    title = "Nonlinear cells: ms per vector (error), of so many vectors in one call."
    return f"{title}\n\n{_table(['cells, wires', 'tile', *_NONLINEAR_CONTENDERS], rows)}"


def _common_batch(measurements: Any) -> int:
    """The largest batch up to 64 that was timed."""
    return max((int(v) for m in measurements for v in m["runs"] if int(v) <= _BATCH), default=0)


def _cell(measurement: dict[str, Any] | None, vectors: int, scale: float) -> str:
    seconds = _total(measurement, vectors) if measurement else []
    if not measurement or not seconds:
        return ""
    error = _error(measurement)
    return _number(scale * statistics.median(seconds)) + (f" ({error})" if error else "")


def _total(measurement: dict[str, Any], vectors: int) -> list[float]:
    runs = {int(count): seconds for count, seconds in measurement["runs"].items()}.get(vectors, [])
    setup = measurement["setup"] or [0.0] * len(runs)
    return [a + b for a, b in zip(setup, runs, strict=False)]


def _growth(document: dict[str, Any], case: str, name: str) -> str:
    found = [g for g in document["growth"] if (g["case"], g["contender"]) == (case, name)]
    return f"n^{found[0]['exponent']:.1f}" if found else ""


def _error(measurement: dict[str, Any]) -> str:
    return "" if measurement["error"] is None else _scientific(measurement["error"])


def _scientific(error: float | None) -> str:
    return "not a number" if error is None or math.isnan(error) else f"{error:.1e}"


def _many(document: dict[str, Any]) -> str:
    lines = []
    for m in document["memory"]:
        what = (
            f"{m['tiles']} tiles of {m['size']}x{m['size']}, a batch of {m['vectors']} each, `{m['engine']}`"
        )
        if "peak_bytes" not in m:
            lines.append(f"- {what}: {m['note']}")
            continue
        gib = f"peak memory {m['peak_bytes'] / 2**30:.2f} GiB"
        if "device_peak_bytes" in m:
            gib += f" (GPU {m['device_peak_bytes'] / 2**30:.2f} GiB)"
        solved = f"{m['solved']} of {m['tiles'] * m['vectors']} vectors solved"
        lines.append(f"- {what}: {gib}, {m['seconds']:.3g} s, {solved}")
    for t in document["throughput"]:
        rate = _spread(t["tiles_per_second"])
        lines.append(
            f"- G_eff of {t['tiles']} tiles of {t['size']}x{t['size']} in one call, {t['dtype']}: "
            f"{rate} tiles per second, "
            f"error {_scientific(t['error'])}"
        )
    return "\n".join(lines)


def _missing(document: dict[str, Any]) -> str:
    """Contenders that ran nowhere, with the reason, which holds the command that installs them."""
    measured = document["measurements"]
    ran = {m["contender"] for m in measured if m["runs"]}
    absent = {m["contender"]: m["note"] for m in measured if m["contender"] not in ran}
    return "\n".join(f"- {name}: {note}" for name, note in absent.items())


def _published(document: dict[str, Any]) -> str:
    published = document.get("published")
    if not published:
        return ""
    rows = [
        [f["what"], f"{f['size']}x{f['size']}", f["vectors"], _number(1e3 * f["seconds"]), f["error"] or ""]
        for f in published["figures"]
    ]
    table = _table(["what", "tile", "vectors", "ms", "error"], rows)
    return f"**Not of this run**, for orientation: {published['source']}\n\n{table}"


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{_number(statistics.median(values))} ({_number(min(values))} to {_number(max(values))})"


def _spread(found: dict[str, Any]) -> str:
    return f"{_number(found['median'])} ({_number(found['low'])} to {_number(found['high'])})"


def _number(value: float) -> str:
    """Three digits, without an exponent where that reads better."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e7 else f"{value:.3g}"


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


# --- figure ----------------------------------------------------------------------------------------


def plot(document: dict[str, Any]) -> Figure:
    """Time against size: linear cells (up to 64 vectors with the set-up), nonlinear cells (per vector)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = document["measurements"]
    vectors = _common_batch(m for m in measured if m["case"] == LINEAR)
    nonlinear = [m for m in measured if m["case"] != LINEAR]
    sinh = nonlinear[0]["case"] if nonlinear else ""
    for name in _CONTENDERS:
        _curve(left, [m for m in measured if (m["case"], m["contender"]) == (LINEAR, name)], vectors)
    for name in _NONLINEAR_CONTENDERS:
        _curve(right, [m for m in nonlinear if (m["case"], m["contender"]) == (sinh, name)], 0)
    left.set(ylabel="ms", title=f"{LINEAR}: {vectors} vectors with the set-up")
    right.set(ylabel="ms per vector of the largest batch", title=sinh)
    for axes in (left, right):
        axes.set(xlabel="rows and columns", xscale="log", yscale="log")
        axes.set_xticks(
            sorted({m["size"] for m in measured}), [str(s) for s in sorted({m["size"] for m in measured})]
        )
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if axes.lines or axes.containers:
            axes.legend(fontsize=8)
    return figure


def _curve(axes: Any, measurements: Sequence[dict[str, Any]], vectors: int) -> None:
    """Median with the spread as bars; vectors 0: per vector of the largest batch."""
    points = []
    for m in measurements:
        batch = vectors or max(map(int, m["runs"]), default=0)
        if seconds := _total(m, batch):
            share = 1e3 / (1 if vectors else batch)
            points.append((m["size"], *(share * f(seconds) for f in (statistics.median, min, max))))
    if not points:
        return
    sizes, middle, low, high = zip(*points, strict=True)
    errors = [m["error"] for m in measurements if m["error"] is not None]
    label = measurements[0]["contender"] + (f" (error {max(errors):.0e})" if errors else " (reference)")
    bars = [
        [m - a for m, a in zip(middle, low, strict=True)],
        [b - m for m, b in zip(middle, high, strict=True)],
    ]
    axes.errorbar(
        sizes,
        middle,
        yerr=bars,
        marker="o",
        capsize=3,
        label=label,
        color=_COLOURS[measurements[0]["contender"]],
    )
