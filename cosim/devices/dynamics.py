"""Transient simulation of devices: a voltage waveform in, current and state out, by a named engine."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cosim.arrays import Array, as_tensor, check_finite
from cosim.devices.integrator import Integrator, Problem, Tolerances, newton_matrix, solve_step, stack
from cosim.devices.ir import DeviceIR
from cosim.devices.print_torch import TorchModel
from cosim.errors import SolveError, SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENGINES",
    "Engine",
    "Simulated",
    "Trace",
    "register_engine",
    "simulate",
    "state_from",
    "tracked_node",
]

_START_LIMIT = 200  # Newton iterations of the operating point at the first sample
_START_TOLERANCE = 1e-12  # V or A, beside the same relative to the unknown
_START_STRIDE = 1.0  # V; a longer Newton step is cut, because an exponential would overflow
_BOUND_SLACK = 1e-3  # of the state range: how far a restoring term may let a state past its bound
_PLOTTED = 16  # devices in a figure


class Simulated(Protocol):
    """What a simulation needs of a device (``cosim.Device`` has it)."""

    ir: DeviceIR

    @property
    def name(self) -> str: ...
    @property
    def given(self) -> Mapping[str, Any]: ...
    @property
    def state_parameter(self) -> str | None: ...
    @property
    def state_node(self) -> str | None: ...
    @property
    def state_scale(self) -> float: ...
    @property
    def state_range(self) -> tuple[float, float]: ...
    @property
    def state_bounds(self) -> tuple[torch.Tensor, torch.Tensor]: ...
    @property
    def write_parameter(self) -> str | None: ...
    def check_state(self, state: Array | None) -> torch.Tensor: ...
    def torch_model(self, *, static: bool, extra: Mapping[str, Any] = ...) -> TorchModel: ...


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A simulated waveform. Axes: time first, then the devices (``cells``).

    time: (T,) s. voltage: (T, *cells) V. current: (T, *cells) A, from p to n, with the displacement
    part; at the first sample the static current. state: (T, *cells) in the unit of the state parameter
    (see ``simulate``). stats: what the engine counted.
    """

    time: torch.Tensor
    voltage: torch.Tensor
    current: torch.Tensor
    state: torch.Tensor
    stats: Mapping[str, Any] = field(default_factory=dict)

    def plot(self) -> Figure:
        """Current over voltage, and voltage, current and state over time, as a matplotlib Figure.

        Of more than 16 devices the first 16 are drawn, and the title says so.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 6), layout="constrained")
        axes = figure.subplot_mosaic([["loop", "voltage"], ["loop", "current"], ["loop", "state"]])
        time = self.time.detach().cpu().numpy()
        lines = {
            name: getattr(self, name).detach().cpu().reshape(len(time), -1)
            for name in ("voltage", "current", "state")
        }
        total = lines["current"].shape[1]
        lines = {name: values[:, :_PLOTTED].numpy() for name, values in lines.items()}
        axes["loop"].plot(lines["voltage"], lines["current"])
        axes["loop"].set(xlabel="voltage (V)", ylabel="current (A)")
        for name, unit in (("voltage", " (V)"), ("current", " (A)"), ("state", "")):
            axes[name].plot(time, lines[name])
            axes[name].set(ylabel=name + unit)
        axes["state"].set(xlabel="time (s)")
        if total > _PLOTTED:
            figure.suptitle(f"{_PLOTTED} of {total} devices")
        return figure


# An engine takes the checked device, voltage (T, *cells), dt and state (*cells) or None, and its
# options as keyword-only arguments, whose names and defaults are the documentation of the options.
Engine = Callable[..., Trace]
ENGINES: dict[str, Engine] = {}


def register_engine(name: str) -> Callable[[Engine], Engine]:
    """Decorator: make a function available as ``simulate(..., engine=name)``."""

    def register(engine: Engine) -> Engine:
        ENGINES[name] = engine
        return engine

    return register


def simulate(
    device: Simulated,
    voltage: Array,
    dt: float,
    state: Array | None = None,
    engine: str = "torch",
    **options: Any,
) -> Trace:
    """Current and state of ``device`` under ``voltage`` (T,) or (T, *cells) V, a sample every ``dt`` s.

    The voltage is linear between samples. Voltage cells, state and per-cell parameters broadcast.
    ``Trace.state`` is state + state_scale*V(state_node); of a device that declares no state node it is
    the first integral (``idt``) of the model, or else its first internal node with a charge, and 0
    without either.

    Options of the engine "torch": rtol (1e-6) and atol (1e-6, a part of the state range, of 1 V, or of
    1 uA) bound the error of one step; max_steps; progress=True shows a bar. It computes in float64,
    without gradients.

    Raises SpecError for an unknown engine or option or a bad waveform; SolveError where no step is
    small enough, with the devices that finished on ``.solution`` (the others are NaN from there on).

    >>> from cosim.devices.device import Device
    >>> wave = torch.sin(torch.linspace(0.0, 2 * math.pi, 101, dtype=torch.float64))
    >>> trace = simulate(Device("vteam"), wave, 2e-10, state=0.3)
    >>> trace.current.shape, float(trace.state[0])
    (torch.Size([101]), 0.3)
    """
    run = _engine(engine, options)
    volts = _check_voltage(voltage)
    if not (isinstance(dt, int | float) and math.isfinite(dt) and dt > 0):
        raise SpecError(f"dt is {dt!r} s: it must be a finite number greater than 0")
    cells = None
    if device.state_parameter is not None or state is not None:
        cells = device.check_state(state).detach().to(volts)
    shape = _cells(device, volts, cells)
    volts = volts.reshape(volts.shape[0], *[1] * (len(shape) - volts.ndim + 1), *volts.shape[1:])
    volts = volts.expand(volts.shape[0], *shape)
    return run(device, volts, float(dt), None if cells is None else cells.expand(shape), **options)


def _engine(name: str, options: Mapping[str, Any]) -> Engine:
    if name not in ENGINES:
        raise SpecError(f"no engine {name!r} simulates a device: use one of {', '.join(sorted(ENGINES))}")
    run = ENGINES[name]
    parameters = inspect.signature(run).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise SpecError(f"engine {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    return run


def _check_voltage(voltage: Array) -> torch.Tensor:
    volts = check_finite(as_tensor(voltage, "voltage"), "voltage").detach().to(torch.float64)
    if volts.ndim == 0 or volts.shape[0] < 2:
        raise SpecError(
            f"voltage has shape {tuple(volts.shape)}: a waveform is (time,) or (time, *cells), "
            "with two samples or more"
        )
    return volts


def _cells(device: Simulated, volts: torch.Tensor, state: torch.Tensor | None) -> torch.Size:
    shapes = {"voltage": volts.shape[1:]} | ({} if state is None else {"state": state.shape})
    shapes |= {name: v.shape for name, v in device.given.items() if isinstance(v, torch.Tensor)}
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError as error:
        shown = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise SpecError(
            f"the cells of these do not broadcast: {shown} (voltage without its time axis)"
        ) from error


# --- for every engine: which unknown is the state -----------------------------------------------------


def tracked_node(device: Simulated) -> str | None:
    """Name of the internal unknown that the state is read from (see ``simulate``); None: there is none."""
    nodes = device.ir.nodes
    if device.state_node is not None:
        names = [node.name for node in nodes if not node.terminal]
        if device.state_node not in names:
            known = ", ".join(names) or "none"
            raise SpecError(f"{device.name} has no internal node {device.state_node!r}; it has: {known}")
        return device.state_node
    charged = {e.column for e in device.ir.jacobian if e.react is not None and e.row == e.column}
    integrals = [node.name for node in nodes if node.kind == "implicit"]
    inner = [node.name for k, node in enumerate(nodes) if k in charged and not node.terminal]
    return next(iter([*integrals, *inner]), None)


def state_from(
    device: Simulated, tracked: torch.Tensor | None, like: torch.Tensor, state: torch.Tensor | None
) -> torch.Tensor:
    """``Trace.state``, shaped as ``like``, from the tracked unknown (None: it stays at 0)."""
    if tracked is None:
        return torch.zeros_like(like) + (0.0 if state is None else state)
    if device.state_node is None or state is None:
        return tracked
    value = state + device.state_scale * tracked
    low, high = (bound.to(value) for bound in device.state_bounds)
    slack = _BOUND_SLACK * (high - low)
    # a state at its bound rests a little outside; it must be usable as the next start
    near = (value > low - slack) & (value < high + slack)
    return torch.where(near, value.clamp(low, high), value)


# --- the torch engine ---------------------------------------------------------------------------------


@register_engine("torch")
def _simulate_torch(
    device: Simulated,
    voltage: torch.Tensor,
    dt: float,
    state: torch.Tensor | None,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    max_steps: int = 1_000_000,
    progress: bool = False,
) -> Trace:
    for name, value in (("rtol", rtol), ("atol", atol), ("max_steps", max_steps)):
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} is {value}: it must be a finite number greater than 0")
    with torch.no_grad():
        problem = _problem(device, voltage, dt, state)
        node, inner = tracked_node(device), problem.model.internal
        track = inner.index(node) if node in inner else None
        nominal = tuple(_nominal(device, name) for name in inner)
        tolerances = Tolerances(rtol=rtol, atol=atol, nominal=nominal, max_steps=max_steps)
        integrator = Integrator(problem, tolerances, track=track)
        with _progress(progress) as report:
            integrator.run(report)
        unknown = None if track is None else integrator.unknown.reshape(voltage.shape)
        trace = Trace(
            time=dt * torch.arange(voltage.shape[0], dtype=torch.float64, device=voltage.device),
            voltage=voltage,
            current=integrator.current.reshape(voltage.shape),
            state=state_from(device, unknown, voltage, state),
            stats=dict(integrator.counts),
        )
    if integrator.failures:
        _raise(device, integrator, trace, rtol)
    return trace


def _problem(device: Simulated, voltage: torch.Tensor, dt: float, state: torch.Tensor | None) -> Problem:
    write = device.write_parameter
    model = device.torch_model(static=False, extra={write: 1} if write else {})
    still = device.torch_model(static=True, extra={write: 0} if write else {})
    cells = voltage.shape[1:]
    parameters = {
        name: _parameter(device, name, state).detach().to(voltage).expand(cells).reshape(-1)
        for name in model.varying
    }
    volts = voltage.reshape(voltage.shape[0], -1)
    start = _operating_point(device, model, still, volts[0], parameters)
    return Problem(model=model, voltage=volts, dt=dt, start=start, parameters=parameters)


def _parameter(device: Simulated, name: str, state: torch.Tensor | None) -> torch.Tensor:
    return state if name == device.state_parameter and state is not None else device.given[name]


def _operating_point(
    device: Simulated,
    model: TorchModel,
    still: TorchModel,
    volts: torch.Tensor,
    parameters: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Internal unknowns (n, N) of ``model`` at rest: those that ``still`` has solved, the others 0."""
    size = len(still.internal)
    kinds = {node.name: node.kind for node in device.ir.nodes}
    stride = [_START_STRIDE if kinds[name] == "voltage" else math.inf for name in still.internal]
    limit = volts.new_tensor(stride).reshape(-1, 1)
    unknowns = volts.new_zeros((size, volts.numel()))
    settled = torch.zeros_like(volts, dtype=torch.bool)
    for _ in range(_START_LIMIT):
        terms = still([volts, *unknowns], parameters)
        matrix = newton_matrix(terms, size, 0.0, torch.ones_like(volts))
        change = solve_step(matrix, -stack(terms.resist[1:], volts))
        unknowns = unknowns + torch.clamp(change, -limit, limit)
        settled = (change.abs() <= _START_TOLERANCE * (1.0 + unknowns.abs())).all(0)
        if bool(settled.all()):
            break
    else:
        raise SolveError(
            f"the internal nodes of {device.name} have no operating point at the first sample "
            f"({float(volts[~settled][0])} V): start the waveform at 0 V, or name with write= the parameter "
            "that lets the state move"
        )
    found = dict(zip(still.internal, unknowns, strict=True))
    return stack([found.get(name, torch.zeros_like(volts)) for name in model.internal], volts)


def _nominal(device: Simulated, name: str) -> float:
    """Size of an unknown for the tolerances."""
    if name == device.state_node and device.state_parameter is not None:
        low, high = device.state_range
        return (high - low) / abs(device.state_scale)
    kind = next(node.kind for node in device.ir.nodes if node.name == name)
    return 1.0 if kind == "voltage" else 1e-6


def _raise(device: Simulated, integrator: Integrator, trace: Trace, rtol: float) -> None:
    first = min(integrator.failures, key=lambda failure: failure.time)
    count, total = len(integrator.failures), integrator.problem.voltage.shape[1]
    where = "" if total == 1 else f" (device {first.device}, the first of {count} among {total})"
    raise SolveError(
        f"the simulation of {device.name} stopped at t = {first.time:.9g} s{where}: {first.reason}; "
        f"sample the waveform more finely there, or loosen rtol (now {rtol:g})",
        solution=trace,
    )


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[float], None] | None]:
    if not shown:
        yield None
        return
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("simulating", total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
