"""The scan over time as one operator, ``recdrop::scan``, with a replica dimension.

Every tensor carries R independent networks in front: one call runs a whole table of conditions,
each with its own parameters, rates, samplings and seed. Because it is one operator, torch.compile
sees one node, and ``torch.vmap`` over stacked parameters becomes the replica dimension.

An LSTM in float32 or bfloat16 runs a compiled kernel, :mod:`recdrop.kernels.cpu` or on a GPU
:mod:`recdrop.kernels.triton`, all else plain PyTorch: :mod:`recdrop.kernels.reference` and, back
through time, :mod:`recdrop.kernels.bptt`. States and sums are in float32 at least.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import Library, custom_op

from recdrop.cells import ACTIVATIONS
from recdrop.kernels import bptt, cpu, reference, triton
from recdrop.kernels.choice import shapes
from recdrop.replicate import on_one_device, refuse_derivatives, vmap_rule

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
"""Of a cell, the G of the shapes below."""
NAMES = ("x", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh",
         "thresholds", "scale", "per_step", "seeds", "lengths")  # fmt: skip


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

    Raises:
        ValueError: a tensor has not the shape above, or is missing, or the cell is unknown.
        TypeError: x is of integers.
        NotImplementedError: torch.func's grad, vjp or jvp surrounds the call, or a tensor is dual.
        RuntimeError: the tensors are not all on one device.
    """
    tensors = (x, h0, c0, w_ih, w_hh, b_ih, b_hh)
    dropout = (thresholds, scale, per_step, seeds, lengths)
    _check(cell, [*tensors, *dropout])
    refuse_derivatives("scan", *tensors)
    on_one_device("scan", *tensors, *dropout)
    h, c, _ = _scan(cell, *tensors, *dropout, layer, direction, bf16, _is_needed(*tensors))
    return h, c


def _check(cell: str, tensors: Sequence[Tensor | None]) -> None:
    """What a kernel would pass over, and plain PyTorch stretch where it can."""
    x, h0, c0, _, _, b_ih, b_hh, *_ = tensors
    kind, _, activation = cell.partition("_")
    if kind not in GATES or activation not in ACTIVATIONS:
        raise ValueError(f"cell={cell!r} is unknown; give one of {(*GATES,)} and _tanh or _relu")
    if x.dim() != 4 or h0.dim() != 3:
        raise ValueError(
            f"x has the shape {tuple(x.shape)} and h0 {tuple(h0.shape)}; give (R, T, B, I) and "
            "(R, B, H)"
        )
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; give a floating type, as x.float() does")
    if (c0 is not None) != (kind == "lstm") or (b_ih is None) != (b_hh is None):
        states = "h0 and c0" if kind == "lstm" else "h0 alone"
        raise ValueError(f"{cell} begins with {states}, and has two biases or none; give these")
    for name, v, shape in zip(NAMES, tensors, shapes(GATES[kind], x, h0), strict=True):
        if v is not None and v.shape != shape:
            raise ValueError(
                f"{name} has the shape {tuple(v.shape)}; give {tuple(shape)}, as x has "
                f"{tuple(x.shape)} and h0 {tuple(h0.shape)}"
            )


def _is_needed(*tensors: Tensor | None) -> bool:
    """Whether a backward pass through any of them may follow."""
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)


@custom_op("recdrop::scan", mutates_args=())
def _scan(
    cell: str, x: Tensor, h0: Tensor, c0: Tensor | None, w_ih: Tensor, w_hh: Tensor,
    b_ih: Tensor | None, b_hh: Tensor | None, thresholds: Tensor, scale: Tensor, per_step: Tensor,
    seeds: Tensor, lengths: Tensor | None, layer: int, direction: int, bf16: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As scan, and if ``keep`` an LSTM's gates (R, T, B, 4H) for the backward pass, else without
    elements."""
    inputs, dropout = (
        (x, h0, c0, w_ih, w_hh, b_ih, b_hh),
        (thresholds, scale, per_step, seeds, lengths),
    )
    if kernel := _kernel(cell, inputs, dropout):
        h, c, gates = kernel.forward(cell, inputs, dropout, layer, direction, bf16, keep)
    else:
        wide = _widen(*inputs, bf16=bf16)
        h, c, gates = reference.forward(cell, wide, dropout, layer, direction, keep)
    return h.to(x.dtype), c.to(x.dtype), gates


def _kernel(cell, inputs, dropout):
    return next((k for k in (triton, cpu) if k.takes(cell, inputs, dropout)), None)


@_scan.register_fake
def _(cell, x, h0, *rest):
    (R, T, B, _), H = x.shape, h0.shape[-1]
    steps = T if cell.startswith("lstm") else 0
    wide = torch.promote_types(x.dtype, torch.float32)
    gates = x.new_empty(R, steps if rest[-1] else 0, B, 4 * H, dtype=wide)
    return x.new_empty(R, T, B, H), x.new_empty(R, steps, B, H), gates


def _widen(*tensors: Tensor | None, bf16: bool) -> list[Tensor | None]:
    """Weights in the precision of operands, all else in that of states and sums."""
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = tensors
    wide = torch.promote_types(x.dtype, torch.float32)
    x, h0, c0, b_ih, b_hh = (None if v is None else v.to(wide) for v in (x, h0, c0, b_ih, b_hh))
    w_ih, w_hh = (w.to(torch.bfloat16 if bf16 else w.dtype) for w in (w_ih, w_hh))
    return [x, h0, c0, w_ih, w_hh, b_ih, b_hh]


@custom_op("recdrop::scan_backward", mutates_args=())
def _scan_backward(
    cell: str, tensors: Sequence[Tensor | None], layer: int, direction: int, bf16: bool,
    with_dx: bool = True,  # graphs that torch.compile kept of earlier versions do not give it
) -> list[Tensor]:  # fmt: skip
    """Gradients of those of x, h0, c0, w_ih, w_hh, b_ih, b_hh that are given, masks drawn again.

    ``tensors`` holds the gradients of h and c, h, c and gates, and the scan's tensors. That of x is
    left out unless ``with_dx``: a first layer's input is data, and the product it would take can be
    a quarter of all.
    """
    grads, states, inputs, dropout = tensors[:2], tensors[2:5], tensors[5:12], tensors[12:]
    # Whoever calls backward() under torch.autocast gets the same gradients as who does not.
    with torch.amp.autocast(inputs[0].device.type, enabled=False):
        if states[2].numel() and (kernel := _kernel(cell, inputs, dropout)):
            settings = (layer, direction, bf16, with_dx)
            found = kernel.backward(cell, inputs, dropout, *settings, states, grads)
        else:
            wide = _widen(*inputs, bf16=bf16)
            states, grads = (
                [None if v is None else v.to(wide[0].dtype) for v in group]
                for group in (states, grads)
            )
            found = bptt.backward(cell, wide, dropout, layer, direction, with_dx, states, grads)
    given = _differentiated(inputs, with_dx)
    return [grad.to(v.dtype).contiguous() for grad, v in zip(found, given, strict=True)]


def _differentiated(inputs: Sequence[Tensor | None], with_dx: bool) -> list[Tensor]:
    """Those of x, h0, c0, w_ih, w_hh, b_ih, b_hh that scan_backward has gradients of."""
    return [v for v in inputs[0 if with_dx else 1 :] if v is not None]


@_scan_backward.register_fake
def _(cell, tensors, layer, direction, bf16, with_dx=True):
    return [v.new_empty(v.shape) for v in _differentiated(tensors[5:12], with_dx)]


# Of gradients in batches, as a Jacobian takes them: each has the weights for itself.
_scan_backward.register_vmap(vmap_rule(_scan_backward))


class _Once(torch.autograd.Function):
    """Gradients that cannot be differentiated again: an error, where torch would leave them out."""

    @staticmethod
    def forward(ctx, count, *grads_and_inputs):
        return tuple(grad.view_as(grad) for grad in grads_and_inputs[:count])

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("scan_backward cannot be differentiated: no second derivatives")


def _setup(ctx, inputs, output):
    (ctx.cell, *tensors), ctx.rest = inputs[:13], inputs[13:16]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx, grad_h, grad_c, _):
    saved, with_dx = ctx.saved_tensors, ctx.needs_input_grad[1]
    inputs = saved[3:10]
    grads = _scan_backward(ctx.cell, [grad_h, grad_c, *saved], *ctx.rest, with_dx)
    if torch.is_grad_enabled():  # create_graph=True
        grads = _Once.apply(len(grads), *grads, *_differentiated(inputs, with_dx))
    grads = iter(grads)
    dx = next(grads) if with_dx else None
    return (None, dx, *(None if v is None else next(grads) for v in inputs[1:]), *[None] * 9)


_scan.register_autograd(_backward, setup_context=_setup)


def _folded(cell, *args):
    """Only below the vmap do tensors say whether they require a gradient."""
    return _scan(cell, *args[:-1], _is_needed(*args[:7]))


_scan.register_vmap(vmap_rule(_folded))


def _autocast(device: str):
    """torch.autocast to bfloat16 rounds operands to it and takes all else to float32; so does
    float16, but for the rounding, as kernels do not know it."""

    def rule(cell, *args):
        tensors, rest, (bf16, keep) = args[:7], args[7:14], args[14:]
        low = torch.get_autocast_dtype(device)
        double = any(v is not None and v.dtype is torch.float64 for v in tensors)
        with torch.amp.autocast(device, enabled=False):
            if low not in (torch.bfloat16, torch.float16) or double:
                return _scan(cell, *tensors, *rest, bf16, keep)
            tensors = [None if v is None else v.to(torch.float32) for v in tensors]
            return _scan(cell, *tensors, *rest, low is torch.bfloat16, keep)

    return rule


_library = Library("recdrop", "FRAGMENT")
for device in ("cpu", "cuda"):
    _library.impl("scan", _autocast(device), f"Autocast{device.upper()}")
