"""The language models' output layer: values and gradients against plain float64 cross-entropy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdrop import softmax
from recdrop.softmax import cross_entropy, linear_cross_entropy


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
    """-log(exp(z_t) / sum_v exp(z_v)), as one writes it down."""
    z = x @ weight.T + (0 if bias is None else bias)
    z = z - z.amax(-1, keepdim=True).detach()
    p = z.exp() / z.exp().sum(-1, keepdim=True)
    return -p.gather(-1, target.unsqueeze(-1)).squeeze(-1).log()


def inputs(shape=(7, 3), k=5, v=11, dtype=torch.float64, bias=True, seed=0):
    g = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=dtype, requires_grad=True)

    target = torch.randint(0, v, shape, generator=g)
    return draw(*shape, k), draw(v, k), draw(v) if bias else None, target


def gradients(fn, x, weight, bias, target, upstream) -> list[Tensor]:
    given_ = [v for v in (x, weight, bias) if v is not None]
    return list(torch.autograd.grad((fn(x, weight, bias, target) * upstream).sum(), given_))


chunks = st.sampled_from([1, 3, 10, 11, 12, 23, 55, 10**6])


@given(chunks, st.integers(1, 23), st.integers(1, 13), st.integers(1, 9), st.booleans())
def test_values_and_gradients_equal_the_reference_for_any_chunking(chunk, n, v, k, bias):
    """Chunks of one row, of all rows, and with a shorter one at the end."""
    args = inputs((n,), k, v, bias=bias)
    upstream = torch.randn(n, dtype=torch.float64)
    before, softmax.CHUNK = softmax.CHUNK, chunk
    try:
        found = linear_cross_entropy(*args)
        grads = gradients(linear_cross_entropy, *args, upstream)
    finally:
        softmax.CHUNK = before
    torch.testing.assert_close(found, reference(*args), rtol=1e-10, atol=1e-10)
    for a, b in zip(grads, gradients(reference, *args, upstream), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_float32_is_as_near_as_float32_is(bias, monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 1000)
    args = inputs((35, 4), 32, 301, torch.float32, bias)
    wide = [v.detach().double().requires_grad_() if v is not None and v.is_floating_point() else v
            for v in args]  # fmt: skip
    upstream = torch.rand(35, 4)
    torch.testing.assert_close(
        linear_cross_entropy(*args).double(), reference(*wide), rtol=1e-5, atol=1e-5
    )
    found = gradients(linear_cross_entropy, *args, upstream)
    for a, b in zip(found, gradients(reference, *wide, upstream), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (5,), (7, 3), (2, 3, 4), (0,), (0, 3)])
def test_any_leading_dimensions(shape):
    args = inputs(shape)
    found = linear_cross_entropy(*args)
    assert found.shape == shape
    torch.testing.assert_close(found, reference(*args))


def test_gradients_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 17)
    *parameters, target = inputs((3, 2), 3, 5)
    assert torch.autograd.gradcheck(lambda *p: linear_cross_entropy(*p, target), parameters)


def test_only_what_needs_a_gradient_gets_one():
    x, weight, bias, target = inputs()
    weight.requires_grad_(False)
    linear_cross_entropy(x, weight, bias, target).sum().backward()
    assert weight.grad is None
    assert x.grad is not None
    assert bias.grad is not None


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_neither_overflow_nor_lose_the_loss(size):
    weight = torch.tensor([[size], [0.0], [0.0]], requires_grad=True)
    x = torch.ones(2, 1, requires_grad=True)
    losses = linear_cross_entropy(x, weight, None, torch.tensor([0, 1]))
    expected = [0.0, 1e4] if size > 0 else [1e4 + 0.6931472, 0.6931472]
    assert losses.tolist() == pytest.approx(expected)
    losses.sum().backward()
    assert weight.grad.isfinite().all()


def test_a_bad_row_spoils_no_other():
    x, weight, bias, target = inputs((4,))
    with torch.no_grad():
        x[2] = float("nan")
    losses = linear_cross_entropy(x, weight, bias, target)
    assert losses.isfinite().tolist() == [True, True, False, True]


def test_inputs_are_left_as_they_are():
    args = inputs()
    before = [v.detach().clone() for v in args]
    linear_cross_entropy(*args).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(args, before, strict=True))


@pytest.mark.parametrize("bad", [-1, 11])
def test_a_target_outside_the_vocabulary_is_refused(bad):
    x, weight, bias, target = inputs()
    target[3, 1] = bad
    with pytest.raises((RuntimeError, IndexError)):
        linear_cross_entropy(x, weight, bias, target)


def test_logits_never_exist_as_a_whole(monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 40)
    x, weight = torch.randn(2, 23, 5), torch.randn(2, 11, 5)
    seen = [(r, rows.start, rows.stop, logits.numel())
            for r, rows, logits in softmax._logits(x, weight, None)]  # fmt: skip
    assert max(n for *_, n in seen) <= 40
    covered = [(r, i) for r, start, stop, _ in seen for i in range(start, stop)]
    assert covered == [(r, i) for r in range(2) for i in range(23)]


# several networks


def test_networks_mapped_over_equal_each_alone():
    args = [inputs((6,), seed=s) for s in range(3)]
    x, weight, bias = (torch.stack([a[i].detach() for a in args]).requires_grad_()
                       for i in range(3))  # fmt: skip
    target = args[0][3]
    losses = torch.vmap(linear_cross_entropy, (0, 0, 0, None))(x, weight, bias, target)
    losses.sum().backward()
    for r, (xr, wr, br, _) in enumerate(args):
        alone = linear_cross_entropy(xr, wr, br, target)
        torch.testing.assert_close(losses[r], alone)
        for a, b in zip((x, weight, bias), torch.autograd.grad(alone.sum(), (xr, wr, br)),
                        strict=True):  # fmt: skip
            torch.testing.assert_close(a.grad[r], b)


@pytest.mark.parametrize("bias", [True, False])
def test_the_operator_keeps_torch_librarys_rules(bias):
    x, weight, b, target = inputs((6,), bias=bias)
    stacked = [None if v is None else v.detach().unsqueeze(0).repeat(2, *[1] * v.dim())
               for v in (x, weight, b)]  # fmt: skip
    stacked = [None if v is None else v.requires_grad_() for v in stacked]
    torch.library.opcheck(cross_entropy, (*stacked, target.repeat(2, 1)))
