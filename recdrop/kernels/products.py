"""Matrix products of plain PyTorch, one matrix per replica: exact float32, fast also on AMD, and
bfloat16 operands with float32 sums on matrix units."""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor


def linear(v: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, M, K), (R, N, K), (R, N) -> (R, M, N).

    Operands have the weight's precision, sums that of v.
    """
    if weight.dtype is torch.bfloat16 and v.is_cuda:
        out = torch.bmm(v.to(weight.dtype), weight.mT, out_dtype=torch.float32)
        return out if bias is None else out.add_(bias.unsqueeze(1))
    if weight.dtype != v.dtype:
        v, weight = v.to(weight.dtype).to(v.dtype), weight.to(v.dtype)
    if not _suits_onednn(v, weight):
        out = v @ weight.mT
        return out if bias is None else out + bias.unsqueeze(1)
    bias = None if bias is None else bias.contiguous()  # oneDNN passes over its strides
    each = [
        torch.ops.mkldnn._linear_pointwise(
            _dense(v[r]), _dense(weight[r]), None if bias is None else bias[r], "none", [], ""
        )
        for r in range(len(v))
    ]
    return each[0].unsqueeze(0) if len(each) == 1 else torch.stack(each)


def _dense(matrix: Tensor) -> Tensor:
    """oneDNN is a hundred times slower on a matrix with gaps, as torch.vmap likes to leave them."""
    whole = matrix.is_contiguous() or matrix.mT.is_contiguous()
    return matrix if whole else matrix.contiguous()


def outer(d: Tensor, v: Tensor, operands: torch.dtype) -> Tensor:
    """(R, M, N), (R, M, K) -> (R, N, K), a sum over M of products in the precision ``operands``."""
    rounded = operands != d.dtype and not d.is_cuda
    return _round(d, v, operands) if rounded else linear(d.mT, v.to(operands).mT)


def _round(d: Tensor, v: Tensor, operands: torch.dtype) -> Tensor:
    d, v = (w.to(operands).to(d.dtype) for w in (d, v))
    return d.mT @ v


def _suits_onednn(v: Tensor, weight: Tensor) -> bool:
    """torch.mm's float32 goes through MKL, which leaves AMD half idle; this op of torch's own, if
    it is there, goes through oneDNN. Shapes that do not match are left to torch.mm's message."""
    fits = len(v) == len(weight) and v.shape[-1] == weight.shape[-1] and v.numel() > 0
    usable = v.dtype is torch.float32 and v.device.type == "cpu"
    return fits and usable and torch.backends.mkldnn.is_available() and _HAS_OP


_HAS_OP = hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def mkl_suits() -> bool:
    """Whether torch.mm has MKL and MKL this processor's full speed: it must be of Intel's make."""
    info = Path("/proc/cpuinfo")
    maker = info.read_text() if info.exists() else platform.processor()
    return torch.backends.mkl.is_available() and "GenuineIntel" in maker
