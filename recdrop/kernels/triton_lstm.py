"""The LSTM's scan on a GPU: device code in Triton, forward and back through time.

One program holds a block of rows of one network. Where it also holds all units (``UNITS_SPLIT`` is
off), the loop over time lies inside the kernel: networks side by side fill the processors without
any barrier between them. With few and wide networks the units are divided among programs instead,
and each step is a launch of its own, whose end is the barrier.

Masks are drawn here, from the stream of :mod:`recdrop.masks` bit for bit, and never stored. Shapes
as in :mod:`recdrop.recurrence`: R networks, T steps, B rows, H units, four gates i, f, g, o.
"""

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _activation(x, RELU: tl.constexpr):
    if RELU:
        return tl.maximum(x, 0.0)
    return 2 * _sigmoid(2 * x) - 1


@triton.jit
def _slope(y, RELU: tl.constexpr):
    """The derivative of the activation, from its value."""
    if RELU:
        return (y > 0).to(tl.float32)
    return 1 - y * y


@triton.jit
def draws(seed, site_word, step, rows, first_unit, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """(ROWS, UNITS) random 16-bit numbers of the mask stream; ``first_unit`` divides by 8.

    A call of Philox serves eight units: four words, the lower half of each before the upper one.
    """
    column = (first_unit // 8 + tl.arange(0, UNITS // 8)).to(tl.uint32)
    zero = tl.zeros((ROWS, UNITS // 8), tl.uint32)
    w0, w1, w2, w3 = tl.philox(
        seed, zero + column[None, :], zero + rows.to(tl.uint32)[:, None],
        (zero + step).to(tl.uint32), (zero + site_word).to(tl.uint32),
    )  # fmt: skip
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # (ROWS, UNITS / 8, 2, 2): word 2 j + k
    halves = tl.join(words & 0xFFFF, words >> 16)
    return tl.reshape(halves, (ROWS, UNITS)).to(tl.int32)


@triton.jit
def _factor(
    thresholds, scale, per_step, seed, r, SITE: tl.constexpr, site_word, step, rows, first_unit,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """(ROWS, UNITS) a site's factors at one step, Eqs. 3 and 14: 0, or the value of a kept unit."""
    threshold = tl.load(thresholds + 3 * r + SITE).to(tl.int32)
    factor = tl.zeros((ROWS, UNITS), tl.float32) + tl.load(scale + 3 * r + SITE)
    if threshold > 0:
        at = tl.where(tl.load(per_step + 3 * r + SITE) != 0, step, 0)
        drawn = draws(seed, site_word + SITE, at, rows, first_unit, ROWS, UNITS)
        factor = tl.where(drawn >= threshold, factor, 0.0)
    return factor


@triton.jit
def kept(
    out, seeds, thresholds, site_word, steps, B, H, ROWS: tl.constexpr, UNITS: tl.constexpr
):  # fmt: skip
    """:func:`recdrop.masks.kept`: out (R, steps, B, H), 1 where a unit stays."""
    blocks = tl.cdiv(B, ROWS)
    n = tl.program_id(0) // blocks  # which mask
    r, t = n // steps, n % steps
    rows = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * UNITS
    units = first + tl.arange(0, UNITS)
    drawn = draws(tl.load(seeds + r), site_word, t, rows, first, ROWS, UNITS)
    stays = drawn >= tl.load(thresholds + r).to(tl.int32)
    at = (n.to(tl.int64) * B + rows[:, None]) * H + units[None, :]
    tl.store(out + at, stays.to(tl.int8), (rows < B)[:, None] & (units < H)[None, :])


@triton.jit
def derived_seeds(derived, seeds, calls):
    """derived (R,): :mod:`recdrop.masks`' seed of a numbered call under each of ``seeds`` (R,)."""
    r = tl.program_id(0)
    zero = tl.zeros((1,), tl.uint32)
    call = tl.load(calls + r).to(tl.uint32)
    low, high, _, _ = tl.philox(tl.load(seeds + r), zero + call, zero, zero, zero - 1)
    seed = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    tl.store(derived + r + tl.arange(0, 1), seed.to(tl.int64))


@triton.jit
def read_states(
    read, h, h0, thresholds, scale, per_step, seeds, site_word, T, steps, B, H,
    ROWS: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """read (R, steps, B, H): the states that the gates read, Eq. 7's masked h_{t-1}, as operands.

    h is (R, T, B, H), of which the first steps - 1 are asked for.
    """
    r, t = tl.program_id(0) // steps, tl.program_id(0) % steps
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(2) * UNITS
    units = first + tl.arange(0, UNITS)
    here = (rows < B)[:, None] & (units < H)[None, :]
    inside = rows[:, None] * H + units[None, :]
    wide = r.to(tl.int64)
    if t == 0:
        state = tl.load(h0 + wide * B * H + inside, here, 0.0)
    else:
        state = tl.load(h + (wide * T + t - 1) * B * H + inside, here, 0.0)
    factor = _factor(
        thresholds,
        scale,
        per_step,
        tl.load(seeds + r),
        r,
        1,
        site_word,
        t,
        rows,
        first,
        ROWS,
        UNITS,
    )
    out = read + (wide * steps + t) * B * H + inside
    tl.store(out, (state * factor).to(read.dtype.element_ty), here)


@triton.jit
def forward(
    gates, read, h, c, h0, c0, w_t, bias, thresholds, scale, per_step, seeds, lengths,
    site_word, first_step, last_step, T, B, H,
    BIAS: tl.constexpr, LENGTHS: tl.constexpr, RELU: tl.constexpr, UNITS_SPLIT: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Steps first_step to last_step - 1.

    ``gates`` (R, T, B, 4H) holds W x_t and becomes the gates; ``read`` (R, 2, B, H) holds what the
    gates read at even and at odd steps, that of first_step is given. ``w_t`` (R, H, 4H) holds the
    recurrent weights transposed: in exact float32, a product whose second operand has gaps between
    the columns took three times as long on an H200.
    """
    r = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    in_rows = rows < B
    seed = tl.load(seeds + r)
    blocks = tl.cdiv(H, UNITS)
    first_block, last_block = 0, blocks
    if UNITS_SPLIT:
        first_block = tl.program_id(2)
        last_block = first_block + 1
    for t in range(first_step, last_step):
        source = read + (r * 2 + t % 2) * B * H
        target = read + (r * 2 + (t + 1) % 2) * B * H
        for block in range(first_block, last_block):
            first = block * UNITS
            units = first + tl.arange(0, UNITS)
            in_units = units < H
            here = in_rows[:, None] & in_units[None, :]
            ai = tl.zeros((ROWS, UNITS), tl.float32)
            af = tl.zeros((ROWS, UNITS), tl.float32)
            ag = tl.zeros((ROWS, UNITS), tl.float32)
            ao = tl.zeros((ROWS, UNITS), tl.float32)
            for k in range(0, H, DEPTH):
                ks = k + tl.arange(0, DEPTH)
                in_ks = ks < H
                v = tl.load(
                    source + rows[:, None] * H + ks[None, :], in_rows[:, None] & in_ks[None, :], 0.0
                )
                w = w_t + (r * H + ks[:, None]) * 4 * H + units[None, :]
                square = in_ks[:, None] & in_units[None, :]
                ai = tl.dot(v, tl.load(w, square, 0.0), ai, input_precision=PRECISION)
                af = tl.dot(v, tl.load(w + H, square, 0.0), af, input_precision=PRECISION)
                ag = tl.dot(v, tl.load(w + 2 * H, square, 0.0), ag, input_precision=PRECISION)
                ao = tl.dot(v, tl.load(w + 3 * H, square, 0.0), ao, input_precision=PRECISION)
            at = gates + ((r * T + t) * B + rows[:, None]) * 4 * H + units[None, :]
            ai += tl.load(at, here, 0.0)
            af += tl.load(at + H, here, 0.0)
            ag += tl.load(at + 2 * H, here, 0.0)
            ao += tl.load(at + 3 * H, here, 0.0)
            if BIAS:
                b = bias + r * 4 * H + units
                ai += tl.load(b, in_units, 0.0)[None, :]
                af += tl.load(b + H, in_units, 0.0)[None, :]
                ag += tl.load(b + 2 * H, in_units, 0.0)[None, :]
                ao += tl.load(b + 3 * H, in_units, 0.0)[None, :]
            i, f, o = _sigmoid(ai), _sigmoid(af), _sigmoid(ao)  # Eq. 4
            g = _activation(ag, RELU)
            tl.store(at, i, here)
            tl.store(at + H, f, here)
            tl.store(at + 2 * H, g, here)
            tl.store(at + 3 * H, o, here)
            inside = rows[:, None] * H + units[None, :]
            if t == 0:
                c_before = tl.load(c0 + r * B * H + inside, here, 0.0)
            else:
                c_before = tl.load(c + (r * T + t - 1) * B * H + inside, here, 0.0)
            update = _factor(
                thresholds, scale, per_step, seed, r, 0, site_word, t, rows, first, ROWS, UNITS
            )
            cell = _factor(
                thresholds, scale, per_step, seed, r, 2, site_word, t, rows, first, ROWS, UNITS
            )
            new_c = cell * (f * c_before + i * (update * g))  # Eqs. 5, 8 and 9
            new_h = o * _activation(new_c, RELU)  # Eq. 6
            if LENGTHS:
                if t == 0:
                    h_before = tl.load(h0 + r * B * H + inside, here, 0.0)
                else:
                    h_before = tl.load(h + (r * T + t - 1) * B * H + inside, here, 0.0)
                alive = (t < tl.load(lengths + r * B + rows, in_rows, 0))[:, None]
                new_c = tl.where(alive, new_c, c_before)
                new_h = tl.where(alive, new_h, h_before)
            tl.store(c + (r * T + t) * B * H + inside, new_c, here)
            tl.store(h + (r * T + t) * B * H + inside, new_h, here)
            hidden = _factor(
                thresholds, scale, per_step, seed, r, 1, site_word, t + 1, rows, first, ROWS, UNITS
            )
            tl.store(target + inside, (hidden * new_h).to(read.dtype.element_ty), here)  # Eq. 7
        if not UNITS_SPLIT:
            tl.debug_barrier()  # other warps read at the next step what this one has written


@triton.jit
def backward(
    d_gates, dh, dc, grad_h, grad_c, gates, c, c0, w_hh, thresholds, scale, per_step, seeds,
    lengths, site_word, first_step, last_step, T, B, H,
    GRAD_H: tl.constexpr, GRAD_C: tl.constexpr, LENGTHS: tl.constexpr, RELU: tl.constexpr,
    UNITS_SPLIT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """Steps last_step - 1 down to first_step; step -1 is that of the initial state.

    ``d_gates`` (R, T, B, 4H), as operands, takes the gradients of the gates' sums. ``dc`` (R, B, H)
    carries that of the cell, 0 before the last step and dc0 behind step -1; ``dh`` likewise holds
    that of the last state seen, which a row past its length hands on unchanged.
    """
    r = tl.program_id(0).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    in_rows = rows < B
    seed = tl.load(seeds + r)
    blocks = tl.cdiv(H, UNITS)
    first_block, last_block = 0, blocks
    if UNITS_SPLIT:
        first_block = tl.program_id(2)
        last_block = first_block + 1
    for back in range(0, last_step - first_step):
        t = last_step - 1 - back
        for block in range(first_block, last_block):
            first = block * UNITS
            units = first + tl.arange(0, UNITS)
            in_units = units < H
            here = in_rows[:, None] & in_units[None, :]
            inside = rows[:, None] * H + units[None, :]
            dh_now = tl.zeros((ROWS, UNITS), tl.float32)
            if t + 1 < T:  # what the gates of the step behind send back
                after = d_gates + ((r * T + t + 1) * B + rows[:, None]) * 4 * H
                for k in range(0, 4 * H, DEPTH):
                    ks = k + tl.arange(0, DEPTH)
                    in_ks = ks < 4 * H
                    v = tl.load(after + ks[None, :], in_rows[:, None] & in_ks[None, :], 0.0)
                    w = w_hh + (r * 4 * H + ks[:, None]) * H + units[None, :]
                    w = tl.load(w, in_ks[:, None] & in_units[None, :], 0.0)
                    dh_now = tl.dot(v, w, dh_now, input_precision=PRECISION)
                dh_now *= _factor(
                    thresholds, scale, per_step, seed, r, 1, site_word, t + 1, rows, first, ROWS,
                    UNITS,
                )  # fmt: skip
                if LENGTHS:
                    ran = (t + 1 < tl.load(lengths + r * B + rows, in_rows, 0))[:, None]
                    held = tl.load(dh + r * B * H + inside, here, 0.0)
                    dh_now = tl.where(ran, dh_now, held)
            dc_now = tl.load(dc + r * B * H + inside, here, 0.0)
            if t >= 0:
                if GRAD_H:
                    dh_now += tl.load(grad_h + (r * T + t) * B * H + inside, here, 0.0)
                if GRAD_C:
                    dc_now += tl.load(grad_c + (r * T + t) * B * H + inside, here, 0.0)
                at = gates + ((r * T + t) * B + rows[:, None]) * 4 * H + units[None, :]
                i, f = tl.load(at, here, 0.0), tl.load(at + H, here, 0.0)
                g, o = tl.load(at + 2 * H, here, 0.0), tl.load(at + 3 * H, here, 0.0)
                y = _activation(tl.load(c + (r * T + t) * B * H + inside, here, 0.0), RELU)
                if t == 0:
                    c_before = tl.load(c0 + r * B * H + inside, here, 0.0)
                else:
                    c_before = tl.load(c + (r * T + t - 1) * B * H + inside, here, 0.0)
                update = _factor(
                    thresholds, scale, per_step, seed, r, 0, site_word, t, rows, first, ROWS, UNITS
                )
                cell = _factor(
                    thresholds, scale, per_step, seed, r, 2, site_word, t, rows, first, ROWS, UNITS
                )
                # c = m_c * (f * c_before + i * m_u * g), h = o * y
                d_sum = cell * (dc_now + dh_now * o * _slope(y, RELU))
                di = d_sum * update * g * i * (1 - i)
                df = d_sum * c_before * f * (1 - f)
                dg = d_sum * update * i * _slope(g, RELU)
                do = dh_now * y * o * (1 - o)
                d_before = d_sum * f
                if LENGTHS:
                    alive = (t < tl.load(lengths + r * B + rows, in_rows, 0))[:, None]
                    di, df = tl.where(alive, di, 0.0), tl.where(alive, df, 0.0)
                    dg, do = tl.where(alive, dg, 0.0), tl.where(alive, do, 0.0)
                    d_before = tl.where(alive, d_before, dc_now)
                out = d_gates + ((r * T + t) * B + rows[:, None]) * 4 * H + units[None, :]
                tl.store(out, di.to(d_gates.dtype.element_ty), here)
                tl.store(out + H, df.to(d_gates.dtype.element_ty), here)
                tl.store(out + 2 * H, dg.to(d_gates.dtype.element_ty), here)
                tl.store(out + 3 * H, do.to(d_gates.dtype.element_ty), here)
                dc_now = d_before
            tl.store(dc + r * B * H + inside, dc_now, here)
            tl.store(dh + r * B * H + inside, dh_now, here)
        if not UNITS_SPLIT:
            tl.debug_barrier()
