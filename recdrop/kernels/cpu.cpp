// The LSTM's scan for the CPU: forward and backward over the whole sequence, masks included.
//
// The equations and the order of gates (i, f, g, o) are those of recdrop/cells.py, the masks those
// of recdrop/masks.py, bit for bit: drawn here, again in the backward pass, and never stored.
//
//   a = x_t W^T + (m_h * h_before) U^T + b;  i, f, o = sigmoid(a);  g = act(a)
//   c = m_c * (f * c_before + i * (m_u * g));  h = o * act(c)
//
// Weights are packed once per call into panels of four vectors, a forward panel holding the four
// gates of as many units as a vector has lanes, so that a step's gates are complete in registers
// when its sums are. Work is divided by replica, and then by rows or by units. Only a division by
// units needs a barrier per step. How it is divided changes no result by a bit: every sum is formed
// in one order.
//
// Operands are float, or bfloat16 in pairs (two to a 32-bit word, the lower half first); states and
// sums are float always. Vectors are those of GCC and clang, so any processor will do.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

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

// Vectors -----------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 6;  // a tile of ROWS x 4 sums fills the registers
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 3;
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 2;
#endif
constexpr int WIDTH = 4 * LANES;  // columns of a panel
constexpr int64_t DEPTH = 256;    // words of a panel that stay in cache while all rows meet them

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Int __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
using Tile = Vec[ROWS][4];

inline Vec all(float v) { return v - Vec{}; }

// The first n lanes; others are 0 when loaded and left alone when stored. Parts of a vector go
// through functions of their own, lest whole ones be kept in memory for their sake.
__attribute__((noinline)) inline Vec load_part(const float* from, int64_t n) {
  Vec v{};
  std::memcpy(&v, from, n * sizeof(float));
  return v;
}

__attribute__((noinline)) inline void store_part(void* to, Vec v, int64_t bytes) {
  std::memcpy(to, &v, bytes);
}

inline Vec load(const float* from, int64_t n = LANES) {
  if (n < LANES) return load_part(from, n);
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vec v, int64_t n = LANES) {
  if (n < LANES) return store_part(to, v, n * sizeof(float));
  std::memcpy(to, &v, sizeof v);
}

// exp(x) - 1, exact to the last bits for small x, too; saturates where exp would overflow.
inline Vec expm1(Vec x) {
  Vec y = x * all(1.44269504f);
  y = y > all(100.f) ? all(100.f) : y;  // a NaN passes both
  y = y < all(-100.f) ? all(-100.f) : y;
  const Vec shift = all(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec n = (y + shift) - shift, r = y - n;
  Vec p = all(1.535336188319500e-4f);  // 2^r - 1 = r p(r) for |r| <= 1/2 (Cephes, exp2f)
  for (float c : {1.339887440266574e-3f, 9.618437357674640e-3f, 5.550332471162809e-2f,
                  2.402264791363012e-1f, 6.931472028550421e-1f})
    p = p * r + all(c);
  const Bits power = ((Bits)__builtin_convertvector(n, Int) + 127u) << 23;  // 2^n
  return (Vec)power * (p * r) + ((Vec)power - all(1.f));
}

inline Vec sigmoid(Vec x) { return all(1.f) / (all(2.f) + expm1(-x)); }

template <bool RELU> inline Vec act(Vec x) {
  if (RELU) return x < all(0.f) ? all(0.f) : x;
  const Vec e = expm1(x + x);
  return e / (e + all(2.f));  // tanh
}

template <bool RELU> inline Vec slope(Vec y) {  // act's derivative from its value
  if (RELU) return y > all(0.f) ? all(1.f) : all(0.f);
  return all(1.f) - y * y;
}

// Operands ----------------------------------------------------------------------------------------

struct Single {
  using Element = float;
  using Word = float;
  static constexpr int PER_WORD = 1;
  static Element element(float v) { return v; }
  static float widen(Element v) { return v; }
  static Word word(Element v, Element) { return v; }
  static void put(Element* to, Vec v, int64_t n) { store(to, v, n); }
  static Vec dot(Vec sum, Word a, Vec b) { return sum + all(a) * b; }
};

struct Pair {
  using Element = uint16_t;
  using Word = uint32_t;
  static constexpr int PER_WORD = 2;

  static Bits round(Vec v) {  // to nearest, ties to even
    const Bits u = (Bits)v, rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    return (Bits)(v == v ? (Int)rounded : Int{} + 0x7FC0);
  }
  static Element element(float v) {
    uint32_t u;
    std::memcpy(&u, &v, 4);
    return v == v ? (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16 : 0x7FC0;
  }
  static Element element(Element v) { return v; }
  static Word word(Element low, Element high) { return low | Word(high) << 16; }
  static float widen(Element v) {
    const uint32_t u = uint32_t(v) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
  static void put(Element* to, Vec v, int64_t n) {
    const Halves halves = __builtin_convertvector(round(v), Halves);
    if (n == LANES) return void(std::memcpy(to, &halves, sizeof halves));
    Vec part{};
    std::memcpy(&part, &halves, sizeof halves);
    store_part(to, part, n * sizeof(Element));
  }
  static Vec dot(Vec sum, Word a, Vec b) {  // sum + a_low b_low + a_high b_high
    const Bits words = Bits{} + a;
#ifdef __AVX512BF16__
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)words, (__m512bh)b);
#else
    sum = sum + (Vec)(words << 16) * (Vec)((Bits)b << 16);
    return sum + (Vec)(words & 0xFFFF0000u) * (Vec)((Bits)b & 0xFFFF0000u);
#endif
  }
};

template <class Op> constexpr int64_t words(int64_t elements) {
  return (elements + Op::PER_WORD - 1) / Op::PER_WORD;
}

// Asks for huge pages: first touching fresh memory page by page would take a tenth of the time.
inline void expect_use(void* start, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t page = 4096, from = (reinterpret_cast<uintptr_t>(start) + page - 1) / page * page;
  const uintptr_t to = (reinterpret_cast<uintptr_t>(start) + bytes) / page * page;
  if (bytes >= size_t(1) << 21) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#else
  (void)start, (void)bytes;
#endif
}

// Memory, uninitialised unless cleared; read through memcpy only, so its type is a mere unit.
template <class T> class Buffer {
 public:
  explicit Buffer(int64_t count, bool clear = false) {
    const size_t bytes = (std::max<size_t>(count * sizeof(T), 1) + 63) / 64 * 64;
    memory_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!memory_) throw std::bad_alloc();
    expect_use(memory_.get(), bytes);
    if (clear) std::memset(static_cast<void*>(memory_.get()), 0, bytes);
  }
  T* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> memory_;
};

// Products ----------------------------------------------------------------------------------------

// sums[M][4] += a[M, K] panel[K, WIDTH], with a's element (m, k) at a[m * row + k * step]. Not
// inlined, and on a copy of its own: otherwise the sums do not stay in registers.
template <class Op, int M>
__attribute__((noinline)) void tile(Vec (*sums)[4], const typename Op::Word* a, ptrdiff_t row,
                                    ptrdiff_t step, int64_t K, const typename Op::Word* panel) {
  Vec s[M][4];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) s[m][j] = sums[m][j];
  for (int64_t k = 0; k < K; k++, a += step, panel += WIDTH) {
    Vec b[4];
    std::memcpy(b, panel, sizeof b);
    __builtin_prefetch(panel + 16 * WIDTH);
    __builtin_prefetch(panel + 16 * WIDTH + WIDTH / 2);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      typename Op::Word word;
      std::memcpy(&word, a + m * row, sizeof word);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) s[m][j] = Op::dot(s[m][j], word, b[j]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sums[m][j] = s[m][j];
}

template <class Op, int M = ROWS>
void tile_of(int rows, Tile& sums, const typename Op::Word* a, ptrdiff_t row, ptrdiff_t step,
             int64_t K, const typename Op::Word* panel) {
  if constexpr (M > 0) {
    if (rows == M) return tile<Op, M>(sums, a, row, step, K, panel);
    tile_of<Op, M - 1>(rows, sums, a, row, step, K, panel);
  }
}

// Calls f(block, first row, how many) for `rows` rows in even blocks of at most ROWS.
template <class F> inline void in_blocks(int64_t rows, F f) {
  const int64_t n = (rows + ROWS - 1) / ROWS;
  for (int64_t s = 0; s < n; s++) {
    const int64_t first = rows * s / n;
    f(s, first, int(rows * (s + 1) / n - first));
  }
}

// sums += a[rows, K] panel[K, WIDTH], a row by row.
template <class Op>
void multiply(Tile* sums, int64_t rows, const typename Op::Word* a, int64_t K,
              const typename Op::Word* panel) {
  for (int64_t k = 0; k < K; k += DEPTH)
    in_blocks(rows, [&](int64_t s, int64_t b, int n) {
      tile_of<Op>(n, sums[s], a + b * K + k, K, 1, std::min(DEPTH, K - k), panel + k * WIDTH);
    });
}

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
        Op::put(reinterpret_cast<typename Op::Element*>(line) + k, load(from + k0 + k, count), count);
      }
      const int64_t rows = std::min(BLOCK, words<Op>(K - k0));
      for (int64_t k = 0; k < rows; k++) panel[k * WIDTH + n] = line[k];
    }
}

// The same of a matrix whose rows do: row(k) points to n elements.
template <class Op, class Row>
void pack_rows(typename Op::Word* panel, int64_t K, int64_t n, Row row) {
  constexpr int64_t P = Op::PER_WORD;
  for (int64_t k = 0; k < words<Op>(K); k++, panel += WIDTH) {
    const auto *low = row(k * P), *high = row(std::min(k * P + P - 1, K - 1));
    const bool single = k * P + P > K;  // the last word of an odd number of rows
    for (int64_t j = 0; j < n; j++)
      panel[j] = Op::word(Op::element(low[j]), single ? typename Op::Element(0) : Op::element(high[j]));
    for (int64_t j = n; j < WIDTH; j++) panel[j] = 0;
  }
}

// Threads -----------------------------------------------------------------------------------------

// Calls f(thread, number of threads) on each thread of a team.
template <class F> void on_team(int64_t threads, F f) {
#ifdef _OPENMP
#pragma omp parallel num_threads(int(threads))
  f(int64_t(omp_get_thread_num()), int64_t(omp_get_num_threads()));
#else
  f(0, 1);
#endif
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
    for (int64_t turns = 0; arrived_.load() < members * round; turns++)
      if (turns > 10000) std::this_thread::yield();
  }

 private:
  std::atomic<int64_t> arrived_{0};
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
      if (r < p.R) f(Part{r, 0, p.B, u0, std::min(u1, p.H), &barriers[r], each});
      return;
    }
    const int64_t chunks = std::min(p.B, p.R % threads ? std::max<int64_t>(2, each) : 1);
    for (int64_t i; (i = next++) < p.R * chunks;) {
      const int64_t r = i / chunks, q = i % chunks;
      f(Part{r, p.B * q / chunks, p.B * (q + 1) / chunks, 0, p.H, nullptr, 1});
    }
  });
}

// Masks -------------------------------------------------------------------------------------------

typedef uint64_t Wide __attribute__((vector_size(4 * LANES)));  // a 32-bit word to a lane
constexpr int CALLS = LANES / 2, DRAWS = 8 * CALLS;  // Philox calls side by side; their decisions

// Philox 4x32-10 at counters first + (0 ... CALLS - 1), row, step, site.
inline void philox(uint16_t (&draws)[DRAWS], uint32_t first, uint32_t row, uint32_t step,
                   uint32_t site, uint64_t seed) {
  Wide c0, c1 = Wide{} + row, c2 = Wide{} + step, c3 = Wide{} + site;
  for (int l = 0; l < CALLS; l++) c0[l] = first + l;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const Wide p0 = c0 * 0xD2511F53u, p1 = c2 * 0xCD9E8D57u;
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

// Forward -----------------------------------------------------------------------------------------

struct Forward {
  const float *x, *h0, *c0, *w_ih, *w_hh, *bias;  // (R, T, B, I), (R, B, H) twice, (R, 4H, I), ...
  float *h, *c, *gates;                            // (R, T, B, H) twice, (R, T, B, 4H) or null
};

inline bool is_held(const Call& p, int64_t r, int64_t t, int64_t b) {
  return p.lengths && t >= p.lengths[r * p.B + b];
}

// Panels of (R, 4H, K), each with the gates of LANES units; (R, blocks of LANES units, words, WIDTH).
template <class Op>
Buffer<typename Op::Word> pack_gates(const Call& p, const float* weight, int64_t K) {
  const int64_t blocks = (p.H + LANES - 1) / LANES;
  Buffer<typename Op::Word> packed(p.R * blocks * words<Op>(K) * WIDTH);
  in_parallel(p.threads, p.R * blocks, [&](int64_t i) {
    const int64_t r = i / blocks, u = i % blocks * LANES;
    pack_columns<Op>(packed.get() + i * words<Op>(K) * WIDTH, K, [&](int n) -> const float* {
      const int64_t gate = n / LANES, unit = u + n % LANES;
      return unit < p.H ? weight + ((r * 4 + gate) * p.H + unit) * K : nullptr;
    });
  });
  return packed;
}

template <class Op, bool RELU> void forward(const Call& p, const Forward& v) {
  using Word = typename Op::Word;
  using Element = typename Op::Element;
  const int64_t B = p.B, H = p.H, KX = words<Op>(p.I), KH = words<Op>(H);
  const auto w = pack_gates<Op>(p, v.w_ih, p.I), u = pack_gates<Op>(p, v.w_hh, H);
  const int64_t blocks = (H + LANES - 1) / LANES;
  for (float* made : {v.h, v.c, v.gates})
    if (made) expect_use(made, p.R * p.T * B * (made == v.gates ? 4 : 1) * H * sizeof(float));
  Buffer<Word> reads(p.R * 2 * B * KH, true);  // m_h * h of this step and the next, as operands

  in_parts(p, [&](const Part& part) {
    const auto [r, b0, b1, u0, u1, barrier, members] = part;
    Factors update(p, part, UPDATE), hidden(p, part, HIDDEN), cell(p, part, CELL);
    Buffer<Tile> sums((b1 - b0 + ROWS - 1) / ROWS);
    Buffer<Word> inputs(Op::PER_WORD > 1 ? (b1 - b0) * KX : 0, true);  // x_t as operands
    const auto put_read = [&](int64_t t, int64_t b, int64_t unit, Vec value, int64_t n) {
      Word* row = reads.get() + ((r * 2 + t % 2) * B + b) * KH;
      Op::put(reinterpret_cast<Element*>(row) + unit, hidden.times(value, b, unit), n);
    };
    int64_t rounds = 0;
    const auto meet = [&] {
      if (barrier) barrier->wait(members, ++rounds);
    };

    for (int64_t b = b0; b < b1; b++)
      for (int64_t unit = u0; unit < u1; unit += LANES) {
        const int64_t n = std::min<int64_t>(LANES, H - unit);
        put_read(0, b, unit, load(v.h0 + (r * B + b) * H + unit, n), n);
      }
    meet();
    for (int64_t t = 0; t < p.T; t++) {
      const int64_t now = (r * p.T + t) * B;  // rows before this step's
      const float* h_before = t ? v.h + (now - B) * H : v.h0 + r * B * H;
      const float* c_before = t ? v.c + (now - B) * H : v.c0 + r * B * H;
      const Word* x = reinterpret_cast<const Word*>(v.x + (now + b0) * p.I);
      if (Op::PER_WORD > 1) {
        x = inputs.get();
        for (int64_t b = b0; b < b1; b++)
          for (int64_t i = 0; i < p.I; i += LANES) {
            const int64_t n = std::min<int64_t>(LANES, p.I - i);
            Element* row = reinterpret_cast<Element*>(inputs.get() + (b - b0) * KX);
            Op::put(row + i, load(v.x + (now + b) * p.I + i, n), n);
          }
      }
      const Word* read = reads.get() + ((r * 2 + t % 2) * B + b0) * KH;
      update.at_step(t), cell.at_step(t), hidden.at_step(t + 1);

      for (int64_t unit = u0; unit < u1; unit += LANES) {
        const int64_t n = std::min<int64_t>(LANES, H - unit), block = r * blocks + unit / LANES;
        Vec bias[4]{};
        for (int j = 0; j < 4 && v.bias; j++) bias[j] = load(v.bias + (r * 4 + j) * H + unit, n);
        in_blocks(b1 - b0, [&](int64_t s, int64_t, int count) {
          for (int i = 0; i < count; i++) std::copy(bias, bias + 4, sums.get()[s][i]);
        });
        multiply<Op>(sums.get(), b1 - b0, x, KX, w.get() + block * KX * WIDTH);
        multiply<Op>(sums.get(), b1 - b0, read, KH, u.get() + block * KH * WIDTH);
        in_blocks(b1 - b0, [&](int64_t s, int64_t first, int count) {
          for (int k = 0; k < count; k++) {
            const int64_t b = b0 + first + k, at = b * H + unit;
            const Vec* a = sums.get()[s][k];
            const Vec i = sigmoid(a[0]), f = sigmoid(a[1]), g = act<RELU>(a[2]), o = sigmoid(a[3]);
            Vec c = f * load(c_before + at, n) + i * update.times(g, b, unit);
            c = cell.times(c, b, unit);
            Vec h = o * act<RELU>(c);
            if (is_held(p, r, t, b)) c = load(c_before + at, n), h = load(h_before + at, n);
            store(v.c + now * H + at, c, n);
            store(v.h + now * H + at, h, n);
            put_read(t + 1, b, unit, h, n);
            if (float* gates = v.gates ? v.gates + (now + b) * 4 * H + unit : nullptr) {
              store(gates, i, n), store(gates + H, f, n);
              store(gates + 2 * H, g, n), store(gates + 3 * H, o, n);
            }
          }
        });
      }
      meet();
    }
  });
}

// Backward ----------------------------------------------------------------------------------------

struct Backward {
  const float *grad_h, *grad_c;           // (R, T, B, H), or null for zeros
  const float *h, *c, *gates;             // what forward found
  const float *x, *h0, *c0, *w_ih, *w_hh;  // what it was given
  float *dx, *dh0, *dc0, *dw_ih, *dw_hh, *db;  // db (R, 4H) or null; dh0 and dc0 zeros to start with
};

// Panels of (R, 4H, N), its rows being summed over: (R, blocks of WIDTH columns, words, WIDTH).
template <class Op>
Buffer<typename Op::Word> pack_transposed(const Call& p, const float* weight, int64_t N) {
  const int64_t blocks = (N + WIDTH - 1) / WIDTH, K = 4 * p.H, size = words<Op>(K) * WIDTH;
  Buffer<typename Op::Word> packed(p.R * blocks * size);
  in_parallel(p.threads, p.R * blocks, [&](int64_t i) {
    const int64_t first = i % blocks * WIDTH;
    const float* from = weight + i / blocks * K * N + first;
    pack_rows<Op>(packed.get() + i * size, K, std::min<int64_t>(WIDTH, N - first),
                  [&](int64_t k) { return from + k * N; });
  });
  return packed;
}

// Through time, from the last step to the first: the gradients da (R, T, B, 4H) of the gates' sums,
// those of the first states, and, as its masks pass by, what the gates read of h (R, T, B, H).
template <class Op, bool RELU>
void through_time(const Call& p, const Backward& v, typename Op::Element* da,
                  typename Op::Element* read) {
  using Word = typename Op::Word;
  const int64_t B = p.B, H = p.H, K = words<Op>(4 * H), blocks = (H + WIDTH - 1) / WIDTH;
  const auto u = pack_transposed<Op>(p, v.w_hh, H);

  in_parts(p, [&](const Part& part) {
    const auto [r, b0, b1, u0, u1, barrier, members] = part;
    Factors update(p, part, UPDATE), hidden(p, part, HIDDEN), cell(p, part, CELL);
    const int64_t tiles = (b1 - b0 + ROWS - 1) / ROWS;
    Buffer<Tile> sums(tiles);
    for (int64_t t = p.T - 1; t >= -1; t--) {
      const int64_t now = (r * p.T + t) * B;
      const float* h_before = t > 0 ? v.h + (now - B) * H : v.h0 + r * B * H;
      const float* c_before = t > 0 ? v.c + (now - B) * H : v.c0 + r * B * H;
      float *dh0 = v.dh0 + r * B * H, *dc = v.dc0 + r * B * H;  // dh0 keeps dh of held rows
      const Word* after = reinterpret_cast<const Word*>(da + (now + B + b0) * 4 * H);
      if (t >= 0) update.at_step(t), cell.at_step(t);

      // Of step t: dh and dc, from them da; `recurrent` is what came back through step t + 1.
      const auto differentiate = [&](int64_t b, int64_t unit, Vec recurrent, int64_t n) {
        const int64_t at = b * H + unit;
        Vec dh = hidden.times(recurrent, b, unit);
        if (is_held(p, r, t + 1, b)) dh = load(dh0 + at, n);
        if (t < 0) return store(dh0 + at, dh, n);
        if (v.grad_h) dh = dh + load(v.grad_h + now * H + at, n);
        Vec d = load(dc + at, n), di{}, df{}, dg{}, dO{};
        if (v.grad_c) d = d + load(v.grad_c + now * H + at, n);
        if (is_held(p, r, t, b)) {
          store(dh0 + at, dh, n);
        } else {
          const float* gates = v.gates + (now + b) * 4 * H + unit;
          const Vec i = load(gates, n), f = load(gates + H, n);
          const Vec g = load(gates + 2 * H, n), o = load(gates + 3 * H, n);
          const Vec y = act<RELU>(load(v.c + now * H + at, n)), one = all(1.f);
          d = cell.times(d + dh * o * slope<RELU>(y), b, unit);
          const Vec masked = update.times(d, b, unit);
          di = masked * g * (i * (one - i));
          df = d * load(c_before + at, n) * (f * (one - f));
          dg = masked * i * slope<RELU>(g);
          dO = dh * y * (o * (one - o));
          d = d * f;
        }
        store(dc + at, d, n);
        auto* to = da + (now + b) * 4 * H + unit;
        Op::put(to, di, n), Op::put(to + H, df, n);
        Op::put(to + 2 * H, dg, n), Op::put(to + 3 * H, dO, n);
      };
      for (int64_t first = u0; first < u1; first += WIDTH) {
        const int64_t block = r * blocks + first / WIDTH;
        std::memset(static_cast<void*>(sums.get()), 0, tiles * sizeof(Tile));
        if (t < p.T - 1) multiply<Op>(sums.get(), b1 - b0, after, K, u.get() + block * K * WIDTH);
        in_blocks(b1 - b0, [&](int64_t s, int64_t row, int count) {
          for (int k = 0; k < count; k++)
            for (int64_t j = 0, unit = first; j < 4 && unit < u1; j++, unit += LANES)
              differentiate(b0 + row + k, unit, sums.get()[s][k][j],
                            std::min<int64_t>(LANES, H - unit));
        });
      }
      if (t < 0) break;
      hidden.at_step(t);
      for (int64_t b = b0; b < b1; b++)
        for (int64_t unit = u0; unit < u1; unit += LANES) {
          const int64_t n = std::min<int64_t>(LANES, H - unit);
          const Vec seen = hidden.times(load(h_before + b * H + unit, n), b, unit);
          Op::put(read + (now + b) * H + unit, seen, n);
        }
      if (barrier) barrier->wait(members, p.T - t);
    }
  });
}

// dx = da W.
template <class Op>
void input_gradient(const Call& p, const Backward& v, const typename Op::Element* da) {
  constexpr int64_t CHUNK = 8 * ROWS;
  const int64_t K = words<Op>(4 * p.H), blocks = (p.I + WIDTH - 1) / WIDTH, rows = p.T * p.B;
  const int64_t chunks = (rows + CHUNK - 1) / CHUNK;
  const auto w = pack_transposed<Op>(p, v.w_ih, p.I);
  in_parallel(p.threads, p.R * chunks, [&](int64_t task) {
    const int64_t r = task / chunks, begin = task % chunks * CHUNK;
    const int64_t count = std::min(CHUNK, rows - begin), first = r * rows + begin;
    const auto* a = reinterpret_cast<const typename Op::Word*>(da + first * 4 * p.H);
    Buffer<Tile> sums(CHUNK / ROWS);
    for (int64_t block = 0; block < blocks; block++) {
      std::memset(static_cast<void*>(sums.get()), 0, CHUNK / ROWS * sizeof(Tile));
      multiply<Op>(sums.get(), count, a, K, w.get() + (r * blocks + block) * K * WIDTH);
      in_blocks(count, [&](int64_t s, int64_t row, int m) {
        for (int i = 0; i < m; i++)
          for (int64_t j = 0, n = block * WIDTH; j < 4 && n < p.I; j++, n += LANES)
            store(v.dx + (first + row + i) * p.I + n, sums.get()[s][i][j],
                  std::min<int64_t>(LANES, p.I - n));
      });
    }
  });
}

// dW = da^T x, dU = da^T read and db = da^T 1, a replica after the other.
template <class Op>
void weight_gradients(const Call& p, const Backward& v, const typename Op::Element* da,
                      const typename Op::Element* read) {
  using Word = typename Op::Word;
  constexpr int64_t TILES = 8, CHUNK = TILES * ROWS;
  const int64_t N4 = 4 * p.H, rows = p.T * p.B, K = words<Op>(rows);
  const int64_t x_blocks = (p.I + WIDTH - 1) / WIDTH, h_blocks = (p.H + WIDTH - 1) / WIDTH;
  const int64_t blocks = x_blocks + h_blocks, chunks = (N4 + CHUNK - 1) / CHUNK;
  Buffer<Word> panels(blocks * K * WIDTH);
  for (int64_t r = 0; r < p.R; r++) {
    in_parallel(p.threads, blocks, [&](int64_t block) {
      Word* panel = panels.get() + block * K * WIDTH;
      const auto pack = [&](const auto* from, int64_t N, int64_t n) {
        pack_rows<Op>(panel, rows, std::min<int64_t>(WIDTH, N - n),
                      [&](int64_t k) { return from + (r * rows + k) * N + n; });
      };
      if (block < x_blocks) pack(v.x, p.I, block * WIDTH);
      else pack(read, p.H, (block - x_blocks) * WIDTH);
    });
    in_parallel(p.threads, chunks, [&](int64_t chunk) {
      const int64_t first = chunk * CHUNK, count = std::min(CHUNK, N4 - first);
      Buffer<Tile> sums(blocks * TILES, true);
      Buffer<Word> a(TILES * DEPTH * ROWS, true);  // da^T by tiles: (TILES, words, ROWS)
      float totals[CHUNK] = {};
      Word line[CHUNK] = {};
      for (int64_t k0 = 0; k0 < K; k0 += DEPTH) {
        const int64_t depth = std::min(DEPTH, K - k0);
        for (int64_t k = 0; k < depth; k++) {
          const int64_t row = (k0 + k) * Op::PER_WORD;
          const auto* low = da + (r * rows + row) * N4 + first;
          const bool pair = Op::PER_WORD > 1 && row + 1 < rows;
          const auto* high = low + (pair ? N4 : 0);
          for (int64_t m = 0; m < count; m++) {
            line[m] = Op::word(low[m], pair ? high[m] : typename Op::Element(0));
            totals[m] += Op::widen(low[m]) + (pair ? Op::widen(high[m]) : 0.f);
          }
          for (int64_t i = 0; i * ROWS < count; i++)
            std::copy_n(line + i * ROWS, ROWS, a.get() + (i * DEPTH + k) * ROWS);
        }
        for (int64_t block = 0; block < blocks; block++)
          for (int64_t i = 0; i * ROWS < count; i++)
            tile<Op, ROWS>(sums.get()[block * TILES + i], a.get() + i * DEPTH * ROWS, 1, ROWS, depth,
                           panels.get() + (block * K + k0) * WIDTH);
      }
      for (int64_t m = 0; m < count; m++) {
        const auto write = [&](float* to, int64_t N, int64_t block, int64_t n) {
          for (int j = 0; j < 4 && n < N; j++, n += LANES)
            store(to + (r * N4 + first + m) * N + n, sums.get()[block * TILES + m / ROWS][m % ROWS][j],
                  std::min<int64_t>(LANES, N - n));
        };
        for (int64_t b = 0; b < x_blocks; b++) write(v.dw_ih, p.I, b, b * WIDTH);
        for (int64_t b = 0; b < h_blocks; b++) write(v.dw_hh, p.H, x_blocks + b, b * WIDTH);
        if (v.db) v.db[r * N4 + first + m] = totals[m];
      }
    });
  }
}

template <class Op, bool RELU> void backward(const Call& p, const Backward& v) {
  using Element = typename Op::Element;
  expect_use(v.dx, p.R * p.T * p.B * p.I * sizeof(float));
  Buffer<Element> da(p.R * p.T * p.B * 4 * p.H), read(p.R * p.T * p.B * p.H);
  through_time<Op, RELU>(p, v, da.get(), read.get());
  input_gradient<Op>(p, v, da.get());
  weight_gradients<Op>(p, v, da.get(), read.get());
}

template <class F> int guarded(F f) {  // 0, or 1 where memory does not suffice
  try {
    f();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // namespace

extern "C" {

int recdrop_forward(const Call* p, const Forward* v) {
  return guarded([&] {
    if (p->bf16) p->relu ? forward<Pair, true>(*p, *v) : forward<Pair, false>(*p, *v);
    else p->relu ? forward<Single, true>(*p, *v) : forward<Single, false>(*p, *v);
  });
}

int recdrop_backward(const Call* p, const Backward* v) {
  return guarded([&] {
    if (p->bf16) p->relu ? backward<Pair, true>(*p, *v) : backward<Pair, false>(*p, *v);
    else p->relu ? backward<Single, true>(*p, *v) : backward<Single, false>(*p, *v);
  });
}

// masks.kept: (R, steps, rows, units).
void recdrop_kept(int64_t R, int64_t steps, int64_t rows, int64_t units, int64_t site,
                  const int64_t* seeds, const int64_t* thresholds, uint8_t* out) {
  for (int64_t r = 0; r < R; r++)
    for (int64_t t = 0; t < steps; t++)
      for (int64_t b = 0; b < rows; b++)
        for (int64_t u = 0; u < units; u += DRAWS) {
          uint16_t draws[DRAWS];
          philox(draws, uint32_t(u / 8), uint32_t(b), uint32_t(t), uint32_t(site), uint64_t(seeds[r]));
          for (int64_t i = 0; i < DRAWS && u + i < units; i++) *out++ = draws[i] >= thresholds[r];
        }
}

const char* recdrop_description() {
#if defined(__AVX512BF16__)
  return "AVX-512 with bfloat16 products";
#elif defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX__)
  return "AVX";
#elif defined(__aarch64__)
  return "NEON";
#else
  return "vectors of 128 bits";
#endif
}
}
