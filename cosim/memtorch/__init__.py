"""MemTorch's names over cosim: ``import cosim.memtorch as memtorch`` runs code written for MemTorch.

From then on ``from memtorch.mn.Module import patch_model`` finds these modules too, unless another package
of that name was imported before. docs/memtorch.md says what differs.

>>> import cosim.memtorch as memtorch
>>> from memtorch.bh.memristor import VTEAM
>>> VTEAM is memtorch.bh.memristor.VTEAM
True
"""

from __future__ import annotations

import sys
import warnings

import torch

import cosim
from cosim.memtorch import bh, map, mn, utils

__all__ = ["bh", "map", "mn", "nn", "utils"]

nn = mn  # as parts of MemTorch's documentation write it
_ALSO = {"mn": "nn", "map": "bh.map"}  # further names of these modules there

# "cpu" in it is how MemTorch code asks which device to use
__version__ = f"{cosim.__version__}+{'cuda' if torch.cuda.is_available() else 'cpu'}"


def _answer_to_memtorch() -> None:
    """Let ``import memtorch...`` find the modules of this package."""
    other = sys.modules.get("memtorch")
    if other is not None and other is not sys.modules[__name__]:
        warnings.warn(
            "another package called memtorch is imported already: 'from memtorch...' still means that one, "
            "write 'from cosim.memtorch...'",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    for name, module in list(sys.modules.items()):
        if name == __name__ or name.startswith(f"{__name__}."):
            sys.modules["memtorch" + name.removeprefix(__name__)] = module
            for own, other_name in _ALSO.items():
                part = name.removeprefix(f"{__name__}.")
                if part == own or part.startswith(f"{own}."):
                    sys.modules[f"memtorch.{other_name}{part.removeprefix(own)}"] = module


_answer_to_memtorch()
