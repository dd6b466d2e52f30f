"""What cosim needs on this machine: each thing tried, not only found."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cosim.errors import CosimError, ToolFailed

__all__ = ["Check", "examine"]

_PIP = f"{sys.executable} -m pip install"
_APT_NGSPICE = "apt-get install ngspice  # 42 or newer; on Debian 12 with -t bookworm-backports"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of ``cosim doctor``.

    found: what is there, or what went wrong. remedy: the command that mends it, if it fails.
    essential: False where cosim works without it, with less.
    """

    name: str
    ok: bool
    found: str
    remedy: str
    essential: bool


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """How to try one thing: ``run`` says what is there, or raises."""

    name: str
    run: Callable[[], str]
    remedy: str
    essential: bool = True


def examine() -> Iterator[Check]:
    """Try everything that cosim needs, in the order in which one thing builds on the other.

    >>> next(examine()).name
    'Python'
    """
    for attempt in _ATTEMPTS:
        try:
            ok, found, remedy = True, attempt.run(), ""
        except (CosimError, ImportError, OSError, subprocess.SubprocessError) as error:
            ok, found, remedy = False, " ".join(str(error).split()) or type(error).__name__, attempt.remedy
        yield Check(name=attempt.name, ok=ok, found=found, remedy=remedy, essential=attempt.essential)


def _python() -> str:
    return f"{sys.version.split()[0]}, {sys.executable}"


def _torch() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"{torch.__version__}, no CUDA device"
    return f"{torch.__version__}, CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}"


def _compiler() -> str:
    from cosim.devices.build import compiler

    path, words = compiler()
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "probe.c"), Path(folder, "probe.so")
        source.write_text("#include <math.h>\ndouble probe(double x) { return exp(x); }\n")
        command = [path, "-shared", "-fPIC", str(source), "-lm", "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ToolFailed(f"{path} cannot compile: {done.stderr.strip()[:200]}")
        probe = ctypes.CDLL(str(library)).probe
        probe.restype, probe.argtypes = ctypes.c_double, [ctypes.c_double]
        if probe(0.0) != 1.0:
            raise ToolFailed(f"{path} makes code in which exp(0) is {probe(0.0)}")
    return f"{path}: {words}"


def _cache() -> str:
    from cosim.cache import cache_folder
    from cosim.files import check_writable

    return str(check_writable(cache_folder()))


def _ngspice() -> str:
    from cosim.spice.ngspice import probe

    found = probe()
    return f"version {found.version} with OSDI and KLU, {found.path}"


def _both_engines() -> str:
    """One cell, from its Verilog-A to a current, through torch and through ngspice."""
    import torch

    import cosim

    tile = cosim.Tile(cosim.Device("vteam"), state=torch.full((1, 1), 0.5, dtype=torch.float64))
    currents = {
        engine: cosim.solve(tile, [[0.1]], engine=engine).currents.item() for engine in ("ideal", "ngspice")
    }
    if abs(currents["ngspice"] - currents["ideal"]) > 1e-9 * abs(currents["ideal"]):
        raise ToolFailed(f"ngspice gives {currents['ngspice']} A where torch gives {currents['ideal']} A")
    return "a bundled Verilog-A model gives the same current in torch and in ngspice"


def _pyspice() -> str:
    # in a process of its own: PySpice prints, warns and loads ngspice as a library
    command = [sys.executable, "-W", "ignore", "-c", "import PySpice.Spice.Netlist"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ToolFailed(done.stderr.strip().splitlines()[-1])
    return version("PySpice")


_ATTEMPTS = (
    _Attempt(name="Python", run=_python, remedy=""),
    _Attempt(name="torch", run=_torch, remedy=f"{_PIP} torch"),
    _Attempt(name="C compiler", run=_compiler, remedy="apt-get install gcc libc6-dev"),
    _Attempt(
        name="cache folder",
        run=_cache,
        remedy="export COSIM_CACHE=$HOME/cosim-cache  # any folder that you can write to",
    ),
    _Attempt(name="ngspice", run=_ngspice, remedy=_APT_NGSPICE),
    _Attempt(name="Verilog-A in ngspice", run=_both_engines, remedy=_APT_NGSPICE),
    _Attempt(name="PySpice", run=_pyspice, remedy=f"{_PIP} PySpice", essential=False),
)
