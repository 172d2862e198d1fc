"""The language models' output layer: values and gradients against plain float64 cross-entropy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdrop import softmax
from recdrop.bench.measure import peak_allocated
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [-1, 11])
def test_a_target_outside_the_vocabulary_is_refused(bad, dtype):
    x, weight, bias, target = inputs(dtype=dtype)
    target[3, 1] = bad
    with pytest.raises((RuntimeError, IndexError)):
        linear_cross_entropy(x, weight, bias, target)


@pytest.mark.parametrize("shape", [(3, 5), (15,), (5,), (5, 3, 1)])
def test_targets_of_another_shape_are_refused(shape):
    """As many targets as rows, but batch first, would be paired wrongly."""
    x, weight, bias, _ = inputs((5, 3))
    with pytest.raises(ValueError, match=r"target has the shape .* one target for each of the \(5"):
        linear_cross_entropy(x, weight, bias, torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(("weight", "bias", "told"), [
    ((11, 6), None, "weight has the shape .* give a weight of .V, 5"),
    ((1, 11, 5), None, "weight has the shape .* give a weight of .V, 5"),
    ((11, 5), (10,), "bias has the shape .* give a bias of .11,"),
    ((11, 5), (1, 11), "bias has the shape .* give a bias of .11,"),
])  # fmt: skip
def test_weights_and_biases_of_another_shape_are_refused(weight, bias, told):
    """A kernel would read and write behind a bias that is too short."""
    x, *_, target = inputs(dtype=torch.float32)
    with pytest.raises(ValueError, match=told):
        linear_cross_entropy(x, torch.zeros(weight), bias and torch.zeros(bias), target)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32])
def test_targets_of_another_type_are_refused(dtype):
    x, weight, bias, target = inputs(dtype=torch.float32)
    with pytest.raises(TypeError, match=r"target is torch\.\w+; give torch\.int64"):
        linear_cross_entropy(x, weight, bias, target.to(dtype))


def test_derivatives_by_torch_func_are_refused():
    x, weight, bias, target = inputs()
    with pytest.raises(NotImplementedError, match="linear_cross_entropy"):
        torch.func.jvp(lambda x: linear_cross_entropy(x, weight, bias, target), (x,), (x,))


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 60))
def test_chunks_cover_all_rows_once_and_keep_their_size(n, width, limit):
    before, softmax.CHUNK = softmax.CHUNK, limit
    try:
        chunks = list(softmax._chunks(n, width))
    finally:
        softmax.CHUNK = before
    assert [i for rows in chunks for i in range(rows.start, rows.stop)] == list(range(n))
    lengths = [rows.stop - rows.start for rows in chunks]
    assert all(length == 1 or length * width <= limit for length in lengths)
    assert all(length == lengths[0] for length in lengths[:-1])


@pytest.mark.parametrize("low", [False, True])
def test_logits_never_exist_as_a_whole(low):
    """All that a step allocates, results included, is smaller than the logits alone."""
    n, v = 1120, 10_000
    args = inputs((n,), 64, v, torch.float32)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            linear_cross_entropy(*args).mean().backward()
        for parameter in args[:3]:
            parameter.grad = None

    assert peak_allocated(step) < 0.75 * n * v * 4


# gradients taken ahead


def counted(monkeypatch) -> list[int]:
    """The networks that are gone through, one after the other."""
    seen, network = [], softmax._network
    monkeypatch.setattr(softmax, "_network", lambda r, *args: [seen.append(r), network(r, *args)])
    return seen


@pytest.mark.parametrize("upstream", [1.0, -0.3])
def test_summed_losses_are_gone_through_once(upstream, monkeypatch):
    seen = counted(monkeypatch)
    args = inputs()
    found = gradients(linear_cross_entropy, *args, upstream)
    assert seen == [0]
    for a, b in zip(found, gradients(reference, *args, upstream), strict=True):
        torch.testing.assert_close(a, b)


def test_losses_weighted_one_by_one_are_gone_through_again(monkeypatch):
    seen = counted(monkeypatch)
    args, upstream = inputs(), torch.rand(7, 3, dtype=torch.float64)
    found = gradients(linear_cross_entropy, *args, upstream)
    assert seen == [0, 0]
    for a, b in zip(found, gradients(reference, *args, upstream), strict=True):
        torch.testing.assert_close(a, b)


def test_without_gradients_none_are_taken():
    x, weight, bias, target = (v.unsqueeze(0).detach() for v in inputs((6,)))
    losses, *ahead = cross_entropy(x, weight, bias, target)
    assert losses.shape == (1, 6)
    assert [v.shape for v in ahead] == [(1, 0)] * 3


def test_gradients_that_were_not_taken_ahead_come_late():
    x, weight, bias, target = inputs((6,))
    stacked = [v.detach().unsqueeze(0).requires_grad_() for v in (x, weight, bias)]
    cross_entropy(*stacked, target.unsqueeze(0))[0].sum().backward()
    for a, b in zip(stacked, gradients(reference, x, weight, bias, target, 1.0), strict=True):
        torch.testing.assert_close(a.grad[0], b)


def test_no_rows_give_gradients_of_zero():
    x, weight, bias, target = inputs((0,))
    for grad, of in zip(gradients(linear_cross_entropy, x, weight, bias, target, 1.0),
                        (x, weight, bias), strict=True):  # fmt: skip
        assert torch.equal(grad, torch.zeros_like(of))


def test_a_graph_can_be_gone_through_twice_but_not_differentiated():
    x, weight, bias, target = inputs()
    loss = linear_cross_entropy(x, weight, bias, target).sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (again,) = torch.autograd.grad(loss, x, create_graph=True)
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        again.square().sum().backward()


# precision


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def wide(args):
    return [v.detach().double().requires_grad_() if v is not None and v.is_floating_point() else v
            for v in args]  # fmt: skip


@pytest.mark.parametrize("uniform", [True, False], ids=["ahead", "again"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("low", "tolerance"), [(False, 1e-6), (True, 5e-3)], ids=["fp32", "bf16"])
def test_gradients_are_near_those_of_float64(low, tolerance, bias, uniform, monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 31_000)
    args = inputs((35, 9), 65, 1001, torch.float32, bias)
    args[1].data /= 8  # so that logits are of the order of 1
    upstream = torch.tensor(0.25) if uniform else torch.rand(35, 9)

    def ours(*args):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return linear_cross_entropy(*args)

    exact = wide(args)
    assert relative(ours(*args).detach(), reference(*exact).detach()) < tolerance
    found = gradients(ours, *args, upstream)
    expected = gradients(reference, *exact, upstream.double())
    assert all(v.dtype is torch.float32 for v in found)
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < tolerance


def test_without_onednn_torchs_product_is_as_good(monkeypatch):
    args = inputs((35,), 65, 101, torch.float32)
    expected = gradients(linear_cross_entropy, *args, 1.0)

    def changed(*_):
        raise RuntimeError("expected other arguments")

    for absent in (changed, None):
        monkeypatch.setattr(softmax, "_onednn", absent)
        found = gradients(linear_cross_entropy, *args, 1.0)
        assert softmax._onednn is None
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_wrong_shape_is_refused_and_leaves_the_fast_product(monkeypatch):
    before = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    monkeypatch.setattr(softmax, "_onednn", before)
    x, _, _, target = inputs(k=5, dtype=torch.float32)
    with pytest.raises(RuntimeError):
        softmax.cross_entropy(x.view(1, -1, 5), torch.randn(1, 11, 6), None, target.view(1, -1))
    assert softmax._onednn is before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_throughout(dtype):
    args = [v.detach().to(dtype).requires_grad_() if v.is_floating_point() else v for v in inputs()]
    losses = linear_cross_entropy(*args)
    assert losses.dtype is dtype
    found = gradients(linear_cross_entropy, *args, torch.tensor(0.5, dtype=dtype))
    assert all(v.dtype is dtype for v in found)
    expected = gradients(reference, *wide(args), 0.5)
    assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < 3e-2


@pytest.mark.parametrize("low", [False, True])
def test_the_same_input_gives_the_same_bits(low, monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK", 31_000)
    args = inputs((315,), 65, 1001, torch.float32)

    def once():
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            return gradients(linear_cross_entropy, *args, 1.0)

    for a, b in zip(once(), once(), strict=True):
        assert torch.equal(a, b)


# torch.autocast


def test_autocast_rounds_operands_only_where_gradients_are_recorded():
    args = inputs((35,), 65, 101, torch.float32)
    exact = linear_cross_entropy(*args)
    with torch.autocast("cpu", torch.bfloat16):
        trained = linear_cross_entropy(*args)
        with torch.no_grad():
            evaluated = linear_cross_entropy(*args)
    assert trained.dtype is evaluated.dtype is torch.float32
    assert not torch.equal(trained, exact)
    assert torch.equal(evaluated, exact)


def test_gradients_do_not_depend_on_where_backward_is_called(monkeypatch):
    """Torch would round in the backward pass, too, if it was called under autocast."""
    monkeypatch.setattr(softmax, "_onednn", None)
    x, weight, bias, target = inputs((35,), 65, 101, torch.float32)
    weights = torch.rand(35)  # one by one: the backward pass goes through all again
    losses, found = linear_cross_entropy(x, weight, bias, target), []
    for inside in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(losses, (x, weight), weights, retain_graph=True))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_autocast_takes_a_low_input_to_float32():
    x, weight, bias, target = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_cross_entropy(x.bfloat16(), weight, bias, target).dtype is torch.float32


def test_autocast_to_float16_computes_in_float32():
    """Losses of float16 would be steps of a hundredth, and kernels have no operands of it."""
    x, weight, bias, target = inputs((35,), 65, 101, torch.float32)
    with torch.autocast("cpu", torch.float16):
        losses = linear_cross_entropy(x.half(), weight, bias, target)
    assert torch.equal(losses, linear_cross_entropy(x.half().float(), weight, bias, target))


def test_autocast_leaves_double_alone():
    args = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        losses = linear_cross_entropy(*args)
    assert torch.equal(losses, linear_cross_entropy(*args))


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
    for ahead, bf16 in ((False, False), (True, False), (True, True)):
        if bf16:
            stacked = [None if v is None else v.detach().float() for v in stacked]
        torch.library.opcheck(cross_entropy, (*stacked, target.repeat(2, 1), ahead, bf16))


@pytest.mark.parametrize("low", [False, True])
def test_a_networks_bits_do_not_depend_on_its_neighbours(low, monkeypatch):
    """Also where a neighbour's losses are weighted one by one, or are not numbers."""
    monkeypatch.setattr(softmax, "CHUNK", 3000)
    args = [inputs((33,), 17, 257, torch.float32, seed=s) for s in range(3)]
    upstream = torch.full((3, 33), 0.5)
    upstream[1] = torch.rand(33)

    def run(which: list[int]) -> list[Tensor]:
        x, w, b, y = (torch.stack([args[r][i].detach() for r in which]) for i in range(4))
        x, w, b = (v.requires_grad_() for v in (x, w, b))
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses = torch.vmap(linear_cross_entropy)(x, w, b, y)
        return [losses, *torch.autograd.grad((losses * upstream[which]).sum(), (x, w, b))]

    with torch.no_grad():
        args[2][0].fill_(float("nan"))
    together = run([0, 1, 2])
    for r in (0, 1):
        for a, b in zip(run([r]), together, strict=True):
            assert torch.equal(a[0], b[r])


def test_compiled_it_stays_one_graph():
    args = inputs(dtype=torch.float32)
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    for a, b in zip(gradients(compiled, *args, 0.5), gradients(linear_cross_entropy, *args, 0.5),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)
