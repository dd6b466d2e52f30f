"""The cache of compiled models: what is made once is found again, if it is still what was written.

The name of a file holds a key, the digest of all that decides its content, and the digest of the
content. One that is damaged is removed and made anew. Beyond a limit, those go that were not used for
the longest time.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from cosim.errors import SpecError, ToolFailed
from cosim.files import write_whole

__all__ = ["Contents", "cache_folder", "clear", "fetch", "look"]

_LIMIT = 512 << 20  # bytes; some thousand models
_PATIENCE = 10.0  # s to wait for another process that makes the same; it takes 1 to 3
_YOUNG = 60.0  # s in which a file that was used is not removed: another process may be about to read it
_KINDS = {"json": "compiled models", "osdi": "libraries for ngspice", "so": "code of newton"}
# with and without the content's digest: earlier versions wrote none
_ENTRY = re.compile(r"(?s).+-[0-9a-f]{24}(-[0-9a-f]{16})?\.(?P<kind>json|osdi|so)\Z")
_LEFTOVER = re.compile(r"(?s).+-[0-9a-f]{24}(\.json|\.osdi|\.so)\.lock\Z|\.cosim-.+\Z")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kMGT]?)(?:i?B)?\Z", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the cache holds: files and bytes, in all and of each kind; limit: bytes it may grow to."""

    folder: Path
    limit: int
    files: int
    bytes: int
    kinds: dict[str, tuple[int, int]]


def cache_folder() -> Path:
    """Where compiled models are kept: ``$COSIM_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("COSIM_CACHE") or platformdirs.user_cache_dir("cosim"))


def look() -> Contents:
    """What is in the cache now."""
    found = list(_files())
    kinds: dict[str, tuple[int, int]] = dict.fromkeys((*_KINDS.values(), "leftovers"), (0, 0))
    for _, kind, size, _ in found:
        files, total = kinds[kind]
        kinds[kind] = (files + 1, total + size)
    total = sum(size for *_, size, _ in found)
    return Contents(folder=cache_folder(), limit=_limit(), files=len(found), bytes=total, kinds=kinds)


def clear() -> None:
    """Remove everything that cosim put there, and nothing else. What is running keeps what it has loaded."""
    with _writable():
        for path, *_ in _files():
            _remove(path)


def fetch(name: str, key: str, suffix: str, make: Callable[[], bytes]) -> Path:
    """The file for ``key``, 24 hexadecimal digits: as it was written, or else with what ``make`` gives.

    Raises ToolFailed where the cache cannot be written, SpecError for a limit that is not a size.
    """
    limit, folder, stem = _limit(), cache_folder(), f"{name}-{key}"
    found = _find(folder, stem, suffix)
    if found is not None:
        return found
    with _writable():
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{stem}{suffix}.lock"):
        found = _find(folder, stem, suffix)
        if found is None:
            content = make()
            found = folder / f"{stem}-{_digest(content)}{suffix}"
            with _writable():
                write_whole(found, content)
    _trim(limit, found)
    return found


def _find(folder: Path, stem: str, suffix: str) -> Path | None:
    """The file if its content is that of its name; any other is removed, and so is what is no file."""
    for path in folder.glob(f"{glob.escape(stem)}-*{suffix}"):
        with contextlib.suppress(OSError):  # gone in the meantime
            # a pipe or a device in its place would be read for ever
            if path.is_file() and path.name == f"{stem}-{_digest(path.read_bytes())}{suffix}":
                with contextlib.suppress(OSError):  # a cache that is only read
                    os.utime(path)
                return path
        _remove(path)
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ToolFailed(
            f"the cache folder {cache_folder()} cannot be written ({error}): set COSIM_CACHE to one that can"
        ) from error


# --- its size ---------------------------------------------------------------------------------------


def _limit() -> int:
    text = os.environ.get("COSIM_CACHE_LIMIT")
    if not text:
        return _LIMIT
    match = _SIZE.match(text.strip())
    if match is None:
        raise SpecError(f"COSIM_CACHE_LIMIT is {text!r}: give a number of bytes, such as 500M or 2G")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def _files() -> Iterator[tuple[Path, str, int, float]]:
    """Every file of ours: path, kind, bytes, and when it was last used (s since 1970)."""
    if not cache_folder().is_dir():
        return
    for path in cache_folder().iterdir():
        entry = _ENTRY.match(path.name)
        if entry is None and not _LEFTOVER.match(path.name):
            continue
        with contextlib.suppress(OSError):  # removed by another process
            stat = path.stat(follow_symlinks=False)
            yield path, _KINDS[entry["kind"]] if entry else "leftovers", stat.st_size, stat.st_mtime


def _trim(limit: int, kept: Path) -> None:
    """Remove what was not used for the longest time, until the rest fits ``limit``."""
    files = sorted(_files(), key=lambda file: file[3])
    total, now = sum(size for _, _, size, _ in files), time.time()
    for path, _, size, used in files:
        if total <= limit:
            return
        if path != kept and now - used > _YOUNG:
            with contextlib.suppress(OSError):
                _remove(path)
                total -= size


# --- one process at a time --------------------------------------------------------------------------


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait while another process makes the same. It only saves work: whoever cannot wait makes it, too."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:  # no lock can be made here
        yield
        return
    held = False
    try:
        held = _take(descriptor, path)
        yield
    finally:
        if held:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> bool:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(OSError):  # no space: whoever waits too long reads no number
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        except OSError:  # a file system without locks
            return False
    print(
        f"cosim: {path} has been locked for {_PATIENCE:g} s by {_holder(path)}: not waiting any longer",
        file=sys.stderr,
        flush=True,
    )
    return False


def _holder(path: Path) -> str:
    """The process that holds a lock, and whether it is stopped, as far as that can be read."""
    try:
        number = int(path.read_text())
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return "another process"
    return f"process {number}{', which is stopped' if state in 'Tt' else ''}"
