/* Volts that the wires take from the cells of one vector; included for REAL = float and double.
 *
 * A row of cells is `steps` groups of LANES: column l * steps + t stands at t * LANES + l, so that a sum
 * along the row is a sum of whole groups and one short sum over the lanes.
 */

typedef REAL NAME(Group) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(64), may_alias));

typedef struct {
  const REAL *word, *bit;              /* ohm of the segment before and after each cell */
  const REAL *word_share, *bit_share;  /* of a cell's current that comes through a far end; NULL: open */
} NAME(Lines);

static inline void NAME(word_drop)(long steps, const REAL *current_row, const REAL *ohm_row,
                                   const REAL *share_row, REAL *out_row)
{
  const NAME(Group) *restrict current = (const void *)current_row, *restrict ohm = (const void *)ohm_row;
  const NAME(Group) *restrict share = (const void *)share_row;
  NAME(Group) *restrict out = (void *)out_row;
  NAME(Group) sum = {0}, base = {0};
  REAL behind = 0, before = 0;
  if (share) {
    for (long t = 0; t < steps; t++)
      base -= share[t] * current[t];
    for (int l = 0; l < LANES; l++)
      behind += base[l];
  }
  for (long t = steps - 1; t >= 0; t--)
    out[t] = sum += current[t];
  for (int l = LANES - 1; l >= 0; l--) {
    base[l] = behind;
    behind += sum[l];
  }
  sum = (NAME(Group)){0};
  for (long t = 0; t < steps; t++)
    out[t] = sum += ohm[t] * (out[t] + base);
  for (int l = 0; l < LANES; l++) {
    base[l] = before;
    before += sum[l];
  }
  for (long t = 0; t < steps; t++)
    out[t] += base;
}

/* out = s R s in, or R in where s is NULL; flow: one array of cells, line: three rows, to work in. */
static inline __attribute__((always_inline)) void NAME(drop)(
    long rows, long steps, const NAME(Lines) *lines, const REAL *restrict s, const REAL *restrict in,
    REAL *restrict out, REAL *restrict flow, REAL *restrict line)
{
  long width = steps * LANES;
  REAL *restrict sum = line, *restrict fed = line + width, *restrict scaled = line + 2 * width;
  memset(line, 0, 2 * width * sizeof(REAL));
  for (long r = 0, at = 0; r < rows; r++, at += width) {
    const REAL *current = in + at;
    if (s) {
#pragma omp simd
      for (long k = 0; k < width; k++)
        scaled[k] = s[at + k] * in[at + k];
      current = scaled;
    }
    NAME(word_drop)(steps, current, lines->word + at, lines->word_share ? lines->word_share + at : NULL,
                    out + at);
#pragma omp simd
    for (long k = 0; k < width; k++)
      flow[at + k] = sum[k] += current[k];
    if (lines->bit_share)
#pragma omp simd
      for (long k = 0; k < width; k++)
        fed[k] += lines->bit_share[at + k] * current[k];
  }
  memset(sum, 0, width * sizeof(REAL));
  for (long r = rows - 1, at = r * width; r >= 0; r--, at -= width)
#pragma omp simd
    for (long k = 0; k < width; k++) {
      sum[k] += lines->bit[at + k] * (flow[at + k] - fed[k]);
      REAL volts = out[at + k] + sum[k];
      out[at + k] = s ? s[at + k] * volts : volts;
    }
}
