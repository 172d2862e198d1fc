"""Which implementation runs, for people to read."""

import torch

from recdrop.kernels import cpu, triton
from recdrop.kernels.choice import choice


def backend(device: str | torch.device = "cpu") -> str:
    """Which implementation an LSTM on a device runs: ``cpu``, ``triton`` or ``reference``, and why.

    Compiles the CPU's kernel if need be. GRU, RNN, and modules in float64 or float16, run in plain
    PyTorch, as float16 does not under torch.autocast.

    Raises ValueError for an unknown ``RECDROP_BACKEND``, RuntimeError for an unknown device.
    """
    kind = torch.device(device).type
    if choice() == "reference":
        return "reference: plain PyTorch, as RECDROP_BACKEND=reference"
    if kind == "cpu":
        return cpu.description()
    if kind == "cuda":
        return triton.description()
    return f"reference: plain PyTorch, as there is no kernel for {kind}"
