"""Files that are asked for: whether they can be written is found out first, and each is written whole."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosim.checks import as_path
from cosim.errors import SpecError

__all__ = ["check_writable", "write_asked", "write_whole"]


def check_writable(folder: Any, *names: str) -> Path:
    """Make ``folder``, and try it and its files ``names`` before the work that they are for begins.

    SpecError if something cannot be written there, or no space is left.

    >>> check_writable("/dev/null/out")
    Traceback (most recent call last):
    cosim.errors.SpecError: /dev/null/out cannot be written (Not a directory): name another folder
    """
    place = as_path(folder, "the folder")
    tried = place
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            file.write(bytes(4096))
        for tried in (place / name for name in names):
            if tried.exists():
                tried.open("ab").close()
    except OSError as error:
        raise SpecError(f"{tried} cannot be written ({error.strerror}): name another folder") from error
    return place


def write_asked(path: Path, content: bytes | str) -> Path:
    """``write_whole`` of a file that was asked for; SpecError where it cannot be."""
    try:
        write_whole(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise SpecError(
            f"{path} cannot be written ({error.strerror}): make room, or name another folder"
        ) from error
    return path


def write_whole(path: Path, content: bytes) -> None:
    """``content`` appears under the name ``path`` at once; where it cannot, OSError and nothing is left."""
    descriptor, name = tempfile.mkstemp(prefix=".cosim-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)  # mkstemp's is for the owner only; a cache may be shared
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
