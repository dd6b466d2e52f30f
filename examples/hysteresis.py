"""The pinched hysteresis loop of a memristor, in both engines from one Verilog-A source."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import cosim

PERIOD = 20e-9  # s
POINTS = 401


def main(out: Path = Path("out/examples")) -> None:
    device = cosim.Device("vteam")
    phase = torch.linspace(0.0, 1.0, POINTS, dtype=torch.float64)
    voltage = torch.sin(2 * math.pi * phase)
    figure, axes = plt.subplots()
    peak = {}
    for engine, style in (("torch", "-"), ("ngspice", "--")):
        trace = device.simulate(voltage, PERIOD / (POINTS - 1), state=0.3, engine=engine)
        axes.plot(trace.voltage, 1e3 * trace.current, style, label=engine)
        peak[engine] = float(trace.current.abs().max())
    axes.set_xlabel("voltage (V)")
    axes.set_ylabel("current (mA)")
    axes.legend()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "hysteresis.png", dpi=150)
    plt.close(figure)
    print(f"peak current: {peak['torch']:.6g} A in torch, {peak['ngspice']:.6g} A in ngspice")


if __name__ == "__main__":
    main()
