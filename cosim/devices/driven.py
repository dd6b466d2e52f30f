"""Terminals beyond the pair, which the caller drives: a gate, a heater."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from cosim.arrays import Array, as_tensor, check_finite
from cosim.devices.print_torch import Terms, TorchModel, Value
from cosim.devices.simulated import Simulated
from cosim.errors import SpecError

__all__ = ["Driven", "check_driven", "check_voltages", "check_waveforms", "follow"]

_LINE = "cosim_line"  # the parameter that says which device of a batch it is


def check_driven(device: Simulated, given: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Voltage of every driven terminal, in the order of the terminals; SpecError for others, or for none."""
    return check_voltages(device, given, device.driven)


def check_voltages(
    device: Simulated, given: Mapping[str, Array], terminals: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Voltages of exactly ``terminals``, in their order."""
    for name in given:
        if name not in terminals:
            listed = ", ".join(terminals) or "none"
            raise SpecError(
                f"{device.name} takes no voltage of {name!r}: the terminals to give one for: {listed}"
            )
    for name in terminals:
        if name not in given:
            raise SpecError(
                f"{device.name} needs the voltage of its terminal {name}: give {name}= in V, or load the "
                f'device with ground=("{name}",) or open=("{name}",)'
            )
    return {name: check_finite(as_tensor(given[name], name), name).double() for name in terminals}


def check_waveforms(device: Simulated, given: Mapping[str, Array], samples: int) -> dict[str, torch.Tensor]:
    """Waveforms (samples, *cells) V of every driven terminal; a number stays for all time."""
    found = check_driven(device, given)
    for name, volts in found.items():
        if volts.ndim and volts.shape[0] != samples:
            raise SpecError(
                f"{name} has shape {tuple(volts.shape)}: give one number, or a waveform (time,) or "
                f"(time, *cells) with the {samples} samples of the voltage"
            )
    return found


def follow(
    model: TorchModel, time: torch.Tensor, waves: Sequence[torch.Tensor]
) -> tuple[TorchModel | Driven, dict[str, torch.Tensor]]:
    """``model`` with its further terminals on ``waves`` (T, N), and the parameters that this adds."""
    if not waves:
        return model, {}
    like = waves[0]
    return Driven(model, time.to(like), waves), {_LINE: torch.arange(like.shape[1]).to(like)}


class Driven:
    """A circuit whose further terminals follow waveforms, linear between samples.

    time: (T,) s. waves: (T, N) V per terminal. A parameter numbers the N devices.
    """

    def __init__(self, model: TorchModel, time: torch.Tensor, waves: Sequence[torch.Tensor]) -> None:
        self._model, self._time, self._waves = model, time, waves
        self.nodes, self.internal = model.nodes, model.internal
        self.removed = model.removed
        self.varying, self.kept = (*model.varying, _LINE), model.kept
        self.discrete = model.discrete

    def __call__(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> Terms:
        terms = self._model(self._ends(unknowns, parameters, abstime), parameters, abstime)
        return _without(terms, range(1, 1 + len(self._waves)))

    def carry(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value = 0.0
    ) -> list[torch.Tensor]:
        """As ``TorchModel.carry``."""
        return self._model.carry(self._ends(unknowns, parameters, abstime), parameters, abstime)

    def _ends(
        self, unknowns: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor], abstime: Value
    ) -> list[torch.Tensor]:
        """The unknowns of the model: those of the circuit, and behind the first the further terminals."""
        first, *inner = unknowns
        line = parameters[_LINE].long()
        now = torch.as_tensor(abstime, dtype=first.dtype, device=first.device).expand(line.shape)
        sample = torch.searchsorted(self._time, now.contiguous(), right=True) - 1
        sample = sample.clamp(0, len(self._time) - 2)
        begin, end = self._time[sample], self._time[sample + 1]
        share = (now - begin) / (end - begin)
        ends = [wave[sample, line] * (1 - share) + wave[sample + 1, line] * share for wave in self._waves]
        return [first, *ends, *inner]


def _without(terms: Terms, gone: Collection[int]) -> Terms:
    """``terms`` without these rows and columns."""
    left = [k for k in range(len(terms.resist)) if k not in gone]
    place = {old: new for new, old in enumerate(left)}

    def lower(entries: Mapping[tuple[int, int], Value]) -> dict[tuple[int, int], Value]:
        return {(place[r], place[c]): v for (r, c), v in entries.items() if r in place and c in place}

    return Terms(
        [terms.resist[k] for k in left],
        [terms.react[k] for k in left],
        lower(terms.jacobian_resist),
        lower(terms.jacobian_react),
    )
