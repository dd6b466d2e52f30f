"""Saving and loading of a whole converted network: data only, no code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cosim
from cosim.checks import as_flag, as_instance, as_path, shown
from cosim.devices.catalogue import CATALOGUE
from cosim.devices.device import Device
from cosim.errors import ParseError, SpecError
from cosim.nn.convert import convert_named
from cosim.nn.description import describe, rebuild
from cosim.nn.model import ConvertedModel

__all__ = ["load", "save"]

_FORMAT, _VERSION = "cosim converted model", 1
_FIELDS = {"hardware": dict, "layers": list, "engines": dict, "training": bool, "state": dict}


def save(model: ConvertedModel, path: str | Path) -> None:
    """Write a converted network to a file: hardware, cells, ranges, tuning, engines. ``load`` reads it.

    The file holds tensors and texts, no code; of a device of your own it holds the text of the .va
    file and the digest of the model. Raises SpecError for parts that are not cosim's own, such as a
    scheme or an effect of yours, and for effects added to a trainable network after ``convert``.

    >>> import tempfile
    >>> import cosim
    >>> folder, network = tempfile.mkdtemp(), nn.Linear(4, 3)
    >>> converted = cosim.convert(network, device=cosim.Device("vteam"), tile_shape=(8, 8))
    >>> cosim.save(converted, f"{folder}/converted.pt")
    >>> again = cosim.load(f"{folder}/converted.pt", network)
    >>> bool((again(torch.ones(1, 4)) == converted(torch.ones(1, 4))).all())
    True
    """
    as_instance(model, "model", ConvertedModel, "what cosim.convert returns")
    target = as_path(path, "path")
    products = model.products
    if not products or type(model) is not ConvertedModel:
        raise SpecError("model is not what cosim.convert returns: save its state_dict() instead")
    hardware = next(iter(products.values())).hardware
    described = describe(hardware, whole=True)
    if hardware.trainable and any(product.has_added_effects for product in products.values()):
        raise SpecError("effects added after convert cannot be saved with a trainable network: give effects=")
    if not hardware.trainable:
        described["effects"] = []  # what they did is in the cells
    rebuild(described, hardware.device)  # whatever cannot be read again is told now
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "cosim": cosim.__version__,
        "hardware": json.dumps(described),
        "device_text": _text(hardware.device),
        "layers": [layer.name for layer in model.report.converted],
        "engines": {name: product.engine for name, product in products.items()},
        "training": model.training,
        "state": model.state_dict(),
    }
    try:
        torch.save(document, target)
    except (OSError, RuntimeError) as error:
        raise SpecError(f"{target} cannot be written: {error}") from error


def load(
    path: str | Path, model: nn.Module, *, device: Device | None = None, other_hardware: bool = False
) -> ConvertedModel:
    """What ``save`` wrote, with the layers of ``model`` on the same chip.

    model: a network of the same architecture, as it was given to ``convert``; its weights do not matter
    and it is not changed. device: needed, and compared, where the device was a .va file of its author's;
    such a file is never compiled from what is loaded. other_hardware: accept another device.

    Raises ParseError for what is not such a file, SpecError for a network or a device that does not fit.
    Nothing in the file is run as code.

    >>> import tempfile
    >>> import cosim
    >>> folder, network = tempfile.mkdtemp(), nn.Linear(4, 3)
    >>> cosim.save(cosim.convert(network, device=cosim.Device("vteam")), f"{folder}/converted.pt")
    >>> cosim.load(f"{folder}/converted.pt", network).report.tiles
    1
    """
    as_instance(model, "model", nn.Module, "the network that was converted, as a torch.nn.Module")
    other_hardware = as_flag(other_hardware, "other_hardware")
    if device is not None:
        as_instance(device, "device", Device, "a cosim.Device")
    document = _read(as_path(path, "path"))
    hardware = rebuild(document["hardware"], device, other=other_hardware)
    converted = convert_named(hardware, model, document["layers"])
    try:
        converted.load_state_dict(document["state"], other_hardware=other_hardware)
    except (RuntimeError, AttributeError) as error:
        raise SpecError(f"model is another network than the one that was saved: {error}") from error
    if document["engines"].keys() != converted.products.keys():
        raise SpecError(
            f"the file has engines for {', '.join(document['engines']) or 'nothing'}, and the network has "
            f"the products {', '.join(converted.products)}: save it anew"
        )
    for name, product in converted.products.items():
        product.set_engine(document["engines"][name])
    return converted.train(document["training"])


def _text(device: Device) -> str:
    """The .va file of a device of one's own; "" for a bundled one."""
    bundled = CATALOGUE.get(device.source.stem)
    if bundled is not None and bundled.path == device.source:
        return ""
    try:
        return device.source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{device.source}, the file of the device, cannot be read: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParseError(f"not a converted network of cosim: {first}", path=str(path)) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ParseError("not a converted network: cosim.save writes them", path=str(path))
    if document.get("version") != _VERSION:
        raise ParseError(
            f"version is {shown(document.get('version'))}, this cosim reads {_VERSION}", path=str(path)
        )
    try:
        found = document | {"hardware": json.loads(document["hardware"])}
    except (KeyError, TypeError, ValueError):
        found = document | {"hardware": None}
    for name, kind in _FIELDS.items():
        if not isinstance(found.get(name), kind):
            raise ParseError(
                f"{name} is {shown(document.get(name))}: the file is damaged, save it anew", path=str(path)
            )
    return found
