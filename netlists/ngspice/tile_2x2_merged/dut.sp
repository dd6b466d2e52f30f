* title: crossbar tile 2x2
* written by: cosim 0.1.0, dialect ngspice
* shape: 2 rows x 2 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: stanford_pku, digest cde6f1492e086fce9ae1a5c77f2eb46bd2905b70eab6e6619916267318e0ab9e
.subckt bank r0 r1 c0 c1 params: column=2.5
N0_0 r0 b0_0 bank_cell gap_init=2e-10
N0_1 r0 b0_1 bank_cell gap_init=1.7e-09
Rb0_0 b0_0 c0 {column}
Rb0_1 b0_1 c1 {column}
N1_0 r1 c0 bank_cell gap_init=1e-09
N1_1 r1 c1 bank_cell gap_init=5e-10
.ends bank
