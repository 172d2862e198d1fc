"""The output layer of a language model: linear and cross-entropy as one operator.

With 10,000 words the logits are by far the largest tensor of a training step. They are computed a
chunk of rows at a time, in the forward and again in the backward pass, and never exist as a whole.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from recdrop.replicate import vmap_rule

CHUNK = 1 << 20
"""Logits held at once."""


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
    """Losses in nats, ``-log softmax(x W^T + b)[target]``, element by element.

    Args:
        x: (..., K).
        weight: (V, K).
        bias: (V,) or None.
        target: (...) int64 in [0, V).

    Returns:
        (...), of the dtype of ``x``.

    >>> x, weight, target = torch.randn(5, 3, 8), torch.randn(100, 8), torch.zeros(5, 3).long()
    >>> losses = linear_cross_entropy(x, weight, None, target)
    >>> expected = torch.nn.functional.cross_entropy((x @ weight.T).permute(0, 2, 1), target,
    ...                                              reduction="none")
    >>> torch.allclose(losses, expected, atol=1e-5)
    True
    """
    losses, _ = cross_entropy(
        x.reshape(1, -1, x.shape[-1]),
        weight.unsqueeze(0),
        None if bias is None else bias.unsqueeze(0),
        target.reshape(1, -1),
    )
    return losses.view(target.shape)


@custom_op("recdrop::linear_cross_entropy", mutates_args=())
def cross_entropy(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor]:
    """R networks: x (R, N, K), weight (R, V, K), bias (R, V), target (R, N).

    Returns losses and log-partition functions, both (R, N).
    """
    losses, partition = x.new_empty(target.shape), x.new_empty(target.shape)
    for r, rows, logits in _logits(x, weight, bias):
        found = logits.gather(1, target[r, rows, None]).squeeze(1)
        partition[r, rows] = logits.logsumexp(1)
        losses[r, rows] = partition[r, rows] - found
    return losses, partition


@cross_entropy.register_fake
def _(x, weight, bias, target):
    return x.new_empty(target.shape), x.new_empty(target.shape)


@custom_op("recdrop::linear_cross_entropy_backward", mutates_args=())
def cross_entropy_backward(
    grad: Tensor, partition: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor
) -> list[Tensor]:
    """Gradients of x, weight and, where given, bias, from those of the losses (R, N)."""
    dx, dweight = torch.empty_like(x), torch.zeros_like(weight)
    dbias = None if bias is None else torch.zeros_like(bias)
    for r, rows, logits in _logits(x, weight, bias):
        g = grad[r, rows, None]
        d = logits.sub_(partition[r, rows, None]).exp_().mul_(g)  # g * (softmax - one-hot)
        d.scatter_add_(1, target[r, rows, None], -g)
        torch.mm(d, weight[r], out=dx[r, rows])
        dweight[r].addmm_(d.T, x[r, rows])
        if dbias is not None:
            dbias[r].addmv_(d.T, torch.ones_like(g[:, 0]))
    return [dx, dweight] if dbias is None else [dx, dweight, dbias]


@cross_entropy_backward.register_fake
def _(grad, partition, x, weight, bias, target):
    return [torch.empty_like(v) for v in (x, weight, bias) if v is not None]


def _logits(x: Tensor, weight: Tensor, bias: Tensor | None):
    """(r, rows, logits (rows, V)) over networks and chunks of rows; the memory is reused."""
    (R, N, _), V = x.shape, weight.shape[1]
    size = max(1, min(N, CHUNK // V))
    buffer = x.new_empty(size, V)
    for r in range(R):
        for start in range(0, N, size):
            rows = slice(start, min(start + size, N))
            out = buffer[: rows.stop - start]
            torch.mm(x[r, rows], weight[r].T, out=out)
            yield r, rows, out if bias is None else out.add_(bias[r])


def _setup(ctx, inputs, output):
    ctx.save_for_backward(output[1], *inputs)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    grads = cross_entropy_backward(grad, *ctx.saved_tensors)
    return (*grads, *[None] * (4 - len(grads)))


cross_entropy.register_autograd(_backward, setup_context=_setup)
cross_entropy.register_vmap(vmap_rule(cross_entropy))
