// Included by cpu.cpp: vectors and their functions, operands of products, memory.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// Intel's AMX, registers that multiply like matrices; clang 14 spells its macros in its own way.
#if (defined(__AMX_TILE__) && defined(__AMX_BF16__)) || \
    (defined(__AMXTILE__) && defined(__AMXBF16__))
#if defined(__AVX512BF16__) && defined(__x86_64__) && defined(__linux__)
#define TILES
#endif
#endif

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
// Words of a panel that stay in cache while all rows meet them: of eight lanes, in the first one.
constexpr int64_t DEPTH = LANES == 8 ? 128 : 256;

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef Vec Loose __attribute__((aligned(4), may_alias));  // anywhere in memory, of any type
typedef int32_t Int __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
using Sums = Vec[4];  // of a row and a panel's columns

inline Vec all(float v) { return v - Vec{}; }

// Not by memcpy: GCC moves halves of AVX's vectors, and to read a vector that was just written as
// halves takes four times as long as the products it is for.
inline Vec whole(const void* from) { return *static_cast<const Loose*>(from); }

// In a register: GCC would rather read it anew for each use, and loads are what we have too few of.
inline Vec held(Vec v) {
#ifdef __x86_64__
  asm("" : "+v"(v));
#endif
  return v;
}

inline Bits everywhere(const void* word) {  // 32 bits, in each lane
  uint32_t bits;
  std::memcpy(&bits, word, sizeof bits);
  return Bits{} + bits;
}

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
  return n < LANES ? load_part(from, n) : whole(from);
}

inline void store(float* to, Vec v, int64_t n = LANES) {
  if (n < LANES) return store_part(to, v, n * sizeof(float));
  *reinterpret_cast<Loose*>(to) = v;
}

struct Power {  // exp(x) = whole + whole * part; saturates where exp would overflow or vanish
  Vec whole, part;
};

inline Power power(Vec x) {
  Vec y = x * all(1.44269504f);
  y = y > all(100.f) ? all(100.f) : y;  // a NaN passes both
  y = y < all(-100.f) ? all(-100.f) : y;
  const Vec shift = all(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec n = (y + shift) - shift, r = y - n;
  Vec p = all(1.535336188319500e-4f);  // 2^r - 1 = r p(r) for |r| <= 1/2 (Cephes, exp2f)
  for (float c : {1.339887440266574e-3f, 9.618437357674640e-3f, 5.550332471162809e-2f,
                  2.402264791363012e-1f, 6.931472028550421e-1f})
    p = p * r + all(c);
  const Bits whole = ((Bits)__builtin_convertvector(n, Int) + 127u) << 23;  // 2^n
  return {(Vec)whole, p * r};
}

inline Vec expm1(Vec x) {  // exact to the last bits for small x, too
  const Power e = power(x);
  return e.whole * e.part + (e.whole - all(1.f));
}

inline Vec exp(Vec x) {  // for x <= 0; 0 below 2^-100
  const Power e = power(x);
  return x < all(-69.f) ? Vec{} : e.whole * e.part + e.whole;
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
  static constexpr int PER_WORD = 1, STEP = 1;  // elements of a word; what words come in
  static constexpr bool ROUNDS = false;         // what is not yet an operand
  static Element element(float v) { return v; }
  static float widen(Element v) { return v; }
  static Word word(Element v, Element) { return v; }
  static void put(Element* to, Vec v, int64_t n) { store(to, v, n); }
  static Vec dot(Vec sum, Bits a, Vec b) { return sum + (Vec)a * b; }
};

// To bfloat16, the upper half of 32 bits: to nearest, ties to even.
inline Bits upper(Vec v) {
  const Bits u = (Bits)v, rounded = u + 0x7FFFu + ((u >> 16) & 1u);
  return (Bits)(v == v ? (Int)rounded : Int{} + 0x7FC00000) & 0xFFFF0000u;
}

inline uint32_t upper(float v) {
  uint32_t u;
  std::memcpy(&u, &v, 4);
  return v == v ? (u + 0x7FFFu + ((u >> 16) & 1u)) & 0xFFFF0000u : 0x7FC00000u;
}

inline float as_float(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

#ifdef __AVX512BF16__

struct Pair {
  using Element = uint16_t;
  using Word = uint32_t;
  static constexpr int PER_WORD = 2;
  static constexpr bool ROUNDS = true;
#ifdef TILES
  static constexpr int STEP = 16;
#else
  static constexpr int STEP = 1;
#endif

  static Element element(float v) { return upper(v) >> 16; }
  static Element element(Element v) { return v; }
  static Word word(Element low, Element high) { return low | Word(high) << 16; }
  static float widen(Element v) { return as_float(uint32_t(v) << 16); }
  static void put(Element* to, Vec v, int64_t n) {
    const Halves halves = __builtin_convertvector(upper(v) >> 16, Halves);
    if (n == LANES) return void(std::memcpy(to, &halves, sizeof halves));
    Vec part{};
    std::memcpy(&part, &halves, sizeof halves);
    store_part(to, part, n * sizeof(Element));
  }
  static Vec dot(Vec sum, Bits words, Vec b) {  // sum + a_low b_low + a_high b_high
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)words, (__m512bh)b);
  }
};
using Low = Pair;

#else

struct Low : Single {  // bfloat16's values as floats: what multiplies them is as fast
  static constexpr bool ROUNDS = true;
  static Element element(float v) { return as_float(upper(v)); }
  static void put(Element* to, Vec v, int64_t n) { store(to, (Vec)upper(v), n); }
};

#endif

// Words to a row of so many elements; the last ones are 0 where it is not filled.
template <class Op> constexpr int64_t words(int64_t elements) {
  constexpr int64_t unit = Op::PER_WORD * Op::STEP;
  return (elements + unit - 1) / unit * Op::STEP;
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

}  // namespace
