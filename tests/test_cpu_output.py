"""What the CPU's kernel does between an output layer's products: at the borders of vectors, blocks
and memory, with any number of threads, and with numbers that are none."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_cpu_kernel import needs_kernel
from test_softmax import gradients, inputs, reference, relative, wide
from torch import Tensor

from recdrop import softmax
from recdrop.kernels import cpu
from recdrop.softmax import linear_cross_entropy

pytestmark = needs_kernel


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDROP_BACKEND", "cpu")


def numbers(n: int, v: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (n, v), bias (v,), target (n,), upstream (n,)."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, v, (n,), generator=g)
    logits, bias, upstream = (torch.randn(size, generator=g) for size in ((n, v), (v,), (n,)))
    return 3 * logits, bias, target, upstream


def between(logits, bias, target, upstream) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, their gradients by the logits, and those by the bias, added to ones."""
    z, losses, dbias = logits.clone(), torch.empty(len(logits)), torch.ones(logits.shape[1])
    cpu.cross_entropy(z, bias, target, losses, upstream, dbias)
    return losses, z, dbias


def exactly(logits, bias, target, upstream) -> tuple[Tensor, Tensor, Tensor]:
    z = logits.double() + (0 if bias is None else bias.double())
    hit = torch.nn.functional.one_hot(target, z.shape[1])
    d = (z.softmax(1) - hit) * upstream.double().unsqueeze(1)
    return z.logsumexp(1) - z.gather(1, target[:, None])[:, 0], d, 1 + d.sum(0)


columns = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 255, 257, 1000]))


@given(st.integers(1, 9), columns, st.booleans(), st.integers(0, 99))
def test_losses_and_gradients_are_those_of_float64(n, v, with_bias, seed):
    logits, bias, target, upstream = numbers(n, v, seed)
    args = logits, bias if with_bias else None, target, upstream
    losses, d, dbias = between(*args)
    expected = exactly(*args)
    for a, b in zip((losses, d), expected, strict=False):
        torch.testing.assert_close(a.double(), b, rtol=3e-6, atol=3e-6)
    if with_bias:
        torch.testing.assert_close(dbias.double(), expected[2], rtol=3e-6, atol=3e-6)
    else:
        assert torch.equal(dbias, torch.ones(v))


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
@pytest.mark.parametrize("v", [1, 5, 16, 21])
def test_losses_do_not_depend_on_where_zero_is(v: int, shift: float):
    """What fills up a vector is no logit, whose exp might be the only one that is not 0."""
    logits, _, target, upstream = numbers(3, v)
    args = (logits + shift, None, target, upstream)
    for a, b in zip(between(*args)[:2], exactly(*args), strict=False):
        torch.testing.assert_close(a.double(), b, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("around", [7.25, math.nan])
@pytest.mark.parametrize("ahead", [True, False], ids=["gradients", "losses alone"])
@pytest.mark.parametrize("v", [1, 15, 16, 17, 130])
def test_what_lies_beyond_the_ends_neither_matters_nor_changes(v: int, ahead: bool, around: float):
    logits, bias, target, upstream = numbers(3, v)
    expected = between(logits, bias, target, upstream)
    before = logits, bias, torch.zeros(3), torch.ones(v)
    fenced = [torch.full((value.numel() + 64,), around) for value in before]
    z, b, losses, dbias = (
        whole[32:-32].view(value.shape).copy_(value)
        for whole, value in zip(fenced, before, strict=True)
    )
    cpu.cross_entropy(z, b, target, losses, upstream if ahead else None, dbias)
    assert torch.equal(losses, expected[0])
    assert torch.equal(z, expected[1] if ahead else logits)
    assert torch.equal(dbias, expected[2] if ahead else torch.ones(v))
    for whole in fenced:
        ends = torch.cat([whole[:32], whole[-32:]])
        torch.testing.assert_close(ends, torch.full((64,), around), rtol=0, atol=0, equal_nan=True)


def test_threads_change_no_bit(threads):
    args, found = numbers(45, 1001), []
    for n in (1, 2, 3):
        threads(n)
        found.append(between(*args))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_losses_alone_have_the_same_bits():
    args = inputs((40,), 65, 333, torch.float32)
    with torch.no_grad():
        alone = linear_cross_entropy(*args)
    assert torch.equal(linear_cross_entropy(*args), alone)


@pytest.mark.parametrize("trouble", [math.inf, -math.inf, math.nan])
def test_trouble_in_a_row_stays_there(trouble: float):
    logits, bias, target, upstream = numbers(4, 37)
    expected = between(logits, bias, target, upstream)
    logits[2, 33] = trouble
    found = between(logits, bias, target, upstream)
    for a, b in zip(found[:2], expected, strict=False):
        assert torch.equal(a[[0, 1, 3]], b[[0, 1, 3]])
    if trouble == -math.inf:  # not trouble at all: a word that cannot be
        assert found[1][2, 33] == 0
        losses, *_ = exactly(logits, bias, target, upstream)
        torch.testing.assert_close(found[0], losses.float())
    else:
        assert found[0][2].isnan()
        assert found[1][2].isnan().all()


def test_a_target_that_cannot_be_costs_infinitely_much():
    logits, bias, _, upstream = numbers(2, 5)
    bias[3] = -math.inf
    losses, d, _ = between(logits, bias, torch.tensor([3, 0]), upstream)
    assert losses[0] == math.inf
    assert losses[1].isfinite()
    assert d[1].isfinite().all()
    assert d[0, 3] == -upstream[0]


def test_a_likely_targets_loss_is_exact():
    """log(1 + e^-z), which is nearly e^-z."""
    logits = torch.tensor([[12.0, 0.0], [30.0, 0.0], [200.0, 0.0]])
    losses, d, _ = between(logits, None, torch.zeros(3, dtype=torch.int64), torch.ones(3))
    torch.testing.assert_close(losses, torch.tensor([6.144e-6, 0, 0]), rtol=0, atol=1e-7)
    assert d[1, 1] == pytest.approx(math.exp(-30), rel=1e-6)
    assert d[2, 1] == 0


@pytest.mark.parametrize("bad", [-1, 11])
def test_a_target_outside_the_vocabulary_is_refused_and_nothing_written(bad: int):
    logits, bias, target, upstream = numbers(4, 11)
    target[3] = bad
    z, losses, dbias = logits.clone(), torch.zeros(4), torch.zeros(11)
    with pytest.raises(IndexError, match=rf"target {bad} is out of bounds; give 0 to 10"):
        cpu.cross_entropy(z, bias, target, losses, upstream, dbias)
    assert torch.equal(z, logits)
    assert not losses.any()
    assert not dbias.any()


def test_operands_with_gaps_are_read_right():
    logits, bias, target, upstream = numbers(6, 20)
    expected = between(logits, bias, target, upstream)
    gaps = [v.repeat_interleave(2)[::2] for v in (bias, target, upstream)]
    assert all(torch.equal(a, b) for a, b in zip(between(logits, *gaps), expected, strict=True))


PRODUCTS = {"oneDNN": getattr(torch.ops.mkldnn, "_linear_pointwise", None), "torch.mm": None}


@pytest.mark.parametrize("by", PRODUCTS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("uniform", [True, False], ids=["ahead", "again"])
def test_any_product_and_backend_gives_the_same_gradients(by, backend, uniform, monkeypatch):
    monkeypatch.setenv("RECDROP_BACKEND", backend)
    monkeypatch.setattr(softmax, "_onednn", PRODUCTS[by])
    monkeypatch.setattr(softmax, "CHUNK", 31_000)
    args = inputs((35, 9), 65, 1001, torch.float32)
    args[1].data /= 8
    upstream = torch.tensor(0.25) if uniform else torch.rand(35, 9)
    exact = wide(args)
    assert relative(linear_cross_entropy(*args).detach(), reference(*exact).detach()) < 1e-6
    found = gradients(linear_cross_entropy, *args, upstream)
    expected = gradients(reference, *exact, upstream.double())
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < 1e-6
    assert softmax._onednn is PRODUCTS[by]
