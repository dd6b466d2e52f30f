"""Time and memory of converting networks and of running them: printed, nothing is asserted.

    python benchmarks/convert.py [--wires 2.0] [--large]

--large adds a ResNet18 (11.7 million weights) on 32x32 images. Times are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import cosim

MEMTORCH = {"patch Linear(128, 64)": 0.31, "passive forward, batch 4": 0.48}  # CPU seconds, measured


class Block(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


def resnet18() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, outputs, stride), Block(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for outputs in (64, 64, 128, 128, 256, 256):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if len(layers) % 5 == 4 else []
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def seconds(call: Callable[[], Any], repeat: int = 1) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    for _ in range(repeat):
        call()
    return (time.process_time() - start) / repeat


def report(name: str, value: float, compared: float | None = None) -> None:
    end = "" if compared is None else f"   MemTorch {compared:.3g} s: {compared / value:.0f} times faster"
    print(f"{name:<58} {value:>10.3g} s{end}")


def small(device: cosim.Device, wires: cosim.Wires) -> None:
    layer, x = nn.Linear(128, 64), torch.rand(4, 128)
    cosim.convert(layer, device=device)  # imports and compiles once
    ideal = seconds(lambda: cosim.convert(layer, device=device), 20)
    report("Linear(128, 64): convert, ideal wires", ideal, MEMTORCH["patch Linear(128, 64)"])
    report(
        "Linear(128, 64): convert, wires", seconds(lambda: cosim.convert(layer, device=device, wires=wires))
    )
    converted = cosim.convert(layer, device=device, wires=wires)
    with torch.no_grad():
        forward = seconds(lambda: converted(x), 500)
        report("Linear(128, 64): forward, wires", forward, MEMTORCH["passive forward, batch 4"])
        report("the digital layer", seconds(lambda: layer(x), 500))
        with_adc = cosim.convert(
            layer, device=device, wires=wires, adc=cosim.ADC(bits=8), dac=cosim.DAC(bits=8)
        )
        report("Linear(128, 64): forward, wires, 8-bit DAC and ADC", seconds(lambda: with_adc(x), 200))
        converted.use_engine("newton")
        converted(x)
        report("Linear(128, 64): forward, newton", seconds(lambda: converted(x), 3))


def network(
    name: str, model: nn.Module, device: cosim.Device, wires: cosim.Wires | None, adc: cosim.ADC | None
) -> None:
    x = torch.rand(32, 3, 32, 32)
    model.eval()
    title = f"{name}, {'ideal wires' if wires is None else 'wires'}{', ADC' if adc else ''}"
    start = time.process_time()
    converted = cosim.convert(model, device=device, wires=wires, adc=adc)
    report(f"{title}: convert, {converted.report.tiles} tiles", time.process_time() - start)
    with torch.no_grad():
        model(x)
        digital = seconds(lambda: model(x))
        crossbar = seconds(lambda: converted(x))
    report(f"{title}: forward of 32 images ({crossbar / digital:.2f} times digital)", crossbar)
    held = sum(b.numel() * b.element_size() for b in converted.buffers())
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'':<4}held: {held / weights:.1f} times the weights; peak of the process so far: {peak:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wires", type=float, default=2.0, help="ohm per segment")
    parser.add_argument("--large", action="store_true", help="ResNet18 too")
    parser.add_argument("--threads", type=int, default=1, help="of torch; waiting threads count as CPU time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = cosim.Device("vteam", r_on=10e3, r_off=1e6)
    wires = cosim.Wires(row=options.wires, column=options.wires)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    small(device, wires)
    network("VGG of 6 convolutions", vgg(), device, None, None)
    network("VGG of 6 convolutions", vgg(), device, wires, None)
    network("VGG of 6 convolutions", vgg(), device, None, cosim.ADC(bits=8))
    if options.large:
        network("ResNet18", resnet18(), device, None, None)
        network("ResNet18", resnet18(), device, wires, None)


if __name__ == "__main__":
    main()
