"""Values that no argument takes, or only some do: what users pass by mistake, for tests of the border."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch

with warnings.catch_warnings():  # torch announces that these two are about to change
    warnings.simplefilter("ignore")
    NESTED = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    QUANTISED = torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)

# in no way a number, a flag, a text of a list, or a size
THINGS: dict[str, Any] = {
    "None": None,
    "text": "x",
    "empty text": "",
    "bytes": b"x",
    "NUL": "a\0b",
    "list": [],
    "tuple": (),
    "dictionary": {},
    "object": object(),
    "type": int,
    "function": len,
    "complex": 1j,
    "numpy complex": np.complex64(1),
    "date": np.datetime64("2020-01-01"),
    "array": np.array([1.0, 2.0]),
    "tensor": torch.ones(2),
    "empty tensor": torch.ones(0),
    "tensor without data": torch.ones((), device="meta"),
    "sparse tensor": torch.eye(2).to_sparse(),
    "nested tensor": NESTED,
    "quantised tensor": QUANTISED,
    "tensor with a gradient": torch.ones((), requires_grad=True),
    "list of lists": [[1.0], [1.0, 2.0]],
    "list of texts": ["x"],
    "exception": ValueError("x"),
}
NUMBERS: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "-1": -1,
    "0": 0,
    "0.0": 0.0,
    "1.5": 1.5,
    "1e300": 1e300,
    "True": True,
    "2**63": 2**63,
    "huge integer": 10**5000,
}
