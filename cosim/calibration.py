"""Calibration: fit a cheap engine to an expensive one, and report the error on held-out inputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cosim.arrays import Array, Currents, as_tensor, out_of_memory
from cosim.checks import as_choice, as_instance, as_integer, as_number, as_path, as_seed
from cosim.crossbar import Tile
from cosim.engines import check_tools, find_engine
from cosim.errors import ParseError, SpecError
from cosim.files import write_asked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Calibration", "calibrate"]

_FORMAT = "cosim calibration"
_VERSION = 1
_MOST = 10**7  # vectors: more is a slip
_PER = ("column", "tile", "layer")


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """A straight line from the currents of one engine to those of another.

    gain, offset (A): ``(*tiles, columns)``, with per="tile" ``(*tiles, 1)``, with "layer" all axes 1.
    r2: coefficient of determination on the held-out vectors, over all their currents.
    rmse_before, rmse_after: A, on the held-out vectors, without and with the calibration.
    """

    fast: str
    reference: str
    per: str
    gain: torch.Tensor
    offset: torch.Tensor
    r2: float
    rmse_before: float
    rmse_after: float
    samples: int
    held_out: int
    seed: int
    v_max: float

    def __call__(self, currents: Currents) -> Currents:
        """Calibrated currents ``(*tiles, batch, columns)`` A; differentiable.

        Raises SpecError if the shape does not fit.
        """
        currents = as_tensor(currents, "currents")
        gain, offset = (part[..., None, :].to(currents) for part in (self.gain, self.offset))
        try:
            fits = torch.broadcast_shapes(currents.shape, gain.shape) == currents.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise SpecError(
                f"currents of shape {tuple(currents.shape)} do not fit a calibration of shape "
                f"{tuple(self.gain.shape)}: give (*tiles, batch, columns)"
            )
        return gain * currents + offset

    def save(self, path: str | Path) -> None:
        """Write JSON; ``load`` gives back the same numbers. SpecError where it cannot be written."""
        path = as_path(path, "path")
        values = {**vars(self), "gain": self.gain.tolist(), "offset": self.offset.tolist()}
        text = json.dumps({"format": _FORMAT, "version": _VERSION, **values}, indent=1, allow_nan=False)
        write_asked(path, text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what ``save`` wrote; ParseError for anything else, SpecError if it cannot be read."""
        path = as_path(path, "path")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"path is {str(path)!r}: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ParseError(f"not a calibration: {error}", path=str(path)) from error
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ParseError(f'not a calibration: "format" is not "{_FORMAT}"', path=str(path))
        version = values.pop("version", None)
        if version != _VERSION:
            raise ParseError(
                f"version is {version!r}, this cosim reads {_VERSION}: calibrate again", path=str(path)
            )
        return cls(**_checked(values, str(path)))

    def plot(self) -> Figure:
        """Gain and offset of every column (of every tile, with per="tile")."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes, values, label in ((top, self.gain, "gain"), (bottom, self.offset, "offset, A")):
            axes.plot(values.flatten().tolist(), "o-", markersize=3)
            axes.set_ylabel(label)
        bottom.set_xlabel("column" if self.per == "column" else "tile")
        top.set_title(
            f"{self.fast} to {self.reference}: held-out RMSE {self.rmse_before:.3g} A before, "
            f"{self.rmse_after:.3g} A after"
        )
        return figure


def _checked(values: dict[str, Any], path: str) -> dict[str, Any]:
    """The fields of a file, each of its type; ParseError names the first that is not."""
    kinds: dict[str, Any] = {
        **dict.fromkeys(("fast", "reference", "per"), str),
        **dict.fromkeys(("r2", "rmse_before", "rmse_after", "v_max"), float),
        **dict.fromkeys(("samples", "held_out", "seed"), int),
        **dict.fromkeys(("gain", "offset"), list),
    }
    if set(values) != set(kinds):
        wrong = ", ".join(sorted(set(values) ^ set(kinds)))
        raise ParseError(f"fields missing or not known: {wrong}", path=path)
    for name, kind in kinds.items():
        value = values[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ParseError(f"{name} is {value!r}: expected {kind.__name__}", path=path)
    if values["per"] not in _PER:
        raise ParseError(f"per is {values['per']!r}: expected one of {', '.join(_PER)}", path=path)
    try:
        gain, offset = (torch.tensor(values[name], dtype=torch.float64) for name in ("gain", "offset"))
    except (TypeError, ValueError) as error:
        raise ParseError(f"gain and offset are not arrays of numbers: {error}", path=path) from error
    if gain.shape != offset.shape or not bool((gain.isfinite() & offset.isfinite()).all()):
        raise ParseError("gain and offset must be finite and of one shape", path=path)
    return {**values, "gain": gain, "offset": offset}


def calibrate(
    tile: Tile,
    *,
    fast: str = "linear",
    reference: str = "ngspice",
    samples: int = 64,
    seed: int = 0,
    per: str = "column",
    v_max: float | None = None,
    inputs: Array | None = None,
    test_fraction: float = 0.25,
) -> Calibration:
    """Fit ``reference = gain * fast + offset`` by least squares over input vectors.

    samples: vectors drawn, voltages uniform in 0..v_max V (numpy's default generator, ``seed``).
    v_max: the read voltage of the tile unless given. inputs: ``(batch, rows)`` V, or with the axes of
    the tiles in front, to draw the vectors from instead, without repetition: a line fits best what it
    was fitted to. per: a line for each "column", for each "tile", or one for all tiles of a "layer".
    test_fraction: share of the vectors held out, which r2 and the errors are about.

    A column whose fast currents do not vary keeps gain 1 and gets the mean difference as offset.
    Raises SpecError for a value out of range, SolveError if an engine fails for any vector.

    >>> import cosim
    >>> device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    >>> tile = cosim.Tile(device, conductance=[[1e-4, 1e-5]], wires=cosim.Wires(row=100.0))
    >>> cal = calibrate(tile, fast="ideal", reference="newton", samples=8)
    >>> [f"{gain:.4f}" for gain in cal.gain.tolist()]
    ['0.9891', '0.9881']
    """
    as_instance(tile, "tile", Tile, "cosim.Tile(device, ...)")
    samples, seed = as_integer(samples, "samples", at_least=1, at_most=_MOST), as_seed(seed)
    held_out, per = _held_out(samples, test_fraction), as_choice(per, "per", _PER)
    engines = [find_engine(name) for name in (fast, reference)]
    check_tools((fast, reference))
    voltages = _voltages(tile, samples, seed, v_max, inputs)
    if v_max is None:
        v_max = tile.v_read if inputs is None else float(voltages.abs().max())
    with torch.no_grad():
        cheap, exact = (e.solve(tile, voltages).check().currents.double().cpu().numpy() for e in engines)
    train, test = slice(held_out, None), slice(0, held_out)
    gain, offset = _fit(cheap[..., train, :], exact[..., train, :], per)
    guess = gain[..., None, :] * cheap[..., test, :] + offset[..., None, :]
    truth = exact[..., test, :]
    return Calibration(
        fast=fast,
        reference=reference,
        per=per,
        gain=torch.as_tensor(gain),
        offset=torch.as_tensor(offset),
        r2=_r2(truth, guess),
        rmse_before=float(np.sqrt(np.mean((cheap[..., test, :] - truth) ** 2))),
        rmse_after=float(np.sqrt(np.mean((guess - truth) ** 2))),
        samples=samples,
        held_out=held_out,
        seed=seed,
        v_max=v_max,
    )


def _voltages(tile: Tile, samples: int, seed: int, v_max: float | None, inputs: Array | None) -> torch.Tensor:
    """The vectors to fit and test on, ``(samples, rows)``."""
    generator = np.random.default_rng(seed)
    if inputs is None:
        v_max = tile.v_read if v_max is None else as_number(v_max, "v_max", nonzero=True)
        with out_of_memory(f"drawing {samples} vectors"):
            return torch.as_tensor(generator.uniform(0.0, 1.0, (samples, tile.rows)) * v_max)
    if v_max is not None:
        raise SpecError("give v_max= for random vectors or inputs= for your own, not both")
    pool = tile.check_voltages(inputs)
    if pool.shape[-2] < samples:
        raise SpecError(
            f"inputs of shape {tuple(pool.shape)} cannot give {samples} vectors: give (batch, rows) with "
            f"at least {samples}, or lower samples="
        )
    return pool[..., torch.as_tensor(generator.choice(pool.shape[-2], samples, replace=False)), :]


def _held_out(samples: int, test_fraction: float) -> int:
    """Number of vectors to hold out; SpecError if the options do not leave enough to fit."""
    held_out = max(1, round(samples * as_number(test_fraction, "test_fraction", above=0, below=1)))
    if samples - held_out < 2:
        raise SpecError(f"samples is {samples}: a line needs 2 vectors to fit and 1 held out")
    return held_out


def _fit(cheap: np.ndarray, exact: np.ndarray, per: str) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset, ``(*tiles, columns)``, ``(*tiles, 1)`` or 1, of arrays (*tiles, batch, columns)."""
    tiles = cheap.shape[:-2] if per != "layer" else (1,) * (cheap.ndim - 2)
    groups = (*tiles, cheap.shape[-1] if per == "column" else 1)
    if per == "column":
        cheap, exact = (np.swapaxes(part, -1, -2) for part in (cheap, exact))
    count = math.prod(groups)
    pairs = zip(cheap.reshape(count, -1), exact.reshape(count, -1), strict=True)
    lines = np.array([_line(x, y) for x, y in pairs])
    return lines[:, 0].reshape(groups), lines[:, 1].reshape(groups)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares gain and offset; in units of the spread, for currents are tiny numbers."""
    from sklearn.linear_model import LinearRegression

    spread = float(np.ptp(x))
    if spread <= 1e-12 * float(np.abs(x).max(initial=0.0)):
        return 1.0, float(np.mean(y - x))
    model = LinearRegression().fit(x[:, None] / spread, y / spread)
    return float(model.coef_[0]), float(model.intercept_) * spread


def _r2(truth: np.ndarray, guess: np.ndarray) -> float:
    """Coefficient of determination; an exact guess of constant currents counts as 1."""
    from sklearn.metrics import r2_score

    scale = float(np.abs(truth).max()) or 1.0
    return float(r2_score(truth.ravel() / scale, guess.ravel() / scale))
