"""Derivatives other than backward's: refused where torch would leave them out in silence."""

from collections.abc import Callable

import pytest
import torch
from test_transforms import B, H, I, T, every_kind
from torch import Tensor, nn
from torch.autograd import forward_ad

import recdrop
from recdrop import RecurrentDropout
from recdrop.softmax import linear_cross_entropy


def forward_derivative(module: nn.Module, x: Tensor) -> Tensor:
    return torch.func.jvp(lambda x: module(x)[0], (x,), (torch.ones_like(x),))[1]


def backward_derivative(module: nn.Module, x: Tensor) -> Tensor:
    return torch.func.grad(lambda x: module(x)[0].sum())(x)


@every_kind
@pytest.mark.parametrize("derivative", [forward_derivative, backward_derivative])
@pytest.mark.parametrize("compiled", [None, "within", "around"])
def test_derivatives_by_torch_func_are_refused_and_not_zero(
    kind: str, derivative: Callable, compiled: str | None
):
    """Torch itself passes over the operator's forward derivative as if it were zero."""
    module = getattr(recdrop, kind)(I, H, recurrent_dropout=RecurrentDropout.gal(0.5))
    if compiled == "within":
        module = torch.compile(module, backend="eager")
    if compiled == "around":
        derivative = torch.compile(derivative, backend="eager")
    with pytest.raises(NotImplementedError, match="recdrop's scan; take gradients by backward"):
        derivative(module, torch.randn(T, B, I))


@every_kind
def test_without_dropout_torch_func_differentiates_as_in_torch(kind: str):
    module, torchs = getattr(recdrop, kind)(I, H), getattr(nn, kind)(I, H)
    torchs.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I)
    torch.testing.assert_close(backward_derivative(module, x), backward_derivative(torchs, x))


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_dual_tensors_are_refused(kind: str, training: bool):
    """Where nothing requires a gradient, torch passes over the operator: no tangent is left."""
    drop = RecurrentDropout.gal(0.5, scaling="paper")
    module = getattr(recdrop, kind)(I, H, recurrent_dropout=drop).requires_grad_(False)
    x = torch.randn(T, B, I)
    with forward_ad.dual_level():
        module.train(training)(x)  # without a tangent there is nothing to lose
        with pytest.raises(NotImplementedError, match="forward_ad, do not know recdrop's scan"):
            module(forward_ad.make_dual(x, torch.ones_like(x)))


def test_dual_tensors_are_refused_by_the_output_layer():
    x, weight, target = torch.randn(T, I), torch.randn(H, I), torch.zeros(T, dtype=torch.int64)
    with forward_ad.dual_level():
        linear_cross_entropy(x, weight, None, target)
        with pytest.raises(NotImplementedError, match="linear_cross_entropy"):
            linear_cross_entropy(forward_ad.make_dual(x, x), weight, None, target)
