"""Options and fixtures that every test sees."""

from __future__ import annotations

import pytest
import torch

# the tests run side by side, one process per core: more threads only get in each other's way
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files (compiled models, decks) anew instead of comparing with them",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True when golden files are to be written."""
    return bool(request.config.getoption("--update-golden"))
