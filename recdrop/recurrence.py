"""The scan over time as one operator, ``recdrop::scan``, with a replica dimension.

Every tensor carries R independent networks in front: one call runs a whole table of conditions,
each with its own parameters, rates, samplings and seed. Because it is one operator, torch.compile
sees one node, and ``torch.vmap`` over stacked parameters becomes the replica dimension.

The forward pass here is the reference, plain PyTorch in any dtype on any device; the backward pass
is :mod:`recdrop.kernels.bptt`. States and sums are in float32 at least.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import Library, custom_op

from recdrop import cells, masks
from recdrop.dropout import SITES
from recdrop.kernels import bptt
from recdrop.replicate import vmap_rule


@custom_op("recdrop::scan", mutates_args=())
def scan(
    cell: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    thresholds: Tensor,
    scale: Tensor,
    per_step: Tensor,
    seeds: Tensor,
    lengths: Tensor | None = None,
    layer: int = 0,
    direction: int = 0,
    bf16: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run R recurrent networks over T steps.

    Args:
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``, and ``"_tanh"`` or ``"_relu"``.
        x: (R, T, B, I).
        h0, c0: (R, B, H); c0 is None but for an LSTM.
        w_ih, w_hh: (R, G*H, I), (R, G*H, H) with torch.nn's order of gates (LSTM i, f, g, o; GRU
            r, z, n; RNN one).
        b_ih, b_hh: (R, G*H), or both None.
        thresholds, scale, per_step: (R, 3) int64, float, bool by site (update, hidden, cell):
            ``round(65536 p)``, the value of a kept unit, whether masks are redrawn at each step.
        seeds: (R,) int64.
        lengths: (R, B) int64 or None; a row's state stands still from its length on.
        layer, direction: they tell this scan's masks from those of other layers.
        bf16: round the operands of matrix products to bfloat16, as torch.autocast asks for.

    Returns:
        h (R, T, B, H) and c (R, T, B, H), the states after each step; c is (R, 0, B, H) for cells
        without one. The final state is that of the last step.
    """
    inputs = _widen(x, h0, c0, w_ih, w_hh, b_ih, b_hh, bf16=bf16)
    m = factors(inputs[0], h0, (thresholds, scale, per_step, seeds), layer, direction)
    h, c = _forward(cell, *inputs, m, lengths)
    return h.to(x.dtype), c.to(x.dtype)


@scan.register_fake
def _(cell, x, h0, *_):
    (R, T, B, _), H = x.shape, h0.shape[-1]
    return x.new_empty(R, T, B, H), x.new_empty(R, T if cell.startswith("lstm") else 0, B, H)


def _widen(*tensors: Tensor | None, bf16: bool) -> list[Tensor | None]:
    """Weights in the precision of operands, all else in that of states and sums."""
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = tensors
    wide = torch.promote_types(x.dtype, torch.float32)
    x, h0, c0, b_ih, b_hh = (None if v is None else v.to(wide) for v in (x, h0, c0, b_ih, b_hh))
    w_ih, w_hh = (w.to(torch.bfloat16 if bf16 else w.dtype) for w in (w_ih, w_hh))
    return [x, h0, c0, w_ih, w_hh, b_ih, b_hh]


def factors(x: Tensor, h0: Tensor, dropout: tuple[Tensor, ...], *where: int) -> cells.Masks:
    """A scan's masks by site: (R, T, B, H), with 1 in place of what does not vary, or None.

    ``dropout`` holds thresholds, scale, per_step and seeds, ``where`` is layer and direction.
    """
    thresholds, scale, per_step, seeds = dropout
    (R, T, B, _), H = x.shape, h0.shape[-1]
    found: list[Tensor | None] = []
    for k, site in enumerate(SITES):
        dropped, value = thresholds[:, k] > 0, scale[:, k].to(x.dtype).view(R, 1, 1, 1)
        if not dropped.any():
            found.append(None if (value == 1).all() else value)
            continue
        stepwise = dropped & per_step[:, k]
        factor = value.repeat(1, T if stepwise.any() else 1, B, H)
        for replicas, steps in ((stepwise, T), (dropped & ~per_step[:, k], 1)):
            if len(which := replicas.nonzero().flatten()):
                level = thresholds[which, k]
                factor[which] *= masks.kept(seeds[which], level, site, steps, B, H, *where)
        found.append(factor)
    return cells.Masks(*found)


def _forward(cell, x, h, c, w_ih, w_hh, b_ih, b_hh, m, lengths) -> tuple[Tensor, Tensor]:
    name, activation = cell.split("_")
    step, activation = getattr(cells, name), cells.ACTIVATIONS[activation]
    R, T, B, _ = x.shape
    if b_hh is not None and name != "gru":  # only GRU's reset gate needs b_hh apart
        b_ih, b_hh = b_ih + b_hh, None
    a = cells.linear(x.flatten(1, 2), w_ih, b_ih).unflatten(1, (T, B)).unbind(1)
    over_time = [None if f is None else f.expand(-1, T, -1, -1).unbind(1) for f in m]
    hs, cs = [], []
    for t in range(T):
        now = cells.Masks(*(None if f is None else f[t] for f in over_time))
        alive = None if lengths is None else (t < lengths).unsqueeze(-1)  # (R, B, 1)
        if name == "lstm":
            new_h, new_c = step(a[t], h, c, w_hh, b_hh, now, activation)
            c = new_c if alive is None else torch.where(alive, new_c, c)
            cs.append(c)
        else:
            new_h = step(a[t], h, w_hh, b_hh, now, activation)
        h = new_h if alive is None else torch.where(alive, new_h, h)
        hs.append(h)
    return torch.stack(hs, 1), torch.stack(cs, 1) if cs else h.new_empty(R, 0, *h.shape[1:])


@custom_op("recdrop::scan_backward", mutates_args=())
def scan_backward(
    cell: str, tensors: Sequence[Tensor | None], layer: int, direction: int, bf16: bool
) -> list[Tensor]:
    """Gradients of those of x, h0, c0, w_ih, w_hh, b_ih, b_hh that are given, masks drawn again.

    ``tensors`` holds the gradients of h and c, h, c, and the scan's tensors.
    """
    grad_h, grad_c, h, c, *inputs = tensors[:11]
    *dropout, lengths = tensors[11:]
    wide = _widen(*inputs, bf16=bf16)
    m = factors(wide[0], wide[1], dropout, layer, direction)
    grad_h, grad_c, h, c = (v.to(wide[0].dtype) for v in (grad_h, grad_c, h, c))
    name, activation = cell.split("_")
    grads = bptt.backward(name, activation, wide, m, lengths, (h, c), (grad_h, grad_c))
    given = [v for v in inputs if v is not None]
    return [grad.to(v.dtype) for grad, v in zip(grads, given, strict=True)]


@scan_backward.register_fake
def _(cell, tensors, *_):
    return [torch.empty_like(v) for v in tensors[4:11] if v is not None]


class _Once(torch.autograd.Function):
    """Gradients that cannot be differentiated again: an error, where torch would leave them out."""

    @staticmethod
    def forward(ctx, count, *grads_and_inputs):
        return tuple(grad.view_as(grad) for grad in grads_and_inputs[:count])

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("scan_backward cannot be differentiated: no second derivatives")


def _setup(ctx, inputs, output):
    (ctx.cell, *tensors), ctx.rest = inputs[:13], inputs[13:]
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx, grad_h, grad_c):
    saved = ctx.saved_tensors
    grads = scan_backward(ctx.cell, [grad_h, grad_c, *saved], *ctx.rest)
    if torch.is_grad_enabled():  # create_graph=True
        grads = _Once.apply(len(grads), *grads, *(v for v in saved[2:9] if v is not None))
    grads = iter(grads)
    return (None, *(None if v is None else next(grads) for v in saved[2:9]), *[None] * 8)


scan.register_autograd(_backward, setup_context=_setup)
scan.register_vmap(vmap_rule(scan))


def _autocast(device: str):
    """torch.autocast to bfloat16 rounds operands to it and takes all else to float32."""

    def rule(cell, *args):
        tensors, rest = args[:7], args[7:14]
        low = torch.get_autocast_dtype(device)
        double = any(v is not None and v.dtype is torch.float64 for v in tensors)
        with torch.amp.autocast(device, enabled=False):
            if low is not torch.bfloat16 or double:
                return scan(cell, *tensors, *rest)
            tensors = [None if v is None else v.to(torch.float32) for v in tensors]
            return scan(cell, *tensors, *rest, bf16=True)

    return rule


_library = Library("recdrop", "FRAGMENT")
for device in ("cpu", "cuda"):
    _library.impl("scan", _autocast(device), f"Autocast{device.upper()}")
