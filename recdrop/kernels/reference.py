"""The scan forward in plain PyTorch, for any cell, dtype and device.

Shapes as in :mod:`recdrop.recurrence`: R replicas, T steps, B rows, H units, G gates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recdrop import cells, masks
from recdrop.dropout import SITES
from recdrop.kernels.products import linear


def factors(
    x: Tensor, h0: Tensor, dropout: Sequence[Tensor], layer: int, direction: int
) -> cells.Masks:
    """A scan's masks by site: (R, T, B, H), with 1 in place of what does not vary, or None.

    ``dropout`` holds thresholds, scale, per_step and seeds.
    """
    thresholds, scale, per_step, seeds = dropout[:4]
    (R, T, B, _), H = x.shape, h0.shape[-1]
    found: list[Tensor | None] = []
    for k, site in enumerate(SITES):
        dropped, value = thresholds[:, k] > 0, scale[:, k].to(x.dtype).view(R, 1, 1, 1)
        if not dropped.any():
            found.append(None if (value == 1).all() else value)
            continue
        stepwise = dropped & per_step[:, k]

        def draw(which: Tensor, steps: int, k: int = k, site: str = site) -> Tensor:
            level = thresholds[which, k]
            return masks.kept(seeds[which], level, site, steps, B, H, layer, direction)

        if stepwise.all():
            found.append(draw(stepwise, T) * value)
            continue
        factor = value.repeat(1, T if stepwise.any() else 1, B, H)
        for which, steps in ((stepwise, T), (dropped & ~stepwise, 1)):
            if which.any():
                factor[which] *= draw(which, steps)
        found.append(factor)
    return cells.Masks(*found)


def forward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor | None],
    layer: int,
    direction: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """h and c (R, T, B, H), and if ``keep`` an LSTM's gates (R, T, B, 4H).

    ``inputs`` are x, h0, c0, w_ih, w_hh, b_ih, b_hh, ``dropout`` thresholds, scale, per_step, seeds
    and lengths. What a cell does not have is without steps.
    """
    x, h, c, w_ih, w_hh, b_ih, b_hh = inputs
    m = factors(x, h, dropout, layer, direction)
    name, activation = cell.split("_")
    R, T, B, _ = x.shape
    if b_hh is not None and name != "gru":  # only GRU's reset gate needs b_hh apart
        b_ih, b_hh = b_ih + b_hh, None
    a = linear(x.flatten(1, 2), w_ih, b_ih).unflatten(1, (T, B))  # (R, T, B, G*H)
    over_time = [[None] * T if f is None else f.expand(-1, T, -1, -1).unbind(1) for f in m]
    now = [cells.Masks(*factor) for factor in zip(*over_time, strict=True)]
    alive = [None] * T  # (R, B, 1)
    if dropout[4] is not None:
        alive = [(t < dropout[4]).unsqueeze(-1) for t in range(T)]
    act = cells.ACTIVATIONS[activation]
    hs = h.new_empty(R, T, B, h.shape[-1])
    if name == "lstm":
        cs = torch.empty_like(hs)
        _lstm(a, h, c, w_hh, now, alive, act, hs, cs)
        return hs, cs, a if keep else a[:, :0].clone()
    step = getattr(cells, name)
    for t in range(T):
        new = step(a[:, t], h, w_hh, b_hh, now[t], act)
        h = new if alive[t] is None else torch.where(alive[t], new, h)
        hs[:, t] = h
    none = hs.new_empty(R, 0, B, hs.shape[-1])
    return hs, none, none.new_empty(R, 0, B, 4 * hs.shape[-1])


def _lstm(a, h, c, w_hh, now, alive, act, hs, cs) -> None:
    """cells.lstm over time with as few and as small tensors as can be: the gates' sums ``a`` turn
    into the gates, ``hs`` and ``cs`` take the states."""
    H = h.shape[-1]
    i_and_f, g, o = (v.unbind(1) for v in a.split([2 * H, H, H], -1))
    for t, (sums, new_h, new_c) in enumerate(zip(*(v.unbind(1) for v in (a, hs, cs)), strict=True)):
        sums += linear(cells.drop(h, now[t].hidden), w_hh)
        i, f = i_and_f[t].sigmoid_().chunk(2, -1)
        candidate = g[t].copy_(act(g[t]))
        torch.mul(f, c, out=new_c).addcmul_(i, cells.drop(candidate, now[t].update))
        if now[t].cell is not None:
            new_c *= now[t].cell
        torch.mul(o[t].sigmoid_(), act(new_c), out=new_h)
        if alive[t] is not None:
            new_h.copy_(torch.where(alive[t], new_h, h))
            new_c.copy_(torch.where(alive[t], new_c, c))
        h, c = new_h, new_c
