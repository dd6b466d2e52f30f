"""Window functions of the state, as functions of x; the models have them in Verilog-A."""

from __future__ import annotations

from cosim.memtorch.bh.memristor.window.Biolek import Biolek
from cosim.memtorch.bh.memristor.window.Jogelkar import Jogelkar
from cosim.memtorch.bh.memristor.window.Prodromakis import Prodromakis

__all__ = ["Biolek", "Jogelkar", "Prodromakis"]
