"""Six Verilog-A files in the styles that people write, each loaded without an option, in both engines."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import cosim

MODELS = Path(__file__).parent / "models"
PERIOD = 10e-3  # s
POINTS = 401
START = {"charged": 0.1}  # of a state that no parameter of the file sets


def main(out: Path = Path("out/examples")) -> None:
    phase = torch.linspace(0.0, 2.0, 2 * POINTS - 1, dtype=torch.float64)
    voltage = torch.sin(2 * math.pi * phase)
    figure, places = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for path, axes in zip(sorted(MODELS.glob("*.va")), places.flat, strict=True):
        device = cosim.Device(path)
        print(device)
        for note in device.notes:
            print(f"  {Path(note).name}")
        current = {}
        for engine, style in (("torch", "-"), ("ngspice", "--")):
            trace = device.simulate(voltage, PERIOD / (POINTS - 1), state=START.get(path.stem), engine=engine)
            axes.plot(trace.device_voltage, 1e3 * trace.current, style, label=engine)
            current[engine] = trace.current
        peak = current["torch"].abs().max()
        apart = float((current["torch"] - current["ngspice"]).abs().max() / peak)
        print(f"  peak current {float(peak):.4g} A; ngspice within {100 * apart:.2g} % of it\n")
        axes.set(title=path.name, xlabel="voltage (V)", ylabel="current (mA)")
    places[0, 0].legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "bring_your_model.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
