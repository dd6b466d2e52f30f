/* Newton's method with conjugate gradients on one vector of a tile at a time, in the cache of one core.
 *
 * The wires leave e = v - R c to the cells of currents c, which would draw f(e). A step solves
 * (I + g R) dc = -(c - f(e)) with the slopes g >= 0: with s = g^1/2 it is dc = -(c - f) + s y and
 * (I + s R s) y = s R (c - f), which is symmetric and positive definite for any wires and any cells.
 * R costs four running sums. y is found in float32; what it leaves is in the next residual, in float64.
 */

typedef struct {
  int64_t tiles, batch, rows, columns, steps;
  const double *constants;
  const double *const *fields;  /* of the cells, (tiles or 1, batch or 1, rows, steps * LANES) */
  const int64_t *field_strides; /* per field: between tiles, between vectors; 0 where shared */
  Lines_d lines;
  Lines_f rough;
  int64_t lines_stride; /* between tiles */
  const double *drive;
  int64_t drive_strides[4]; /* between tiles, rows, vectors, columns */
  double *current;          /* (tiles, rows, batch, columns) */
  double tolerance;         /* of the largest line current of the vector */
  int64_t turned;           /* the currents that count are those of the rows */
  int64_t max_steps, max_products;
  uint8_t *solved;     /* (tiles, batch) */
  int64_t *iterations; /* the same */
  int64_t *products;   /* the same */
  int64_t next;        /* vector that no thread has taken */
} Task;

enum { PIECE = 1024 };

typedef struct {
  double error, slopes, largest;
  int usable; /* numbers, and no slope below 0 */
} Evaluation;

typedef struct {
  long rows, steps, width, cells;
  Lines_d lines;
  Lines_f rough;
  const double *fields[FIELDS + 1];
  double *volts, *current, *volts_next, *current_next; /* at the point, and after a step */
  double *volts_step, *current_step, *residual, *line, *inside; /* inside: 0 beyond the last column */
  float *s, *y, *r, *p, *image, *rough_line;
} Work;

static double *next_array(char **at, size_t bytes)
{
  char *start = *at;
  *at += (bytes + 63) / 64 * 64;
  return (double *)start;
}

/* The point after a step of this length: its residual and s, and their norms. */
static Evaluation evaluate(const Task *task, Work *work, double step_length)
{
  long width = work->width;
  Evaluation found = {0, 0, 0, 1};
  double *restrict columns = work->line, *restrict law = columns + width, *restrict slope = law + width;
  const double *restrict inside = work->inside;
  const double *rows[FIELDS + 1] = {0};
  double lowest = 0;
  memset(columns, 0, width * sizeof(double));
  for (long r = 0, at = 0; r < work->rows; r++, at += width) {
    double *restrict c = work->current_next + at, *restrict e = work->volts_next + at;
    double *restrict residual = work->residual + at;
    float *restrict s = work->s + at;
#pragma omp simd
    for (long k = 0; k < width; k++) {
      c[k] = work->current[at + k] + step_length * work->current_step[at + k];
      e[k] = work->volts[at + k] - step_length * work->volts_step[at + k];
    }
    for (int f = 0; f < FIELDS; f++)
      rows[f] = work->fields[f] + at;
    cell_currents(width, task->constants, rows, e, law, slope);
    double error = 0, slopes = 0, sum = 0;
#pragma omp simd reduction(+ : error, slopes, sum) reduction(min : lowest)
    for (long k = 0; k < width; k++) {
      double f = inside[k] != 0 ? law[k] : 0, g = inside[k] != 0 ? slope[k] : 0;
      residual[k] = c[k] - f;
      s[k] = sqrtf((float)g);
      error += fabs(residual[k]);
      slopes += fabs(g);
      lowest = g < lowest ? g : lowest;
      columns[k] += c[k];
      sum += c[k];
    }
    found.error += error;
    found.slopes += slopes;
    if (task->turned)
      found.largest = fmax(found.largest, fabs(sum));
  }
  if (!task->turned)
    for (long k = 0; k < width; k++)
      found.largest = fmax(found.largest, fabs(columns[k]));
  found.usable = lowest >= 0 && isfinite(found.error) && isfinite(found.slopes) && found.slopes < 1e30;
  return found;
}

/* a.(b + c) in pieces whose sums in float32 are good enough */
static double dot(long n, const float *restrict a, const float *restrict b, const float *restrict c)
{
  double total = 0;
  for (long start = 0; start < n; start += PIECE) {
    long end = start + PIECE < n ? start + PIECE : n;
    float partial = 0;
#pragma omp simd reduction(+ : partial)
    for (long k = start; k < end; k++)
      partial += a[k] * (b[k] + c[k]);
    total += partial;
  }
  return total;
}

/* y of the step, so that the residual becomes at most `target` times its sum; the products used. */
static long conjugate_gradients(Work *work, double error, double target, long max_products, double *length)
{
  long n = work->cells, products = 1;
  float *restrict r = work->r, *restrict p = work->p, *restrict y = work->y, *restrict image = work->image;
  const float *restrict s = work->s;
  double one = 1 / error;
  for (long k = 0; k < n; k++)
    p[k] = (float)(work->residual[k] * one);
  drop_f(work->rows, work->steps, &work->rough, NULL, p, r, work->rough_line);
  for (long k = 0; k < n; k++)
    r[k] *= s[k];
  memset(y, 0, n * sizeof(float));
  double square = dot(n, r, r, y);
  if (!(square > 0)) {
    *length = 0;
    return square == 0 ? products : -1;
  }
  *length = sqrt(square);
  float unit = (float)(1 / *length);
  for (long k = 0; k < n; k++)
    p[k] = r[k] *= unit;
  target /= *length;
  square = 1;
  while (products++ < max_products) {
    drop_f(work->rows, work->steps, &work->rough, s, p, image, work->rough_line);
    double curvature = dot(n, p, p, image);
    if (!(curvature > 0))
      return -1;
    float alpha = (float)(square / curvature);
    double left = 0, next = 0;
    for (long start = 0; start < n; start += PIECE) {
      long end = start + PIECE < n ? start + PIECE : n;
      float magnitudes = 0, squares = 0;
#pragma omp simd reduction(+ : magnitudes, squares)
      for (long k = start; k < end; k++) {
        y[k] += alpha * p[k];
        r[k] -= alpha * (p[k] + image[k]);
        magnitudes += s[k] * fabsf(r[k]);
        squares += r[k] * r[k];
      }
      left += magnitudes;
      next += squares;
    }
    if (left <= target)
      return products;
    float beta = (float)(next / square);
    square = next;
#pragma omp simd
    for (long k = 0; k < n; k++)
      p[k] = r[k] + beta * p[k];
  }
  return -1;
}

static void swap(double **a, double **b)
{
  double *kept = *a;
  *a = *b;
  *b = kept;
}

/* True when the vector is solved; its currents are in current_next then. */
static int iterate(const Task *task, Work *work, double largest_drive, int64_t *iterations, int64_t *used)
{
  long n = work->cells;
  double rounding = 4 * 2.220446049250313e-16 * largest_drive, shrunk = 1;
  memset(work->current, 0, n * sizeof(double));
  memset(work->current_step, 0, n * sizeof(double));
  memset(work->volts_step, 0, n * sizeof(double));
  Evaluation found = evaluate(task, work, 0);
  for (long step = 0;; step++) {
    if (!found.usable)
      return 0;
    double limit = 0.5 * (task->tolerance * found.largest + rounding * found.slopes);
    if (found.error <= limit)
      return 1;
    if (step == task->max_steps)
      return 0;
    long products_left = task->max_products - *used, max_products = task->max_products / 4;
    double forcing = fmin(0.1, fmax(1e-5, pow(shrunk, 1.5))), length; /* what the step may leave */
    long products = conjugate_gradients(work, found.error, fmax(forcing, 0.3 * limit / found.error),
                                        max_products < products_left ? max_products : products_left, &length);
    if (products < 0)
      return 0;
    *used += products;
    *iterations += 1;
    swap(&work->volts, &work->volts_next);
    swap(&work->current, &work->current_next);
    double scale = length * found.error;
#pragma omp simd
    for (long k = 0; k < n; k++)
      work->current_step[k] = (double)(work->s[k] * work->y[k]) * scale - work->residual[k];
    drop_d(work->rows, work->steps, &work->lines, NULL, work->current_step, work->volts_step, work->line);
    double error = found.error, step_length = 1;
    for (found = evaluate(task, work, step_length); !(isfinite(found.error) && found.error < 0.9999 * error);
         found = evaluate(task, work, step_length))
      if ((step_length *= 0.5) < 0.001)
        return 0;
    shrunk = found.error / error;
  }
}

static void solve(Task *task, Work *work, long tile, long vector)
{
  long width = work->width, columns = task->columns, lines = tile * task->lines_stride;
  const int64_t *strides = task->drive_strides;
  const double *drive = task->drive + tile * strides[0] + vector * strides[2];
  double largest = 0;
#define SHIFT(arms) (arms ? arms + lines : NULL)
  work->lines = (Lines_d){SHIFT(task->lines.word_near), SHIFT(task->lines.bit_near),
                          SHIFT(task->lines.word_rest), SHIFT(task->lines.bit_rest)};
  work->rough = (Lines_f){SHIFT(task->rough.word_near), SHIFT(task->rough.bit_near),
                          SHIFT(task->rough.word_rest), SHIFT(task->rough.bit_rest)};
  for (int f = 0; f < FIELDS; f++)
    work->fields[f] =
        task->fields[f] + tile * task->field_strides[2 * f] + vector * task->field_strides[2 * f + 1];
  for (long r = 0; r < work->rows; r++)
    for (long lane = 0; lane < LANES; lane++)
      for (long step = 0; step < work->steps; step++) {
        long column = lane * work->steps + step;
        double volts = column < columns ? drive[r * strides[1] + column * strides[3]] : 0;
        work->volts[r * width + step * LANES + lane] = volts;
        largest = fabs(volts) > largest ? fabs(volts) : largest;
      }
  long at = tile * task->batch + vector;
  task->iterations[at] = task->products[at] = 0;
  task->solved[at] = iterate(task, work, largest, task->iterations + at, task->products + at);
  for (long r = 0; r < work->rows; r++) {
    double *current = task->current + ((tile * task->rows + r) * task->batch + vector) * columns;
    for (long lane = 0; lane < LANES; lane++)
      for (long step = 0; step < work->steps && lane * work->steps + step < columns; step++)
        current[lane * work->steps + step] = work->current_next[r * width + step * LANES + lane];
  }
}

/* Solve vectors until none is left; any number of threads may do so at once. 0, or -1 without memory. */
int cosim_solve(Task *task)
{
  Work work = {.rows = task->rows, .steps = task->steps, .width = task->steps * LANES};
  size_t n = work.cells = work.rows * work.width;
  size_t bytes = (7 * 8 + 5 * 4) * n + (4 * 8 + 2 * 4) * work.width + 15 * 64;
  char *memory = aligned_alloc(64, (bytes + 63) / 64 * 64), *at = memory;
  if (!memory)
    return -1;
  double **doubles[] = {&work.volts, &work.current, &work.volts_next, &work.current_next,
                        &work.volts_step, &work.current_step, &work.residual};
  for (int k = 0; k < 7; k++)
    *doubles[k] = next_array(&at, n * sizeof(double));
  float **floats[] = {&work.s, &work.y, &work.r, &work.p, &work.image};
  for (int k = 0; k < 5; k++)
    *floats[k] = (float *)next_array(&at, n * sizeof(float));
  work.line = next_array(&at, 3 * work.width * sizeof(double));
  work.rough_line = (float *)next_array(&at, 2 * work.width * sizeof(float));
  work.inside = next_array(&at, work.width * sizeof(double));
  for (long k = 0; k < work.width; k++)
    work.inside[k] = k % LANES * work.steps + k / LANES < task->columns;
  for (;;) {
    int64_t mine = __atomic_fetch_add(&task->next, 1, __ATOMIC_RELAXED);
    if (mine >= task->tiles * task->batch)
      break;
    solve(task, &work, mine / task->batch, mine % task->batch);
  }
  free(memory);
  return 0;
}
