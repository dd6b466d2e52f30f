"""Recurrent layers on crossbars: RNN, LSTM, GRU, and their cells.

Input and recurrent weights of every layer and direction have their own tiles; gates are digital.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from cosim.errors import SpecError
from cosim.nn.hardware import Hardware
from cosim.nn.layers import DigitalState, register_bias
from cosim.nn.matmul import CrossbarMatmul
from cosim.nn.observing import take_first_ranges

__all__ = ["Cell", "Recurrent"]

State = tuple[torch.Tensor, ...]  # (h,), for an LSTM (h, c); each (batch, hidden)


class _Step(nn.Module):
    """One time step of one layer and direction."""

    input_bias: torch.Tensor | None
    hidden_bias: torch.Tensor | None

    def __init__(
        self,
        mode: str,
        weights: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
        biases: tuple[torch.Tensor | None, torch.Tensor | None],
        hardware: Hardware,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input = CrossbarMatmul(weights[0], hardware, generator=generator)
        self.hidden = CrossbarMatmul(weights[1], hardware, generator=generator)
        projection = weights[2]
        self.projection = (
            None if projection is None else CrossbarMatmul(projection, hardware, generator=generator)
        )
        register_bias(self, "input_bias", biases[0], hardware)
        register_bias(self, "hidden_bias", biases[1], hardware)

    def digital_state(self, suffix: str = "") -> DigitalState:
        """Parameters of the digital layer, whose names end in ``suffix``."""
        projection = None if self.projection is None else self.projection.weight[0]
        values = {
            "weight_ih": self.input.weight[0],
            "weight_hh": self.hidden.weight[0],
            "weight_hr": projection,
            "bias_ih": self.input_bias,
            "bias_hh": self.hidden_bias,
        }
        return {name + suffix: value for name, value in values.items()}

    def drive(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the inputs give to the gates: all time steps in one product."""
        found = self.input(inputs)
        return found if self.input_bias is None else found + self.input_bias

    def forward(self, drive: torch.Tensor, state: State) -> State:
        recurrent = self.hidden(state[0])
        if self.hidden_bias is not None:
            recurrent = recurrent + self.hidden_bias
        if self.mode == "LSTM":
            i, f, g, o = (drive + recurrent).chunk(4, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            return (h if self.projection is None else self.projection(h)), c
        if self.mode == "GRU":
            (r_x, z_x, n_x), (r_h, z_h, n_h) = drive.chunk(3, -1), recurrent.chunk(3, -1)
            n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
            z = (z_x + z_h).sigmoid()
            return (n + z * (state[0] - n),)
        gates = drive + recurrent
        return (gates.tanh() if self.mode == "RNN_TANH" else gates.relu(),)


class Cell(nn.Module):
    """``nn.RNNCell``, ``nn.LSTMCell`` or ``nn.GRUCell`` on crossbars.

    >>> import cosim
    >>> cell = Cell(nn.GRUCell(3, 4), Hardware(device=cosim.Device("vteam")))
    >>> cell(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        digital: nn.RNNCell | nn.LSTMCell | nn.GRUCell,
        hardware: Hardware,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.hidden_size = digital.hidden_size
        if isinstance(digital, nn.RNNCell):
            mode = f"RNN_{digital.nonlinearity.upper()}"
        else:
            mode = "LSTM" if isinstance(digital, nn.LSTMCell) else "GRU"
        self.step = _Step(
            mode,
            (digital.weight_ih, digital.weight_hh, None),
            (digital.bias_ih, digital.bias_hh),
            hardware,
            generator,
        )

    def forward(self, inputs: torch.Tensor, state: Any = None) -> Any:
        """``(batch, inputs)`` or ``(inputs,)``, and the state, as the digital cell."""
        lstm = self.step.mode == "LSTM"
        if state is None:
            zero = inputs.new_zeros(*inputs.shape[:-1], self.hidden_size)
            state = (zero, zero)[: 2 if lstm else 1]
        elif not lstm:
            state = (state,)
        state = self.step(self.step.drive(inputs), tuple(state))
        return state if lstm else state[0]

    def digital_state(self) -> DigitalState:
        """Parameters of the digital cell by name."""
        return self.step.digital_state()


class Recurrent(nn.Module):
    """``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` on crossbars: layers, directions, projections, packed input.

    >>> import cosim
    >>> layer = Recurrent(nn.LSTM(3, 4, bidirectional=True), Hardware(device=cosim.Device("vteam")))
    >>> outputs, (h, c) = layer(torch.zeros(5, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([5, 2, 8]), torch.Size([2, 2, 4]))
    """

    def __init__(
        self,
        digital: nn.RNN | nn.LSTM | nn.GRU,
        hardware: Hardware,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.mode, self.batch_first = digital.mode, digital.batch_first
        self.num_layers, self.dropout = digital.num_layers, digital.dropout
        self.hidden_size = digital.hidden_size
        self.output_size = digital.proj_size or digital.hidden_size
        self.directions = 2 if digital.bidirectional else 1
        self.input_size = digital.input_size
        self.steps = nn.ModuleList()
        for suffix in self._suffixes:
            names = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
            found: list[Any] = [getattr(digital, name + suffix, None) for name in names]
            weights, biases = (found[0], found[1], found[2]), (found[3], found[4])
            self.steps.append(_Step(digital.mode, weights, biases, hardware, generator))

    @property
    def _suffixes(self) -> list[str]:
        """What the names of the parameters of each step end in."""
        ends = ("", "_reverse")[: self.directions]
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    def digital_state(self) -> DigitalState:
        """Parameters of the digital layer by name."""
        found: DigitalState = {}
        for step, suffix in zip(self.steps, self._suffixes, strict=True):
            assert isinstance(step, _Step)
            found |= step.digital_state(suffix)
        return found

    def forward(self, inputs: Any, state: Any = None) -> Any:
        """Sequence (or ``PackedSequence``) and state to outputs and state, as the digital layer."""
        if isinstance(inputs, PackedSequence):
            padded, lengths = pad_packed_sequence(inputs)
            outputs, last = self._run(padded, self._states(padded, state), lengths.to(padded.device))
            in_order = inputs.sorted_indices is None
            return pack_padded_sequence(outputs, lengths, enforce_sorted=in_order), self._result(last)
        if inputs.ndim not in (2, 3) or inputs.shape[-1] != self.input_size:
            raise SpecError(
                f"inputs of shape {tuple(inputs.shape)} do not fit: give (time, batch, {self.input_size})"
            )
        flat = inputs.ndim == 2
        if flat and state is not None:
            state = tuple(s[:, None] for s in state) if self.mode == "LSTM" else state[:, None]
        sequence = inputs[:, None] if flat else inputs.transpose(0, 1) if self.batch_first else inputs
        outputs, last = self._run(sequence, self._states(sequence, state), None)
        if flat:
            return outputs[:, 0], self._result(tuple(part[:, 0] for part in last))
        return (outputs.transpose(0, 1) if self.batch_first else outputs), self._result(last)

    def _result(self, last: State) -> Any:
        return last if self.mode == "LSTM" else last[0]

    def _states(self, sequence: torch.Tensor, state: Any) -> State:
        """Initial states, each ``(layers * directions, batch, size)``."""
        sizes = (self.output_size, self.hidden_size)[: 2 if self.mode == "LSTM" else 1]
        shapes = [(len(self.steps), sequence.shape[1], size) for size in sizes]
        if state is None:
            return tuple(sequence.new_zeros(shape) for shape in shapes)
        states = tuple(state) if self.mode == "LSTM" else (state,)
        for part, shape in zip(states, shapes, strict=True):
            if tuple(part.shape) != shape:
                raise SpecError(f"a state of shape {tuple(part.shape)} does not fit: it must be {shape}")
        return states

    def _run(
        self, sequence: torch.Tensor, states: State, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, State]:
        """All layers over ``(time, batch, inputs)``; outputs, and the last states."""
        take_first_ranges(self, lambda: self._compute(sequence, states, lengths))
        return self._compute(sequence, states, lengths)

    def _compute(
        self, sequence: torch.Tensor, states: State, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, State]:
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                found, state = self._sweep(
                    index, sequence, tuple(part[index] for part in states), lengths, bool(direction)
                )
                outputs.append(found)
                last.append(state)
            sequence = torch.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                sequence = nn.functional.dropout(sequence, self.dropout, self.training)
        return sequence, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _sweep(
        self,
        index: int,
        sequence: torch.Tensor,
        state: State,
        lengths: torch.Tensor | None,
        backwards: bool,
    ) -> tuple[torch.Tensor, State]:
        """One layer in one direction. Sequences that are over keep their state."""
        step: Any = self.steps[index]
        drive = step.drive(sequence)
        outputs: list[torch.Tensor] = []
        order = range(len(sequence))
        for t in reversed(order) if backwards else order:
            new: State = step(drive[t], state)
            if lengths is not None:
                alive = (lengths > t)[:, None]
                new = tuple(torch.where(alive, a, b) for a, b in zip(new, state, strict=True))
            state = new
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if backwards else outputs), state
