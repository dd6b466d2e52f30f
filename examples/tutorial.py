"""From a trained network to crossbars, step by step: devices, conversion, tuning, and what is not ideal."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import typer
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import cosim
from cosim.nn.effects import DeviceFaults, Drift, Endurance, FiniteStates, ProgrammingNoise

R_ON, R_OFF = 10e3, 200e3  # ohm
WIRES = cosim.Wires(row=2.0, column=2.0)  # ohm per segment


def trained(epochs: int, seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A convolutional network for 8x8 digits, training images, and test images with their labels."""
    pixels, target = load_digits(return_X_y=True)
    split = train_test_split(pixels / 16.0, target, test_size=540, random_state=seed)
    images, tests = (torch.as_tensor(part, dtype=torch.float32).reshape(-1, 1, 8, 8) for part in split[:2])
    labels, wanted = (torch.as_tensor(part) for part in split[2:])
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 4 * 4, 10),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    return network.eval().requires_grad_(False), images, tests, wanted


def loops(out: Path) -> None:
    """Current over voltage of ten devices of one kind that are not quite alike."""
    torch.manual_seed(0)
    normal = torch.distributions.Normal
    spread = cosim.Device("vteam", r_on=normal(R_ON, 1e3), r_off=normal(R_OFF, 2e4))
    devices = spread.sample((10,), generator=torch.Generator().manual_seed(0))
    volts = torch.sin(2 * math.pi * torch.linspace(0, 1, 201, dtype=torch.float64))
    trace = devices.simulate(volts[:, None].expand(-1, 10), 1e-10, state=0.0)
    figure = trace.plot()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "tutorial_loops.png", dpi=120)
    plt.close("all")


def main(out: Path = Path("out/examples"), epochs: int = 12, seed: int = 0) -> None:
    """Train on handwritten digits, convert, tune, degrade; prints the share of right answers."""
    loops(out)
    network, images, tests, wanted = trained(epochs, seed)

    def right(model: nn.Module) -> str:
        with torch.no_grad():
            return f"{float((model(tests).argmax(-1) == wanted).float().mean()):.1%}"

    print(f"{'digital':<38} {right(network)}")
    hardware = {
        "device": cosim.Device("vteam", r_on=R_ON, r_off=R_OFF),
        "tile_shape": (128, 128),
        "wires": WIRES,
        "dac": cosim.DAC(bits=8, v_max=0.3),
        "adc": cosim.ADC(bits=8),
    }
    converted = cosim.convert(network, **hardware)
    converted.calibrate(images[:256])
    print(f"{'128x128 tiles, 2 ohm, 8-bit converters':<38} {right(converted)}")
    converted.tune(images[:256])
    print(f"{'  tuned by regression':<38} {right(converted)}")
    print(converted.report)

    worn = Endurance(cycles=1e4, mode="sudden", p_lrs=(1.0, 0.0, 0.0, 0.0), stable_lrs=20e3)
    for name, effects in {
        "1 % of the cells stuck ON, 5 % OFF": [DeviceFaults(lrs=0.01, hrs=0.05)],
        "LRS cells at 20 kohm after 10^4 cycles": [worn],
        "drift over 1000 s, exponent 0.1": [Drift(seconds=1e3, nu=0.1)],
        "5 conductance states": [FiniteStates(states=5)],
        "8 states, 5 % programming noise": [FiniteStates(states=8), ProgrammingNoise(sigma=0.05)],
    }.items():
        model = cosim.convert(network, **hardware, effects=effects, seed=seed).calibrate(images[:256])
        before = right(model)
        model.tune(images[:256])
        print(f"{name:<38} {before}, tuned {right(model)}")

    nonlinear = {**hardware, "device": cosim.Device("stanford_pku"), "tile_shape": (64, 64)}
    model = cosim.convert(network, **nonlinear).calibrate(images[:256])
    tests, wanted = tests[:8], wanted[:8]  # every cell of every tile is solved for every patch
    print(f"nonlinear cells, 8 images: linear {right(model)}, newton {right(model.use_engine('newton'))}")


if __name__ == "__main__":
    typer.run(main)
