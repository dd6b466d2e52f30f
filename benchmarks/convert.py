"""Time and memory of converting networks and of running them, beside the digital network.

    python benchmarks/convert.py [--device cuda] [--quick]

Prints a table and writes benchmarks/results/<machine>_convert.json; nothing is asserted. Times are
wall times, the shortest of several repetitions, but for the conversion of a network, which is done
once. Memory is that of a fresh process each (``peak``). On a busy machine: --threads 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from networks import IMAGE, NETWORKS
from torch import nn

import cosim
from cosim.bench.machine import describe_machine, slug
from cosim.files import check_writable

HERE = Path(__file__).resolve().parent
PUBLISHED = json.loads((HERE / "published.json").read_text(encoding="utf-8"))["networks"]
LINEAR = "Linear(128, 64)"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a network is converted to: engine, ohm per wire segment, bits of the ADC."""

    name: str
    engine: str = "linear"
    ohm: float = 0.0
    bits: int | None = None

    def convert(self, model: nn.Module, device: cosim.Device) -> Any:
        wires = cosim.Wires(row=self.ohm, column=self.ohm) if self.ohm else None
        adc = None if self.bits is None else cosim.ADC(bits=self.bits)
        return cosim.convert(model, device=device, wires=wires, adc=adc, engine=self.engine)


CASES = (
    Case(name="ideal", engine="ideal"),
    Case(name="linear, 2 ohm", ohm=2.0),
    Case(name="linear, 2 ohm, 8-bit ADC", ohm=2.0, bits=8),
)


def seconds(call: Callable[[], Any], place: str, *, repeat: int) -> float:
    """Shortest wall time of one call."""
    found = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        if place != "cpu":
            torch.cuda.synchronize(place)
        found.append(time.perf_counter() - start)
    return min(found)


def row(what: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    return {"what": what, "value": value, "unit": unit, **more}


def one_layer(device: cosim.Device, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A layer of the size that MemTorch's figures are about."""
    place, repeat = options.device, 3 if options.quick else 20
    layer, x = nn.Linear(128, 64).to(place), torch.rand(4, 128, device=place)
    CASES[0].convert(layer, device)  # compiles the device
    yield row(
        f"{LINEAR}: digital forward, batch 4", seconds(lambda: layer(x), place, repeat=50 * repeat), "s"
    )
    for case in CASES:
        yield row(
            f"{LINEAR}: convert, {case.name}",
            seconds(lambda c=case: c.convert(layer, device), place, repeat=repeat),
            "s",
        )
        converted = case.convert(layer, device)
        forward = seconds(lambda c=converted: c(x), place, repeat=50 * repeat)
        yield row(f"{LINEAR}: forward, batch 4, {case.name}", forward, "s")


def network(name: str, device: cosim.Device, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Conversion, then images per second beside the digital network's."""
    place, repeat = options.device, 1 if options.quick else 5
    model = NETWORKS[name]().eval().to(place)
    images = torch.rand(options.images, *IMAGE, device=place)
    crossbars = {}
    for case in CASES:
        start, busy = time.perf_counter(), time.process_time()
        crossbars[case.name] = case.convert(model, device)
        took, busy = time.perf_counter() - start, time.process_time() - busy
        tiles = crossbars[case.name].report.tiles
        yield row(f"{name}: convert, {case.name}", took, "s", cpu_seconds=busy, tiles=tiles)
    times = dict.fromkeys(["digital", *crossbars], float("inf"))
    for _ in range(1 + repeat):  # interleaved, so that a busy machine slows all of them
        for what, run in {"digital": model, **crossbars}.items():
            times[what] = min(times[what], seconds(lambda r=run: r(images), place, repeat=1))
    for what, took in times.items():
        rate = len(images) / took
        yield row(f"{name}: forward, {what}", rate, "images/s", of_digital=times["digital"] / took)


def peak(name: str, case: Case | None, place: str, images: int) -> int:
    """Bytes that converting (unless None: digital) and one forward take on top of the loaded network.

    On the CPU the largest resident size of the process, less the size before, when network, images,
    libraries and compiled device are there already: with what the C library keeps of freed memory, so
    more than the live tensors that tests/nn/test_memory.py counts. On a GPU torch's own count.
    """
    torch.set_grad_enabled(False)
    device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    for warm in CASES:
        warm.convert(nn.Linear(8, 4).to(place), device)(torch.rand(2, 8, device=place))
    model = NETWORKS[name]().eval().to(place)
    x = torch.rand(images, *IMAGE, device=place)
    torch.conv2d(x[:1], torch.rand(4, IMAGE[0], 3, 3, device=place))
    gc.collect()
    if place != "cpu":
        torch.cuda.reset_peak_memory_stats(place)
        before = torch.cuda.memory_allocated(place)
        (case.convert(model, device) if case else model)(x)
        return torch.cuda.max_memory_allocated(place) - before
    before = resident("VmRSS")
    (case.convert(model, device) if case else model)(x)
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most (ru_maxrss would begin with that of its parent)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def memory(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Peaks beside what the digital network needs: its parameters and the peak of its own forward."""
    weights = sum(p.numel() * p.element_size() for p in NETWORKS[name]().parameters())
    own = _in_a_fresh_process(peak, name, None, options.device, options.images)
    measured = "resident size of a process" if options.device == "cpu" else "allocated by torch"
    yield row(f"{name}: memory, digital forward", own / 2**20, "MiB", parameters_mib=weights / 2**20)
    for case in CASES:
        found = _in_a_fresh_process(peak, name, case, options.device, options.images)
        yield row(
            f"{name}: memory, convert and forward, {case.name}",
            found / 2**20,
            "MiB",
            of_parameters_and_activations=found / (weights + own),
            measured=measured,
        )


def _in_a_fresh_process(call: Callable[..., int], *arguments: Any) -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def shown(found: dict[str, Any], reference: dict[str, float]) -> str:
    """One line; what MemTorch takes for the same comes last."""
    notes = []
    if "tiles" in found:
        rate = found["tiles"] / found["value"]
        notes.append(f"{found['tiles']} tiles, {rate:.0f} per second; {found['cpu_seconds']:.3g} CPU seconds")
    if "of_digital" in found:
        notes.append(f"{found['of_digital']:.2f} of digital")
    if "of_parameters_and_activations" in found:
        ratio = found["of_parameters_and_activations"]
        notes.append(f"{ratio:.2f} times digital parameters and forward ({found['measured']})")
    for what, took in reference.items():
        if found["what"].startswith(what):
            notes.append(f"MemTorch {took:g} s: {took / found['value']:.0f} times")
    return f"{found['what']:<66} {found['value']:>10.3g} {found['unit']:<9} {'; '.join(notes)}".rstrip()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda: where the networks run")
    parser.add_argument("--images", type=int, default=32, help="in one batch")
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--quick", action="store_true", help="VGG only, fewer repetitions")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the result")
    return parser.parse_args()


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    yield from one_layer(device, options)
    for name in options.networks[:1] if options.quick else options.networks:
        yield from network(name, device, options)
        yield from memory(name, options)


def main() -> None:
    options = arguments()
    check_writable(options.out)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    document = {"machine": describe_machine(options.device), "images": options.images, "cases": []}
    document["cases"] = [asdict(case) for case in CASES]
    document["measurements"] = []
    reference = {figure["what"]: figure["seconds"] for figure in PUBLISHED["figures"]}
    for found in run(options):
        document["measurements"].append(found)
        print(shown(found, reference), flush=True)
    document["published"] = PUBLISHED
    print(f"MemTorch: {PUBLISHED['source']}")
    name = slug(document["machine"]) + "_convert" + ("_quick" if options.quick else "")
    path = options.out / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    sys.exit(main())
