"""How much a network on crossbars bears: device spread, few conductance states, failed devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.axes import Axes
from rich.progress import track
from torch.distributions import LogNormal

import cosim
from cosim.demo import train
from cosim.nn.effects import DeviceFaults, DeviceVariability, Effect, FiniteStates, ProgrammingNoise

R_ON, R_OFF = 10e3, 500e3  # ohm


@dataclass(frozen=True)
class Curve:
    """Accuracies ``(points, seeds)`` over one quantity."""

    label: str
    points: Sequence[float]
    accuracy: np.ndarray

    def draw(self, axes: Axes) -> None:
        mean, spread = self.accuracy.mean(1), self.accuracy.std(1)
        axes.errorbar(self.points, 100 * mean, 100 * spread, marker="o", capsize=3, label=self.label)


def spread(sigma: float) -> list[Effect]:
    """Both resistances of every cell log-normal; what is written is verified, so only its reach matters."""
    if not sigma:
        return []
    ends = {"r_on": R_ON, "r_off": R_OFF}
    draws = {name: LogNormal(float(np.log(ohm)), sigma) for name, ohm in ends.items()}
    return [DeviceVariability(parameters=draws)]


def missed(sigma: float) -> list[Effect]:
    return [ProgrammingNoise(sigma=sigma)]


def states(count: int) -> list[Effect]:
    return [FiniteStates(states=count)]


def stuck(lrs: bool, hrs: bool) -> Callable[[float], list[Effect]]:
    return lambda share: [DeviceFaults(lrs=share * lrs, hrs=share * hrs)]


def main(
    images: int = 300, seeds: int = 3, coarse: int = 1, out: Path = Path("out/examples"), tuned: bool = True
) -> None:
    """Sweeps on the digits network of ``cosim demo``; every seed is another chip.

    --images: held-out digits, up to 540. --coarse 2: every second point of each sweep.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = train(images=images, seed=0)
    digital = network.accuracy(network.digital(network.images))
    device = cosim.Device("vteam", r_on=R_ON, r_off=R_OFF)

    def accuracy(effects: list[Effect], seed: int) -> float:
        model = cosim.convert(network.digital, device=device, effects=effects, seed=seed)
        model.calibrate(network.training_images[:128])
        if tuned:
            model.tune(network.training_images[:128])
        return network.accuracy(model(network.images))

    def curve(label: str, points: Iterable[float], effects: Callable[..., list[Effect]]) -> Curve:
        chosen = list(points)[::coarse]
        found = [
            [accuracy(effects(point), seed) for seed in range(seeds)]
            for point in track(chosen, f"{label:<16}", transient=True)
        ]
        return Curve(label, chosen, np.array(found))

    shares = [0.0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25]
    panels = {
        "sigma, relative": [
            curve("r_on and r_off", np.linspace(0, 0.6, 7), spread),
            curve("error of writes", np.linspace(0, 0.6, 7), missed),
        ],
        "conductance states": [curve("states", [2, 3, 4, 5, 6, 8, 12, 16], states)],
        "failed devices, share": [
            curve("stuck at LRS", shares, stuck(True, False)),
            curve("stuck at HRS", shares, stuck(False, True)),
            curve("both", shares, stuck(True, True)),
        ],
    }
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True)
    for panel, (quantity, curves) in zip(axes, panels.items(), strict=True):
        for one in curves:
            one.draw(panel)
            print(f"\n{one.label}: {quantity}, accuracy over {seeds} chips")
            for point, values in zip(one.points, one.accuracy, strict=True):
                print(f"{point:>8.3g}   {values.mean():6.1%} +- {values.std():.1%}")
        panel.axhline(100 * digital, color="0.5", linestyle="--", label="digital")
        panel.set(xlabel=quantity)
        panel.legend()
    axes[0].set_ylabel(f"accuracy on {images} digits, %")
    figure.savefig(out / "device_sweeps.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
