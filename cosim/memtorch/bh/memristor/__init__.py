"""Memristor models with MemTorch's names, over compiled Verilog-A."""

from __future__ import annotations

from cosim.memtorch.bh.memristor import window
from cosim.memtorch.bh.memristor.Data_Driven import Data_Driven
from cosim.memtorch.bh.memristor.Data_Driven2021 import Data_Driven2021
from cosim.memtorch.bh.memristor.LinearIonDrift import LinearIonDrift
from cosim.memtorch.bh.memristor.Memristor import Memristor
from cosim.memtorch.bh.memristor.Stanford_PKU import Stanford_PKU
from cosim.memtorch.bh.memristor.VTEAM import VTEAM

__all__ = ["VTEAM", "Data_Driven", "Data_Driven2021", "LinearIonDrift", "Memristor", "Stanford_PKU", "window"]
