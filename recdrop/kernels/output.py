"""The output layer of a language model on a GPU, for all networks of a table at once.

Matrix products are batched over networks; between them one kernel turns logits into losses and
into their gradients. What the backward pass needs of the logits is kept, softmax - 1[target] in the
precision of operands: with it, losses may be weighted in any way and nothing is computed twice.
Shapes as in :mod:`recdrop.softmax`.
"""

import torch
from torch import Tensor

from recdrop.kernels import triton
from recdrop.kernels.products import linear, outer

CHUNK = 1 << 27
"""Logits held at once: half a gigabyte in float32."""


def takes(x: Tensor) -> bool:
    """Whether the kernel computes for an input of this type on this device."""
    return x.dtype in (torch.float32, torch.bfloat16) and triton.wanted(x)


def operand(x: Tensor, bf16: bool) -> torch.dtype:
    """The type of the products' operands."""
    return torch.bfloat16 if bf16 else x.dtype


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ahead: bool, bf16: bool
) -> tuple[Tensor, Tensor]:
    """losses (R, N) float32 and, if ``ahead``, their gradients by the logits (R, N, V)."""
    from recdrop.kernels import triton_output

    (R, N, _), V = x.shape, weight.shape[1]
    low = operand(x, bf16)
    losses = x.new_empty(R, N, dtype=torch.float32)
    d = x.new_empty(R, N, V, dtype=low) if ahead else x.new_empty(R, 0, dtype=low)
    x, weight, target = x.float(), weight.to(low), target.contiguous()
    bias = None if bias is None else bias.float().contiguous()
    size = max(1, CHUNK // max(1, R * V))
    for start in range(0, N, size):
        logits = linear(x[:, start : start + size], weight).contiguous()  # (R, n, V)
        rows = logits.shape[1]
        flags = {"BIAS": bias is not None, "AHEAD": ahead, "BLOCK": 2048 if V > 1024 else 1024}
        with torch.cuda.device_of(x):
            triton_output.cross_entropy[(R * rows,)](
                losses, d, logits, bias, target, start, rows, N, V, **flags
            )
    return losses, d


def backward(
    grad: Tensor, d: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, bf16: bool
) -> list[Tensor]:
    """Gradients of x, weight and, where given, bias, from those of the losses (R, N)."""
    low = operand(x, bf16)
    scale = grad.float().unsqueeze(-1)  # (R, N, 1)
    dx = linear(d, weight.to(low).mT).float() * scale
    found = [dx, outer(d, x.float() * scale, low)]
    return found if bias is None else [*found, outer(d, scale, low).squeeze(-1)]
