"""Every tolerance of the tests, with its unit and its reason. Nothing else sets one."""

# relative, of the largest current: two exact solvers of one linear network in float64
LINEAR_EXACT = 1e-12
# relative, of the largest current: what the linear engine says of a tile that its check accepts
LINEAR_STATED = {"float64": 1e-10, "float32": 3e-4}
# share of the vectors with any resistances that an engine may give up (issue target)
GIVEN_UP = 0.01
# relative, of each entry: a thousand operations of positive numbers in long double (1e-19; float64 has 1e-16)
STAR_MESH = 1e-13
# relative, of the largest current: ngspice at reltol 1e-9 with KLU against a dense nodal solve
NGSPICE_LINEAR = 1e-9
# relative: an operating point printed by ngspice at its own tolerances (gmin 1e-12 S beside 1e-6 S)
NGSPICE_PRINTED = 1e-5
# relative, of the largest current: newton against ngspice, nonlinear cells (issue target)
NGSPICE_NEWTON = 1e-8
# relative: interpreter, C and torch evaluate the same SSA in float64; libm differs in the last bits
PRINTERS = 1e-12
# A, and C: the difference of two that are equal but for rounding, such as of a channel without a voltage
LEAST_CURRENT = 1e-23
# relative: two compilers of one Verilog-A text, each with its own order of operations (issue target)
COMPILERS = 1e-9
# relative: terminal currents of the two in one circuit of ngspice, solved to 1e-8 (issue target)
NGSPICE_COMPILERS = 1e-6
# A: the rounding of some volts across an ohm, which is what is seen of a leak behind it
NGSPICE_LEAST = 1e-15
# relative, of the largest entry: what is a difference of larger terms has their rounding
ROUNDING_OF_SUMS = 1e-12
# relative: a current that VACASK solves at reltol 1e-10 against torch, both float64
VACASK = 1e-9
# relative: static current of a .va file against the equation in numpy, both float64
MODEL_CURRENT = 1e-12
# relative: state derivative of a .va file against the equation; differences of exponentials lose digits
MODEL_RATE = 1e-9
# relative: closed form or quadrature against scipy's LSODA at rtol 1e-10
MODEL_ODE = 1e-7
# relative, of the largest entry in the row: exact Jacobian against central differences of step 1e-6 V
MODEL_DIFFERENCE = 1e-5
# relative: half a unit in the last place of a target number printed with six digits
SIX_DIGITS = 5e-6
# relative: end of a path integrated by scipy's Radau at rtol 1e-6 against a closed form
MODEL_PATH = 1e-6
# relative: the same where the path leaves a bound (the drift out of it ends over 1e-4 of the range)
BOUND_WIDTH = 1e-4
# absolute: half a unit in the last place of a target number printed with two or six decimals
TWO_DECIMALS = 5e-3
SIX_DECIMALS = 5e-7
# relative: exact Jacobian against differences of step 1e-8 inside a step of 1e-3 of the field
FIELD_STEP_DIFFERENCE = 1e-4
# relative, of the largest entry: a central difference of step 1e-6 V against the exact Jacobian
FINITE_DIFFERENCE = 2e-6
# relative, of the largest current: newton at its default tolerance 1e-10 against a dense Newton at rounding
NEWTON_EXACT = 2e-10
# relative, of the largest current: the linear engine in float32, rounding 6e-8 (issue target)
LINEAR_FLOAT32 = 5e-6
# relative: the torch current against the closed form of the same equation
CLOSED_FORM = 1e-12
# relative: conductance(state_for(G)) against G; the reachable range has this slack
INVERSE = 1e-9
# relative: transients in ngspice against closed forms (targets of the models)
VTEAM_TARGET = 1e-3
PULSE_TARGET = 1e-3
SLIDING_TARGET = 1e-2
# relative, of the largest current: ngspice at its default tolerances here against Newton at rounding
NGSPICE_EXACT = 1e-11
# relative, of the peak current, or of the state range: transients of ngspice and torch (issue target)
TRANSIENT = 5e-3
# the same with steps refined eightfold (issue target)
TRANSIENT_REFINED = 1e-3
# relative (absolute for quantities of order 1): the torch transient at its default rtol 1e-6 over some
# hundred steps, against scipy at 1e-9 or a closed form
TORCH_TRANSIENT = 1e-4
# relative: 8000 additions in float64
LONG_SUM = 1e-11
# relative: ngspice's transients at reltol 1e-6, and wires of an ohm beside cells of a megohm
MILLIONTHS = 1e-5
# absolute, of a state of order 1: both engines, a few steps from the start, against scipy at 1e-10
STARTED = 5e-6
# absolute, of states and voltages of order 1: both engines under fast edges, ngspice at steps of 1 ns
DRIVEN = 2e-5
# relative: the current at a compliance
LIMITED = 1e-6
# relative: the same integrator in C and in torch, whose functions differ by 4 ulp
RECOMPUTED = 1e-9
# absolute, of derivatives of order 1: the adjoint of the steps made, at rtol 1e-6 to 1e-10
TRAJECTORY_GRADIENT = 1e-5
# absolute, of derivatives of order 10: the same against central differences of 1e-4, run at 1e-8
TRAJECTORY_DIFFERENCE = 2e-3
# relative: a few float64 operations in another order
ROUNDING = 1e-12
# relative: a difference of charges over a step, 1e-16 of the charge divided by the step
DISPLACEMENT = 1e-9
# relative, of the largest output: layers on ideal cells in float32 against torch (issue target)
LAYER_FLOAT32 = 1e-5
# relative: 40 steps of conjugate gradients for 20 unknowns in float64, slopes over two decades
CONJUGATE_GRADIENTS = 1e-10
# relative: a cell's static current and slope in vector code against torch; their functions differ by 4 ulp
COMPILED_CELLS = 1e-13
# relative: a short circuit taken as a milliohm beside wires of 2 ohm
MILLIOHM = 1e-3
# relative, of the largest entry: a gradient against central differences of the reference solver
GRADIENT_DIFFERENCE = 1e-6
# relative: held waveforms, whose steps leave 1e-4 of the range by an estimate that is far too careful
HELD = 1e-5
# relative, of the largest current or the last conductance: a staircase in ngspice, whose samples begin with
# a ramp of 1/10000, against held samples of the torch engine
NGSPICE_HELD = 2e-3
# of the state range: a state that slides along a threshold; its place is resolved to 8^-7 of the way
SLIDING_LIMIT = 2e-6
# relative, of the largest value: MemTorch's steps repeated in float64 over a hundred samples or more
MEMTORCH_DEVICE = 1e-10
# rms error over the rms of the output, tiles up to 128x128, after tuning: what a line cannot mend of
# ideal wires (float32), 2 ohm per segment, 5 ohm at both ends
TUNED_WIRES = {"ideal": 1e-5, "lines": 0.05, "ends": 0.02}
# the same, added by 8-bit converters: the widest steps of each method; those of the logarithms are
# relative to the value
CONVERTERS_8_BIT = {"linear": 0.03, "minmax": 0.02, "tanh": 0.03, "log": 0.12, "log_minmax": 0.06}
# relative, of the largest value: MemTorch's float32 results, stored with nine digits
MEMTORCH_FLOAT32 = 1e-5
# absolute, of outputs of order 1: two float32 fits of the same layer to different random inputs
TUNED_FLOAT32 = 1e-5
# relative: the chord of a sinh cell where 0.1 V is off by 1e-3, the rounding of bfloat16
CHORD_AT_HALF = 1e-4
# relative: a parameter given in float32, rounding 6e-8
PARAMETER_FLOAT32 = 1e-7
# relative: naive_program stops within 1 % of its target
PROGRAMMED = 0.01
# relative, of the largest output: single columns of 5 rows in wires of 2 and 3 ohm after tuning
SINGLE_COLUMN_TUNED = 5e-3
# rms error over the rms of the output, after tuning: wires of (source, line) ohm with cells of 1 to 100 kohm
TUNED_MEMTORCH_WIRES = {(0.0, 0.0): 1e-6, (5.0, 0.0): 0.01, (0.0, 0.5): 0.06, (5.0, 0.5): 0.06}
# relative: mean and spread of 2500 normal draws, four standard errors
DRAWN = 0.06
# relative, of the largest output: more than this is a visible effect, no rounding
ACTS = 0.01
# the same for lines of 2 and 3 ohm beside cells of 10 kohm
WIRES_ACT = 1e-4
# relative, of the largest output: weights and biases of three layers in bfloat16 (rounding 4e-3), 10-bit ADC
BFLOAT16 = 0.1
# the same where only the digital layers are in bfloat16
AUTOCAST = 0.05
# share of the decisions of a classifier, and coefficient of determination, after tuning
DECISIONS_KEPT = 0.98
# error after tuning over the error before: what a line mends of wires with 40 to 100 ohm per segment
TUNING_HELPS = 0.8
# share of 10^4 values or more outside of a calibrated range: half a step of the quantile and draws
LEFT_OUTSIDE = 2e-3
# absolute, in steps of a quantiser or of finite states: rounding
ON_A_LEVEL = 1e-9
# relative: mean and standard deviation of 10^4 draws of 10 % spread, four standard errors
MEAN_OF_DRAWS = 0.01
SPREAD_OF_DRAWS = 0.03
# rms error over the rms of the output: 18 bits in every tile, power-of-two ranges, digits of 4 bits
FINE_ADC = 3e-3
# relative, of the largest output: DAC and ADC of 8 bits; DAC of 10 and ADC of 12
CONVERTED_8_BIT = 0.05
CONVERTED_12_BIT = 0.02
# relative, of the largest value: a float64 product through tiles and its gradients, in siemens and back
PRODUCT_EXACT = 1e-10
# relative, of the largest output: lines of 1 ohm beside cells of 10 kohm and more
ONE_OHM = 0.05
# share of cells that bounds drawn from 20 and 200 kohm, 30 % spread, clip of 10 kohm to 1 Mohm
SHARE_CLIPPED = (0.3, 0.8)
# absolute, of outputs of order 1: mean of 20,000 reads with 5 % noise in every cell
NOISY_MEAN = 0.05
# relative: error of 100 reads with 1 % noise against that of 100 others
NOISY_RMSE = 0.2
# relative: an error of some percent between linear and newton, newton (1e-10) solving other batches
VALIDATED = 1e-6
# rms, relative: a few codes of a 20-bit ADC that differ by one between two engines
ADC_20_BIT = 1e-4
# relative, of the largest current: an error beyond it is marked by the linear engine's check, or else
# missed once in a million times (limit 1e-10, one random vector)
CHECKED = 1e-8
# relative, of the largest output: two steps of training at a rate of 0.05 are seen
TRAINED_ACTS = 1e-3
# percentage points of accuracy: what tuning at least leaves of the loss by wires of 20 ohm beside 1 kohm
LEFT_BY_TUNING = 10.0
# share of that loss that 30 steps of training win back
WON_BACK = 0.5
# relative: an error of the linear engine that is no rounding, so that a comparison with it says something
LINEAR_ERROR_SEEN = 1e-3
# share of intervals of 95 % that hold the true value: 60 seeds and two layers, three standard errors
# below; 400 draws of a skew distribution, where the interval is approximate
COVERS_60 = 0.9
COVERS_400 = (0.91, 0.99)
# the least coverage of Wilson's 95 % interval at n = 40, which swings with p (exact sum over the binomial)
WILSON_COVERS = 0.92
# bytes of a conversion and a forward over those of digital parameters and activations; kept are
# weight, two cells and one matrix per weight: 4
CONVERTED_MEMORY = 6.0
# percentage points of accuracy: ranges of the first images against those of the training images (issue)
ONE_POINT = 1.0
# relative: the strongest row of a layer against v_max, where the layer before it gives other values than
# those full scale was set by
STRONG_DRIVE = 0.9
# A: a current through 0.01 S between node voltages of 20 V, each rounded to 4e-15 V
ROUNDED_CURRENT = 1e-16
# relative, of the largest output: a filter's step response in ngspice at steps of 1/500 of a time constant
FILTER_STEP = 1e-3
# relative, of the peak current: a state integrated by a file's own explicit Euler, 400 points against the
# some 2000 of ngspice; halves with the step
FILE_EULER = 0.005
# probability: below it a test of a distribution fails; the draws are fixed, so that it does or does not
CHANCE = 1e-3
# V, of an output of 1 V that moves by up to 2 V in a us: five steps of 5 ns in ngspice
OPERATOR_STEP = 0.05
# relative, of the distance of samples: where a crossing that a file gives no tolerance for is found
EVENT_TIME = 1e-3
# relative, of the largest current: loops of models in users' styles against solve_ivp (issue target)
STYLES_SHORT = 5e-3
# relative, of the largest current: the same with ten times as many samples or more (issue target)
STYLES_REFINED = 1e-3
