"""``cosim cache``: what the cache of compiled models holds, and its removal."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import Annotated

import typer

from cosim.cache import Contents, clear, look
from cosim.text import plain

__all__ = ["cache"]


def cache(
    empty: Annotated[bool, typer.Option("--clear", help="Remove all of it first.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the cache of compiled models, and its limit (COSIM_CACHE_LIMIT, such as 500M).

    A file that is damaged is found when it is used, and made anew. COSIM_CACHE names another folder.
    """
    if empty:
        clear()
    found = look()
    if json:
        print(json_text.dumps(plain({**asdict(found), "folder": str(found.folder)})))
    else:
        print(_summary(found))


def _summary(found: Contents) -> str:
    lines = [f"{found.folder}: {_size(found.bytes)} of {_size(found.limit)} in {found.files} files"]
    lines += [f"  {kind}: {n}, {_size(size)}" for kind, (n, size) in found.kinds.items() if n]
    return "\n".join(lines)


def _size(size: int) -> str:
    """Bytes as a person reads them.

    >>> _size(0), _size(1536), _size(512 << 20)
    ('0 bytes', '1.5 KiB', '512 MiB')
    """
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min(max(size.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{size / 1024**power:.4g} {units[power]}"
