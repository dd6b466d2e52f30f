"""``python -m cosim``: the ``cosim`` command."""

from __future__ import annotations

from cosim.cli import main

if __name__ == "__main__":
    main()
