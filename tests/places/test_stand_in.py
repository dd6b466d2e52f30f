"""The cases of test_places on the stand-in, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places.stand_in import ALONE


@pytest.mark.slow
def test_the_stand_in_agrees_with_the_cpu():
    """torch counts the devices at its first gradient, and other tests of this process may have taken one."""
    if shutil.which("g++") is None:
        pytest.skip("the stand-in needs g++: apt install g++")
    cases = str(Path(__file__).with_name("test_places.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", cases]
    done = subprocess.run(
        command, env={**os.environ, ALONE: "1"}, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
