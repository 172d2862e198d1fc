"""The scan over time as one operator, ``recdrop::scan``, with a replica dimension.

Every tensor carries R independent networks in front: one call runs a whole table of conditions,
each with its own parameters, rates, samplings and seed. Because it is one operator, torch.compile
sees one node, and ``torch.vmap`` over stacked parameters becomes the replica dimension.

This file holds the reference backend: plain PyTorch, in any dtype, on any device.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from recdrop import bptt, cells, masks
from recdrop.dropout import SITES

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


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
) -> tuple[Tensor, Tensor]:
    """Run R recurrent networks over T steps.

    Args:
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``, and ``"_tanh"`` or ``"_relu"``.
        x: (R, T, B, I).
        h0: (R, B, H).
        c0: (R, B, H) for an LSTM, else None.
        w_ih: (R, G*H, I) with G gates in torch.nn's order (LSTM i, f, g, o; GRU r, z, n; RNN one).
        w_hh: (R, G*H, H).
        b_ih, b_hh: (R, G*H), or both None.
        thresholds: (R, 3) int64, ``round(65536 p)`` for update, hidden, cell.
        scale: (R, 3), the value of a kept unit by site.
        per_step: (R, 3) bool, whether a site's mask is redrawn at each step.
        seeds: (R,) int64.
        lengths: (R, B) int64 or None; a row's state stands still from its length on.
        layer, direction: they tell this scan's masks from those of other layers.

    Returns:
        h (R, T, B, H) and c (R, T, B, H), the states after each step; c is (R, 0, B, H) for cells
        without one. The final state is that of the last step.
    """
    m = factors(thresholds, scale, per_step, seeds, x, h0, layer, direction)
    return _forward(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, m, lengths)


@scan.register_fake
def _(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, *_):
    R, T, B, _ = x.shape
    return x.new_empty(R, T, B, h0.shape[-1]), x.new_empty(
        R, T if cell.startswith("lstm") else 0, B, h0.shape[-1]
    )


def factors(
    thresholds: Tensor,
    scale: Tensor,
    per_step: Tensor,
    seeds: Tensor,
    x: Tensor,
    h0: Tensor,
    layer: int,
    direction: int,
) -> cells.Masks:
    """A scan's masks by site: (R, T, B, H), with 1 in place of what does not vary, or None."""
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
                bits = masks.kept(
                    seeds[which], thresholds[which, k], site, steps, B, H, layer, direction
                )
                factor[which] *= bits
        found.append(factor)
    return cells.Masks(*found)


def _forward(
    cell: str,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    m: cells.Masks,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
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
            c = _hold(alive, new_c, c)
            cs.append(c)
        else:
            new_h = step(a[t], h, w_hh, b_hh, now, activation)
        h = _hold(alive, new_h, h)
        hs.append(h)
    return torch.stack(hs, 1), torch.stack(cs, 1) if cs else h.new_empty(R, 0, *h.shape[1:])


def _hold(alive: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    return new if alive is None else torch.where(alive, new, old)


@custom_op("recdrop::scan_backward", mutates_args=())
def scan_backward(
    grad_h: Tensor,
    grad_c: Tensor,
    h: Tensor,
    c: Tensor,
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
    lengths: Tensor | None,
    layer: int,
    direction: int,
) -> list[Tensor]:
    """Gradients of those of x, h0, c0, w_ih, w_hh, b_ih, b_hh that are given, in this order.

    The masks are drawn again from the stream; see :mod:`recdrop.bptt`.
    """
    name, activation = cell.split("_")
    inputs = (x, h0, c0, w_ih, w_hh, b_ih, b_hh)
    m = factors(thresholds, scale, per_step, seeds, x, h0, layer, direction)
    return bptt.backward(name, activation, inputs, m, lengths, (h, c), (grad_h, grad_c))


@scan_backward.register_fake
def _(grad_h, grad_c, h, c, cell, *args):
    return [torch.empty_like(v) for v in args[:7] if v is not None]


def _setup(ctx, inputs, output):
    ctx.cell, tensors, (ctx.layer, ctx.direction) = inputs[0], inputs[1:13], inputs[13:]
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx, grad_h, grad_c):
    h, c, *tensors = ctx.saved_tensors
    grads = iter(scan_backward(grad_h, grad_c, h, c, ctx.cell, *tensors, ctx.layer, ctx.direction))
    return (None, *(None if v is None else next(grads) for v in tensors[:7]), *[None] * 7)


scan.register_autograd(_backward, setup_context=_setup)


@scan.register_vmap
def _(info, in_dims, cell, *args):
    """A vmap over stacked networks is the replica dimension: fold (V, R, ...) into (V*R, ...)."""
    V = info.batch_size

    def fold(v, dim):
        if not isinstance(v, Tensor):
            return v
        v = v.unsqueeze(0).expand(V, *v.shape) if dim is None else v.movedim(dim, 0)
        return v.flatten(0, 1)

    h, c = scan(cell, *(fold(v, dim) for v, dim in zip(args, in_dims[1:], strict=True)))
    return (h.unflatten(0, (V, h.shape[0] // V)), c.unflatten(0, (V, c.shape[0] // V))), (0, 0)
