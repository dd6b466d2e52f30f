* title: crossbar tile 3x5
* written by: cosim 0.1.0, dialect ngspice
* shape: 3 rows x 5 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: vteam, digest aacc64b5c66c3ad3ef2ae6a955c51da20292c5d0c4b0623522bd6e935db860f6
.model bank_cell vteam_0ecab95e36a2 r_on=10000.0 r_off=1e+06
