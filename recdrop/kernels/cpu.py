"""The LSTM's scan on the CPU by the compiled kernel, cpu.cpp: forward, backward and masks; and the
losses of an output layer.

Shapes as in :mod:`recdrop.recurrence` and :mod:`recdrop.softmax`. Tensors are float32 or bfloat16;
products take their operands in float32, or rounded to bfloat16 where the weights are of it or
``bf16`` says so.
"""

import ctypes
import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from recdrop.kernels.build import BuildError, build
from recdrop.kernels.choice import BackendMissing, choice, fits

_REMEDY = (
    "install a C++ compiler such as g++ and see `recdrop kernels build`, "
    "or set RECDROP_BACKEND=reference if this is what you want"
)


class _Call(ctypes.Structure):
    """What forward and backward share; cpu.cpp has its twin."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in "R T B I H layer direction threads".split()],
        *[(name, ctypes.c_int64) for name in "relu bf16".split()],
        *[(name, ctypes.c_void_p) for name in "thresholds scale per_step seeds lengths".split()],
    ]


class _Output(ctypes.Structure):
    """What the output layer's losses are computed from; cpu_output.cpp has its twin."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in "rows columns threads".split()],
        *[(name, ctypes.c_void_p) for name in "logits bias target upstream losses dbias".split()],
    ]


def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where plain PyTorch is wanted, or all there is.

    :func:`recdrop.kernels.choice.choice` says what is wanted. Raises ValueError for an unknown
    choice, BackendMissing where ``cpu`` cannot be had.
    """
    asked = choice()
    if asked == "reference":
        return None
    found = _load()
    if isinstance(found, ctypes.CDLL):
        return found
    if asked == "cpu":
        raise BackendMissing(f"RECDROP_BACKEND=cpu, but the kernel cannot be built: {found}")
    _warn(found)
    return None


def description() -> str:
    """The kernel and its instruction set, or why there is none. Compiles it if need be."""
    found = _load()
    if isinstance(found, str):
        return f"reference: plain PyTorch, as the kernel cannot be built: {found}"
    found.recdrop_description.restype = ctypes.c_char_p
    return f"cpu: compiled kernel, {found.recdrop_description().decode()}"


@cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none: asked once, as compiling may take a while to fail."""
    try:
        return ctypes.CDLL(str(build()))
    except (BuildError, OSError) as error:
        return str(error)


@cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"recdrop runs in plain PyTorch, slower, as its CPU kernel cannot be built: {reason}; "
        f"{_REMEDY}",
        RuntimeWarning,
        stacklevel=2,
    )


def takes(cell: str, inputs: Sequence[Tensor | None], dropout: Sequence[Tensor | None]) -> bool:
    """Whether the kernel computes this scan; arguments as of :func:`.choice.fits`."""
    on_cpu = inputs[0].device.type == "cpu"
    return on_cpu and fits(cell, inputs, dropout) and library() is not None


def forward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor],
    layer: int,
    direction: int,
    bf16: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """h and c (R, T, B, H), and for the backward pass the gates (R, T, B, 4H) if ``keep``."""
    x, h0, c0, w_ih, w_hh, b_ih, b_hh = inputs
    (R, T, B, _), H = x.shape, h0.shape[-1]
    bias = None if b_ih is None else b_ih.float() + b_hh.float()
    h, c = (torch.empty(R, T, B, H, dtype=torch.float32) for _ in range(2))
    gates = torch.empty(R, T if keep else 0, B, 4 * H, dtype=torch.float32)
    call = _call(cell, inputs, dropout, layer, direction, bf16)
    _run("recdrop_forward", call, x, h0, c0, w_ih, w_hh, bias, h, c, gates if keep else None)
    return h, c, gates


def backward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor],
    layer: int,
    direction: int,
    bf16: bool,
    with_dx: bool,
    states: tuple[Tensor, Tensor, Tensor],
    grads: tuple[Tensor | None, Tensor | None],
) -> list[Tensor]:
    """Gradients of those of ``inputs`` that are given, of x only if ``with_dx``; ``states`` are
    forward's three results."""
    x, h0, c0, w_ih, w_hh, b_ih, _ = inputs
    dw_ih, dw_hh = (torch.empty(v.shape, dtype=torch.float32) for v in (w_ih, w_hh))
    dh0, dc0 = (torch.zeros(v.shape, dtype=torch.float32) for v in (h0, c0))
    made = torch.empty if dropout[4] is None else torch.zeros
    dx = made(x.shape, dtype=torch.float32) if with_dx else None
    db = None if b_ih is None else torch.empty(b_ih.shape, dtype=torch.float32)
    call = _call(cell, inputs, dropout, layer, direction, bf16)
    tensors = (*grads, *states, x, h0, c0, w_ih, w_hh, dx, dh0, dc0, dw_ih, dw_hh, db)
    _run("recdrop_backward", call, *tensors)
    found = [dx, dh0, dc0, dw_ih, dw_hh, db, None if db is None else db.clone()]
    return [grad for grad in found if grad is not None]


def kept(
    seeds: Tensor, thresholds: Tensor, site_word: int, steps: int, rows: int, units: int
) -> Tensor:
    """:func:`recdrop.masks.kept` by the kernel: (R, steps, rows, units) bool."""
    out = torch.empty(len(seeds), steps, rows, units, dtype=torch.bool)
    threads = torch.get_num_threads()
    sizes = [ctypes.c_int64(n) for n in (len(seeds), steps, rows, units, site_word, threads)]
    tensors = seeds.contiguous(), thresholds.contiguous(), out
    pointers = [ctypes.c_void_p(v.data_ptr()) for v in tensors]
    library().recdrop_kept(*sizes, *pointers)
    return out


def takes_cross_entropy(losses: Tensor) -> bool:
    """Whether :func:`cross_entropy` writes these."""
    here = losses.device.type == "cpu" and losses.dtype is torch.float32
    return here and library() is not None


def cross_entropy(
    logits: Tensor,
    bias: Tensor | None,
    target: Tensor,
    losses: Tensor,
    upstream: Tensor | None,
    dbias: Tensor | None,
) -> None:
    """Write ``losses`` (N,), -log softmax(logits + bias)[target], all of them float32.

    ``bias`` is (V,), ``target`` (N,) int64. Given the ``upstream`` gradients of the losses (N,),
    ``logits`` (N, V) take theirs and ``dbias`` (V,) is added to. What is written to is contiguous.

    Raises IndexError for a target outside [0, V) and ValueError for another shape, and has written
    nothing then.
    """
    N, V = logits.shape
    if bias is None or upstream is None:
        dbias = None
    for v, shape in ((bias, (V,)), (dbias, (V,)), (target, (N,)), (losses, (N,)), (upstream, (N,))):
        if v is not None and v.shape != shape:
            raise ValueError(f"a tensor has the shape {tuple(v.shape)} where {shape} is needed")
    outside = target[(target < 0) | (target >= V)]
    if len(outside):
        raise IndexError(f"target {int(outside[0])} is out of bounds; give 0 to {V - 1}")
    read = [None if v is None else v.contiguous() for v in (bias, target, upstream)]
    tensors = logits, *read, losses, dbias
    call = _Output(N, V, torch.get_num_threads(), *map(_pointer, tensors))
    library().recdrop_cross_entropy(ctypes.byref(call))


def _call(cell, inputs, dropout, layer, direction, bf16) -> tuple[_Call, list[Tensor | None]]:
    """The settings, and the tensors that they point into."""
    x, h0, _, w_ih, *_ = inputs
    types = (torch.int64, torch.float32, torch.bool, torch.int64, torch.int64)
    dropout = [
        None if v is None else v.to(dtype).contiguous()
        for v, dtype in zip(dropout, types, strict=True)
    ]
    sizes = (*x.shape, h0.shape[-1], layer, direction, torch.get_num_threads())
    modes = (cell.endswith("relu"), bf16 or w_ih.dtype is torch.bfloat16)
    return _Call(*sizes, *modes, *map(_pointer, dropout)), dropout


def _run(function: str, call: tuple[_Call, list], *tensors: Tensor | None) -> None:
    tensors = [None if v is None else v.to(torch.float32).contiguous() for v in tensors]
    pointers = (ctypes.c_void_p * len(tensors))(*map(_pointer, tensors))
    if getattr(library(), function)(ctypes.byref(call[0]), pointers):
        raise MemoryError(f"{function}: not enough memory")


def _pointer(v: Tensor | None) -> int | None:
    return None if v is None else v.data_ptr()
