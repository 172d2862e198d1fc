"""Which scans compiled kernels may take: by the environment's wish, and by what they know."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

CHOICES = ("auto", "reference", "cpu", "triton")


class BackendMissing(RuntimeError, ValueError):
    """The kernel that ``RECDROP_BACKEND`` insists on is not to be had on this machine."""


def choice() -> str:
    """``auto`` (the default) takes a compiled kernel where there is one and warns once where there
    should be, ``cpu`` and ``triton`` raise an error where theirs is missing for tensors that it
    would compute, ``reference`` is plain PyTorch.

    Raises ValueError for another value.
    """
    asked = os.environ.get("RECDROP_BACKEND", "auto")
    if asked not in CHOICES:
        raise ValueError(f"RECDROP_BACKEND={asked!r} is unknown; choose one of {CHOICES}")
    return asked


def fits(cell: str, inputs: Sequence[Tensor | None], dropout: Sequence[Tensor | None]) -> bool:
    """Whether this is an LSTM's scan whose tensors all have the shapes and types that kernels know,
    on one device; what does not fit plain PyTorch does, or refuses.

    ``inputs`` are x, h0, c0, w_ih, w_hh, b_ih, b_hh, ``dropout`` thresholds, scale, per_step, seeds
    and lengths, as in :func:`recdrop.recurrence.scan`.
    """
    x, h0, c0, *_, b_ih, b_hh = inputs
    if not cell.startswith("lstm") or x.dim() != 4 or h0.dim() != 3:
        return False
    if c0 is None or (b_ih is None) != (b_hh is None):
        return False
    given = zip([*inputs, *dropout], shapes(4, x, h0), strict=True)
    alike = all(v is None or (v.shape == shape and v.device == x.device) for v, shape in given)
    known = (torch.float32, torch.bfloat16)
    sizes = min(*x.shape, h0.shape[-1])
    return alike and all(v is None or v.dtype in known for v in inputs) and sizes > 0


def shapes(gates: int, x: Tensor, h0: Tensor) -> list[tuple[int, ...]]:
    """Of all that a scan is given, in its order, as x and h0 have R, T, B, I and H."""
    (R, T, B, I), H = x.shape, h0.shape[-1]
    N = gates * H
    weights = [(R, N, I), (R, N, H), (R, N), (R, N)]
    return [(R, T, B, I), (R, B, H), (R, B, H), *weights, *[(R, 3)] * 3, (R,), (R, B)]
