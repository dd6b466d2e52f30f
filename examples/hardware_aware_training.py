"""Training through the hardware: win back the accuracy that line resistance and device spread cost."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import cosim

Digits = tuple[torch.Tensor, torch.Tensor]  # images (n, 64) from 0 to 1, labels (n,)

# low-ohmic cells in long lines of 20 ohm per segment: what comes out is far from the digital product
HARDWARE = {
    "device": cosim.Device("vteam", r_on=torch.distributions.Normal(1e3, 50.0), r_off=1e5),
    "wires": cosim.Wires(row=20.0, column=20.0),
    "tile_shape": (64, 64),
    "dac": cosim.DAC(bits=8),
    "adc": cosim.ADC(bits=8),
    "seed": 0,  # the same chip every time
}


def digits(images: int) -> tuple[Digits, Digits]:
    """Handwritten digits for training, ``images`` at most, and 540 others to test with."""
    pixels, target = load_digits(return_X_y=True)
    split = train_test_split(pixels / 16.0, target, test_size=540, random_state=0)
    split[0], split[2] = split[0][:images], split[2][:images]
    train, test = (torch.as_tensor(part, dtype=torch.float32) for part in split[:2])
    return (train, torch.as_tensor(split[2])), (test, torch.as_tensor(split[3]))


def new_network(generator: torch.Generator) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for parameter in network.parameters():
            bound = parameter.shape[-1] ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)
    return network


def accuracy(model: nn.Module, data: Digits) -> float:
    images, labels = data
    with torch.no_grad():
        return float((model.eval()(images).argmax(1) == labels).double().mean())


def train(
    model: nn.Module, data: Digits, test: Digits, *, epochs: int, rate: float, generator: torch.Generator
) -> tuple[list[float], float]:
    """The usual loop. Accuracy on ``test`` before and after every epoch, and ms per step."""
    images, labels = data
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    curve, seconds, steps = [accuracy(model, test)], 0.0, 0
    for _ in track(range(epochs), f"training the {type(model).__name__}"):
        model.train()
        start = time.perf_counter()
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
            steps += 1
        seconds += time.perf_counter() - start
        curve.append(accuracy(model, test))
    return curve, 1e3 * seconds / steps


def plot(curve: list[float], digital: float, converted: float) -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot(range(len(curve)), [100 * a for a in curve], "o-", label="trained through the hardware")
    axes.set_xticks(range(len(curve)))
    axes.axhline(100 * digital, color="0.4", linestyle="--", label="digital")
    axes.axhline(100 * converted, color="C3", linestyle=":", label="converted")
    axes.set(xlabel="epochs (0: tuned only)", ylabel="accuracy on held-out digits, %", ylim=(0, 100))
    axes.legend()
    return figure


def main(epochs: int = 4, images: int = 1257, out: Path = Path("out/examples")) -> None:
    """Train a digital network, put it on crossbars, and train it there for --epochs.

    --images: digits to train with, up to 1257.
    """
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    data, test = digits(images)
    network = new_network(generator)
    digital_curve, digital_step = train(network, data, test, epochs=30, rate=0.01, generator=generator)

    converted = cosim.convert(network, trainable=True, **HARDWARE).calibrate(data[0])
    before = accuracy(converted, test)
    converted.tune(data[0], per="column")
    curve, step = train(converted, data, test, epochs=epochs, rate=3e-3, generator=generator)

    network.load_state_dict(converted.digital_state_dict())  # what the chip is to be programmed with
    rows = (
        ("digital network", digital_curve[-1]),
        ("converted", before),
        ("converted and tuned", curve[0]),
        (f"trained for {epochs} epochs on top", curve[-1]),
    )
    print(f"accuracy on {len(test[0])} digits that no step has seen, all on the same chip")
    for name, value in rows:
        print(f"{name:<30} {value:6.1%}")
    print(f"one step of 64 images: {step:.0f} ms, digital {digital_step:.2f} ms")
    plot(curve, digital_curve[-1], before).savefig(out / "hardware_aware_training.png", dpi=150)


if __name__ == "__main__":
    typer.run(main)
