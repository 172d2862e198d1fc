"""Back through time by hand: the scan's gradients in plain PyTorch, and cheaply.

All states are known by then, so every gate of every step is recomputed at once in one large matrix
product, and with them the local derivatives. What is left for the loop over time is a product with
the recurrent weights and a few multiplications per step.

Shapes as in :mod:`recdrop.recurrence`: R replicas, T steps, B rows, H units, G gates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from recdrop.cells import ACTIVATIONS, Masks, drop, linear

SLOPES = {"tanh": lambda y: 1 - y * y, "relu": lambda y: (y > 0).to(y.dtype)}
"""The derivative of an activation, from its value."""


class Local(NamedTuple):
    """Derivatives inside one step, for all steps at once; None stands for 0, or 1 for carry_c.

    With dh and dc the gradients of a step's h and c, those of the recurrent product U h + b_hh are
    ``dh * by_h`` and, where the cell has a c of its own, ``dc * by_c`` in front of them.
    """

    by_h: Tensor  # (R, T, B, G or 1, H)
    carry_h: Tensor | None = None  # (R, T, B, H): dh of the step before takes dh * carry_h besides
    by_c: Tensor | None = None  # (R, T, B, 3, H)
    carry_c: Tensor | None = None  # (R, T, B, H): dc of the step before is dc * carry_c
    c_by_h: Tensor | None = None  # (R, T, B, H): dc takes dh * c_by_h besides
    candidate: Tensor | None = None  # (R, T, B, H): a GRU's dn by dh, W x's share of it


def backward(
    name: str,
    activation: str,
    inputs: tuple[Tensor | None, ...],
    m: Masks,
    lengths: Tensor | None,
    states: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor],
) -> list[Tensor]:
    """Gradients of those of ``inputs`` = x, h0, c0, w_ih, w_hh, b_ih, b_hh that are not None.

    ``m`` holds each site's factors over time (R, T or 1, B, H), ``states`` the scan's results h and
    c, ``grads`` their gradients.
    """
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = inputs
    before = _before(h0, states[0])
    read = drop(before, m.hidden)  # what gates and candidate saw
    a, u = _product(x, w_ih, b_ih), _product(read, w_hh, b_hh)
    if name == "lstm":
        local = _lstm(a + u, _before(c0, states[1]), states[1], m, activation)
    elif name == "gru":
        local = _gru(a, u, before, m, activation)
    else:
        local = Local(by_h=SLOPES[activation](states[0]).unsqueeze(3))
    if lengths is not None:
        local = _hold(local, lengths)
    du, dh0, dc0 = _through_time(local, w_hh, m.hidden, grads, h0, c0)
    da = du
    if local.candidate is not None:  # a GRU's candidate reads W x and U h apart
        da = torch.cat([du[..., : -h0.shape[-1]], local.candidate], -1)
    found = [
        _product(da, w_ih.mT),
        dh0,
        dc0,
        _outer(da, x, w_ih.dtype),
        _outer(du, read, w_hh.dtype),
        None if b_ih is None else da.sum((1, 2)),
        None if b_hh is None else du.sum((1, 2)),
    ]
    return [grad for grad in found if grad is not None]


def _lstm(a: Tensor, before: Tensor, c: Tensor, m: Masks, activation: str) -> Local:
    """h = o * act(c) and c = m_c * (f * before + i * (m_u * g)), differentiated by hand."""
    act, slope = ACTIVATIONS[activation], SLOPES[activation]
    i, f, g, o = a.chunk(4, -1)
    i, f, g, o, y = i.sigmoid(), f.sigmoid(), act(g), o.sigmoid(), act(c)
    di = drop(g, m.update) * i * (1 - i)
    df = before * f * (1 - f)
    dg = drop(i * slope(g), m.update)
    by_c = torch.stack([drop(d, m.cell) for d in (di, df, dg)], 3)
    by_h = (y * o * (1 - o)).unsqueeze(3)
    return Local(by_h, by_c=by_c, carry_c=drop(f, m.cell), c_by_h=o * slope(y))


def _gru(a: Tensor, u: Tensor, before: Tensor, m: Masks, activation: str) -> Local:
    """h = m_c * ((1 - z) * (m_u * n) + z * before), n = act(a_n + r * u_n)."""
    act, slope = ACTIVATIONS[activation], SLOPES[activation]
    (ar, az, an), (ur, uz, un) = a.chunk(3, -1), u.chunk(3, -1)
    r, z = (ar + ur).sigmoid(), (az + uz).sigmoid()
    n = act(an + r * un)
    dn = drop(drop((1 - z) * slope(n), m.update), m.cell)
    dz = drop((before - drop(n, m.update)) * z * (1 - z), m.cell)
    by_h = torch.stack([dn * un * r * (1 - r), dz, dn * r], 3)
    return Local(by_h, carry_h=drop(z, m.cell), candidate=dn)


def _hold(local: Local, lengths: Tensor) -> Local:
    """Past a row's length its state stands still: gradients pass to the step before unchanged."""
    T = local.by_h.shape[1]
    alive = torch.arange(T, device=lengths.device)[:, None] < lengths.unsqueeze(1)  # (R, T, B)
    alive = alive.unsqueeze(-1).to(local.by_h.dtype)

    def stop(v: Tensor | None) -> Tensor | None:
        return None if v is None else v * (alive.unsqueeze(3) if v.dim() == 5 else alive)

    held = 1 - alive
    return Local(
        by_h=stop(local.by_h),
        carry_h=held if local.carry_h is None else stop(local.carry_h) + held,
        by_c=stop(local.by_c),
        carry_c=None if local.carry_c is None else stop(local.carry_c) + held,
        c_by_h=stop(local.c_by_h),
        candidate=stop(local.candidate),
    )


def _through_time(
    local: Local,
    w_hh: Tensor,
    mask: Tensor | None,
    grads: tuple[Tensor, Tensor],
    h0: Tensor,
    c0: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The loop from the last step to the first: du (R, T, B, G*H), dh0 and dc0 (R, B, H).

    The local derivatives turn into gradients in place.
    """
    T = local.by_h.shape[1]
    du = local.by_h if local.by_c is None else torch.cat([local.by_c, local.by_h], 3)
    by_c, by_h = du[..., : du.shape[3] - local.by_h.shape[3], :], du[..., -local.by_h.shape[3] :, :]
    mask = None if mask is None else mask.expand(-1, T, -1, -1)
    dh, dc = torch.zeros_like(h0), None if c0 is None else torch.zeros_like(c0)
    for t in reversed(range(T)):
        dh = dh + grads[0][:, t]
        if dc is not None:
            dc = dc + grads[1][:, t] + dh * local.c_by_h[:, t]
            by_c[:, t] *= dc.unsqueeze(2)
            dc = dc * local.carry_c[:, t]
        by_h[:, t] *= dh.unsqueeze(2)
        if local.candidate is not None:
            local.candidate[:, t] *= dh
        back = linear(du[:, t].flatten(2), w_hh.mT)  # (R, B, G*H) @ (R, G*H, H)
        back = back if mask is None else back * mask[:, t]
        dh = back if local.carry_h is None else back + dh * local.carry_h[:, t]
    return du.flatten(3), dh, dc


def _before(first: Tensor, states: Tensor) -> Tensor:
    """The states before each step: (R, B, H), (R, T, B, H) -> (R, T, B, H)."""
    return torch.cat([first.unsqueeze(1), states[:, :-1]], 1)


def _product(v: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, T, B, K), (R, N, K) -> (R, T, B, N)."""
    return linear(v.flatten(1, 2), weight, bias).unflatten(1, v.shape[1:3])


def _outer(d: Tensor, v: Tensor, operands: torch.dtype) -> Tensor:
    """(R, T, B, N), (R, T, B, K) -> (R, N, K), summed over steps and rows."""
    d, v = (w.to(operands).to(d.dtype) for w in (d, v))
    return d.flatten(1, 2).mT @ v.flatten(1, 2)
