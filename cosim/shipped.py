"""Folders of data that lie beside the package in a checkout and inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NETLISTS", "VERILOG_A"]

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    """The wheel's folder, or the checkout's: pyproject.toml maps the second to the first."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


VERILOG_A = _folder("verilog_a")
NETLISTS = _folder("netlists")
