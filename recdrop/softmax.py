"""The output layer of a language model: linear and cross-entropy as one operator.

With 10,000 words the logits are by far the largest tensor of a training step. They are computed a
chunk of rows at a time and never exist as a whole, nor does their gradient: while a chunk is in the
cache, its share of the gradients of input, weight and bias is taken too, as if that of every loss
were 1; between the matrix products a compiled kernel does it in few passes. If the losses are then
summed or averaged, the backward pass only scales them; a network whose losses are weighted one by
one is gone through again. On a GPU, which has memory and must not wait for its host to look,
:mod:`recdrop.kernels.output` does otherwise.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.library import Library, custom_op

from recdrop.kernels import cpu, output
from recdrop.kernels.products import mkl_suits
from recdrop.replicate import on_one_device, refuse_derivatives, vmap_rule

CHUNK = 1 << 21
"""Logits held at once: 8 MB, which a cache holds and which keep matrix products efficient."""


def linear_cross_entropy(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
    """Losses in nats, ``-log softmax(x W^T + b)[target]``, element by element.

    Under torch.autocast to bfloat16 the operands of matrix products are rounded to it, where
    gradients are recorded; losses without gradients, as an evaluation takes them, stay float32,
    and so does all of it under autocast to float16.

    Args:
        x: (..., K).
        weight: (V, K).
        bias: (V,) or None.
        target: (...) int64 in [0, V).

    Returns:
        (...), of the dtype of ``x``; float32 under autocast.

    Raises:
        ValueError: a tensor has not the shape above.
        TypeError: ``target`` is not int64, or ``x`` of no floating type.
        IndexError or RuntimeError: a target is outside [0, V), which a GPU does not look at.
        NotImplementedError: torch.func's grad, vjp or jvp surrounds the call, or a tensor is dual.
        RuntimeError: the tensors are not all on one device.

    >>> x, weight, target = torch.randn(5, 3, 8), torch.randn(100, 8), torch.zeros(5, 3).long()
    >>> losses = linear_cross_entropy(x, weight, None, target)
    >>> expected = torch.nn.functional.cross_entropy((x @ weight.T).permute(0, 2, 1), target,
    ...                                              reduction="none")
    >>> torch.allclose(losses, expected, atol=1e-5)
    True
    """
    if not x.dim() or target.shape != x.shape[:-1]:
        raise ValueError(
            f"target has the shape {tuple(target.shape)} and x {tuple(x.shape)}; "
            f"give one target for each of the {tuple(x.shape[:-1])} rows of x"
        )
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; give a floating type, as x.float() does")
    rows, units = weight.shape[:1], x.shape[-1:]
    if weight.shape != (*rows, *units) or 0 in weight.shape:
        raise ValueError(
            f"weight has the shape {tuple(weight.shape)} and x {tuple(x.shape)}; give a weight of "
            f"(V, {units[0]})"
        )
    if bias is not None and bias.shape != rows:
        raise ValueError(
            f"bias has the shape {tuple(bias.shape)} and weight {tuple(weight.shape)}; give a bias "
            f"of ({rows[0]},)"
        )
    if target.dtype is not torch.int64:
        raise TypeError(f"target is {target.dtype}; give torch.int64, as target.long() does")
    refuse_derivatives("linear_cross_entropy", x, weight, bias)
    on_one_device("linear_cross_entropy", x, weight, bias, target)
    losses, *_ = cross_entropy(
        x.reshape(1, -1, x.shape[-1]),
        weight.unsqueeze(0),
        None if bias is None else bias.unsqueeze(0),
        target.reshape(1, -1),
        ahead=torch.is_grad_enabled(),
    )
    return losses.view(target.shape)


@custom_op("recdrop::linear_cross_entropy", mutates_args=())
def cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    ahead: bool = False,
    bf16: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """R networks: x (R, N, K), weight (R, V, K), bias (R, V), target (R, N).

    Returns losses (R, N) and, if taken ``ahead``, the gradients of their sum by x, weight and bias;
    one that is not taken has size 0 behind R. On a GPU the first of them are the gradients of the
    losses by the logits (R, N, V) instead, and there are no others.
    """
    if output.takes(x):
        losses, d = output.forward(x, weight, bias, target, ahead, bf16)
        return losses.to(x.dtype), d, *(losses.new_empty(len(x), 0) for _ in range(2))
    losses, *grads = _results(x, weight, bias, target, ahead)
    ones = torch.ones_like(losses) if ahead else None
    for r in range(len(x)):
        _network(r, (x, weight, bias, target), bf16, losses, ones, grads)
    return losses.to(x.dtype), *grads


@cross_entropy.register_fake
def _(x, weight, bias, target, ahead=False, bf16=False):
    losses, *grads = _results(x, weight, bias, target, ahead)
    if output.takes(x):
        sizes = (len(x), x.shape[1], weight.shape[1]) if ahead else (len(x), 0)
        d = x.new_empty(sizes, dtype=output.operand(x, bf16))
        return losses.to(x.dtype), d, *(losses.new_empty(len(x), 0) for _ in range(2))
    return losses.to(x.dtype), *grads


def _results(x, weight, bias, target, ahead) -> list[Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    empty = x.new_empty(len(x), 0)
    grads = (v if ahead and v is not None else empty for v in (x, weight, bias))
    return [v.new_empty(v.shape, dtype=wide) for v in (target, *grads)]


@custom_op("recdrop::linear_cross_entropy_backward", mutates_args=())
def cross_entropy_backward(
    grad: Tensor,
    ahead: list[Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    bf16: bool,
) -> list[Tensor]:
    """Gradients of x, weight and, where given, bias, from those of the losses (R, N)."""
    with torch.amp.autocast(x.device.type, enabled=False):  # it may surround backward(), too
        return _gradients(grad, ahead, x, weight, bias, target, bf16)


def _gradients(grad, ahead, x, weight, bias, target, bf16) -> list[Tensor]:
    given = [v for v in (x, weight, bias) if v is not None]
    if output.takes(x):
        d = ahead[0]
        if d.dim() < 3:  # not taken ahead
            _, d = output.forward(x, weight, bias, target, True, bf16)
        found = output.backward(grad, d, x, weight, bias, bf16)
        return [out.to(v.dtype).contiguous() for out, v in zip(found, given, strict=True)]
    losses, *grads = _results(x, weight, bias, target, True)
    # Each network by itself: what its gradients are must not depend on its neighbours.
    alike = (grad == grad[:, :1]).all(1) & (min(ahead[0].numel(), grad.numel()) > 0)  # (R,)
    for r, scale in enumerate(alike.tolist()):
        if scale:
            for out, value in zip(grads, ahead, strict=True):
                torch.mul(value[r], grad[r, :1], out=out[r])
        else:
            _network(r, (x, weight, bias, target), bf16, losses, grad.to(losses.dtype), grads)
    return [out.to(v.dtype) for out, v in zip(grads, given, strict=False)]


@cross_entropy_backward.register_fake
def _(grad, ahead, x, weight, bias, target, bf16):
    return [v.new_empty(v.shape) for v in (x, weight, bias) if v is not None]


def _network(
    r: int,
    inputs: tuple[Tensor | None, ...],
    bf16: bool,
    losses: Tensor,
    upstream: Tensor | None,
    grads: list[Tensor],
) -> None:
    """Write row r of ``losses`` and, given their ``upstream`` gradients, row r of ``grads``.

    x (N, K), weight (V, K), bias (V,), target (N,), of this network.
    """
    x, weight, bias, target = (None if v is None else v[r] for v in inputs)
    operand = torch.bfloat16 if bf16 else x.dtype
    x, weight = x.to(operand).contiguous(), weight.to(operand).contiguous()
    bias = None if bias is None else bias.to(losses.dtype)
    between = cpu.cross_entropy if cpu.takes_cross_entropy(losses) else _cross_entropy
    dbias = None
    if upstream is not None:
        dx, dweight, dbias = (grad[r].zero_() for grad in grads)
        transposed = weight.T.contiguous() if _uses_onednn(x) else weight.T  # (K, V)
    for rows in _chunks(len(x), len(weight)):
        logits = _product(x[rows], weight).to(losses.dtype)  # (n, V)
        ahead = None if upstream is None else upstream[r, rows]
        between(logits, bias, target[rows], losses[r, rows], ahead, dbias)
        if ahead is not None:
            d = logits.to(operand)
            dx[rows] = _product(d, transposed)
            _add_product(dweight, d.T, x[rows].T)


def _cross_entropy(
    logits: Tensor,
    bias: Tensor | None,
    target: Tensor,
    losses: Tensor,
    upstream: Tensor | None,
    dbias: Tensor | None,
) -> None:
    """:func:`recdrop.kernels.cpu.cross_entropy` in plain PyTorch, for any type."""
    label = target.unsqueeze(1)
    if bias is not None:
        logits += bias
    likeliest, found = logits.amax(1, keepdim=True), logits.gather(1, label)
    p = logits.sub_(likeliest).exp_()
    total = p.sum(1, keepdim=True)
    losses.copy_((total.log() + (likeliest - found)).squeeze(1))
    if upstream is None:
        return
    d = p.div_(total).scatter_add_(1, label, p.new_full(label.shape, -1))
    d.mul_(upstream.unsqueeze(1))
    if bias is not None:
        dbias += d.sum(0)


def _chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows, about equally long, with at most CHUNK elements (but one row at least)."""
    most = max(1, CHUNK // width)
    size = math.ceil(n / math.ceil(n / most)) if n else 1
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T, (M, K), (N, K) -> (M, N)."""
    global _onednn
    if _uses_onednn(a):
        try:
            return _onednn(a, b, None, "none", [], "")
        except (RuntimeError, TypeError):  # a private operator may change; if torch.mm can, use it
            product = torch.mm(a, b.T)
            _onednn = None
            return product
    return torch.mm(a, b.T)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b^T, (M, N), (M, K), (N, K)."""
    if a.dtype is total.dtype and not _uses_onednn(a):
        total.addmm_(a, b.T)
    else:
        total += _product(a, b)


def _uses_onednn(a: Tensor) -> bool:
    """Float32 is multiplied by oneDNN where that is twice as fast as MKL: on AMD's processors."""
    return _onednn is not None and a.dtype is torch.float32 and a.device.type == "cpu"


_onednn = None if mkl_suits() else getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _setup(ctx, inputs, output):
    ctx.bf16 = inputs[5]
    ctx.save_for_backward(*output[1:], *inputs[:4])
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx, grad, *_):
    if grad is None:
        return (None,) * 6
    ahead, inputs = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
    grads = cross_entropy_backward(grad, list(ahead), *inputs, ctx.bf16)
    return (*grads, *[None] * (6 - len(grads)))


cross_entropy.register_autograd(_backward, setup_context=_setup)
cross_entropy.register_vmap(vmap_rule(cross_entropy))
cross_entropy_backward.register_vmap(vmap_rule(cross_entropy_backward))


def _autocast(device: str):
    """torch.autocast to bfloat16 rounds operands to it and takes all else to float32; so does
    float16, but for the rounding: losses of float16 would be coarse."""

    def rule(x, weight, bias, target, ahead=False, bf16=False):
        tensors = x, weight, bias
        low = torch.get_autocast_dtype(device)
        double = any(v is not None and v.dtype is torch.float64 for v in tensors)
        with torch.amp.autocast(device, enabled=False):
            if low not in (torch.bfloat16, torch.float16) or double:
                return cross_entropy(*tensors, target, ahead, bf16)
            tensors = [None if v is None else v.to(torch.float32) for v in tensors]
            return cross_entropy(*tensors, target, ahead, bf16=ahead and low is torch.bfloat16)

    return rule


_library = Library("recdrop", "FRAGMENT")
for device in ("cpu", "cuda"):
    _library.impl("linear_cross_entropy", _autocast(device), f"Autocast{device.upper()}")
