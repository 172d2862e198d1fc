"""Back through time by hand: the scan's gradients in plain PyTorch, and cheaply.

All states are known by then, and an LSTM's gates; a GRU's are recomputed in one large matrix
product. So the local derivatives of all steps come first, and what is left for the loop over time
is a product with the recurrent weights and a few multiplications per step.

Shapes as in :mod:`recdrop.recurrence`: R replicas, T steps, B rows, H units, G gates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recdrop.cells import ACTIVATIONS, Masks, drop
from recdrop.kernels.products import linear, outer
from recdrop.kernels.reference import factors

SLOPES = {"tanh": lambda y: 1 - y * y, "relu": lambda y: (y > 0).to(y.dtype)}
"""The derivative of an activation, from its value."""


class Local(NamedTuple):
    """Derivatives inside one step, for all steps at once; None stands for 0.

    With dh and dc the gradients of a step's h and c, those of the recurrent product U h + b_hh are
    ``dh * by_state``, but for an LSTM's i, f and g ``dc * by_state``.
    """

    by_state: Tensor  # (R, T, B, G, H)
    carry_h: Tensor | None = None  # (R, T, B, H): dh of the step before takes dh * carry_h besides
    carry_c: Tensor | None = None  # (R, T, B, H): dc of the step before is dc * carry_c
    c_by_h: Tensor | None = None  # (R, T, B, H): dc takes dh * c_by_h besides
    candidate: Tensor | None = None  # (R, T, B, H): a GRU's dn by dh, W x's share of it


def backward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor | None],
    layer: int,
    direction: int,
    with_dx: bool,
    states: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor]:
    """Gradients of those of ``inputs`` = x, h0, c0, w_ih, w_hh, b_ih, b_hh that are not None, of x
    only if ``with_dx``.

    ``states`` holds the scan's results h, c and gates, ``grads`` the gradients of h and c, None for
    zero.
    """
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = inputs
    name, activation = cell.split("_")
    lengths = dropout[4]
    m = factors(x, h0, dropout, layer, direction)
    before = _before(h0, states[0])
    read = drop(before, m.hidden)  # what gates and candidate saw
    if name == "lstm":
        gates = states[2]
        if not gates.numel():  # forward was not told that this would follow
            a = _product(x, w_ih, b_ih) + _product(read, w_hh, b_hh)
            i, f, g, o = a.chunk(4, -1)
            gates = torch.cat(
                [i.sigmoid(), f.sigmoid(), ACTIVATIONS[activation](g), o.sigmoid()], -1
            )
        local = _lstm(gates, _before(c0, states[1]), states[1], m, activation)
    elif name == "gru":
        a, u = _product(x, w_ih, b_ih), _product(read, w_hh, b_hh)
        local = _gru(a, u, before, m, activation)
    else:
        local = Local(SLOPES[activation](states[0]).unsqueeze(3))
    if lengths is not None:
        local = _hold(local, lengths)
    du, dh0, dc0 = _through_time(local, w_hh, m.hidden, grads, h0, c0)
    da = du
    if local.candidate is not None:  # a GRU's candidate reads W x and U h apart
        da = torch.cat([du[..., : -h0.shape[-1]], local.candidate], -1)
    found = [
        _product(da, w_ih.mT) if with_dx else None,
        dh0,
        dc0,
        outer(da.flatten(1, 2), x.flatten(1, 2), w_ih.dtype),
        outer(du.flatten(1, 2), read.flatten(1, 2), w_hh.dtype),
        None if b_ih is None else da.sum((1, 2)),
        None if b_hh is None else du.sum((1, 2)),
    ]
    return [grad for grad in found if grad is not None]


def _lstm(gates: Tensor, before: Tensor, c: Tensor, m: Masks, activation: str) -> Local:
    """h = o * act(c) and c = m_c * (f * before + i * (m_u * g)), differentiated by hand."""
    slope = SLOPES[activation]
    i, f, g, o = gates.chunk(4, -1)
    y = ACTIVATIONS[activation](c)
    found = gates.new_empty(*gates.shape[:3], 4, c.shape[-1])
    di, df, dg, do = found.unbind(3)
    masked_i = drop(i, m.update)
    torch.mul(masked_i, g, out=di).mul_(1 - i)
    torch.mul(before, f, out=df).mul_(1 - f)
    torch.mul(masked_i, slope(g), out=dg)
    torch.mul(y, o, out=do).mul_(1 - o)
    if m.cell is not None:
        found[..., :3, :] *= m.cell.unsqueeze(3)
    return Local(found, carry_c=drop(f, m.cell), c_by_h=slope(y).mul_(o))


def _gru(a: Tensor, u: Tensor, before: Tensor, m: Masks, activation: str) -> Local:
    """h = m_c * ((1 - z) * (m_u * n) + z * before), n = act(a_n + r * u_n)."""
    act, slope = ACTIVATIONS[activation], SLOPES[activation]
    (ar, az, an), (ur, uz, un) = a.chunk(3, -1), u.chunk(3, -1)
    r, z = (ar + ur).sigmoid(), (az + uz).sigmoid()
    n = act(an + r * un)
    dn = drop(drop((1 - z) * slope(n), m.update), m.cell)
    dz = drop((before - drop(n, m.update)) * z * (1 - z), m.cell)
    found = torch.stack([dn * un * r * (1 - r), dz, dn * r], 3)
    return Local(found, carry_h=drop(z, m.cell), candidate=dn)


def _hold(local: Local, lengths: Tensor) -> Local:
    """Past a row's length its state stands still: gradients pass to the step before unchanged."""
    T = local.by_state.shape[1]
    alive = torch.arange(T, device=lengths.device)[:, None] < lengths.unsqueeze(1)  # (R, T, B)
    alive = alive.unsqueeze(-1)
    zero = torch.zeros((), dtype=local.by_state.dtype, device=lengths.device)

    def stop(v: Tensor | None, otherwise: Tensor = zero) -> Tensor | None:
        return None if v is None else torch.where(alive, v, otherwise)

    return Local(
        by_state=torch.where(alive.unsqueeze(3), local.by_state, zero),
        carry_h=(~alive).to(zero.dtype) if local.carry_h is None else stop(local.carry_h, zero + 1),
        carry_c=stop(local.carry_c, zero + 1),
        c_by_h=stop(local.c_by_h),
        candidate=stop(local.candidate),
    )


def _through_time(
    local: Local,
    w_hh: Tensor,
    mask: Tensor | None,
    grads: Sequence[Tensor | None],
    h0: Tensor,
    c0: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The loop from the last step to the first: du (R, T, B, G*H), dh0 and dc0 (R, B, H).

    The local derivatives turn into gradients in place.
    """
    du, T = local.by_state, local.by_state.shape[1]
    split = 3 if c0 is not None else 0  # an LSTM's i, f and g act through c
    by_c, by_h = du[..., :split, :].unbind(1), du[..., split:, :].unbind(1)
    mask = None if mask is None else mask.expand(-1, T, -1, -1)
    dh, dc = torch.zeros_like(h0), None if c0 is None else torch.zeros_like(c0)
    for t in reversed(range(T)):
        dh = dh if grads[0] is None else dh + grads[0][:, t]
        if dc is not None:
            dc = dc if grads[1] is None else dc + grads[1][:, t]
            dc = torch.addcmul(dc, dh, local.c_by_h[:, t])
            by_c[t].mul_(dc.unsqueeze(2))
            dc *= local.carry_c[:, t]
        by_h[t].mul_(dh.unsqueeze(2))
        if local.candidate is not None:
            local.candidate[:, t] *= dh
        back = linear(du[:, t].flatten(2), w_hh.mT)  # (R, B, G*H) @ (R, G*H, H)
        back = back if mask is None else back * mask[:, t]
        dh = back if local.carry_h is None else back.addcmul_(dh, local.carry_h[:, t])
    return du.flatten(3), dh, dc


def _before(first: Tensor, states: Tensor) -> Tensor:
    """The states before each step: (R, B, H), (R, T, B, H) -> (R, T, B, H)."""
    return torch.cat([first.unsqueeze(1), states[:, :-1]], 1)


def _product(v: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, T, B, K), (R, N, K) -> (R, T, B, N)."""
    return linear(v.flatten(1, 2), weight, bias).unflatten(1, v.shape[1:3])
