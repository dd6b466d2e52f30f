"""The machine and the versions that a result belongs to."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cosim.errors import CosimError
from cosim.jobs import cores
from cosim.spice.ngspice import find_ngspice

__all__ = ["describe_machine", "slug"]

_PACKAGES = ("numpy", "scipy", "badcrossbar")


def describe_machine(place: str = "cpu") -> dict[str, Any]:
    """Processor, cores, threads, memory, GPU and versions, as plain values for JSON.

    >>> describe_machine()["device"]
    'cpu'
    """
    import cosim

    found: dict[str, Any] = {
        "device": place,
        "cpu": _processor(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "cosim": cosim.__version__,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            **{name: text for name in _PACKAGES if (text := _version(name))},
        },
    }
    with contextlib.suppress(CosimError):  # the measurements say that it is missing
        found["versions"]["ngspice"] = str(find_ngspice().version)
    if place != "cpu":
        found["gpu"] = torch.cuda.get_device_name(place)
        found["versions"]["cuda"] = torch.version.cuda
    return found


def slug(machine: dict[str, Any]) -> str:
    """A file name for the results of a machine.

    >>> slug({"cpu": "AMD EPYC (family 25, model 17)", "cores": 2})
    'amd-epyc-family-25-model-17_2-cores'
    """
    name = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    gpu = re.sub(r"[^a-z0-9]+", "-", machine.get("gpu", "").lower()).strip("-")
    return "_".join(filter(None, [name, f"{machine['cores']}-cores", gpu]))


def _processor() -> str:
    """Vendor's name of the processor; family and model tell apart what virtual machines call the same."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    name = fields.get("model name", platform.machine())
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
