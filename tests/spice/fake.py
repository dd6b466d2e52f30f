"""A program that poses as ngspice: it says its version, and otherwise does what the test wants."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np

KLU = "print('Using KLU as Direct Linear Solver');"


def fake_ngspice(folder: Path, code: str = "", *, version: str = "******\n** ngspice-46 : Circuit") -> str:
    """Path of a fake that runs the Python text ``code`` in the job's folder."""
    path = folder / "fake-ngspice"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        f"if '--version' in sys.argv:\n    print({version!r})\n    sys.exit(0)\n"
        f"{code}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def raw_bytes(names: list[str], values: list[list[float]]) -> bytes:
    """A binary raw file with one plot."""
    table = "".join(f"\t{k}\t{name}\tvoltage\n" for k, name in enumerate(names))
    array = np.array(values, dtype=np.float64).reshape(-1, len(names))
    return (
        "Title: fake\nPlotname: DC transfer characteristic\nFlags: real\n"
        f"No. Variables: {len(names)}\nNo. Points: {len(array)}\nVariables:\n{table}Binary:\n"
    ).encode() + array.tobytes()


def writes(
    names: list[str], values: list[list[float]], *, code: int = 0, says: str = "", klu: bool = True
) -> str:
    """Code of a fake that writes a raw file, says something on stderr, and ends with ``code``."""
    return (
        f"{KLU if klu else ''}open('result.raw', 'wb').write({raw_bytes(names, values)!r});"
        f"print({says!r}, file=sys.stderr);sys.exit({code})"
    )
