"""Softmax and cross-entropy of a language model's logits on a GPU: device code in Triton."""

import triton
import triton.language as tl


@triton.jit
def cross_entropy(
    losses, d, logits, bias, target, start, rows, N, V,
    BIAS: tl.constexpr, AHEAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row of ``logits`` (R, rows, V), which are rows from ``start`` on of N.

    losses (R, N) takes -log softmax[target]; with AHEAD d (R, N, V) takes its gradient by the
    logits, softmax - 1[target]. A target outside [0, V) gives a loss that is no number.
    """
    r, n = tl.program_id(0) // rows, start + tl.program_id(0) % rows
    at = r.to(tl.int64) * N + n
    z_row = logits + tl.program_id(0).to(tl.int64) * V
    top, total = -float("inf"), 0.0
    for v in range(0, V, BLOCK):
        vs = v + tl.arange(0, BLOCK)
        z = tl.load(z_row + vs, vs < V, -float("inf"))
        if BIAS:
            z += tl.load(bias + r * V + vs, vs < V, 0.0)
        new_top = tl.maximum(top, tl.max(z, 0))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(z - new_top), 0)
        top = new_top
    label = tl.load(target + at)
    known = (label >= 0) & (label < V)
    found = tl.load(z_row + label, known, float("nan"))
    if BIAS:
        found += tl.load(bias + r * V + label, known, 0.0)
    tl.store(losses + at, (top - found) + tl.log(total))
    if AHEAD:
        for v in range(0, V, BLOCK):
            vs = v + tl.arange(0, BLOCK)
            z = tl.load(z_row + vs, vs < V, -float("inf"))
            if BIAS:
                z += tl.load(bias + r * V + vs, vs < V, 0.0)
            p = tl.exp(z - top) / total - (vs == label).to(tl.float32)
            tl.store(d + at * V + vs, p.to(d.dtype.element_ty), vs < V)
