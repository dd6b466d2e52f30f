"""The stand-in for a GPU: compiles stand_in.cpp and registers it as the torch device "stand_in"."""

from __future__ import annotations

import copy
import functools
import subprocess
import types
from pathlib import Path
from typing import Any

import torch
from torch.utils.backend_registration import rename_privateuse1_backend

__all__ = ["ALONE", "register"]

NAME = "stand_in"
ALONE = "COSIM_TEST_STAND_IN"  # set in a process that has the stand-in from its start


@functools.cache
def register(folder: Path) -> str:
    """Its name. The library is compiled into ``folder`` (about half a minute)."""
    library = folder / "stand_in.so"
    root = Path(torch.__file__).parent
    headers = [f"-I{root / 'include' / part}" for part in ("", "torch/csrc/api/include")]
    links = [f"-L{root / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{root / 'lib'}"]
    source = str(Path(__file__).with_suffix(".cpp"))
    command = ["g++", "-O0", "-std=c++20", "-fPIC", "-shared", *headers, source, "-o", str(library), *links]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.ops.load_library(library)
    rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.Tensor.__deepcopy__ = _deepcopy(torch.Tensor.__deepcopy__)
    return NAME


def _module() -> types.ModuleType:
    """What torch asks of ``torch.<device>``."""
    module: Any = types.ModuleType(f"torch.{NAME}")
    module.is_available, module.device_count = lambda: True, lambda: 1
    module.current_device, module._is_in_bad_fork = lambda: 0, lambda: False
    module.manual_seed_all = lambda seed: None
    module.get_rng_state = lambda device=None: torch.get_rng_state()
    module.set_rng_state = lambda state, device=None: None
    module.get_amp_supported_dtype = lambda: [torch.float32]
    return module


def _deepcopy(original: Any) -> Any:
    """Storages of such a device cannot be copied on their own."""

    def deepcopy(self: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
        if self.device.type != NAME:
            return original(self, memo)
        if id(self) not in memo:
            copied = self.detach().clone()
            if isinstance(self, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, copy.copy(self.requires_grad))
            memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return memo[id(self)]

    return deepcopy
