// Included by cpu.cpp: the output layer's losses and their gradients, between its products.

struct Output {  // kernels/cpu.py has its twin
  int64_t rows, columns, threads;
  float* logits;          // (rows, columns), without bias; takes their gradients if `upstream`
  const float* bias;      // (columns,) or null
  const int64_t* target;  // (rows,), in [0, columns)
  const float* upstream;  // (rows,), gradients of the losses, or null
  float* losses;          // (rows,)
  float* dbias;           // (columns,), added to, or null
};

namespace {

template <class F> inline void each_vector(int64_t columns, F f) {
  int64_t v = 0;
  for (; v + LANES <= columns; v += LANES) f(v, int64_t(LANES));
  if (v < columns) f(v, columns - v);
}

// loss = log sum_v exp(z_v - max z) + max z - z_target, d = upstream (softmax(z) - 1[target]).
void cross_entropy_of_row(const Output& p, int64_t row) {
  float* z = p.logits + row * p.columns;
  const auto logits = [&](int64_t v, int64_t n) {
    return p.bias ? load(z + v, n) + load(p.bias + v, n) : load(z + v, n);
  };
  const int64_t target = p.target[row];
  const float found = z[target] + (p.bias ? p.bias[target] : 0.f);
  float likeliest = found, total = 0;
  Vec most = all(found), sums{};
  each_vector(p.columns, [&](int64_t v, int64_t n) {
    Vec values = logits(v, n);
    if (n < LANES)  // what fills up the last vector is not a logit
      for (int64_t i = n; i < LANES; i++) values[i] = found;
    most = values > most ? values : most;
  });
  for (int i = 0; i < LANES; i++) likeliest = std::max(likeliest, most[i]);
  each_vector(p.columns, [&](int64_t v, int64_t n) {
    Vec values = exp(logits(v, n) - all(likeliest));
    if (n < LANES)
      for (int64_t i = n; i < LANES; i++) values[i] = 0;
    sums = sums + values;
    if (p.upstream) store(z + v, values, n);
  });
  for (int i = 0; i < LANES; i++) total += sums[i];
  p.losses[row] = std::log(total) + (likeliest - found);
  if (!p.upstream) return;
  const float upstream = p.upstream[row];
  each_vector(p.columns, [&](int64_t v, int64_t n) {
    store(z + v, load(z + v, n) * all(upstream / total), n);
  });
  z[target] -= upstream;
}

void cross_entropy(const Output& p) {
  in_parallel(p.threads, p.rows, [&](int64_t row) { cross_entropy_of_row(p, row); });
  if (!p.dbias) return;
  constexpr int64_t BLOCK = 8 * LANES;  // columns of some cache lines, down all rows
  in_parallel(p.threads, (p.columns + BLOCK - 1) / BLOCK, [&](int64_t block) {
    const int64_t first = block * BLOCK, count = std::min(BLOCK, p.columns - first);
    float sums[BLOCK] = {};
    for (int64_t row = 0; row < p.rows; row++)
      for (int64_t i = 0; i < count; i++) sums[i] += p.logits[row * p.columns + first + i];
    for (int64_t i = 0; i < count; i++) p.dbias[first + i] += sums[i];
  });
}

}  // namespace
