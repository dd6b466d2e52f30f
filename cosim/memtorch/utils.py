"""Small helpers, and data sets from local files in their original formats."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

from cosim.arrays import as_tensor
from cosim.checks import as_flag, as_integer, as_number, as_path, as_shape
from cosim.errors import ParseError, SpecError

__all__ = ["LoadCIFAR10", "LoadMNIST", "clip", "convert_range", "pad_tensor"]

Loaders = tuple[DataLoader, DataLoader | None, DataLoader]

_MNIST = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_CIFAR_ROW = 1 + 3 * 1024  # bytes of a label and its image
_IDX_BYTES = 8  # code of unsigned bytes in an IDX file
_SAFE = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def convert_range(old_value: float, old_min: float, old_max: float, new_min: float, new_max: float) -> float:
    """``old_value`` of the old range in the new one.

    >>> convert_range(0.5, 0, 1, -1, 1)
    0.0
    """
    given = {
        "old_value": old_value,
        "old_min": old_min,
        "old_max": old_max,
        "new_min": new_min,
        "new_max": new_max,
    }
    for name, number in given.items():
        as_number(number, name)
    if old_min == old_max:
        raise SpecError(f"the old range is {old_min} to {old_max}: it must have a width")
    return (old_value - old_min) / (old_max - old_min) * (new_max - new_min) + new_min


def clip(value: float, lower: float, upper: float) -> float:
    """``value`` within lower and upper.

    >>> clip(3, 0, 1)
    1
    """
    for name, number in (("value", value), ("lower", lower), ("upper", upper)):
        as_number(number, name, infinite=True)
    if lower > upper:
        raise SpecError(f"lower is {lower}, upper is {upper}: lower must not be above upper")
    return lower if value < lower else min(value, upper)


def pad_tensor(tensor: torch.Tensor, tile_shape: Sequence[int]) -> torch.Tensor:
    """A matrix filled up with zeros to whole tiles.

    >>> pad_tensor(torch.ones(3, 5), (2, 4)).shape
    torch.Size([4, 8])
    """
    sizes = as_shape(tile_shape, "tile_shape", ("rows", "columns"))
    tensor = tensor if isinstance(tensor, torch.Tensor) else as_tensor(tensor, "tensor")
    if tensor.ndim != 2:
        raise SpecError(f"a tensor of shape {tuple(tensor.shape)} cannot be padded: it must have two axes")
    spare = [-n % m for n, m in zip(tensor.shape, sizes, strict=True)]
    return torch.nn.functional.pad(tensor, (0, spare[1], 0, spare[0]))


def LoadMNIST(
    batch_size: int = 32, validation: bool = True, num_workers: int = 0, data_dir: str | Path = "data"
) -> Loaders:
    """Loaders of MNIST: (train, validation or None, test). Images (1, 28, 28) in 0 to 1, normalised.

    The four IDX files, also gzipped, lie in data_dir or a folder below. validation: 20 % of the training
    images. Test batches are half as large. Raises SpecError that lists the files if they are not there.
    """
    paths = _files("MNIST", data_dir, _MNIST, "https://yann.lecun.com/exdb/mnist or a mirror")
    images = [_scaled(_idx(paths[k])[:, None], [0.1307], [0.3081]) for k in (0, 2)]
    labels = [torch.from_numpy(_idx(paths[k]).astype(np.int64)) for k in (1, 3)]
    train, test = (TensorDataset(x, y) for x, y in zip(images, labels, strict=True))
    return _loaders(train, test, batch_size, validation, num_workers)


def LoadCIFAR10(
    batch_size: int = 32, validation: bool = True, num_workers: int = 0, data_dir: str | Path = "data"
) -> Loaders:
    """Loaders of CIFAR-10: (train, validation or None, test). Images (3, 32, 32), normalised per channel.

    The files of the Python or of the binary version (``.bin``) lie in data_dir or a folder below. The Python
    version is pickles, of which only arrays are read: nothing in them is run. Otherwise as ``LoadMNIST``.
    """
    paths = _files("CIFAR-10", data_dir, _CIFAR, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz")
    batches = [_cifar(path) for path in paths]
    parts = [batches[:-1], batches[-1:]]
    means, spreads = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    train, test = (
        TensorDataset(
            _scaled(np.concatenate([images for images, _ in part]), means, spreads),
            torch.from_numpy(np.concatenate([labels for _, labels in part])),
        )
        for part in parts
    )
    return _loaders(train, test, batch_size, validation, num_workers)


def _files(name: str, folder: str | Path, names: Sequence[str], source: str) -> list[Path]:
    root = as_path(folder, "data_dir")
    found = []
    for file in names:
        choices = sorted(p for end in ("", ".gz", ".bin") for p in root.rglob(file + end) if p.is_file())
        if not choices:
            raise SpecError(
                f"{name}: no file {file} in {root.resolve()} or below. cosim downloads nothing: get the data "
                f"from {source} and put these files there: {', '.join(names)} (data_dir= names the folder)"
            )
        found.append(choices[0])
    return found


def _read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _idx(path: Path) -> np.ndarray:
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _IDX_BYTES:
        raise ParseError("this is no IDX file of unsigned bytes", path=str(path))
    axes = data[3]
    shape = tuple(np.frombuffer(data, ">u4", axes, 4).tolist())
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != np.prod(shape):
        raise ParseError(f"the header says {shape}, but {values.size} bytes follow", path=str(path))
    return values.reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Arrays only: a pickle can run any code, and these files come from the network."""

    def find_class(self, module: str, name: str) -> object:
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong in a CIFAR-10 file")
        if module == "numpy.core.multiarray":
            return np.empty(0).__reduce__()[0]
        return super().find_class(module, name)


def _cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if path.suffix == ".bin":  # a label and 3 x 1024 pixels, one after the other
        values = np.frombuffer(path.read_bytes(), np.uint8)
        if not values.size or values.size % _CIFAR_ROW:
            raise ParseError(f"{values.size} bytes are no images of {_CIFAR_ROW} bytes", path=str(path))
        rows = values.reshape(-1, _CIFAR_ROW)
        return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
    with path.open("rb") as file:
        try:
            batch = _Unpickler(file, encoding="bytes").load()
            images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
            return images, np.asarray(batch[b"labels"], np.int64)
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError) as error:
            raise ParseError(f"this is no batch of CIFAR-10: {error}", path=str(path)) from error


def _scaled(images: np.ndarray, means: list[float], spreads: list[float]) -> torch.Tensor:
    values = torch.from_numpy(images.astype(np.float32)) / 255
    mean, spread = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (means, spreads))
    return (values - mean) / spread


def _loaders(
    train: TensorDataset, test: TensorDataset, batch_size: int, validation: bool, workers: int
) -> Loaders:
    batch_size = as_integer(batch_size, "batch_size", at_least=1)
    workers = as_integer(workers, "num_workers", at_least=0)
    validation, held_out = as_flag(validation, "validation"), None
    if validation:
        count = len(train) // 5
        kept, other = random_split(train, [len(train) - count, count])
        held_out = DataLoader(other, batch_size=batch_size, num_workers=workers)
    else:
        kept = train
    first = DataLoader(kept, batch_size=batch_size, shuffle=True, num_workers=workers)
    last = DataLoader(test, batch_size=max(1, batch_size // 2), num_workers=workers)
    return first, held_out, last
