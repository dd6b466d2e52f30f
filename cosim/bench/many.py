"""Many tiles in one call: tiles per second, and peak memory in a process of its own.

``python -m cosim.bench.many`` is that process: it reads a ``MemoryCase`` as JSON from its
argument and prints what it found.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cosim.bench.contenders import refined_splu
from cosim.bench.measure import relative_error, spread, timed
from cosim.bench.problems import Case, Problem
from cosim.crossbar import Tile, Wires
from cosim.devices.device import Device
from cosim.engines import solve
from cosim.errors import CosimError, ToolFailed
from cosim.jobs import Job, run_jobs
from cosim.solvers.linear import LinearNetwork

__all__ = ["MemoryCase", "measure_memory", "measure_throughput"]


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """``tiles`` tiles of ``size`` rows and columns, all with the same ``vectors``; 2 ohm, 0 to 0.3 V."""

    engine: str
    tiles: int
    size: int
    vectors: int
    model: str = "data_driven"
    place: str = "cpu"


def measure_memory(case: MemoryCase, *, timeout: float) -> dict[str, Any]:
    """The case with peak_bytes and before_bytes (with torch loaded), seconds and solved vectors.

    Raises ToolFailed if the process fails or takes more than ``timeout`` seconds.
    """
    command = (sys.executable, "-m", "cosim.bench.many", json.dumps(asdict(case)))
    # the job has another folder: what is found from this one must be found from there
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    (done,) = run_jobs([Job(argv=command, environment=environment, timeout=timeout)])
    if isinstance(done, CosimError):
        raise done
    if done.timed_out:
        raise ToolFailed(f"the memory case took more than {timeout:.0f} s: raise the budget")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ToolFailed(f"the memory case failed: {lines[-1]}", log=done.stderr)
    return {**asdict(case), **json.loads(done.stdout)}


def _run(case: MemoryCase) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    device = Device(case.model)
    low, high = device.state_range
    shape = (case.tiles, case.size, case.size)
    state = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    tile = Tile(device, state=state.to(case.place), wires=Wires(row=2.0, column=2.0))
    voltages = 0.3 * torch.rand(case.vectors, case.size, generator=generator, dtype=torch.float64)
    before = _peak_bytes()
    start = time.perf_counter()
    solution = solve(tile, voltages.to(case.place), engine=case.engine, throw=False)
    found = {
        "seconds": time.perf_counter() - start,
        "before_bytes": before,
        "peak_bytes": _peak_bytes(),
        "solved": int(solution.solved.sum()),
    }
    if case.place.startswith("cuda"):
        found["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    return found


def _peak_bytes() -> int:
    """Largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss on Linux starts from the size of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure_throughput(tiles: int, size: int, place: str, *, rounds: int = 3) -> list[dict[str, Any]]:
    """Seconds for G_eff of ``tiles`` tiles of linear cells in one call, in both precisions, interleaved."""
    case = Case(name="", model="vteam", size=size, vectors=(8,), volts=0.2, ohm=2.0, linear=True)
    problem = Problem.draw(case, place=place)
    truth = refined_splu(problem, problem.voltages)
    scale = torch.linspace(1.0, 0.5, tiles, dtype=torch.float64, device=place)
    cells = problem.tile.conductance * scale[:, None, None]
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.float64: []}
    errors = {}
    for _ in range(rounds):
        for dtype, times in seconds.items():
            part = cells.to(dtype)
            taken, network = timed(
                lambda part=part: LinearNetwork.factor(part, problem.tile.wires), problem.voltages.device
            )
            times.append(taken)
            currents = problem.voltages @ network.transfer[0].to(torch.float64)
            errors[dtype] = relative_error(currents.cpu(), truth)
    return [
        {
            "dtype": str(dtype).removeprefix("torch."),
            "tiles": tiles,
            "size": size,
            "tiles_per_second": asdict(spread([tiles / taken for taken in times])),
            "error": errors[dtype],
        }
        for dtype, times in seconds.items()
    ]


if __name__ == "__main__":
    print(json.dumps(_run(MemoryCase(**json.loads(sys.argv[1])))))
