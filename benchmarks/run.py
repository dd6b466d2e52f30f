"""Time cosim against its peers, in one run, and keep the result: see scripts/bench, which sets up first.

    python benchmarks/run.py [--quick] [--update-readme]

Writes benchmarks/results/<machine>.json, .md and .png; the JSON names machine and versions.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from peers import peers
from readme import README, paste

from cosim.bench.machine import slug
from cosim.bench.report import summary, write
from cosim.bench.suite import Settings, run
from cosim.errors import CosimError
from cosim.files import check_writable

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about a minute; sizes up to 128")
    parser.add_argument("--sizes", type=int, nargs="+", help="rows and columns of the tiles")
    parser.add_argument("--vectors", type=int, nargs="+", help="input vectors in one call")
    parser.add_argument("--budget", type=float, help="seconds for everything")
    parser.add_argument("--rounds", type=int, help="interleaved repetitions")
    parser.add_argument("--device", dest="place", help="cpu or cuda: where cosim's engines run")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--update-readme", action="store_true", help="paste the headline into README.md")
    return parser.parse_args()


def main() -> None:
    options = vars(arguments())
    quick, out, update = (options.pop(name) for name in ("quick", "out", "update_readme"))
    settings = Settings.create(quick=quick, **options)
    check_writable(out)  # before ten minutes of work
    document = run(settings, peers=peers(), progress=lambda text: print(text, file=sys.stderr, flush=True))
    document["published"] = json.loads((HERE / "published.json").read_text(encoding="utf-8"))
    files = write(document, out, slug(document["machine"]) + ("_quick" if quick else ""))
    print(summary(document))
    print(*files, sep="\n")
    if update:
        paste(files[0])
        print(README)


if __name__ == "__main__":
    try:
        main()
    except CosimError as error:
        print(f"benchmarks/run.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
