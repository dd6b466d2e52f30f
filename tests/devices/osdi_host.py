"""Loads an .osdi library with ctypes and evaluates it: a simulator of one device, for tests."""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cosim.devices.interp import Evaluation
from cosim.devices.simulator import SIMULATOR_PARAMETERS

U32, PTR = c.c_uint32, c.c_void_p


class Paras(c.Structure):
    _fields_ = [("names", PTR), ("vals", PTR), ("names_str", PTR), ("vals_str", PTR)]


class SimInfo(c.Structure):
    _fields_ = [
        ("paras", Paras),
        ("abstime", c.c_double),
        ("prev_solve", c.POINTER(c.c_double)),
        ("prev_state", PTR),
        ("next_state", PTR),
        ("flags", U32),
    ]


class InitError(c.Structure):
    _fields_ = [("code", U32), ("parameter", U32)]


class InitInfo(c.Structure):
    _fields_ = [("flags", U32), ("num_errors", U32), ("errors", c.POINTER(InitError))]


class Pair(c.Structure):
    _fields_ = [("first", U32), ("second", U32)]


class JacobianEntry(c.Structure):
    _fields_ = [("nodes", Pair), ("react_ptr_off", U32), ("flags", U32)]


class Node(c.Structure):
    _fields_ = [
        ("name", c.c_char_p), ("units", c.c_char_p), ("residual_units", c.c_char_p),
        ("resist_off", U32), ("react_off", U32), ("limit_resist", U32), ("limit_react", U32),
        ("is_flow", c.c_bool),
    ]  # fmt: skip


class Param(c.Structure):
    _fields_ = [
        ("name", c.POINTER(c.c_char_p)), ("num_alias", U32), ("description", c.c_char_p),
        ("units", c.c_char_p), ("flags", U32), ("len", U32),
    ]  # fmt: skip


class Descriptor(c.Structure):
    _fields_ = [
        ("name", c.c_char_p),
        ("num_nodes", U32), ("num_terminals", U32), ("nodes", c.POINTER(Node)),
        ("num_jacobian", U32), ("jacobian", c.POINTER(JacobianEntry)),
        ("num_collapsible", U32), ("collapsible", c.POINTER(Pair)), ("collapsed_offset", U32),
        ("noise", PTR), ("num_noise", U32),
        ("num_params", U32), ("num_instance_params", U32), ("num_opvars", U32), ("params", c.POINTER(Param)),
        ("node_mapping_offset", U32), ("jacobian_ptr_resist_offset", U32),
        ("num_states", U32), ("state_idx_off", U32), ("bound_step_offset", U32),
        ("instance_size", U32), ("model_size", U32),
        ("access", c.CFUNCTYPE(PTR, PTR, PTR, U32, U32)),
        ("setup_model", c.CFUNCTYPE(None, PTR, PTR, PTR, c.POINTER(InitInfo))),
        ("setup_instance", c.CFUNCTYPE(None, PTR, PTR, PTR, c.c_double, U32, PTR, c.POINTER(InitInfo))),
        ("eval", c.CFUNCTYPE(U32, PTR, PTR, PTR, c.POINTER(SimInfo))),
    ]  # fmt: skip


class Limit(c.Structure):
    _fields_ = [("name", c.c_char_p), ("num_args", U32), ("function", PTR)]


@c.CFUNCTYPE(c.c_double, c.c_bool, PTR, c.c_double, c.c_double)
def _unlimited(_first: bool, _changed: object, new: float, _old: float) -> float:
    """What $limit asks a simulator for: at a solution, the voltage itself."""
    return new


@c.CFUNCTYPE(None, PTR, PTR, U32)
def _silent(_handle: object, _text: object, _level: int) -> None:
    """What a model prints."""


# what to compute (all of it), and the analysis
FLAGS = {"dc": 511 | 2048 | 32768, "ic": 511 | 2048 | 16384 | 32768, "tran": 511 | 8192, "ac": 511 | 4096}
_NONE = 2**32 - 1  # an offset of what there is not
_NAMES = (c.c_char_p * (len(SIMULATOR_PARAMETERS) + 1))(
    *(name.encode() for name in SIMULATOR_PARAMETERS), None
)
_VALUES = (c.c_double * len(SIMULATOR_PARAMETERS))(*SIMULATOR_PARAMETERS.values())
_NOTHING = (c.c_char_p * 1)(None)  # the end of a list of texts
_PARAS = Paras(*(c.cast(each, PTR) for each in (_NAMES, _VALUES, _NOTHING, _NOTHING)))


# the functions that follow eval in the descriptor
_LOADS = [
    *("load_noise", "load_residual_resist", "load_residual_react"),
    *("load_limit_rhs_resist", "load_limit_rhs_react", "load_spice_rhs_dc", "load_spice_rhs_tran"),
    *("load_jacobian_resist", "load_jacobian_react", "load_jacobian_tran"),
]


class OsdiDevice:
    """One instance of model ``number`` in ``path``, with parameters set by name."""

    def __init__(
        self, path: Path, parameters: Mapping[str, float], temperature: float = 300.15, number: int = 0
    ) -> None:
        library = c.CDLL(str(path))
        first = c.addressof(Descriptor.in_dll(library, "OSDI_DESCRIPTORS"))
        size = 0 if number == 0 else U32.in_dll(library, "OSDI_DESCRIPTOR_SIZE").value
        _connect(library)
        d = self.descriptor = Descriptor.from_address(first + number * size)
        self.instance = c.create_string_buffer(d.instance_size)
        self.model = c.create_string_buffer(d.model_size)
        names = [d.params[k].name[0].decode() for k in range(d.num_params)]
        for name, value in parameters.items():
            k = names.index(name)
            at = d.access(self.instance, self.model, k, 1)
            kind = c.c_int32 if d.params[k].flags & 3 == 1 else c.c_double
            c.cast(at, c.POINTER(kind))[0] = kind(value).value
        paras, ports = c.addressof(_PARAS), d.num_terminals
        told = [InitInfo(), InitInfo()]
        d.setup_model(None, self.model, paras, c.byref(told[0]))
        d.setup_instance(None, self.instance, self.model, temperature, ports, paras, c.byref(told[1]))
        self.fatal = any(info.flags & 2 for info in told)
        wrong = [names[info.errors[k].parameter] for info in told for k in range(info.num_errors)]
        self.out_of_range = list(dict.fromkeys(wrong))

    @property
    def nodes(self) -> list[str]:
        return [self.descriptor.nodes[k].name.decode() for k in range(self.descriptor.num_nodes)]

    @property
    def collapsed(self) -> frozenset[int]:
        flags = (c.c_bool * self.descriptor.num_collapsible).from_buffer(
            self.instance, self.descriptor.collapsed_offset
        )
        return frozenset(k for k, on in enumerate(flags) if on)

    def evaluate(
        self, unknowns: Sequence[float], analysis: str = "dc", abstime: float = 0.0
    ) -> tuple[Evaluation, int]:
        """Residuals and Jacobians as the interpreter returns them, and the return flags."""
        d, size = self.descriptor, len(unknowns)
        mapping = (U32 * size).from_buffer(self.instance, d.node_mapping_offset)
        mapping[:] = range(size)
        solved = (c.c_double * size)(*unknowns)
        states = (c.c_double * d.num_states)()
        if d.num_states:
            (U32 * d.num_states).from_buffer(self.instance, d.state_idx_off)[:] = range(d.num_states)
        info = SimInfo(_PARAS, abstime, solved, c.addressof(states), c.addressof(states), FLAGS[analysis])
        flags = d.eval(None, self.instance, self.model, c.byref(info))
        found = Evaluation(np.zeros(size), np.zeros(size), np.zeros((size, size)), np.zeros((size, size)))
        for k in range(size):
            found.resist[k] = self._read(d.nodes[k].resist_off)
            found.react[k] = self._read(d.nodes[k].react_off)
        self._jacobian(found)
        return found, flags

    def _read(self, offset: int) -> float:
        return 0.0 if offset == _NONE else c.c_double.from_buffer(self.instance, offset).value

    def _jacobian(self, found: Evaluation) -> None:
        """Let the model write its Jacobian through the pointers that a simulator hands out."""
        d, count = self.descriptor, self.descriptor.num_jacobian
        cells, react = (c.c_double * count)(), (c.c_double * count)()
        pointers = (PTR * count).from_buffer(self.instance, d.jacobian_ptr_resist_offset)
        for k in range(count):
            pointers[k] = c.addressof(cells) + 8 * k
            if d.jacobian[k].react_ptr_off != _NONE:
                PTR.from_buffer(self.instance, d.jacobian[k].react_ptr_off).value = c.addressof(react) + 8 * k
        self._call("load_jacobian_resist", None)
        self._call("load_jacobian_react", 1.0)
        for k in range(count):
            at = (d.jacobian[k].nodes.first, d.jacobian[k].nodes.second)
            found.jacobian_resist[at] += cells[k]
            found.jacobian_react[at] += react[k]

    def _call(self, name: str, alpha: float | None) -> None:
        first = c.addressof(self.descriptor) + c.sizeof(Descriptor)
        address = c.cast(first, c.POINTER(PTR))[_LOADS.index(name)]
        arguments = () if alpha is None else (alpha,)
        kinds = (PTR, PTR) + (() if alpha is None else (c.c_double,))
        c.CFUNCTYPE(None, *kinds)(address)(c.addressof(self.instance), c.addressof(self.model), *arguments)


def _connect(library: c.CDLL) -> None:
    """Give the library what it calls: the log, and functions that limit."""
    if hasattr(library, "osdi_log"):
        PTR.in_dll(library, "osdi_log").value = c.cast(_silent, PTR).value
    if hasattr(library, "OSDI_LIM_TABLE"):
        count = U32.in_dll(library, "OSDI_LIM_TABLE_LEN").value
        for entry in (Limit * count).in_dll(library, "OSDI_LIM_TABLE"):
            entry.function = c.cast(_unlimited, PTR).value
