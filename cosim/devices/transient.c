/* The integrator of integrator.py, one device after the other: the same method, step control and records.
 *
 * It stands behind the generated ``evaluate``, which gives f, q and their Jacobians at the voltages of
 * the terminal p and the internal nodes. NODES: their number. FIELDS: what evaluate reads per device.
 * KEPT: the variables that are carried from one accepted point to the next; of these BOUND_STEP and RETAKE
 * limit the steps, -1: the model does not. */
#define SIZE (NODES + 1) /* with a source that is not the terminal */
#define STAGES 4

typedef struct {
  double gamma, c[STAGES], a[STAGES][STAGES], predictor[STAGES][STAGES];
  double derivative[STAGES - 1], error[STAGES - 1];
  double order, safety, shrink, grow, retreat, first_step, smallest_step, newton_tolerance;
  double newton_limit, restart, latch;
} Method;

/* A solved stage: unknowns, and currents and charges with the source first. */
typedef struct { double u[SIZE], f[SIZE], q[SIZE]; } Stage;

typedef struct {
  Stage here;
  double slope[SIZE], peak[SIZE], since, step, kept[KEPT + 1];
  int64_t sample, status, made, aimed;
} Front;

typedef struct {
  int64_t devices, samples, next;
  const Method *method;
  const double *constants, *fields;  /* fields: devices x FIELDS */
  const double *time, *voltage;      /* samples; samples x devices */
  const double *start, *nominal;     /* unknowns x devices; unknowns */
  const double *memory;              /* KEPT x devices, behind the first sample */
  double ohm, scale, low, high;      /* ohm 0: the source is the terminal; see drive.py */
  double rtol, atol, longest;
  int64_t max_steps, tracks;
  const int64_t *track;
  double *current, *unknown;         /* samples x devices; tracks x samples x devices */
  Front *front;
  int64_t steps, rejected, evaluations, latched; /* steps: of the device that took most */
  double *kept;                      /* (device, length, landed) of each accepted step of this call, or NULL */
  int64_t count;
} Run;

enum { RUNNING, DONE, TOO_SMALL, TOO_MANY };

/* Row 0 belongs to the source or terminal, whose voltage is u[0]; unknown k is u[k + 1] here. */
typedef struct { double f[SIZE], q[SIZE], df[SIZE][SIZE], dq[SIZE][SIZE], next[KEPT + 1]; } Terms;

int64_t cosim_front_size(void) { return sizeof(Front); }

static int64_t unknowns(const Run *run) { return run->ohm > 0.0 ? NODES : NODES - 1; }

static void terms_at(Run *run, int64_t device, double volts, const double *u, double time, Terms *terms) {
  double at[SIZE], resist[NODES], react[NODES], slope[NODES][NODES], capacity[NODES][NODES];
  const double *fields = run->fields + device * FIELDS;
  int64_t shift = run->ohm > 0.0;
  run->evaluations++;
  memset(terms, 0, sizeof *terms);
  at[0] = volts;
  memcpy(at + 1, u, (size_t)unknowns(run) * sizeof *u);
  double current = 0.0, along = 1.0, slope_of_drive = 0.0;
  if (shift) {
    double s = u[0] / run->scale;
    bool between = s > run->low && s < run->high;
    current = fmin(fmax(s, run->low), run->high);
    slope_of_drive = between ? 1.0 / run->scale : 0.0;
    along = between ? -run->ohm / run->scale : -1.0;
    at[1] = volts - u[0] + (run->scale - run->ohm) * current;
  }
  evaluate(run->constants, fields, run->front[device].kept, at + shift, time, resist, react, slope, capacity,
           terms->next);
  for (int64_t r = 0; r < NODES; r++) {
    terms->f[r + shift] = resist[r];
    terms->q[r + shift] = react[r];
    for (int64_t k = 0; k < NODES; k++) {
      terms->df[r + shift][k + shift] = k ? slope[r][k] : along * slope[r][k];
      terms->dq[r + shift][k + shift] = k ? capacity[r][k] : along * capacity[r][k];
    }
  }
  if (shift) {
    terms->f[0] = current;
    terms->f[1] -= current;
    terms->df[0][1] = slope_of_drive;
    terms->df[1][1] -= slope_of_drive;
  }
}

/* right := matrix^-1 right, n x n, by elimination with row exchanges; false where it is singular. */
static bool solve(int64_t n, double matrix[SIZE][SIZE], double *right) {
  for (int64_t k = 0; k < n; k++) {
    int64_t best = k;
    for (int64_t r = k + 1; r < n; r++) if (fabs(matrix[r][k]) > fabs(matrix[best][k])) best = r;
    if (!(fabs(matrix[best][k]) > 0.0)) return false;
    if (best != k) {
      for (int64_t j = k; j < n; j++) {
        double held = matrix[k][j]; matrix[k][j] = matrix[best][j]; matrix[best][j] = held;
      }
      double held = right[k]; right[k] = right[best]; right[best] = held;
    }
    for (int64_t r = k + 1; r < n; r++) {
      double factor = matrix[r][k] / matrix[k][k];
      for (int64_t j = k + 1; j < n; j++) matrix[r][j] -= factor * matrix[k][j];
      right[r] -= factor * right[k];
    }
  }
  for (int64_t k = n - 1; k >= 0; k--) {
    for (int64_t j = k + 1; j < n; j++) right[k] -= matrix[k][j] * right[j];
    right[k] /= matrix[k][k];
  }
  return true;
}

/* q(u) + weight*f(u) = base from the guess in stage->u. */
static bool newton(Run *run, int64_t device, double volts, double time, double weight, const double *base,
                   const double *allowed, Stage *stage) {
  int64_t n = unknowns(run);
  Terms terms;
  for (int64_t left = (int64_t)run->method->newton_limit; left > 0; left--) {
    double matrix[SIZE][SIZE], change[SIZE];
    bool converged = true;
    terms_at(run, device, volts, stage->u, time, &terms);
    for (int64_t r = 0; r < n; r++) {
      change[r] = base[r] - terms.q[r + 1] - weight * terms.f[r + 1];
      for (int64_t k = 0; k < n; k++)
        matrix[r][k] = terms.dq[r + 1][k + 1] + weight * terms.df[r + 1][k + 1];
    }
    if (!solve(n, matrix, change)) return false;
    for (int64_t k = 0; k < n; k++) {
      stage->u[k] += change[k];
      converged = converged && fabs(change[k]) <= allowed[k];
    }
    if (!converged && left > 1) continue;
    /* the linear parts carry currents and charges to the last iterate, which is not evaluated again */
    for (int64_t r = 0; r <= n; r++) {
      stage->f[r] = terms.f[r];
      stage->q[r] = terms.q[r];
      for (int64_t k = 0; k < n; k++) {
        stage->f[r] += terms.df[r][k + 1] * change[k];
        stage->q[r] += terms.dq[r][k + 1] * change[k];
      }
    }
    return converged;
  }
  return false;
}

static void record(Run *run, int64_t device, double current) {
  const Front *front = run->front + device;
  int64_t at = front->sample * run->devices + device;
  run->current[at] = current;
  for (int64_t k = 0; k < run->tracks; k++)
    run->unknown[k * run->samples * run->devices + at] = front->here.u[run->track[k]];
}

/* Without a charge nothing is integrated, and a file's own steps are its samples. */
static double limit(const double *kept, int64_t at) { return at < 0 ? INFINITY : kept[at]; }

static bool any_dynamic(const Run *run) {
  for (int64_t k = run->ohm > 0.0 ? 0 : 1; k < NODES; k++) if (dynamic[k]) return true;
  return false;
}

/* Moves the kept variables on at an accepted point; all without a charge finds its place before the next
 * step starts from there. */
static void carry(Run *run, int64_t device, double volts, double time, double step, const double *allowed,
                  const double *next) {
  Front *front = run->front + device;
  Stage again = front->here;
  memcpy(front->kept, next, sizeof front->kept);
  if (newton(run, device, volts, time, run->method->restart * step, front->here.q + 1, allowed, &again))
    front->here = again;
}

/* Sets switches at the present point as they are a little later, at ``ahead`` volt; whether one changed. With a
 * switch on its voltage is not reached, with it off it is passed: later there is no solution. */
static bool latch(Run *run, int64_t device, double volts, double time, double ahead, double step,
                  const double *allowed) {
  Front *front = run->front + device;
  double u[SIZE], next[KEPT + 1];
  bool changed = false;
  Terms terms;
  for (int64_t k = 0; k < unknowns(run); k++) u[k] = front->here.u[k] + 2.0 * step * front->slope[k];
  terms_at(run, device, ahead, u, time, &terms);
  memcpy(next, front->kept, sizeof next);
  for (int64_t k = 0; k < KEPT; k++) {
    if (!discrete[k] || terms.next[k] == next[k]) continue;
    next[k] = terms.next[k];
    changed = true;
  }
  if (changed) carry(run, device, volts, time, step, allowed, next);
  run->latched += changed;
  return changed;
}

void cosim_begin(Run *run) {
  int64_t n = unknowns(run);
  for (int64_t d = 0; d < run->devices; d++) {
    Front *front = run->front + d;
    Terms terms;
    memset(front, 0, sizeof *front);
    for (int64_t k = 0; k < n; k++) {
      front->here.u[k] = run->start[k * run->devices + d];
      front->peak[k] = fabs(front->here.u[k]);
    }
    for (int64_t k = 0; k < KEPT; k++) front->kept[k] = run->memory[k * run->devices + d];
    terms_at(run, d, run->voltage[d], front->here.u, run->time[0], &terms);
    memcpy(front->here.f, terms.f, sizeof terms.f);
    memcpy(front->here.q, terms.q, sizeof terms.q);
    front->step = (any_dynamic(run) ? run->method->first_step : 1.0) * (run->time[1] - run->time[0]);
    front->step = fmin(front->step, limit(front->kept, BOUND_STEP));
    record(run, d, terms.f[0]);
  }
}

/* One step of a device; one that is not good enough leaves it where it was. */
static void advance(Run *run, int64_t device) {
  const Method *m = run->method;
  Front *front = run->front + device;
  Stage stages[STAGES];
  int64_t n = unknowns(run), s = front->sample;
  double dt = run->time[s + 1] - run->time[s], since = front->since, left = dt - since;
  bool last = front->step >= left, converged = true;
  /* two halves instead of a long step and a sliver; the last step ends exactly on the sample */
  double h = last ? left : front->aimed ? front->step : fmin(front->step, 0.5 * left);
  double allowed[SIZE], error = 0.0, current = 0.0;
  double low = run->voltage[s * run->devices + device], high = run->voltage[(s + 1) * run->devices + device];
  for (int64_t k = 0; k < n; k++)
    allowed[k] = m->newton_tolerance * (run->atol * run->nominal[k] + run->rtol * front->peak[k]);
  stages[0] = front->here;
  for (int64_t i = 1; i < STAGES && converged; i++) {
    double base[SIZE], fraction = (front->since + m->c[i] * h) / dt;
    for (int64_t k = 0; k < n; k++) {
      double moved = 0.0, guess = 0.0;
      for (int64_t j = 0; j < i; j++) {
        moved -= m->a[i][j] * stages[j].f[k + 1];
        guess += m->predictor[i][j] * stages[j].u[k];
      }
      base[k] = front->here.q[k + 1] + h * moved;
      stages[i].u[k] = i == 1 ? front->here.u[k] + m->c[1] * h * front->slope[k] : guess;
    }
    converged = newton(run, device, low + (high - low) * fraction, run->time[s] + fraction * dt, m->gamma * h,
                       base, allowed, stages + i);
  }
  const Stage *end = stages + STAGES - 1;
  double slope[SIZE];
  if (converged) {
    current = end->f[0];
    for (int64_t j = 0; j < STAGES - 1; j++)
      current += m->derivative[j] * (stages[j + 1].q[0] - stages[0].q[0]) / h;
    for (int64_t k = 0; k < n; k++) {
      double off = 0.0, size = fmax(front->peak[k], fabs(end->u[k]));
      slope[k] = 0.0;
      for (int64_t j = 0; j < STAGES - 1; j++) {
        double moved = stages[j + 1].u[k] - stages[0].u[k];
        off += m->error[j] * moved;
        slope[k] += m->derivative[j] * moved / h;
      }
      off = fabs(off) / (run->atol * run->nominal[k] + run->rtol * size);
      if (dynamic[k + (run->ohm > 0.0 ? 0 : 1)] && !(off <= error)) error = off;
    }
    converged = isfinite(error);
  }
  double fraction = (since + h) / dt, ahead = low + (high - low) * fraction, then = run->time[s] + fraction * dt;
  bool good = converged && error <= 1.0;
  Terms terms;
  if (KEPT && good) terms_at(run, device, ahead, end->u, then, &terms);
  double retake = KEPT && good ? limit(terms.next, RETAKE) : INFINITY;
  front->aimed = retake < h; /* an event lies within the step */
  good = good && !front->aimed;
  double factor = fmin(fmax(m->safety * pow(error, -1.0 / m->order), m->shrink), m->grow);
  double wanted = h * (converged ? factor : m->retreat);
  if (good && h < front->step) wanted = fmax(wanted, front->step);
  front->step = front->aimed ? retake : fmin(wanted, run->longest);
  run->rejected += !good;
  if (good) {
    front->here = *end;
    memcpy(front->slope, slope, sizeof slope);
    for (int64_t k = 0; k < n; k++) front->peak[k] = fmax(front->peak[k], fabs(end->u[k]));
    front->since = last ? 0.0 : front->since + h;
    front->sample += last;
    if (last) record(run, device, current);
    if (KEPT) carry(run, device, ahead, then, h, allowed, terms.next);
    if (run->kept) {
      double *kept = run->kept + 3 * run->count++;
      kept[0] = (double)device; kept[1] = h; kept[2] = last;
    }
    if (front->sample == run->samples - 1) front->status = DONE;
  } else if (!converged && h < m->latch * dt &&
             latch(run, device, low + (high - low) * since / dt, run->time[s] + since,
                   low + (high - low) * (since + 2.0 * h) / dt, h, allowed)) {
    front->step = m->first_step * dt;
  } else if (front->step < m->smallest_step * dt) {
    front->status = TOO_SMALL;
  }
  front->step = fmin(front->step, limit(front->kept, BOUND_STEP));
}

/* Up to ``budget`` steps; 0 when every device is finished. The devices come one after the other. */
int64_t cosim_advance(Run *run, int64_t budget) {
  run->count = 0;
  for (; run->next < run->devices; run->next++) {
    Front *front = run->front + run->next;
    for (; front->status == RUNNING && budget > 0; budget--) {
      if (front->made >= run->max_steps) { front->status = TOO_MANY; break; }
      if (++front->made > run->steps) run->steps = front->made;
      advance(run, run->next);
    }
    if (front->status == RUNNING) return 1;
  }
  return 0;
}

/* What became of a device; where it stands goes to ``sample`` and ``since`` (s). */
int64_t cosim_status(const Run *run, int64_t device, int64_t *sample, double *since) {
  const Front *front = run->front + device;
  *sample = front->sample;
  *since = front->since;
  return front->status;
}
