/* OSDI: the binary interface between a compiled compact model and a simulator.
 * Layout as published with the specification (SemiMod, OSDI 0.3); only what a model needs.
 * OSDI_MINOR 5: the longer descriptor that VACASK reads; what is not named here stays 0. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What runs once per instance is long in a large model: a compiler must not spend its time there. */
#if defined(__clang__)
#define COSIM_ONCE __attribute__((optnone))
#elif defined(__GNUC__)
#define COSIM_ONCE __attribute__((optimize("O0")))
#else
#define COSIM_ONCE
#endif

#define PARA_TY_REAL 0u
#define PARA_TY_INT 1u
#define PARA_TY_STR 2u
#define PARA_KIND_INST (1u << 30)
#define ACCESS_FLAG_SET 1u
#define JACOBIAN_ENTRY_RESIST 4u
#define JACOBIAN_ENTRY_REACT 8u
#define ANALYSIS_NOISE 1024u
#define ANALYSIS_DC 2048u
#define ANALYSIS_AC 4096u
#define ANALYSIS_TRAN 8192u
#define ANALYSIS_IC 16384u
#define ANALYSIS_STATIC 32768u
#define ANALYSIS_NODESET 65536u
#define EVAL_RET_FLAG_FATAL 2u
#define LOG_LVL_FATAL 5u
#define INIT_ERR_OUT_OF_BOUNDS 1u
#define NONE UINT32_MAX

typedef struct { char *name; uint32_t num_args; void *func_ptr; } OsdiLimFunction;
typedef struct { char **names; double *vals; char **names_str; char **vals_str; } OsdiSimParas;
typedef struct {
  OsdiSimParas paras; double abstime; double *prev_solve; double *prev_state; double *next_state; uint32_t flags;
} OsdiSimInfo;
typedef struct { uint32_t code; uint32_t parameter_id; } OsdiInitError;
typedef struct { uint32_t flags; uint32_t num_errors; OsdiInitError *errors; } OsdiInitInfo;
typedef struct { uint32_t node_1; uint32_t node_2; } OsdiNodePair;
typedef struct { OsdiNodePair nodes; uint32_t react_ptr_off; uint32_t flags; } OsdiJacobianEntry;
typedef struct {
  char *name; char *units; char *residual_units;
  uint32_t resist_residual_off; uint32_t react_residual_off;
  uint32_t resist_limit_rhs_off; uint32_t react_limit_rhs_off;
  bool is_flow;
} OsdiNode;
typedef struct {
  char **name; uint32_t num_alias; char *description; char *units; uint32_t flags; uint32_t len;
} OsdiParamOpvar;
typedef struct { char *name; OsdiNodePair nodes; } OsdiNoiseSource;
typedef struct {
  char *name;
  uint32_t num_nodes; uint32_t num_terminals; OsdiNode *nodes;
  uint32_t num_jacobian_entries; OsdiJacobianEntry *jacobian_entries;
  uint32_t num_collapsible; OsdiNodePair *collapsible; uint32_t collapsed_offset;
  OsdiNoiseSource *noise_sources; uint32_t num_noise_src;
  uint32_t num_params; uint32_t num_instance_params; uint32_t num_opvars; OsdiParamOpvar *param_opvar;
  uint32_t node_mapping_offset; uint32_t jacobian_ptr_resist_offset;
  uint32_t num_states; uint32_t state_idx_off; uint32_t bound_step_offset;
  uint32_t instance_size; uint32_t model_size;
  void *(*access)(void *inst, void *model, uint32_t id, uint32_t flags);
  void (*setup_model)(void *handle, void *model, OsdiSimParas *sim_params, OsdiInitInfo *res);
  void (*setup_instance)(void *handle, void *inst, void *model, double temperature, uint32_t num_terminals,
                         OsdiSimParas *sim_params, OsdiInitInfo *res);
  uint32_t (*eval)(void *handle, void *inst, void *model, const OsdiSimInfo *info);
#if OSDI_MINOR >= 5
  void (*load_noise)(void *inst, void *model, double freq, double *noise_dens);
#else
  void (*load_noise)(void *inst, void *model, double freq, double *noise_dens, double *ln_noise_dens);
#endif
  void (*load_residual_resist)(void *inst, void *model, double *dst);
  void (*load_residual_react)(void *inst, void *model, double *dst);
  void (*load_limit_rhs_resist)(void *inst, void *model, double *dst);
  void (*load_limit_rhs_react)(void *inst, void *model, double *dst);
  void (*load_spice_rhs_dc)(void *inst, void *model, double *dst, double *prev_solve);
  void (*load_spice_rhs_tran)(void *inst, void *model, double *dst, double *prev_solve, double alpha);
  void (*load_jacobian_resist)(void *inst, void *model);
  void (*load_jacobian_react)(void *inst, void *model, double alpha);
  void (*load_jacobian_tran)(void *inst, void *model, double alpha);
#if OSDI_MINOR >= 5
  uint32_t (*given_flag_model)(void *model, uint32_t id);
  uint32_t (*given_flag_instance)(void *inst, uint32_t id);
  uint32_t num_resistive_jacobian_entries; uint32_t num_reactive_jacobian_entries;
  void (*write_jacobian_array_resist)(void *inst, void *model, double *destination);
  void (*write_jacobian_array_react)(void *inst, void *model, double *destination);
  uint32_t num_inputs; OsdiNodePair *inputs;
  void (*load_jacobian_with_offset_resist)(void *inst, void *model, size_t offset);
  void (*load_jacobian_with_offset_react)(void *inst, void *model, size_t offset);
  void *unknown_nature; void *residual_nature;
  uint32_t *noise_source_type;
  void (*load_noise_params)(void *inst, void *model, double *power, double *exponent);
  uint32_t module_flags;
  uint32_t absdelay_count; void *absdelays;
#endif
} OsdiDescriptor;

/* Integer operations of Verilog-A that C leaves undefined; *failed stops the simulation. */
static inline int32_t cosim_idiv(int32_t a, int32_t b, bool *failed) {
  if (b == 0) { *failed = true; return 0; }
  return b == -1 ? (int32_t)(0u - (uint32_t)a) : a / b;
}
static inline int32_t cosim_irem(int32_t a, int32_t b, bool *failed) {
  if (b == 0) { *failed = true; return 0; }
  return b == -1 ? 0 : a % b;
}
/* what derivatives need to be finite where the slope of a function is not; see cosim/verilog/rules.py */
static inline double cosim_nonzero(double a, double b) { return a == 0.0 ? b : a; }
static inline double cosim_finite(double a) { return a - a == 0.0 ? a : 0.0; }
static inline double cosim_ln_positive(double a) { return a > 0.0 ? log(a) : 0.0; }
static inline double cosim_pow_slope(double x, double y, double value) {
  double at_zero = y > 1.0 ? 0.0 : y == 1.0 ? 1.0 : y * 0x1p26;
  return x == 0.0 ? at_zero : y * value / x;
}
static inline int32_t cosim_round(double a, bool *failed) {
  double r = round(a);
  if (!(r > -2147483649.0 && r < 2147483648.0)) { *failed = true; return 0; }
  return (int32_t)r;
}
static inline int32_t cosim_shl(int32_t a, int32_t n) { return n < 0 || n > 31 ? 0 : (int32_t)((uint32_t)a << n); }
static inline int32_t cosim_shr(int32_t a, int32_t n) { return n < 0 || n > 31 ? 0 : (int32_t)((uint32_t)a >> n); }
static inline double cosim_uniform(int32_t seed, int32_t instance, int32_t call, int32_t point) {
  const int32_t key[] = {seed, instance, call, point};
  uint64_t state = 0;
  for (int k = 0; k < 4; k++) {
    state = (state ^ (uint32_t)key[k]) + UINT64_C(0x9E3779B97F4A7C15);
    state = (state ^ (state >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94D049BB133111EB);
    state ^= state >> 31;
  }
  return ((double)(state >> 12) + 0.5) * 0x1p-52;
}
static inline int32_t cosim_clog2(int32_t a) { int32_t n = 0; while (n < 31 && (1u << n) < (uint32_t)(a > 0 ? a : 0)) n++; return n; }
static inline double cosim_asked(const OsdiSimParas *paras, const char *name, double fallback) {
  if (paras && paras->names)
    for (char **n = paras->names; *n; n++) if (strcmp(*n, name) == 0) return paras->vals[n - paras->names];
  return fallback;
}
