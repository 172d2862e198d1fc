// Included by cpu.cpp: products of bfloat16 in tiles, registers of up to 16 rows of 64 bytes that
// some of Intel's processors multiply like matrices (AMX).

namespace {

#ifdef TILES

constexpr int64_t TALL = 16;  // the most rows of a tile

inline bool may_use_tiles() {  // Linux gives them to processes that ask
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  static const bool granted = !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
  return granted;
}

// What was written must be in memory: compilers do not know that tiles are loaded from there.
inline void settle_memory() { asm volatile("" ::: "memory"); }

// The shapes of a thread's tiles. Other libraries rely on theirs, oneDNN for one: whoever has used
// tiles gives them back.
class Tiles {
 public:
  // Sums 0 and 1 and operand 4 get `top` rows; sums 2 and 3 and operand 5 get `low` ones.
  void shape(int64_t top, int64_t low) {
    if (top == top_ && low == low_) return;
    if (!top_) _tile_storeconfig(&found_);
    Config config{1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {}};
    for (int tile : {0, 1, 4}) config.rows[tile] = uint8_t(top);
    for (int tile : {2, 3, 5}) config.rows[tile] = uint8_t(low);
    for (int tile : {6, 7}) config.rows[tile] = TALL;
    load(config);
    top_ = top, low_ = low;
  }

  void give_back() {
    if (top_) load(found_);
    top_ = low_ = 0;
  }

 private:
  struct alignas(64) Config {
    uint8_t palette, first_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  };

  static void load(const Config& config) {
    settle_memory();
    _tile_loadconfig(&config);
  }

  int64_t top_ = 0, low_ = 0;  // 0: they are others'
  Config found_{};
};

thread_local Tiles tiles;

struct TilesOnLoan {  // given back at the end, be it that of an exception
  ~TilesOnLoan() { tiles.give_back(); }
};

// sums += a[rows, K] panel[K, WIDTH] for at most TALL rows; a's rows are `row` words apart.
inline void wide(Sums* sums, int64_t rows, const uint32_t* a, ptrdiff_t row, int64_t K,
                 const uint32_t* panel, ptrdiff_t) {
  constexpr ptrdiff_t PITCH = WIDTH * sizeof(uint32_t);
  float* c = reinterpret_cast<float*>(sums);
  tiles.shape(rows, rows);
  settle_memory();
  _tile_loadd(0, c, PITCH);
  _tile_loadd(1, c + LANES, PITCH);
  _tile_loadd(2, c + 2 * LANES, PITCH);
  _tile_loadd(3, c + 3 * LANES, PITCH);
  for (int64_t k = 0; k < K; k += TALL, a += TALL, panel += TALL * WIDTH) {
    _tile_loadd(4, a, row * 4);
    _tile_loadd(6, panel, PITCH);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, panel + LANES, PITCH);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, panel + 2 * LANES, PITCH);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(7, panel + 3 * LANES, PITCH);
    _tile_dpbf16ps(3, 4, 7);
  }
  _tile_stored(0, c, PITCH);
  _tile_stored(1, c + LANES, PITCH);
  _tile_stored(2, c + 2 * LANES, PITCH);
  _tile_stored(3, c + 3 * LANES, PITCH);
  settle_memory();
}

// The same for rows of two tiles, one below the other: half of the loads to a product.
inline void square(Sums* sums, int64_t rows, const uint32_t* a, ptrdiff_t row, int64_t K,
                   const uint32_t* panel, ptrdiff_t) {
  constexpr ptrdiff_t PITCH = WIDTH * sizeof(uint32_t);
  const int64_t top = (rows + 1) / 2;
  tiles.shape(top, rows - top);
  settle_memory();
  for (int j = 0; j < WIDTH; j += 2 * LANES) {
    float *c = reinterpret_cast<float*>(sums) + j, *low = c + top * WIDTH;
    _tile_loadd(0, c, PITCH);
    _tile_loadd(1, c + LANES, PITCH);
    _tile_loadd(2, low, PITCH);
    _tile_loadd(3, low + LANES, PITCH);
    const uint32_t* b = panel + j;
    for (int64_t k = 0; k < K; k += TALL, b += TALL * WIDTH) {
      _tile_loadd(4, a + k, row * 4);
      _tile_loadd(6, b, PITCH);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b + LANES, PITCH);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a + top * row + k, row * 4);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, PITCH);
    _tile_stored(1, c + LANES, PITCH);
    _tile_stored(2, low, PITCH);
    _tile_stored(3, low + LANES, PITCH);
  }
  settle_memory();
}

#else

struct TilesOnLoan {
  ~TilesOnLoan() {}
};

#endif

}  // namespace
