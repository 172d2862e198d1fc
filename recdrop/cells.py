"""One step of each cell, straight from the equations: the readable reference.

Shapes: R replicas (independent networks), B rows, H units. ``a`` is the input's share of the
pre-activations, ``W x_t + b_ih``, computed for the whole sequence at once. Gates stand in the order
of torch.nn. A mask is a factor (R, B, H), or None where the site drops nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}


class Masks(NamedTuple):
    """The three sites' factors of one time step, each (R, B, H) or None for 1."""

    update: Tensor | None = None
    hidden: Tensor | None = None
    cell: Tensor | None = None


def drop(value: Tensor, mask: Tensor | None) -> Tensor:
    """Eqs. 3 and 14: the masked value; the factor holds the scale."""
    return value if mask is None else mask * value


def linear(h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, B, H), (R, N, H), (R, N) -> (R, B, N), one matrix per replica.

    Operands have the weight's precision, sums that of h.
    """
    if weight.dtype != h.dtype:
        h, weight = h.to(weight.dtype).to(h.dtype), weight.to(h.dtype)
    out = h @ weight.mT
    return out if bias is None else out + bias.unsqueeze(1)


def lstm(
    a: Tensor,
    h: Tensor,
    c: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    masks: Masks = Masks(),
    activation: Activation = torch.tanh,
) -> tuple[Tensor, Tensor]:
    """Eqs. 4-9. a (R, B, 4H), h and c (R, B, H), weight (R, 4H, H) -> the new h and c."""
    a = a + linear(drop(h, masks.hidden), weight, bias)  # Eq. 7: one mask for gates and update
    i, f, g, o = a.chunk(4, -1)
    i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()  # Eq. 4
    c = f * c + i * drop(activation(g), masks.update)  # Eqs. 5 and 9
    c = drop(c, masks.cell)  # Eq. 8
    return o * activation(c), c  # Eq. 6


def gru(
    a: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    masks: Masks = Masks(),
    activation: Activation = torch.tanh,
) -> Tensor:
    """torch.nn's GRU; z keeps, where the paper's 1 - z does. a (R, B, 3H), weight (R, 3H, H)."""
    ar, az, an = a.chunk(3, -1)
    ur, uz, un = linear(drop(h, masks.hidden), weight, bias).chunk(3, -1)
    r, z = (ar + ur).sigmoid(), (az + uz).sigmoid()
    n = activation(an + r * un)
    h = (1 - z) * drop(n, masks.update) + z * h  # Sec. 3: only the difference is dropped
    return drop(h, masks.cell)


def rnn(
    a: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    masks: Masks = Masks(),
    activation: Activation = torch.tanh,
) -> Tensor:
    """Eq. 2: a vanilla RNN overwrites its state, so it has a hidden site alone. a (R, B, H)."""
    return activation(a + linear(drop(h, masks.hidden), weight, bias))
