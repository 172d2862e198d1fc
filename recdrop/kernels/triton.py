"""The LSTM's scan on a GPU by the Triton kernels of :mod:`recdrop.kernels.triton_lstm`.

Shapes as in :mod:`recdrop.recurrence`. What does not depend on the step before, the products with
the input and those of the weights' gradients, are batched matrix products over networks, outside
the loop over time. Precision of products: operands in bfloat16 where the weights are of it or
``bf16`` says so; else float32, exact, or TF32 where ``torch.set_float32_matmul_precision`` allows
it. States, gates and sums are float32.
"""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from recdrop.kernels import graphs
from recdrop.kernels.choice import BackendMissing, choice, fits
from recdrop.kernels.products import linear, outer


class Plan(NamedTuple):
    """How a scan is divided among programs."""

    rows: int
    """Rows of a program; a matrix unit takes 16 at least."""
    units: int
    """Units computed at once."""
    depth: int
    """Summed at once in a product: so much that three stages of it fit in 64 KB of a processor."""
    split: bool
    """Whether units are divided among programs, with a launch for each step."""


BUSY = 66
"""Programs, with all units in each, from which on the loop over time lies in the kernel: half of
the processors of a large GPU. With fewer, dividing the units keeps more of them at work."""
PROCESSORS = 132
"""Of a large GPU."""


def plan(R: int, B: int, H: int, low: bool = False) -> Plan:
    """The division of R networks of B rows and H units; ``low``: operands of 16 bits.

    Chosen by what a processor must read in each step, not by trial.

    >>> plan(1, 32, 256)
    Plan(rows=32, units=16, depth=32, split=True)
    >>> plan(78, 32, 256, low=True)
    Plan(rows=32, units=32, depth=64, split=False)
    """
    rows = 16 if B <= 16 else 32
    whole = R * -(-B // rows)
    split = whole < BUSY
    narrow = H <= 16 or split and whole * -(-H // 32) < PROCESSORS
    return Plan(rows, units=16 if narrow else 32, depth=64 if low else 32, split=split)


@cache
def available() -> bool:
    """Whether Triton is installed, which is so for CUDA builds of torch on Linux."""
    return importlib.util.find_spec("triton") is not None


def interprets() -> bool:
    """Whether Triton runs in its interpreter, on the CPU, for tests of small shapes."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def takes(cell: str, inputs: Sequence[Tensor | None], dropout: Sequence[Tensor | None]) -> bool:
    """Whether the kernels compute this scan; arguments as of :func:`.choice.fits`."""
    return fits(cell, inputs, dropout) and wanted(inputs[0])


def wanted(x: Tensor) -> bool:
    """Whether Triton is to compute on this tensor's device, by ``RECDROP_BACKEND``.

    Raises BackendMissing where ``triton`` is insisted on and is not installed.
    """
    asked = choice()
    if asked == "reference" or not (x.is_cuda or asked == "triton" and interprets()):
        return False
    if available():
        return True
    if asked == "triton":
        raise BackendMissing("RECDROP_BACKEND=triton, but Triton is not installed; install it")
    _warn()
    return False


@cache
def _warn() -> None:
    warnings.warn(
        "recdrop runs in plain PyTorch on this GPU, many times slower, as Triton is not installed; "
        "install it, or set RECDROP_BACKEND=reference if this is what you want",
        RuntimeWarning,
        stacklevel=2,
    )


def description() -> str:
    """What runs on a GPU, or why it is plain PyTorch."""
    if available():
        import triton

        return f"triton: kernels by Triton {triton.__version__}"
    return "reference: plain PyTorch, as Triton is not installed"


def forward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor | None],
    layer: int,
    direction: int,
    bf16: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """h and c (R, T, B, H), and for the backward pass the gates (R, T, B, 4H) if ``keep``."""
    from recdrop.kernels import triton_lstm

    x, h0, c0, w_ih, w_hh, b_ih, b_hh = _wide(inputs, bf16)
    (R, T, B, _), H = x.shape, h0.shape[-1]
    drop, site = _dropout(dropout), layer << 8 | direction << 4
    gates = linear(x.flatten(1, 2), w_ih).view(R, T, B, 4 * H)
    h, c = (x.new_empty(R, T, B, H) for _ in range(2))
    read = w_hh.new_empty(R, 2, B, H)
    read[:, :1] = _read(h, h0, drop, site, 1, w_hh.dtype)
    bias = None if b_ih is None else b_ih + b_hh
    tensors = (gates, read, h, c, h0, c0, w_hh.mT.contiguous(), bias, *drop)
    flags = {"BIAS": bias is not None, "RELU": cell.endswith("relu")}
    _run(triton_lstm.forward, tensors, (0, 2, 3), range(T), (site, T, B, H), flags)
    return h, c, gates if keep else gates[:, :0].clone()


def backward(
    cell: str,
    inputs: Sequence[Tensor | None],
    dropout: Sequence[Tensor | None],
    layer: int,
    direction: int,
    bf16: bool,
    with_dx: bool,
    states: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor]:
    """Gradients of those of ``inputs`` that are given, of x only if ``with_dx``; ``states`` are
    forward's three results."""
    from recdrop.kernels import triton_lstm

    x, h0, c0, w_ih, w_hh, b_ih, _ = _wide(inputs, bf16)
    (R, T, B, _), H = x.shape, h0.shape[-1]
    drop, site = _dropout(dropout), layer << 8 | direction << 4
    grad_h, grad_c, h, c, gates = (
        None if v is None else v.to(torch.float32).contiguous() for v in (*grads, *states)
    )
    d_gates = w_hh.new_empty(R, T, B, 4 * H)
    dh, dc = torch.empty_like(h0), torch.zeros_like(c0)
    tensors = (d_gates, dh, dc, grad_h, grad_c, gates, c, c0, w_hh, *drop)
    flags = {
        "GRAD_H": grad_h is not None, "GRAD_C": grad_c is not None, "RELU": cell.endswith("relu")
    }  # fmt: skip
    steps = range(T - 1, -2, -1)
    _run(triton_lstm.backward, tensors, (0, 1, 2), steps, (site, T, B, H), flags)
    rows = d_gates.flatten(1, 2)  # (R, T * B, 4H)
    read = _read(h, h0, drop, site, T, w_hh.dtype).flatten(1, 2)
    dx = [linear(rows, w_ih.mT).view(x.shape)] if with_dx else []
    found = [*dx, dh, dc, outer(rows, x.flatten(1, 2), w_ih.dtype), outer(rows, read, w_hh.dtype)]
    if b_ih is not None:
        db = rows.sum(1, dtype=torch.float32)
        found += [db, db.clone()]
    return found


def kept(
    seeds: Tensor, thresholds: Tensor, site_word: int, steps: int, rows: int, units: int
) -> Tensor:
    """:func:`recdrop.masks.kept` by the kernel: (R, steps, rows, units) bool."""
    from recdrop.kernels import triton_lstm

    out = torch.empty(len(seeds), steps, rows, units, dtype=torch.int8, device=seeds.device)
    seeds, thresholds = seeds.contiguous(), thresholds.contiguous()
    grid = (len(seeds) * steps * -(-rows // 16), -(-units // 32))
    with torch.cuda.device_of(seeds):
        triton_lstm.kept[grid](
            out, seeds, thresholds, site_word, steps, rows, units, ROWS=16, UNITS=32
        )
    return out.bool()


def derived_seeds(seeds: Tensor, calls: Tensor) -> Tensor:
    """Those of ``recdrop.masks.derived_seeds`` by the kernel: (R,), (R,) -> (R,) int64."""
    from recdrop.kernels import triton_lstm

    out, seeds, calls = torch.empty_like(seeds), seeds.contiguous(), calls.contiguous()
    with torch.cuda.device_of(seeds):
        triton_lstm.derived_seeds[(len(seeds),)](out, seeds, calls)
    return out


def _wide(inputs: Sequence[Tensor | None], bf16: bool) -> list[Tensor | None]:
    """Weights in the precision of operands, all else in float32, without gaps."""
    x, h0, c0, w_ih, w_hh, *biases = inputs
    low = torch.bfloat16 if bf16 or w_hh.dtype is torch.bfloat16 else torch.float32
    if low is torch.bfloat16 and interprets():  # it would multiply bfloat16's bits as integers
        raise NotImplementedError("Triton's interpreter has no bfloat16 products; use float32")
    x, h0, c0, b_ih, b_hh = (
        None if v is None else v.to(torch.float32) for v in (x, h0, c0, *biases)
    )
    tensors = (x, h0, c0, w_ih.to(low), w_hh.to(low), b_ih, b_hh)
    return [None if v is None else v.contiguous() for v in tensors]


def _dropout(dropout: Sequence[Tensor | None]) -> list[Tensor | None]:
    """thresholds, scale, per_step, seeds and lengths in the types that the kernels read."""
    types = (torch.int64, torch.float32, torch.uint8, torch.int64, torch.int64)
    return [
        None if v is None else v.to(dtype).contiguous()
        for v, dtype in zip(dropout, types, strict=True)
    ]


def _read(
    h: Tensor, h0: Tensor, drop: list[Tensor | None], site: int, steps: int, dtype: torch.dtype
) -> Tensor:
    """What the gates read at the first steps: (R, steps, B, H), Eq. 7's masked states."""
    from recdrop.kernels import triton_lstm

    R, T, B, H = h.shape
    read = h.new_empty(R, steps, B, H, dtype=dtype)
    grid = (R * steps, -(-B // 16), -(-H // 32))
    with torch.cuda.device_of(h):
        triton_lstm.read_states[grid](
            read, h, h0, *drop[:4], site, T, steps, B, H, ROWS=16, UNITS=32
        )
    return read


def _run(
    kernel,
    tensors: tuple[Tensor | None, ...],
    written: tuple[int, ...],
    steps: range,
    sizes: tuple[int, int, int, int],
    flags: dict[str, bool],
) -> None:
    """The loop over ``steps``: one launch or, where units are divided, one for each step.

    ``tensors`` end with the lengths; those at the places ``written`` are. ``sizes`` are the word of
    the site, T, B and H.
    """
    (site, *sizes), R = sizes, len(tensors[0])
    _, B, H = sizes
    p = plan(R, B, H, low=any(v is not None and v.dtype is torch.bfloat16 for v in tensors))
    grid = (R, -(-B // p.rows), -(-H // p.units) if p.split else 1)
    settings = flags | {
        "LENGTHS": tensors[-1] is not None, "UNITS_SPLIT": p.split, "PRECISION": precision(),
        "ROWS": p.rows, "UNITS": p.units, "DEPTH": p.depth,
    }  # fmt: skip
    ends = [(t, t + 1) for t in steps] if p.split else [(min(steps), max(steps) + 1)]

    def launch(tensors: Sequence[Tensor | None]) -> None:
        for first, last in ends:
            kernel[grid](*tensors, site, first, last, *sizes, **settings)

    with torch.cuda.device_of(tensors[0]):
        if p.split:
            graphs.run((kernel, site, *settings.values()), launch, tensors, written)
        else:
            launch(tensors)


def precision() -> str:
    """Of float32 products, as torch's own setting has it: ``"ieee"`` or ``"tf32"``."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
