"""The precision in which networks are trained: that of matrix products; all else is float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


def settings(precision: str, protocol: str) -> dict:
    """What a condition's settings say of it: results of another precision than exact float32 are
    of a protocol of their own, and never stand in one cell with those of float32.

    >>> settings("fp32", "paper"), settings("bf16", "paper")
    ({}, {'precision': 'bf16', 'protocol': 'paper-bf16'})

    Raises:
        ValueError: ``precision`` is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is unknown; choose one of {PRECISIONS}")
    if precision == "fp32":
        return {}
    return {"precision": precision, "protocol": f"{protocol}-{precision}"}


@contextmanager
def arithmetic(settings: dict, device: str) -> Iterator[None]:
    """Inside, products are in the precision that a condition's ``settings`` name.

    ``bf16`` rounds operands to bfloat16, ``tf32`` to ten bits of fraction; sums are float32.

    Raises:
        ValueError: TF32 is asked for where there is no GPU.
    """
    precision = settings.get("precision", "fp32")
    if precision == "tf32" and device == "cpu":
        raise ValueError("precision='tf32' exists on a GPU alone; give 'fp32' or 'bf16'")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        # Without its cache, which would hold the weights of the first update for all the others.
        low = precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=low, cache_enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
