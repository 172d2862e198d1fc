"""Initial weights as in the authors' experiments."""

import torch
from torch import nn


def uniform(network: nn.Module, bound: float, seed: int) -> nn.Module:
    """Every parameter, biases too, from U(-bound, bound), depending on ``seed`` alone.

    The paper's cells have one bias per gate where torch.nn's layers have two: the second is set to
    zero and not trained.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "bias_hh" in name:
            nn.init.zeros_(parameter).requires_grad_(False)
        else:
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network
