* title: crossbar tile 3x5
* written by: cosim 0.1.0, dialect ngspice
* shape: 3 rows x 5 columns; ports: rows, then columns
* units: V, A, ohm; currents positive into the columns' sense nodes
* temperature: 300.15 K
* model: vteam, digest aacc64b5c66c3ad3ef2ae6a955c51da20292c5d0c4b0623522bd6e935db860f6
.subckt bank r0 r1 r2 c0 c1 c2 c3 c4 params: row=2.0 column=3.0 source=5.0 sense=7.0
Rsource0 r0 w0_0 {source}
Rw0_0 w0_0 w0_1 {row}
Rw0_1 w0_1 w0_2 {row}
Rw0_2 w0_2 w0_3 {row}
Rw0_3 w0_3 w0_4 {row}
N0_0 w0_0 b0_0 bank_cell x_init=0.0
N0_1 w0_1 b0_1 bank_cell x_init=0.0625
N0_2 w0_2 b0_2 bank_cell x_init=0.125
N0_3 w0_3 b0_3 bank_cell x_init=0.1875
N0_4 w0_4 b0_4 bank_cell x_init=0.25
Rb0_0 b0_0 b1_0 {column}
Rb0_1 b0_1 b1_1 {column}
Rb0_2 b0_2 b1_2 {column}
Rb0_3 b0_3 b1_3 {column}
Rb0_4 b0_4 b1_4 {column}
Rsource1 r1 w1_0 {source}
Rw1_0 w1_0 w1_1 {row}
Rw1_1 w1_1 w1_2 {row}
Rw1_2 w1_2 w1_3 {row}
Rw1_3 w1_3 w1_4 {row}
N1_0 w1_0 b1_0 bank_cell x_init=0.3125
N1_1 w1_1 b1_1 bank_cell x_init=0.375
N1_2 w1_2 b1_2 bank_cell x_init=0.4375
N1_3 w1_3 b1_3 bank_cell x_init=0.5
N1_4 w1_4 b1_4 bank_cell x_init=0.5625
Rb1_0 b1_0 b2_0 {column}
Rb1_1 b1_1 b2_1 {column}
Rb1_2 b1_2 b2_2 {column}
Rb1_3 b1_3 b2_3 {column}
Rb1_4 b1_4 b2_4 {column}
Rsource2 r2 w2_0 {source}
Rw2_0 w2_0 w2_1 {row}
Rw2_1 w2_1 w2_2 {row}
Rw2_2 w2_2 w2_3 {row}
Rw2_3 w2_3 w2_4 {row}
N2_0 w2_0 b2_0 bank_cell x_init=0.625
N2_1 w2_1 b2_1 bank_cell x_init=0.6875
N2_2 w2_2 b2_2 bank_cell x_init=0.75
N2_3 w2_3 b2_3 bank_cell x_init=0.8125
N2_4 w2_4 b2_4 bank_cell x_init=0.875
Rsense0 b2_0 c0 {sense}
Rsense1 b2_1 c1 {sense}
Rsense2 b2_2 c2 {sense}
Rsense3 b2_3 c3 {sense}
Rsense4 b2_4 c4 {sense}
.ends bank
