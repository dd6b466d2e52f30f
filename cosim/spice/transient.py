"""Devices under a voltage waveform in ngspice: the engine "ngspice" of ``Device.simulate``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosim.devices.dynamics import Trace, register_engine, state_from, tracked_node
from cosim.devices.held import Held
from cosim.devices.osdi_names import osdi_nodes, osdi_parameters
from cosim.errors import CosimError, SpecError, ToolFailed
from cosim.jobs import JobResult, run_jobs
from cosim.spice.deck import (
    GROUND,
    Current,
    Deck,
    DeviceInstance,
    InternalNode,
    ModelCard,
    Options,
    Save,
    Transient,
    Waveform,
    WaveformSource,
)
from cosim.spice.dialects.ngspice import save_name
from cosim.spice.ngspice import find_ngspice, make_job, read_result, usable
from cosim.spice.rawfile import Plot
from cosim.spice.tile import LIBRARY, given_values

if TYPE_CHECKING:
    from cosim.devices.device import Device

__all__ = ["simulate_staircase", "transient_deck"]

_SOURCE, _INSTANCE = "Vdrive", "N1"
_RELTOL, _TIMEOUT = 1e-6, 600.0  # of ngspice's steps; s
_RAMP = 1e-4  # of a held sample, from the voltage before; ngspice merges corners below 5e-5 of the step


def transient_deck(
    device: Device, waveform: Waveform, own: Mapping[str, float], *, reltol: float, max_step: float
) -> Deck:
    """One device from a source that follows ``waveform`` to ground. own: parameters of the instance."""
    called, given = osdi_parameters(device.ir), given_values(device).items()
    shared = tuple((called[name], float(value)) for name, value in given if name not in own)
    instance = tuple((called[name], value) for name, value in own.items())
    return Deck(
        title=f"{device.name} under a waveform of {len(waveform.seconds)} samples",
        header=(("units", "s, V, A"), ("model", f"{device.name}, digest {device.digest}")),
        libraries=(LIBRARY,),
        models=(ModelCard(name="cell", module=device.name, parameters=shared),),
        elements=(
            WaveformSource(name=_SOURCE, p="p", n=GROUND, waveform=waveform),
            DeviceInstance(name=_INSTANCE, nodes=("p", GROUND), model="cell", parameters=instance),
        ),
        analyses=(Transient(stop=waveform.seconds[-1], step=max_step, max_step=max_step),),
        saves=_saves(device),
        options=Options(reltol=reltol, abstol=1e-15, vntol=1e-9),
    )


@register_engine("ngspice")
def simulate(
    device: Device,
    voltage: torch.Tensor,
    dt: float,
    state: torch.Tensor | None,
    *,
    reltol: float = _RELTOL,
    max_step: float | None = None,
    timeout: float = _TIMEOUT,
    executor: Executor | None = None,
    program: str = "ngspice",
) -> Trace:
    """voltage ``(T, *cells)`` V every ``dt`` s, state ``(*cells)``; one ngspice job per device.

    max_step: longest time step, s (``dt``); timeout: s, for each job, on ``executor`` if given.
    Raises ToolNotFound without ngspice, ToolFailed if a run fails.
    """
    start = time.monotonic()
    step = dt if max_step is None else max_step
    if not 0 < step <= dt:
        raise SpecError(f"max_step is {step} s: it must be above 0 and at most dt, {dt} s")
    ngspice = find_ngspice(program)
    seconds = dt * np.arange(voltage.shape[0])
    volts = voltage.detach().to("cpu", torch.float64).reshape(len(seconds), -1).numpy()  # (T, devices)
    instances = _instances(device, state, voltage.shape[1:])
    libraries = {LIBRARY: device.osdi(per_cell=tuple(instances[0])).read_bytes()}
    decks = (
        transient_deck(device, _waveform(seconds, wave), own, reltol=reltol, max_step=step)
        for wave, own in zip(volts.T, instances, strict=True)
    )
    jobs = (make_job(deck, libraries, program=ngspice, timeout=timeout) for deck in decks)
    plots = [_plot(outcome, device, seconds[-1], step) for outcome in run_jobs(jobs, executor)]
    # every sample is a corner of the source, where ngspice places a time point
    current, inner = (
        torch.from_numpy(np.stack([np.interp(seconds, p["time"], f(p)) for p in plots], -1)).reshape(
            voltage.shape
        )
        for f in (lambda p: -p[_saved(device)[0]], lambda p: p[_saved(device)[-1]])
    )
    return Trace(
        time=torch.from_numpy(seconds).to(voltage.device),
        voltage=voltage,
        current=current.to(voltage),
        state=state_from(device, None if tracked_node(device) is None else inner.to(voltage), voltage, state),
        stats={
            "seconds": time.monotonic() - start,
            "points": sum(len(plot.values) for plot in plots),
            "ngspice_version": ngspice.version,
        },
    )


def simulate_staircase(device: Device, voltage: np.ndarray, dt: float, state: float) -> Held:
    """``simulate_held`` in ngspice: each of ``voltage`` (T,) V for ``dt`` s, after a ramp of dt/10000.

    The current of a sample is that after its ramp. Raises as ``simulate`` does.
    """
    starts = dt * np.arange(len(voltage))
    corners = np.stack([starts + _RAMP * dt, starts + dt], 1)
    seconds = np.concatenate([[0.0], corners.reshape(-1)])
    wave = _waveform(seconds, np.concatenate([voltage[:1], np.repeat(voltage, 2)]))
    start = torch.tensor(state, dtype=torch.float64)
    own = _instances(device, start, start.shape)[0]
    deck = transient_deck(device, wave, own, reltol=_RELTOL, max_step=dt)
    libraries = {LIBRARY: device.osdi(per_cell=tuple(own)).read_bytes()}
    job = make_job(deck, libraries, program=find_ngspice("ngspice"), timeout=_TIMEOUT)
    plot = _plot(next(iter(run_jobs([job], None))), device, seconds[-1], dt)

    def at(times: np.ndarray, name: str) -> torch.Tensor:
        return torch.from_numpy(np.interp(times, plot["time"], plot[name]))

    ends = np.concatenate([[0.0], starts + dt])
    current, inner = at(corners[:, 0], _saved(device)[0]), at(ends, _saved(device)[-1])
    return Held(current=-current, state=state_from(device, inner, inner, start))


def _waveform(seconds: np.ndarray, volts: np.ndarray) -> Waveform:
    return Waveform(seconds=tuple(seconds.tolist()), volts=tuple(volts.tolist()))


def _instances(device: Device, state: torch.Tensor | None, cells: torch.Size) -> list[dict[str, float]]:
    """Parameters of every instance: the state, those given per cell, and writing on."""
    grids = {name: value for name, value in given_values(device).items() if isinstance(value, torch.Tensor)}
    if device.state_parameter is not None and state is not None:
        grids[device.state_parameter] = state
    columns = {name: grid.detach().expand(cells).reshape(-1).tolist() for name, grid in grids.items()}
    write = {device.write_parameter: 1.0} if device.write_parameter else {}
    return [{name: x[k] for name, x in columns.items()} | write for k in range(cells.numel())]


def _saves(device: Device) -> tuple[Save, ...]:
    current, node = Current(source=_SOURCE), tracked_node(device)
    if node is None:
        return (current,)
    return current, InternalNode(device=_INSTANCE, node=osdi_nodes(device.ir)[node])


def _saved(device: Device) -> list[str]:
    return [save_name(save) for save in _saves(device)]


def _plot(outcome: JobResult | CosimError, device: Device, stop: float, step: float) -> Plot:
    if isinstance(outcome, CosimError):
        raise outcome
    analysis = Transient(stop=stop, step=step, max_step=step)
    reading = read_result(outcome, (analysis,), _saves(device))
    if not reading.converged:
        raise ToolFailed(
            f"ngspice did not get through the waveform with {device.name}: "
            "sample it more finely, or loosen reltol",
            log=reading.log,
        )
    (plot,) = reading.plots
    if not usable(plot.values).all():
        raise ToolFailed(f"ngspice answered values of {device.name} that are not finite", log=reading.log)
    return plot
