/* Volts that the wires take from the cells of one vector; included for REAL = float and double.
 *
 * A row of cells is `steps` groups of LANES: column l * steps + t stands at t * LANES + l, so that a sum
 * along the row is a sum of whole groups and one short sum over the lanes.
 */

typedef REAL NAME(Group) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(64), may_alias));

typedef struct {
  const REAL *word_near, *bit_near; /* of each cell: ohm to the near end of its line */
  const REAL *word_rest, *bit_rest; /* to the far end, see Arms in lines.py; NULL: 1 everywhere */
} NAME(Lines);

static inline void NAME(word_drop)(long steps, const REAL *current_row, const REAL *near_row,
                                   const REAL *rest_row, REAL *out_row)
{
  const NAME(Group) *restrict current = (const void *)current_row, *restrict near = (const void *)near_row;
  const NAME(Group) *restrict rest = (const void *)rest_row;
  NAME(Group) *restrict out = (void *)out_row;
  NAME(Group) beyond = {0}, total = {0}, before = {0};
  REAL left = 0, right = 0;
  for (long t = steps - 1; t >= 0; t--) {
    out[t] = beyond;
    if (rest)
      beyond += rest[t] * current[t];
    else
      beyond += current[t];
    total += near[t] * current[t];
  }
  for (int l = 0; l < LANES; l++) {
    before[l] = left;
    left += total[l];
  }
  for (int l = LANES - 1; l >= 0; l--) {
    REAL own = beyond[l];
    beyond[l] = right;
    right += own;
  }
  for (long t = 0; t < steps; t++) {
    before += near[t] * current[t];
    out[t] = near[t] * (out[t] + beyond);
    if (rest)
      out[t] += rest[t] * before;
    else
      out[t] += before;
  }
}

/* out = s R s in, or R in where s is NULL; line: two rows, to work in. */
static inline __attribute__((always_inline)) void NAME(drop)(
    long rows, long steps, const NAME(Lines) *lines, const REAL *restrict s, const REAL *restrict in,
    REAL *restrict out, REAL *restrict line)
{
  long width = steps * LANES;
  REAL *restrict sum = line, *restrict scaled = line + width;
  memset(sum, 0, width * sizeof(REAL));
  for (long r = 0, at = 0; r < rows; r++, at += width) { /* what cells above draw, as seen from here */
    const REAL *current = in + at;
    if (s) {
#pragma omp simd
      for (long k = 0; k < width; k++)
        scaled[k] = s[at + k] * in[at + k];
      current = scaled;
    }
    NAME(word_drop)(steps, current, lines->word_near + at, lines->word_rest ? lines->word_rest + at : NULL,
                    out + at);
    if (lines->bit_rest) {
#pragma omp simd
      for (long k = 0; k < width; k++) {
        out[at + k] += lines->bit_near[at + k] * sum[k];
        sum[k] += lines->bit_rest[at + k] * current[k];
      }
    } else {
#pragma omp simd
      for (long k = 0; k < width; k++) {
        out[at + k] += lines->bit_near[at + k] * sum[k];
        sum[k] += current[k];
      }
    }
  }
  memset(sum, 0, width * sizeof(REAL));
  for (long r = rows - 1, at = r * width; r >= 0; r--, at -= width)
#pragma omp simd
    for (long k = 0; k < width; k++) {
      REAL current = s ? s[at + k] * in[at + k] : in[at + k];
      sum[k] += lines->bit_near[at + k] * current;
      REAL volts = out[at + k] + (lines->bit_rest ? lines->bit_rest[at + k] * sum[k] : sum[k]);
      out[at + k] = s ? s[at + k] * volts : volts;
    }
}
