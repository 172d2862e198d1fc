"""The output layer of the word language model: linear and cross-entropy, ours against torch's."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from recdrop.bench.contenders import OURS, Passes, autocast
from recdrop.softmax import linear_cross_entropy

BASE = ("F.linear and F.cross_entropy", "fp32")
SIZES = {"output layer, words": (35 * 32, 256, 10_000)}
"""Rows, units and words: N, K, V."""


def contenders(N: int, K: int, V: int, dtypes: tuple[str, ...]) -> dict[tuple[str, str], Passes]:
    """Passes by name and dtype, torch's own first."""
    found = {BASE: _passes(N, K, V, _plain, "fp32")}
    for dtype in dtypes:
        if dtype != "fp32":
            found[BASE[0], dtype] = _passes(N, K, V, _plain, dtype)
        found[OURS, dtype] = _passes(N, K, V, linear_cross_entropy, dtype)
    return found


def flops(N: int, K: int, V: int) -> int:
    """Of logits, and of the gradients of input and weight."""
    return 3 * 2 * N * K * V


def _plain(x: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight, bias), target, reduction="none")


def _passes(N: int, K: int, V: int, losses: Callable[..., Tensor], dtype: str) -> Passes:
    x, weight = (torch.randn(size, K).mul_(0.3).requires_grad_() for size in (N, V))
    bias, target = torch.zeros(V, requires_grad=True), torch.randint(V, (N,))

    def forward() -> Tensor:
        with autocast(dtype):
            return losses(x, weight, bias, target)

    def both() -> None:
        forward().mean().backward()
        x.grad = weight.grad = bias.grad = None

    return Passes(forward, both)
