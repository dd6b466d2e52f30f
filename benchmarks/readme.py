"""Paste the headline of a result between the markers of README.md.

python benchmarks/readme.py benchmarks/results/<machine>.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cosim.bench.report import headline
from cosim.errors import SpecError

__all__ = ["README", "paste"]

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def paste(result: Path, readme: Path = README) -> None:
    """Replace what stands between the markers of ``readme`` by the figure and headline of ``result``.

    Raises SpecError if the markers are not there.
    """
    text = readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SpecError(f"{readme} has no place for the headline: add the lines {START} and {END}")
    document = json.loads(result.read_text(encoding="utf-8"))
    link = Path(os.path.relpath(result.resolve(), readme.resolve().parent)).with_suffix("").as_posix()
    lines = [
        start,
        f"![Times of cosim and its peers]({link}.png)",
        headline(document).strip(),
        f"All times and errors, and published figures of CrossSim and MemTorch: [{link}.md]({link}.md)",
        end,
    ]
    readme.write_text(before + "\n\n".join(lines) + after, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit((__doc__ or "").strip())
    paste(Path(sys.argv[1]))
