"""cosim's own front end: Verilog-A text -> syntax tree -> structured SSA -> derivatives -> DeviceIR."""
