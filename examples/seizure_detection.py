"""Seizures in EEG: a small network on crossbars, against the error of its cells, and with nonlinear cells.

Reads the CSV of the UCI data set "Epileptic Seizure Recognition" (--data PATH): segments of 178 samples at
173.61 Hz from five conditions, of which 1 is a seizure (Andrzejak et al., Phys. Rev. E 64, 061907, 2001).
Without it, segments of the same form are made up: 1/f background of brain activity, alpha rhythm with eyes
closed, and rhythmic spikes and waves of 3 to 6 Hz in a seizure.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from rich.progress import track
from torch import nn

import cosim
from cosim.errors import ParseError
from cosim.nn.effects import ProgrammingNoise

SAMPLES, RATE = 178, 173.61  # of a segment; Hz
HEADER = ["", *(f"X{k}" for k in range(1, SAMPLES + 1)), "y"]
OUT = Path("out/examples")
VTEAM = cosim.Device("vteam", r_on=10e3, r_off=200e3)  # ohm


def made_up(path: Path, rows: int, generator: np.random.Generator) -> Path:
    """A file of the data set's form; microvolts, rounded as there."""
    time, frequency = np.arange(SAMPLES) / RATE, np.fft.rfftfreq(SAMPLES, 1 / RATE)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for k in range(rows):
            label = int(generator.integers(1, 6))
            phases = np.exp(2j * np.pi * generator.random(len(frequency)))
            signal = np.fft.irfft(phases / np.maximum(frequency, 1.5), SAMPLES)
            signal *= generator.lognormal(np.log(45), 0.4) / signal.std()
            if label == 4:  # eyes closed
                signal += 35 * np.sin(2 * np.pi * generator.normal(10, 0.5) * time + 6.3 * generator.random())
            if label == 1:
                cycle = (generator.uniform(3, 6) * time + generator.random()) % 1
                spikes = np.exp(-(((cycle - 0.2) / 0.05) ** 2)) - 0.6 * np.sin(np.pi * cycle) ** 2
                signal += generator.lognormal(np.log(400), 0.7) * (spikes - spikes.mean())
            writer.writerow([f"X{k % 23 + 1}.V1.{k + 1}", *signal.round().astype(int).tolist(), label])
    return path


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals (rows, 178) and whether each is a seizure."""
    with path.open(newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if header[1:] != HEADER[1:]:
            raise ParseError("the header is not ,X1,...,X178,y: give the data set's CSV", path=str(path))
        values = torch.tensor([[float(v) for v in line[1:]] for line in lines])
    return values[:, :-1], (values[:, -1] == 1).long()


def f1(model: nn.Module, signals: torch.Tensor, seizure: torch.Tensor) -> float:
    """F1 score of the class "seizure"."""
    found = model(signals).argmax(-1)
    return 2 * int((found & seizure).sum()) / max(1, int(found.sum() + seizure.sum()))


def train(signals: torch.Tensor, seizure: torch.Tensor, epochs: int = 25) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(SAMPLES, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 2))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(signals)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(signals[batch]), seizure[batch]).backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


def main(data: Path | None = None, rows: int = 2500, seeds: int = 3, out: Path = OUT) -> None:
    """Train, convert, and sweep the error of the cells. --data: the CSV file of the data set."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = data or made_up(Path(folder) / "data.csv", rows, np.random.default_rng(0))
        signals, seizure = read(source)
    order = torch.randperm(len(signals), generator=torch.Generator().manual_seed(0))
    known, unseen = order[len(order) // 5 :], order[: len(order) // 5]
    signals = (signals - signals[known].mean()) / signals[known].std()
    network = train(signals[known], seizure[known])
    digital = f1(network, signals[unseen], seizure[unseen])
    print(f"{len(signals)} segments, {int(seizure.sum())} of them seizures; digital F1 {digital:.3f}")
    adc, probe = cosim.ADC(bits=8), signals[known[:256]]
    sigmas, scores = np.linspace(0, 0.5, 6), []
    for sigma in track(sigmas, "error of the cells", transient=True):
        scores.append([])
        for seed in range(seeds):
            effects = [ProgrammingNoise(sigma=float(sigma))]
            model = cosim.convert(network, device=VTEAM, adc=adc, effects=effects, seed=seed)
            model.calibrate(probe).tune(probe)
            scores[-1].append(f1(model, signals[unseen], seizure[unseen]))
        print(f"cells {sigma:3.0%} off   F1 {np.mean(scores[-1]):.3f} +- {np.std(scores[-1]):.3f}")
    some = unseen[:64]
    model = cosim.convert(network, device=cosim.Device("stanford_pku"), adc=adc).calibrate(probe)
    for engine in ("linear", "newton"):
        score = f1(model.use_engine(engine), signals[some], seizure[some])
        print(f"nonlinear cells, {len(some)} segments, {engine}: F1 {score:.3f}")
    figure, axes = plt.subplots()
    axes.errorbar(100 * sigmas, np.mean(scores, 1), np.std(scores, 1), marker="o", capsize=3)
    axes.axhline(digital, color="0.5", linestyle="--")
    axes.set(xlabel="error of the conductances, %", ylabel=f"F1 on {len(unseen)} unseen segments")
    figure.savefig(out / "seizure_detection.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
