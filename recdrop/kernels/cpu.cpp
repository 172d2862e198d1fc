// The LSTM's scan for the CPU: forward and backward over the whole sequence, masks included; and,
// in cpu_output.cpp, what an output layer does between its products.
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
// Operands are float or bfloat16; states and sums are float always. Where a processor multiplies
// bfloat16, it lies in pairs (two to a 32-bit word, the lower half first), or in tiles if it has
// them; elsewhere in floats. Vectors are those of GCC and clang, so any processor will do.

#include "cpu_vectors.cpp"
#include "cpu_tiles.cpp"
#include "cpu_work.cpp"
#include "cpu_output.cpp"

namespace {

// Forward -----------------------------------------------------------------------------------------

struct Forward {
  const float *x, *h0, *c0, *w_ih, *w_hh, *bias;  // (R, T, B, I), (R, B, H) twice, (R, 4H, I), ...
  float *h, *c, *gates;                            // (R, T, B, H) twice, (R, T, B, 4H) or null
};

// Panels of (R, 4H, K), each with the four gates of LANES units: (R, blocks, words, WIDTH).
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
    const int64_t r = part.r, b0 = part.b0, b1 = part.b1, u0 = part.u0, u1 = part.u1;
    Factors update(p, part, UPDATE), hidden(p, part, HIDDEN), cell(p, part, CELL);
    Buffer<Sums> sums(b1 - b0);
    Rows rows(b1 - b0);
    Buffer<Word> inputs(Op::ROUNDS || p.lengths ? (b1 - b0) * KX : 0, true);
    Buffer<Word> copy(p.lengths ? (b1 - b0) * KH : 0);
    const auto put_read = [&](int64_t t, int64_t b, int64_t unit, Vec value, int64_t n) {
      Word* row = reads.get() + ((r * 2 + t % 2) * B + b) * KH;
      Op::put(reinterpret_cast<Element*>(row) + unit, hidden.times(value, b, unit), n);
    };
    int64_t rounds = 0;
    const auto meet = [&] {
      if (part.barrier) part.barrier->wait(part.members, ++rounds);
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
      rows.find(p, r, t, t + 1, b0, b1);
      const Word* x = inputs.get();  // as operands
      if (Op::ROUNDS) {
        for (int64_t k = 0; k < rows.count(); k++)
          for (int64_t i = 0; i < p.I; i += LANES) {
            const int64_t n = std::min<int64_t>(LANES, p.I - i);
            Element* row = reinterpret_cast<Element*>(inputs.get() + k * KX);
            Op::put(row + i, load(v.x + (now + rows[k]) * p.I + i, n), n);
          }
      } else {
        x = reinterpret_cast<const Word*>(v.x + now * p.I);
        x = rows.in_one_piece(x, KX, 0, rows.count(), inputs.get());
      }
      const Word* read = reads.get() + (r * 2 + t % 2) * B * KH;
      read = rows.in_one_piece(read, KH, 0, rows.count(), copy.get());
      update.at_step(t), cell.at_step(t), hidden.at_step(t + 1);

      for (int64_t unit = u0; unit < u1; unit += LANES) {
        const int64_t n = std::min<int64_t>(LANES, H - unit), block = r * blocks + unit / LANES;
        Vec bias[4]{};
        for (int j = 0; j < 4 && v.bias; j++) bias[j] = load(v.bias + (r * 4 + j) * H + unit, n);
        for (int64_t k = 0; k < rows.count(); k++) std::copy(bias, bias + 4, sums.get()[k]);
        multiply<Op>(sums.get(), rows.count(), x, KX, KX, w.get() + block * KX * WIDTH);
        multiply<Op>(sums.get(), rows.count(), read, KH, KH, u.get() + block * KH * WIDTH);
        for (int64_t k = 0; k < rows.count(); k++) {
          const int64_t b = rows[k], at = b * H + unit;
          const Vec* a = sums.get()[k];
          const Vec i = sigmoid(a[0]), f = sigmoid(a[1]), o = sigmoid(a[3]);
          const Vec g = act<RELU>(a[2]);
          Vec c = f * load(c_before + at, n) + i * update.times(g, b, unit);
          c = cell.times(c, b, unit);
          const Vec h = o * act<RELU>(c);
          store(v.c + now * H + at, c, n);
          store(v.h + now * H + at, h, n);
          put_read(t + 1, b, unit, h, n);
          if (float* gates = v.gates ? v.gates + (now + b) * 4 * H + unit : nullptr) {
            store(gates, i, n), store(gates + H, f, n);
            store(gates + 2 * H, g, n), store(gates + 3 * H, o, n);
          }
        }
      }
      for (int64_t b = b0; b < b1; b++) {  // the ended keep their states and have no gates
        if (!has_ended(p, r, t, b)) continue;
        for (int64_t unit = u0; unit < u1; unit += LANES) {
          const int64_t n = std::min<int64_t>(LANES, H - unit), at = b * H + unit;
          store(v.c + now * H + at, load(c_before + at, n), n);
          store(v.h + now * H + at, load(h_before + at, n), n);
          for (int64_t j = 0; v.gates && j < 4; j++)
            store(v.gates + ((now + b) * 4 + j) * H + unit, Vec{}, n);
        }
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
  // dh0 and dc0 zeros at first, dx if there are lengths; dx or db (R, 4H) may be null
  float *dx, *dh0, *dc0, *dw_ih, *dw_hh, *db;
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
// those of the first states, and, as its masks pass by, what the gates read of h (R, T, B, H). Rows
// that have ended are left out. A row of da has whole words.
template <class Op, bool RELU>
void through_time(const Call& p, const Backward& v, typename Op::Element* da,
                  typename Op::Element* read) {
  using Word = typename Op::Word;
  const int64_t B = p.B, H = p.H, K = words<Op>(4 * H), blocks = (H + WIDTH - 1) / WIDTH;
  const int64_t width = K * Op::PER_WORD;  // of da
  const auto u = pack_transposed<Op>(p, v.w_hh, H);

  in_parts(p, [&](const Part& part) {
    const int64_t r = part.r, b0 = part.b0, b1 = part.b1, u0 = part.u0, u1 = part.u1;
    Factors update(p, part, UPDATE), hidden(p, part, HIDDEN), cell(p, part, CELL);
    Buffer<Sums> sums(b1 - b0);
    Rows rows(b1 - b0);  // those to which a gradient comes back through step t + 1
    Buffer<Word> copy(p.lengths ? (b1 - b0) * K : 0);
    for (int64_t t = p.T - 1; t >= -1; t--) {
      const int64_t now = (r * p.T + t) * B;
      const float* h_before = t > 0 ? v.h + (now - B) * H : v.h0 + r * B * H;
      const float* c_before = t > 0 ? v.c + (now - B) * H : v.c0 + r * B * H;
      float *dh0 = v.dh0 + r * B * H, *dc = v.dc0 + r * B * H;  // dh0 keeps dh of ended rows
      const Word* after = nullptr;
      if (t < p.T - 1) {
        rows.find(p, r, t + 1, t + 2, b0, b1);
        after = reinterpret_cast<const Word*>(da + (now + B) * width);
        after = rows.in_one_piece(after, K, 0, rows.count(), copy.get());
      }
      if (t >= 0) update.at_step(t), cell.at_step(t);

      // Of step t: dh and dc, from them da; `recurrent` is what came back through step t + 1.
      const auto differentiate = [&](int64_t b, int64_t unit, Vec recurrent, int64_t n) {
        const int64_t at = b * H + unit;
        Vec dh = hidden.times(recurrent, b, unit);
        if (has_ended(p, r, t + 1, b)) dh = load(dh0 + at, n);
        if (t < 0) return store(dh0 + at, dh, n);
        if (v.grad_h) dh = dh + load(v.grad_h + now * H + at, n);
        Vec d = load(dc + at, n);
        if (v.grad_c) d = d + load(v.grad_c + now * H + at, n);
        if (has_ended(p, r, t, b)) return store(dh0 + at, dh, n), store(dc + at, d, n);
        const float* gates = v.gates + (now + b) * 4 * H + unit;
        const Vec i = load(gates, n), f = load(gates + H, n);
        const Vec g = load(gates + 2 * H, n), o = load(gates + 3 * H, n);
        const Vec y = act<RELU>(load(v.c + now * H + at, n)), one = all(1.f);
        d = cell.times(d + dh * o * slope<RELU>(y), b, unit);
        const Vec masked = update.times(d, b, unit);
        auto* to = da + (now + b) * width + unit;
        Op::put(to, masked * g * (i * (one - i)), n);
        Op::put(to + H, d * load(c_before + at, n) * (f * (one - f)), n);
        Op::put(to + 2 * H, masked * i * slope<RELU>(g), n);
        Op::put(to + 3 * H, dh * y * (o * (one - o)), n);
        store(dc + at, d * f, n);
      };
      for (int64_t first = u0; first < u1; first += WIDTH) {
        const int64_t block = r * blocks + first / WIDTH;
        std::memset(static_cast<void*>(sums.get()), 0, rows.count() * sizeof(Sums));
        if (after) multiply<Op>(sums.get(), rows.count(), after, K, K, u.get() + block * K * WIDTH);
        for (int64_t k = 0; k < rows.count(); k++)
          for (int64_t j = 0, unit = first; j < 4 && unit < u1; j++, unit += LANES)
            differentiate(rows[k], unit, sums.get()[k][j], std::min<int64_t>(LANES, H - unit));
      }
      for (int64_t b = b0; b < b1; b++)
        for (int64_t unit = u0; unit < u1 && (!after || has_ended(p, r, t + 1, b)); unit += LANES)
          differentiate(b, unit, Vec{}, std::min<int64_t>(LANES, H - unit));
      if (t < 0) break;
      hidden.at_step(t);
      for (int64_t b = b0; read && b < b1; b++)
        for (int64_t unit = u0; unit < u1 && !has_ended(p, r, t, b); unit += LANES) {
          const int64_t n = std::min<int64_t>(LANES, H - unit);
          const Vec seen = hidden.times(load(h_before + b * H + unit, n), b, unit);
          Op::put(read + (now + b) * H + unit, seen, n);
        }
      if (part.barrier) part.barrier->wait(part.members, p.T - t);
    }
  });
}

// dx = da W.
template <class Op>
void input_gradient(const Call& p, const Backward& v, const std::vector<Rows>& living,
                    const typename Op::Element* da) {
  using Word = typename Op::Word;
  const int64_t K = words<Op>(4 * p.H), blocks = (p.I + WIDTH - 1) / WIDTH, all = p.T * p.B;
  const int64_t chunks = (all + CHUNK<Op> - 1) / CHUNK<Op>;
  const auto w = pack_transposed<Op>(p, v.w_ih, p.I);
  in_parallel(p.threads, p.R * chunks, [&](int64_t task) {
    const int64_t r = task / chunks, begin = task % chunks * CHUNK<Op>;
    const Rows& rows = living[r];
    const int64_t count = std::min(CHUNK<Op>, rows.count() - begin);
    if (count <= 0) return;
    Buffer<Word> copy(p.lengths ? CHUNK<Op> * K : 0);
    const auto* a = reinterpret_cast<const Word*>(da) + r * all * K;
    a = rows.in_one_piece(a, K, begin, count, copy.get());
    Buffer<Sums> sums(CHUNK<Op>);
    for (int64_t block = 0; block < blocks; block++) {
      std::memset(static_cast<void*>(sums.get()), 0, CHUNK<Op> * sizeof(Sums));
      multiply<Op>(sums.get(), count, a, K, K, w.get() + (r * blocks + block) * K * WIDTH);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0, n = block * WIDTH; j < 4 && n < p.I; j++, n += LANES)
          store(v.dx + (r * all + rows[begin + i]) * p.I + n, sums.get()[i][j],
                std::min<int64_t>(LANES, p.I - n));
    }
  });
}

// dW = da^T x, dU = da^T read and db = da^T 1, a replica after the other.
template <class Op>
void weight_gradients(const Call& p, const Backward& v, const std::vector<Rows>& living,
                      const typename Op::Element* da, const typename Op::Element* read) {
  using Word = typename Op::Word;
  using Element = typename Op::Element;
  // A part of da^T, (CHUNK, DEPTH), lies row by row for tiles, else column by column as in da.
  constexpr bool TURNED = Op::STEP > 1;
  constexpr int64_t ROW = TURNED ? DEPTH + LANES : 1;  // a power of two would share cache lines
  constexpr int64_t NEXT = TURNED ? 1 : CHUNK<Op>;
  const int64_t N4 = 4 * p.H, all = p.T * p.B, width = words<Op>(N4) * Op::PER_WORD;
  const int64_t x_blocks = (p.I + WIDTH - 1) / WIDTH, h_blocks = (p.H + WIDTH - 1) / WIDTH;
  const int64_t blocks = x_blocks + h_blocks, chunks = (N4 + CHUNK<Op> - 1) / CHUNK<Op>;
  Buffer<Word> panels(blocks * words<Op>(all) * WIDTH);
  for (int64_t r = 0; r < p.R; r++) {
    const Rows& rows = living[r];
    const int64_t K = words<Op>(rows.count());
    in_parallel(p.threads, blocks, [&](int64_t block) {
      const auto pack = [&](int64_t N, int64_t first, auto row) {
        pack_rows<Op>(panels.get() + block * K * WIDTH, rows.count(),
                      std::min<int64_t>(WIDTH, N - first),
                      [&](int64_t k) { return row(rows[k]) + first; });
      };
      const int64_t unit = (block - x_blocks) * WIDTH;
      const float *x = v.x + r * all * p.I, *h0 = v.h0 + r * p.B * p.H, *h = v.h + r * all * p.H;
      if (block < x_blocks)
        pack(p.I, block * WIDTH, [&](int64_t k) { return x + k * p.I; });
      else if (read)
        pack(p.H, unit, [&](int64_t k) { return read + (r * all + k) * p.H; });
      else
        pack(p.H, unit, [&](int64_t k) { return k < p.B ? h0 + k * p.H : h + (k - p.B) * p.H; });
    });
    in_parallel(p.threads, chunks, [&](int64_t chunk) {
      const int64_t first = chunk * CHUNK<Op>, count = std::min(CHUNK<Op>, N4 - first);
      Buffer<Sums> sums(blocks * CHUNK<Op>, true);
      Buffer<Word> a(std::max(CHUNK<Op> * ROW, DEPTH * NEXT));
      float totals[CHUNK<Op>] = {};
      for (int64_t k0 = 0; k0 < K; k0 += DEPTH) {
        const int64_t depth = std::min(DEPTH, K - k0);
        const auto fill = [&](auto count) {
          for (int64_t k = 0; k < depth; k++) {
            const int64_t row = (k0 + k) * Op::PER_WORD, left = rows.count() - row;
            if (left <= 0) {  // what fills up the last words
              for (int64_t m = 0; m < count; m++) a.get()[m * ROW + k * NEXT] = 0;
              continue;
            }
            const bool pair = Op::PER_WORD > 1 && left > 1;
            const auto* low = da + (r * all + rows[row]) * width + first;
            const auto* high = pair ? da + (r * all + rows[row + 1]) * width + first : low;
            for (int64_t m = 0; m < count; m++)
              a.get()[m * ROW + k * NEXT] = Op::word(low[m], pair ? high[m] : Element(0));
            for (int64_t m = 0; m < count; m++)  // by itself, as vectors can do it
              totals[m] += Op::widen(low[m]) + (pair ? Op::widen(high[m]) : 0.f);
          }
        };
        if (count == CHUNK<Op>) fill(std::integral_constant<int64_t, CHUNK<Op>>());
        else fill(count);
        for (int64_t block = 0; block < blocks; block++)
          multiply<Op>(sums.get() + block * CHUNK<Op>, count, a.get(), ROW, depth,
                       panels.get() + (block * K + k0) * WIDTH, NEXT);
      }
      for (int64_t m = 0; m < count; m++) {
        const auto write = [&](float* to, int64_t N, int64_t block, int64_t n) {
          for (int j = 0; j < 4 && n < N; j++, n += LANES)
            store(to + (r * N4 + first + m) * N + n,
                  sums.get()[block * CHUNK<Op> + m][j], std::min<int64_t>(LANES, N - n));
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
  if (v.dx) expect_use(v.dx, p.R * p.T * p.B * p.I * sizeof(float));
  bool dropped = false;
  for (int64_t r = 0; r < p.R; r++)
    dropped |= p.thresholds[r * 3 + HIDDEN] || p.scale[r * 3 + HIDDEN] != 1.f;
  const int64_t width = words<Op>(4 * p.H) * Op::PER_WORD, all = p.R * p.T * p.B;
  Buffer<Element> da(all * width, width > 4 * p.H), read(dropped ? all * p.H : 0);
  Element* const seen = dropped ? read.get() : nullptr;  // else it is the states themselves
  through_time<Op, RELU>(p, v, da.get(), seen);
  std::vector<Rows> living;
  for (int64_t r = 0; r < p.R; r++) living.emplace_back(p.T * p.B).find(p, r, 0, p.T, 0, p.B);
  if (v.dx) input_gradient<Op>(p, v, living, da.get());
  weight_gradients<Op>(p, v, living, da.get(), seen);
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
    if (p->bf16) p->relu ? forward<Low, true>(*p, *v) : forward<Low, false>(*p, *v);
    else p->relu ? forward<Single, true>(*p, *v) : forward<Single, false>(*p, *v);
  });
}

int recdrop_backward(const Call* p, const Backward* v) {
  return guarded([&] {
    if (p->bf16) p->relu ? backward<Low, true>(*p, *v) : backward<Low, false>(*p, *v);
    else p->relu ? backward<Single, true>(*p, *v) : backward<Single, false>(*p, *v);
  });
}

void recdrop_cross_entropy(const Output* p) { cross_entropy(*p); }

// masks.kept: (R, steps, rows, units).
void recdrop_kept(int64_t R, int64_t steps, int64_t rows, int64_t units, int64_t site,
                  int64_t threads, const int64_t* seeds, const int64_t* thresholds, uint8_t* out) {
  in_parallel(threads, R * steps * rows, [&](int64_t row) {
    const int64_t r = row / rows / steps;
    const auto t = uint32_t(row / rows % steps), b = uint32_t(row % rows);
    uint8_t* to = out + row * units;
    if (!thresholds[r]) return void(std::fill_n(to, units, 1));
    for (int64_t u = 0; u < units; u += DRAWS) {
      uint16_t draws[DRAWS];
      philox(draws, uint32_t(u / 8), b, t, uint32_t(site), uint64_t(seeds[r]));
      for (int64_t i = 0; i < DRAWS && u + i < units; i++) to[u + i] = draws[i] >= thresholds[r];
    }
  });
}

const char* recdrop_description() {
#if defined(TILES)
  return may_use_tiles() ? "AVX-512 with bfloat16 products in tiles (AMX)"
                         : "AVX-512 with bfloat16 products; AMX is refused here";
#elif defined(__AVX512BF16__)
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
