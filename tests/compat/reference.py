"""Numbers that MemTorch computed (origin in the files)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

FUNCTIONS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "compat" / "functions.json").read_text()
)


def array(name: str) -> torch.Tensor:
    """One array, float32."""
    stored = FUNCTIONS["arrays"][name]
    return torch.tensor(stored["values"], dtype=torch.float32).reshape(stored["shape"])
