"""The C text of newton: compiled at the first use behind a device's loop over cells, and called from Python.

Without a C compiler there is no library, and everything runs in torch: the same results, later. A
warning says so, once.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cosim.devices.build import build
from cosim.devices.print_cells import CellLoop
from cosim.errors import ToolFailed, ToolNotFound

__all__ = ["LANES", "Task", "library", "numbers", "pointers", "spread"]

LANES = 16  # columns of a row that are worked on at once: the floats of the longest vector registers

_pointer, _number = ctypes.c_void_p, ctypes.c_int64


class Task(ctypes.Structure):
    """``Task`` of newton.c."""

    _fields_ = (
        *((name, _number) for name in ("tiles", "batch", "rows", "columns", "steps")),
        ("constants", _pointer),
        ("fields", _pointer),
        ("field_strides", _pointer),
        ("lines", _pointer * 4),
        ("rough", _pointer * 4),
        ("lines_stride", _number),
        ("drive", _pointer),
        ("drive_strides", _number * 4),
        ("current", _pointer),
        ("tolerance", ctypes.c_double),
        *((name, _number) for name in ("turned", "max_steps", "max_products")),
        *((name, _pointer) for name in ("solved", "iterations", "products")),
        ("next", _number),
    )
    kept: Any = None  # what the pointers lead to, for as long as a thread has the task


def library(loop: CellLoop, like: torch.Tensor) -> ctypes.CDLL | None:
    """``newton.c`` for the cells of ``loop``; None without a compiler, or for other tensors."""
    return _load(loop.text) if like.device.type == "cpu" and like.dtype == torch.float64 else None


@functools.cache
def _load(cells: str) -> ctypes.CDLL | None:
    try:
        loaded = ctypes.CDLL(str(build(_text(cells), "newton", fast=True)))
    except (ToolNotFound, ToolFailed, OSError) as error:
        _tell(f"newton takes several times as long, without compiled code: {error}")
        return None
    loaded.cosim_solve.argtypes = [ctypes.POINTER(Task)]
    return loaded


@functools.cache
def _tell(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _text(cells: str) -> str:
    here = Path(__file__).parent
    drop = (here / "drop.h").read_text()
    parts = [cells, f"#define LANES {LANES}"]
    for real, suffix in (("float", "f"), ("double", "d")):
        head = [f"#define REAL {real}", f"#define NAME(name) name##_{suffix}"]
        parts += [*head, drop, "#undef REAL", "#undef NAME"]
    parts.append((here / "newton.c").read_text())
    return "\n".join(parts)


def spread(field: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """A value for all cells, or one that broadcasts with ``(tiles, rows, batch, columns)``, for each cell."""
    if field.ndim < 4:
        field = field.reshape(1, 1, 1, 1)
    field = field.double()  # C reads what lies there: a parameter may be float32 beside float64 states
    return field.expand(field.shape[0], shape[0], field.shape[2], shape[1])


def pointers(parts: Sequence[torch.Tensor | None]) -> ctypes.Array:
    return (_pointer * len(parts))(*(None if part is None else part.data_ptr() for part in parts))


def numbers(values: Sequence[int]) -> ctypes.Array:
    return (_number * len(values))(*values)
