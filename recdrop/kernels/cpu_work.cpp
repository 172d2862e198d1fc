// Included by cpu.cpp: products of matrices, the division of work among threads, masks.

struct Call {  // kernels/cpu.py has its twin
  int64_t R, T, B, I, H;
  int64_t layer, direction, threads;
  int64_t relu, bf16;
  const int64_t* thresholds;  // (R, 3) by site: update, hidden, cell
  const float* scale;         // (R, 3)
  const uint8_t* per_step;    // (R, 3)
  const int64_t* seeds;       // (R,)
  const int64_t* lengths;     // (R, B) or null
};

namespace {

// Products ----------------------------------------------------------------------------------------

// sums[M] += a[M, K] panel[K, WIDTH], a's rows being `row` words apart and its columns `next`. Not
// inlined, and on a copy of its own: otherwise the sums do not stay in registers.
template <class Op, int M>
__attribute__((noinline)) void rows_of(Sums* sums, const typename Op::Word* a, ptrdiff_t row,
                                       int64_t K, const typename Op::Word* panel,
                                       ptrdiff_t next) {
  Vec s[M][4];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) s[m][j] = sums[m][j];
  for (int64_t k = 0; k < K; k++, a += next, panel += WIDTH) {
    __builtin_prefetch(panel + 16 * WIDTH);
    __builtin_prefetch(panel + 16 * WIDTH + WIDTH / 2);
    Bits words[M];  // with one vector of the panel at a time, they and the sums fill the registers
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) words[m] = everywhere(a + m * row);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      const Vec b = held(whole(panel + j * LANES));
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) s[m][j] = Op::dot(s[m][j], words[m], b);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sums[m][j] = s[m][j];
}

// The same for at most M rows.
template <class Op, int M = ROWS>
void few_rows(Sums* sums, int64_t rows, const typename Op::Word* a, ptrdiff_t row, int64_t K,
              const typename Op::Word* panel, ptrdiff_t next) {
  if constexpr (M > 0) {
    if (rows == M) return rows_of<Op, M>(sums, a, row, K, panel, next);
    few_rows<Op, M - 1>(sums, rows, a, row, K, panel, next);
  }
}

// sums[rows] += a[rows, K] panel[K, WIDTH], a's rows being `row` words apart, its columns `next`;
// for tiles they lie side by side.
template <class Op>
void multiply(Sums* sums, int64_t rows, const typename Op::Word* a, ptrdiff_t row, int64_t K,
              const typename Op::Word* panel, ptrdiff_t next = 1) {
  const auto in_blocks = [&](int64_t most, auto product) {  // of `most` rows or, evenly, fewer
    const int64_t n = (rows + most - 1) / most;
    for (int64_t k = 0; k < K; k += DEPTH)
      for (int64_t s = 0; s < n; s++) {
        const int64_t first = rows * s / n, count = rows * (s + 1) / n - first;
        product(sums + first, count, a + first * row + k * next, row, std::min(DEPTH, K - k),
                panel + k * WIDTH, next);
      }
  };
#ifdef TILES
  if constexpr (Op::PER_WORD > 1)
    if (may_use_tiles()) return in_blocks(2 * TALL, rows > TALL ? square : wide);
#endif
  in_blocks(ROWS, few_rows<Op>);
}

template <class Op> constexpr int64_t CHUNK = Op::STEP > 1 ? 64 : 8 * ROWS;  // rows at a time

// Panels of a matrix (K, N) whose columns lie in one piece each: column(n) points to K floats, or
// is null for a column of zeros.
template <class Op, class Column>
void pack_columns(typename Op::Word* panel, int64_t K, Column column) {
  constexpr int64_t BLOCK = LANES;  // words that one column contributes at a time
  for (int64_t k0 = 0; k0 < K; k0 += BLOCK * Op::PER_WORD, panel += BLOCK * WIDTH)
    for (int n = 0; n < WIDTH; n++) {
      typename Op::Word line[BLOCK] = {};
      const float* from = column(n);
      const int64_t end = from ? std::min(K - k0, BLOCK * Op::PER_WORD) : 0;
      for (int64_t k = 0; k < end; k += LANES) {
        const int64_t count = std::min<int64_t>(LANES, end - k);
        auto* to = reinterpret_cast<typename Op::Element*>(line) + k;
        Op::put(to, load(from + k0 + k, count), count);
      }
      const int64_t rows = std::min(BLOCK, words<Op>(K - k0));
      for (int64_t k = 0; k < rows; k++) panel[k * WIDTH + n] = line[k];
    }
}

// The same of a matrix whose rows do: row(k) points to n elements.
template <class Op, class Row>
void pack_rows(typename Op::Word* panel, int64_t K, int64_t n, Row row) {
  using Element = typename Op::Element;
  constexpr int64_t P = Op::PER_WORD;
  for (int64_t k = 0; k < words<Op>(K); k++, panel += WIDTH) {
    const auto *low = row(std::min(k * P, K - 1)), *high = row(std::min(k * P + P - 1, K - 1));
    const bool single = k * P + P > K;      // the last word of an odd number of rows
    const int64_t end = k * P < K ? n : 0;  // what is left of the last words is zeros
    for (int64_t j = 0; j < end; j++)
      panel[j] = Op::word(Op::element(low[j]), single ? Element(0) : Op::element(high[j]));
    for (int64_t j = end; j < WIDTH; j++) panel[j] = 0;
  }
}

// Threads -----------------------------------------------------------------------------------------

// Calls f(thread, number of threads) on each thread of a team. An exception must not leave a
// thread: where one of them has no memory, this throws when all have come to an end.
template <class F> void on_team(int64_t threads, F f) {
  std::atomic<bool> failed{false};
  const auto work = [&](int64_t thread, int64_t count) {
    TilesOnLoan loan;
    try {
      f(thread, count);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  };
#ifdef _OPENMP
#pragma omp parallel num_threads(int(threads))
  work(omp_get_thread_num(), omp_get_num_threads());
#else
  (void)threads;
  work(0, 1);
#endif
  if (failed) throw std::bad_alloc();
}

// Calls f(i) for i < count, whichever thread is free taking the next.
template <class F> void in_parallel(int64_t threads, int64_t count, F f) {
  std::atomic<int64_t> next{0};
  on_team(std::min(threads, count), [&](int64_t, int64_t) {
    for (int64_t i; (i = next++) < count;) f(i);
  });
}

class Barrier {
 public:
  void wait(int64_t members, int64_t round) {  // the round-th meeting, from 1
    arrived_++;
    for (int64_t turns = 0; arrived_.load() < members * round; turns++) {
      if (turns > 10000) std::this_thread::yield();
      if (left_) throw std::bad_alloc();
    }
  }
  void leave() { left_ = true; }  // for want of memory: nobody need wait for this member

 private:
  std::atomic<int64_t> arrived_{0};
  std::atomic<bool> left_{false};
};

struct Part {  // of one replica's work: rows [b0, b1), units [u0, u1)
  int64_t r, b0, b1, u0, u1;
  Barrier* barrier;  // null where nobody else works on the replica's rows
  int64_t members;
};

// Calls f(part) for all replicas' parts; those of one replica that share a barrier run at once.
template <class F> void in_parts(const Call& p, F f) {
  std::unique_ptr<Barrier[]> barriers(new Barrier[p.R]);
  std::atomic<int64_t> next{0};
  on_team(p.threads, [&](int64_t thread, int64_t threads) {
    const int64_t blocks = (p.H + WIDTH - 1) / WIDTH, each = threads / p.R;
    if (each > 1 && blocks >= each) {  // few replicas: several threads on each, by units
      const int64_t r = thread / each, q = thread % each;
      const int64_t u0 = blocks * q / each * WIDTH, u1 = blocks * (q + 1) / each * WIDTH;
      if (r >= p.R) return;
      try {
        f(Part{r, 0, p.B, u0, std::min(u1, p.H), &barriers[r], each});
      } catch (const std::bad_alloc&) {
        barriers[r].leave();
        throw;
      }
      return;
    }
    const int64_t chunks = std::min(p.B, p.R % threads ? std::max<int64_t>(2, each) : 1);
    for (int64_t i; (i = next++) < p.R * chunks;) {
      const int64_t r = i / chunks, q = i % chunks;
      f(Part{r, p.B * q / chunks, p.B * (q + 1) / chunks, 0, p.H, nullptr, 1});
    }
  });
}

// Rows --------------------------------------------------------------------------------------------

inline bool has_ended(const Call& p, int64_t r, int64_t t, int64_t b) {
  return p.lengths && t >= p.lengths[r * p.B + b];
}

// The rows that go on, for products to leave out those that have ended.
class Rows {
 public:
  explicit Rows(int64_t most) : numbers_(most) {}

  // Of replica r's rows [b0, b1) at steps [t0, t1); row b at step t is number (t - t0) * B + b.
  void find(const Call& p, int64_t r, int64_t t0, int64_t t1, int64_t b0, int64_t b1) {
    count_ = 0;
    for (int64_t t = t0; t < t1; t++)
      for (int64_t b = b0; b < b1; b++)
        if (!has_ended(p, r, t, b)) numbers_.get()[count_++] = (t - t0) * p.B + b;
    all_ = count_ == (t1 - t0) * (b1 - b0);
  }

  int64_t count() const { return count_; }
  int64_t operator[](int64_t k) const { return numbers_.get()[k]; }

  // The next n from the k-th on, each `width` long, in one piece: of `matrix`, or of `copy`.
  template <class T>
  const T* in_one_piece(const T* matrix, int64_t width, int64_t k, int64_t n, T* copy) const {
    if (n && all_) return matrix + (*this)[k] * width;
    for (int64_t i = 0; i < n; i++)
      std::copy_n(matrix + (*this)[k + i] * width, width, copy + i * width);
    return copy;
  }

 private:
  int64_t count_ = 0;
  bool all_ = false;
  Buffer<int64_t> numbers_;
};

// Masks -------------------------------------------------------------------------------------------

typedef uint64_t Wide __attribute__((vector_size(4 * LANES)));  // a 32-bit word to a lane
constexpr int CALLS = LANES / 2, DRAWS = 8 * CALLS;  // Philox calls side by side; their decisions

inline Wide times(Wide words, uint32_t factor) {  // compilers do not know that 32 bits are all
#if defined(__AVX2__) && !defined(__AVX512F__)
  return (Wide)_mm256_mul_epu32((__m256i)words, _mm256_set1_epi64x(factor));
#else
  return words * factor;
#endif
}

// Philox 4x32-10 at counters first + (0 ... CALLS - 1), row, step, site.
inline void philox(uint16_t (&draws)[DRAWS], uint32_t first, uint32_t row, uint32_t step,
                   uint32_t site, uint64_t seed) {
  Wide c0, c1 = Wide{} + row, c2 = Wide{} + step, c3 = Wide{} + site;
  for (int l = 0; l < CALLS; l++) c0[l] = first + l;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const Wide p0 = times(c0, 0xD2511F53u), p1 = times(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ k0, c1 = p1 & 0xFFFFFFFFu;
    c2 = (p0 >> 32) ^ c3 ^ k1, c3 = p0 & 0xFFFFFFFFu;
  }
  const Wide low = c0 | c1 << 32, high = c2 | c3 << 32;  // four decisions each
  for (int l = 0; l < CALLS; l++) {
    const uint64_t both[2] = {low[l], high[l]};
    std::memcpy(draws + 8 * l, both, sizeof both);
  }
}

enum Site { UPDATE, HIDDEN, CELL };

// A site's factors for a part's rows and units at one step: 0, or the scale of what is kept.
class Factors {
 public:
  Factors(const Call& p, const Part& part, Site site)
      : part_(part),
        threshold_(p.thresholds[part.r * 3 + site]),
        scale_(p.scale[part.r * 3 + site]),
        per_step_(p.per_step[part.r * 3 + site]),
        seed_(uint64_t(p.seeds[part.r])),
        site_(uint32_t(p.layer << 8 | p.direction << 4 | site)),
        width_((part.u1 - part.u0 + DRAWS - 1) / DRAWS * DRAWS),
        values_(active() ? (part.b1 - part.b0) * width_ : 0) {
    if (threshold_) draw(0);
    else if (active()) std::fill_n(values_.get(), (part.b1 - part.b0) * width_, scale_);
  }

  bool active() const { return threshold_ || scale_ != 1.f; }

  void at_step(int64_t t) {
    if (threshold_ && per_step_) draw(t);
  }

  Vec times(Vec v, int64_t b, int64_t u) const {  // the masked value of row b, units from u
    if (!active()) return v;
    return v * load(values_.get() + (b - part_.b0) * width_ + u - part_.u0);
  }

 private:
  void draw(int64_t t) {
    float* to = values_.get();
    for (int64_t b = part_.b0; b < part_.b1; b++)
      for (int64_t u = part_.u0; u < part_.u1; u += DRAWS, to += DRAWS) {
        uint16_t draws[DRAWS];
        philox(draws, uint32_t(u / 8), uint32_t(b), uint32_t(t), site_, seed_);
        for (int i = 0; i < DRAWS; i++) to[i] = draws[i] >= threshold_ ? scale_ : 0.f;
      }
  }

  Part part_;
  int threshold_;
  float scale_;
  bool per_step_;
  uint64_t seed_;
  uint32_t site_;
  int64_t width_;
  Buffer<float> values_;
};

}  // namespace
