"""MemTorch's own road, with ``import cosim.memtorch as memtorch``: train, patch, tune, degrade, compare."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from sklearn.datasets import load_digits
from torch import nn

import cosim.memtorch as memtorch
from cosim.memtorch.bh.nonideality import endurance_retention_models as wear
from cosim.memtorch.bh.nonideality.NonIdeality import NonIdeality, apply_nonidealities
from cosim.memtorch.map.Input import naive_scale
from cosim.memtorch.map.Parameter import naive_map
from cosim.memtorch.mn.Module import patch_model
from cosim.memtorch.utils import LoadMNIST

VTEAM = memtorch.bh.memristor.VTEAM
FAILURE = {"operation_mode": wear.OperationMode.sudden, "cell_size": 10, "temperature": 350}  # nm, K
FAILURE |= {"p_lrs": [1, 0, 0, 0], "stable_resistance_lrs": 100}  # ohm
FAILURE |= {"p_hrs": [1, 0, 0, 0], "stable_resistance_hrs": 1000}
CYCLES = {"x": 1e4, "endurance_model": wear.model_endurance_retention, "endurance_model_kwargs": FAILURE}
DRIFT = {"initial_time": 1, "drift_coefficient": 0.1}
STORAGE = {"time": 1e3, "retention_model": wear.model_conductance_drift, "retention_model_kwargs": DRIFT}
DEGRADATIONS = {
    NonIdeality.DeviceFaults: {"lrs_proportion": 0.01, "hrs_proportion": 0.05, "electroform_proportion": 0},
    NonIdeality.Endurance: CYCLES,
    NonIdeality.Retention: STORAGE,
    NonIdeality.FiniteConductanceStates: {"conductance_states": 5},
    NonIdeality.NonLinear: {"simulate": True},
}


def digits_as_mnist(folder: Path) -> Path:
    """scikit-learn's 8x8 digits, enlarged to 28x28, in the four files that MNIST consists of."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)
    images = nn.functional.interpolate(small, 28, mode="bilinear")[:, 0].mul(255 / 16).byte().numpy()
    for part, rows in (("train", slice(0, 1400)), ("t10k", slice(1400, None))):
        for kind, values in (("images-idx3", images[rows]), ("labels-idx1", labels[rows].astype(np.uint8))):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + values.tobytes())
    return folder


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 6 * 6, 10)),
    )


def train(model: nn.Module, loader: torch.utils.data.DataLoader, epochs: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
    model.eval()


@torch.no_grad()
def test(model: nn.Module, loader: torch.utils.data.DataLoader) -> float:
    right = sum(int((model(images).argmax(-1) == labels).sum()) for images, labels in loader)
    return right / len(loader.dataset)  # type: ignore[arg-type]  # a dataset with a length


def main(data: Path | None = None, epochs: int = 3, out: Path = Path("out/examples")) -> None:
    """Patch a small convolutional network; --data names a folder with the real files of MNIST."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        source = digits_as_mnist(Path(folder)) if data is None else data
        training, _, testing = LoadMNIST(batch_size=64, validation=False, data_dir=source)
    model = network()
    train(model, training, epochs)
    print(f"{'digital':<32} {test(model, testing):.1%}")
    patched = patch_model(
        copy.deepcopy(model),
        memristor_model=VTEAM,
        memristor_model_params={"time_series_resolution": 1e-10},
        module_parameters_to_patch=[nn.Conv2d],
        mapping_routine=naive_map,
        transistor=True,
        programming_routine=None,
        tile_shape=(128, 128),
        max_input_voltage=0.3,
        scaling_routine=naive_scale,
        ADC_resolution=8,
        ADC_overflow_rate=0.0,
        quant_method="linear",
    )
    patched.tune_()
    print(f"{'patched and tuned':<32} {test(patched, testing):.1%}")
    for kind, arguments in DEGRADATIONS.items():
        worse = apply_nonidealities(copy.deepcopy(patched), non_idealities=[kind], **arguments)
        print(f"{kind.name:<32} {test(worse, testing):.1%}")

    spread = {
        "r_off": memtorch.bh.StochasticParameter(loc=1000, scale=200, min=2),
        "r_on": memtorch.bh.StochasticParameter(loc=50, scale=10, min=1),
    }
    figure, axes = plt.subplots()
    for _ in range(5):  # every device is a draw of its own
        axes.plot(*(VTEAM(**spread).plot_hysteresis_loop(return_result=True) or ()))
    axes.set(xlabel="voltage (V)", ylabel="current (A)", title="five devices with spread")
    figure.savefig(out / "memtorch_tutorial_loops.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
