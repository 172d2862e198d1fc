"""LSTM, GRU and RNN as drop-ins for torch.nn's: the same bits without dropout, the reference's
numbers with it, in every layout torch.nn knows, and its errors."""

import copy
import inspect
import pickle

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import recdrop
from recdrop import RecurrentDropout, masks

KINDS = ["LSTM", "GRU", "RNN"]
I, H, T, B = 4, 9, 6, 3
State = Tensor | tuple[Tensor, Tensor]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_shape = pytest.mark.parametrize(
    ("num_layers", "bidirectional"), [(1, False), (1, True), (2, False), (2, True)]
)


def some_dropout(kind: str, scaling: str = "inverted") -> RecurrentDropout:
    gal = RecurrentDropout.gal(0.4, scaling=scaling)
    if kind == "RNN":
        return gal
    own = RecurrentDropout.semeniuta(0.3, scaling=scaling)
    return gal | own | RecurrentDropout.moon(0.2, scaling=scaling)


def ours(kind: str, drop: RecurrentDropout | None = None, **options) -> nn.RNNBase:
    options = {"dtype": torch.float64, **options}
    return getattr(recdrop, kind)(I, H, recurrent_dropout=drop, **options)


def theirs(module: nn.RNNBase, kind: str, **options) -> nn.RNNBase:
    """torch.nn's network with the same weights."""
    options = {"dtype": torch.float64, **options}
    twin = getattr(nn, kind)(I, H, **options)
    twin.load_state_dict(module.state_dict())
    return twin.train(module.training)


def data(*shape: int) -> Tensor:
    return torch.randn(*(shape or (T, B, I)), dtype=torch.float64)


def initial(module: nn.RNNBase, *batch: int) -> State:
    """A random initial state; `batch` is (B,), or nothing for an unbatched one."""
    D = module.num_layers * (1 + module.bidirectional)
    shape = (D, *batch, H)
    return (data(*shape), data(*shape)) if isinstance(module, nn.LSTM) else data(*shape)


def flat(result: object) -> list[Tensor]:
    """Output and state, packed or not, as a list of tensors."""
    if isinstance(result, PackedSequence):
        return [result.data]
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in flat(part)]


def assert_equal(a: object, b: object) -> None:
    for left, right in zip(flat(a), flat(b), strict=True):
        assert left.shape == right.shape
        assert torch.equal(left, right)


def assert_close(a: object, b: object) -> None:
    for left, right in zip(flat(a), flat(b), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def gradients(result: object, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v * torch.randn(v.shape, dtype=v.dtype, generator=generator)).sum() for v in flat(result)
    )
    return torch.autograd.grad(loss, wanted)


def repeat(module: nn.RNNBase, *args: object) -> tuple:
    """A forward with the masks of seed 11, whatever was drawn before."""
    with masks.seeding(torch.tensor(11)):
        return module(*args)


def expected(
    module: nn.RNNBase, x: Tensor, hx: State, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """The reference's answer for `repeat(module, x, hx)`, x (T, B, I)."""
    drop = module.recurrent_dropout
    q = [1 - threshold / 65536 for threshold in drop.thresholds]
    training = module.training
    factor = {
        ("inverted", True): [1 / k for k in q],
        ("inverted", False): [1.0] * 3,
        ("paper", True): [1.0] * 3,
        ("paper", False): q,
    }[drop.scaling, training]
    with masks.seeding(torch.tensor(11)):
        seed = int(masks.next_seed())
    lstm = isinstance(module, nn.LSTM)
    h0, c0 = hx if lstm else (hx, None)
    activation = module.nonlinearity if isinstance(module, nn.RNN) else module.activation
    output, h_n, c_n = reference.stack(
        f"{type(module).__name__.lower()}_{activation}", module, x, h0, c0,
        drop.thresholds if training else (0, 0, 0), torch.tensor(factor, dtype=x.dtype),
        drop.per_step, seed, lengths,
    )  # fmt: skip
    return output, ((h_n, c_n) if lstm else h_n)


# without active recurrent dropout: torch's own, bit for bit


@every_kind
@every_shape
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("why", ["none", "rates_0", "evaluation"])
def test_inactive_is_torchs_own(
    kind: str, num_layers: int, bidirectional: bool, batch_first: bool, bias: bool, why: str
):
    drop = {"none": None, "rates_0": RecurrentDropout(), "evaluation": some_dropout(kind)}[why]
    options = {
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
        "bias": bias,
    }
    module = ours(kind, drop, **options).train(why != "evaluation")
    twin = theirs(module, kind, **options)
    x = data().transpose(0, 1).contiguous() if batch_first else data()
    x.requires_grad_()
    hx = initial(module, B)
    state = torch.get_rng_state()
    mine, torchs = module(x, hx), twin(x, hx)
    assert_equal(mine, torchs)
    assert_equal(
        gradients(mine, [x, *module.parameters()]), gradients(torchs, [x, *twin.parameters()])
    )
    assert torch.equal(torch.get_rng_state(), state), "no random number is drawn"


@every_kind
def test_inactive_with_dropout_between_layers_is_torchs_own(kind: str):
    """The same masks between the layers, too: torch's, from torch's generator."""
    module = ours(kind, RecurrentDropout(), num_layers=3, dropout=0.5)
    twin, x = theirs(module, kind, num_layers=3, dropout=0.5), data()
    torch.manual_seed(1)
    mine = module(x)
    torch.manual_seed(1)
    assert_equal(mine, twin(x))


@every_kind
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_inactive_and_packed_is_torchs_own(kind: str, enforce_sorted: bool):
    module = ours(kind, some_dropout(kind), bidirectional=True).eval()
    lengths = [6, 4, 1] if enforce_sorted else [1, 6, 4]
    packed = pack_padded_sequence(data(), lengths, enforce_sorted=enforce_sorted)
    hx = initial(module, B)
    assert_equal(module(packed, hx), theirs(module, kind, bidirectional=True)(packed, hx))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_has_torchs_nonlinearity(nonlinearity: str):
    module = ours("RNN", some_dropout("RNN"), nonlinearity=nonlinearity).eval()
    x = data()
    assert_equal(module(x), theirs(module, "RNN", nonlinearity=nonlinearity)(x))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@every_shape
def test_relu_without_dropout_equals_the_reference(kind: str, num_layers: int, bidirectional: bool):
    """torch.nn has no LSTM or GRU with relu, so there is no operator of its own to equal."""
    module = ours(
        kind, RecurrentDropout(), activation="relu", num_layers=num_layers,
        bidirectional=bidirectional,
    )  # fmt: skip
    x, hx = data(), initial(module, B)
    assert_close(module(x, hx), expected(module, x, hx))
    assert_equal(module(x, hx), module.eval()(x, hx))


@every_kind
def test_is_a_torch_module(kind: str):
    module = ours(kind, some_dropout(kind))
    assert isinstance(module, getattr(nn, kind))
    assert list(module.state_dict()) == list(getattr(nn, kind)(I, H).state_dict())


@every_kind
def test_takes_torchs_positional_arguments(kind: str):
    module = getattr(recdrop, kind)(I, H, 2)
    assert (module.input_size, module.hidden_size, module.num_layers) == (I, H, 2)
    names = list(inspect.signature(getattr(recdrop, kind)).parameters)
    assert names[:3] == ["input_size", "hidden_size", "num_layers"]


@every_kind
@every_shape
def test_state_dict_both_ways(kind: str, num_layers: int, bidirectional: bool):
    options = {"num_layers": num_layers, "bidirectional": bidirectional}
    module = ours(kind, some_dropout(kind), **options).eval()
    twin = getattr(nn, kind)(I, H, dtype=torch.float64, **options)
    x = data()
    module.load_state_dict(twin.state_dict())
    assert_equal(module(x), twin(x))
    other = ours(kind, some_dropout(kind), **options)
    twin.load_state_dict(other.state_dict())
    assert_equal(other.eval()(x), twin(x))


@every_kind
def test_initialises_like_torch(kind: str):
    torch.manual_seed(1)
    module = ours(kind, some_dropout(kind))
    torch.manual_seed(1)
    twin = getattr(nn, kind)(I, H, dtype=torch.float64)
    for a, b in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


# with dropout: the reference's numbers


@every_kind
@every_shape
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_every_shape_equals_the_reference(
    kind: str, num_layers: int, bidirectional: bool, scaling: str, training: bool
):
    module = ours(
        kind, some_dropout(kind, scaling), num_layers=num_layers, bidirectional=bidirectional
    ).train(training)
    x, hx = data().requires_grad_(), initial(module, B)
    wanted = [x, *(v.requires_grad_() for v in flat(hx)), *module.parameters()]
    mine, theirs = repeat(module, x, hx), expected(module, x, hx)
    assert_close(mine, theirs)
    assert_close(gradients(mine, wanted), gradients(theirs, wanted))


@every_kind
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_bias_and_activation(kind: str, bias: bool, activation: str):
    name = "nonlinearity" if kind == "RNN" else "activation"
    module = ours(kind, some_dropout(kind), bias=bias, **{name: activation})
    x, hx = data(), initial(module, B)
    assert len(list(module.parameters())) == (4 if bias else 2)
    assert_close(repeat(module, x, hx), expected(module, x, hx))


@every_kind
@every_shape
@pytest.mark.parametrize("lengths", [[6, 4, 1], [1, 6, 4], [2, 2, 2]], ids=str)
def test_packed_equals_the_reference(
    kind: str, num_layers: int, bidirectional: bool, lengths: list[int]
):
    """Masks belong to the caller's rows, however PackedSequence sorts them."""
    module = ours(kind, some_dropout(kind), num_layers=num_layers, bidirectional=bidirectional)
    x, hx = data().requires_grad_(), initial(module, B)
    wanted = [x, *(v.requires_grad_() for v in flat(hx)), *module.parameters()]
    output, state = repeat(module, pack_padded_sequence(x, lengths, enforce_sorted=False), hx)
    padded, returned = pad_packed_sequence(output)
    output, wanted_state = expected(module, x, hx, torch.tensor(lengths))
    output = output[: max(lengths)].clone()
    for row, length in enumerate(lengths):
        output[length:, row] = 0  # what pad_packed_sequence puts there
    assert returned.tolist() == lengths
    assert_close((padded, state), (output, wanted_state))
    assert_close(
        gradients((padded, state), wanted), gradients((output, wanted_state), wanted)
    )  # fmt: skip


# layouts


@every_kind
@pytest.mark.parametrize("given_state", [False, True])
def test_batch_first_is_the_transpose(kind: str, given_state: bool):
    module = ours(kind, some_dropout(kind), num_layers=2, bidirectional=True)
    twin = copy.deepcopy(module)
    twin.batch_first = True
    x, hx = data(), (initial(module, B) if given_state else None)
    output, state = repeat(module, x, hx)
    first_output, first_state = repeat(twin, x.transpose(0, 1), hx)
    assert_equal((output, state), (first_output.transpose(0, 1), first_state))


@every_kind
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
def test_unbatched_is_a_batch_of_one(kind: str, batch_first: bool, given_state: bool):
    module = ours(kind, some_dropout(kind), num_layers=2, batch_first=batch_first)
    x = data(T, I)
    hx = initial(module) if given_state else None
    batched = hx if hx is None else tuple(v.unsqueeze(1) for v in flat(hx))
    if kind != "LSTM" and batched is not None:
        (batched,) = batched
    axis = 0 if batch_first else 1
    output, state = repeat(module, x, hx)
    wide_output, wide_state = repeat(module, x.unsqueeze(axis), batched)
    assert output.shape == (T, H)
    assert_equal([output, *flat(state)], [wide_output.squeeze(axis),
                                          *(v.squeeze(1) for v in flat(wide_state))])  # fmt: skip


@every_kind
@every_shape
def test_absent_initial_state_is_zero(kind: str, num_layers: int, bidirectional: bool):
    module = ours(kind, some_dropout(kind), num_layers=num_layers, bidirectional=bidirectional)
    x, hx = data(), initial(module, B)
    zeros = (hx[0] * 0, hx[1] * 0) if kind == "LSTM" else hx * 0
    assert_equal(repeat(module, x), repeat(module, x, zeros))


@every_kind
def test_final_state_is_the_last_output(kind: str):
    module = ours(kind, some_dropout(kind), num_layers=2, bidirectional=True)
    output, state = module(data())
    h_n = state[0] if kind == "LSTM" else state
    assert torch.equal(output[-1, :, :H], h_n[2])
    assert torch.equal(output[0, :, H:], h_n[3])


@every_kind
@pytest.mark.parametrize("sizes", [(1, 1, I), (1, B, I), (T, 1, I)], ids=str)
def test_sizes_of_one(kind: str, sizes: tuple[int, int, int]):
    module = ours(kind, some_dropout(kind), num_layers=2, bidirectional=True)
    x, hx = data(*sizes), initial(module, sizes[1])
    assert_close(repeat(module, x, hx), expected(module, x, hx))


@every_kind
def test_an_empty_batch(kind: str):
    """The last, ragged batch of a loader may be empty; torch.nn allows it."""
    module = ours(kind, some_dropout(kind), num_layers=2, bidirectional=True)
    output, state = module(data(T, 0, I))
    assert output.shape == (T, 0, 2 * H)
    assert all(v.shape == (4, 0, H) for v in flat(state))
    output.sum().backward()
    assert not module.weight_ih_l0.grad.any()


@every_kind
def test_strided_input(kind: str):
    module = ours(kind, some_dropout(kind))
    x = data(T, I, B).transpose(1, 2)
    assert_equal(repeat(module, x), repeat(module, x.contiguous()))


# packed sequences


@every_kind
@every_shape
@pytest.mark.parametrize("enforce_sorted", [True, False], ids=["sorted", "unsorted"])
def test_packed_rows_are_their_unpadded_runs(
    kind: str, num_layers: int, bidirectional: bool, enforce_sorted: bool
):
    """In evaluation under Eq. 3: our own path, and no mask depends on the row."""
    module = ours(
        kind, some_dropout(kind, "paper"), num_layers=num_layers, bidirectional=bidirectional
    ).eval()
    lengths = [6, 4, 1] if enforce_sorted else [1, 6, 4]
    rows = [data(n, I) for n in lengths]
    hx = initial(module, B)
    output, state = module(pack_sequence(rows, enforce_sorted=enforce_sorted), hx)
    padded, _ = pad_packed_sequence(output)
    for row, length in enumerate(lengths):
        start = tuple(v[:, row].contiguous() for v in flat(hx))
        alone, alone_state = module(rows[row], start if kind == "LSTM" else start[0])
        assert_close(
            [padded[:length, row], *(v[:, row] for v in flat(state))], [alone, alone_state]
        )


@every_kind
def test_packed_output_is_packed_like_its_input(kind: str):
    module = ours(kind, some_dropout(kind), bidirectional=True)
    packed = pack_padded_sequence(data(), [1, 6, 4], enforce_sorted=False)
    output, _ = module(packed)
    assert isinstance(output, PackedSequence)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(output, name), getattr(packed, name))


@every_kind
def test_sorting_by_hand_changes_nothing_but_the_rows(kind: str):
    """Evaluation under Eq. 3 again: sorted input, and unsorted input that torch sorts."""
    module = ours(kind, some_dropout(kind, "paper"), bidirectional=True).eval()
    x, hx, order = data(), initial(module, B), [1, 2, 0]
    output, state = module(pack_padded_sequence(x, [1, 6, 4], enforce_sorted=False), hx)
    permuted = tuple(v[:, order].contiguous() for v in flat(hx))
    permuted = permuted if kind == "LSTM" else permuted[0]
    hand, hand_state = module(pack_padded_sequence(x[:, order], [6, 4, 1]), permuted)
    assert_close(output, hand)
    assert_close([v[:, order] for v in flat(state)], hand_state)


@every_kind
def test_batch_first_does_not_concern_packed_sequences(kind: str):
    module = ours(kind, some_dropout(kind))
    twin = copy.deepcopy(module)
    twin.batch_first = True
    packed = pack_padded_sequence(data(), [1, 6, 4], enforce_sorted=False)
    assert_equal(repeat(module, packed), repeat(twin, packed))


@every_kind
def test_full_length_packed_is_the_padded_run(kind: str):
    module, x = ours(kind, some_dropout(kind), bidirectional=True), data()
    output, state = repeat(module, pack_padded_sequence(x, [T] * B))
    assert_close((pad_packed_sequence(output)[0], state), repeat(module, x))


# randomness


@every_kind
def test_manual_seed_repeats_a_run(kind: str):
    module, x, runs = ours(kind, some_dropout(kind)), data(), []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append([module(x), module(x)])
    assert_equal(runs[0], runs[1])
    torch.manual_seed(8)
    assert not torch.allclose(module(x)[0], runs[0][0][0])


@every_kind
def test_saved_rng_state_resumes_a_run(kind: str):
    module, x = ours(kind, some_dropout(kind)), data()
    module(x)
    state = torch.get_rng_state()
    rest = [module(x) for _ in range(3)]
    torch.manual_seed(0)
    torch.set_rng_state(state)
    assert_equal([module(x) for _ in range(3)], rest)


@every_kind
def test_backward_uses_the_masks_of_its_forward(kind: str):
    """Masks are recomputed, so nothing drawn in between may reach them."""
    module, x = ours(kind, some_dropout(kind)), data().requires_grad_()
    hx = initial(module, B)
    result = repeat(module, x, hx)
    torch.manual_seed(99)
    module(x)
    torch.rand(5)
    wanted = [x, *module.parameters()]
    assert_close(gradients(result, wanted), gradients(expected(module, x, hx), wanted))


@every_kind
def test_one_draw_per_forward(kind: str):
    """Whatever its size, a forward moves torch's generator equally far."""
    after = []
    for layers, steps in [(1, 2), (1, 6), (3, 2)]:
        module = ours(kind, some_dropout(kind), num_layers=layers)
        torch.manual_seed(1)
        module(torch.ones(steps, B, I, dtype=torch.float64))
        after.append(torch.get_rng_state())
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


@every_kind
def test_a_longer_batch_keeps_the_masks_of_its_beginning(kind: str):
    """Masks are functions of row and step, so padding a batch or appending rows changes none."""
    module, x, hx = ours(kind, some_dropout(kind)), data(), None
    whole, _ = repeat(module, x, hx)
    part, _ = repeat(module, x[:4, :2], hx)
    assert_close(part, whole[:4, :2])


def test_dropout_between_layers_drops_its_share_and_not_the_output():
    """A relu network that copies its input shows what passes from layer to layer. With three layers
    two masks stand in between, and each is its own: they keep q^2 of the units, not q."""
    p, q = 0.1, 1 - round(65536 * 0.1) / 65536
    rnn = recdrop.RNN(
        8, 8, num_layers=3, dropout=p, nonlinearity="relu", bias=False, dtype=torch.float64,
        recurrent_dropout=RecurrentDropout.gal(0.5),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in rnn.named_parameters():
            parameter.copy_(torch.eye(8) if name.startswith("weight_ih") else torch.zeros(8, 8))
    x = torch.ones(40, 50, 8, dtype=torch.float64)
    output, _ = rnn(x)
    kept = output > 0
    torch.testing.assert_close(output, kept / x.new_tensor(q * q), rtol=1e-10, atol=1e-10)
    n = kept.numel()
    assert abs(kept.sum() - q * q * n) < 5 * (q * q * (1 - q * q) * n) ** 0.5
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[:, 0], kept[:, 1])
    assert not torch.equal(rnn(x)[0], output), "drawn anew"
    assert torch.equal(rnn.eval()(x)[0], x)


# forward dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("site", ["input", "output"])
@pytest.mark.parametrize("shape", [(40, 50, 9), (2000, 9), (9,)], ids=str)
def test_forward_dropout_equals_the_reference(p: float, site: str, shape: tuple[int, ...]):
    drop, x = recdrop.Dropout(p, site=site), data(*shape)
    threshold, rows = round(65536 * p), x.numel() // 9
    y = repeat(drop, x)
    with masks.seeding(torch.tensor(11)):
        seed = int(masks.next_seed())
    kept = reference.kept(seed, threshold, site, 0, rows, 9).view(shape)
    torch.testing.assert_close(y, x * kept / (1 - threshold / 65536), rtol=1e-10, atol=1e-10)


def test_forward_dropout_gradient_is_its_mask():
    drop, x = recdrop.Dropout(0.5), torch.ones(50, 9, requires_grad=True)
    y = drop(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_forward_dropout_is_drawn_anew_and_repeatable():
    drop, x = recdrop.Dropout(0.5), torch.ones(50, 9)
    torch.manual_seed(1)
    first = drop(x)
    assert not torch.equal(drop(x), first)
    torch.manual_seed(1)
    assert torch.equal(drop(x), first)


def test_forward_dropout_in_evaluation_is_the_identity():
    x = data()
    assert torch.equal(recdrop.Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize("p", [0, 0.0])
def test_forward_dropout_of_rate_0_is_the_identity(p: float):
    x = data()
    assert torch.equal(recdrop.Dropout(p)(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_dropout_keeps_the_type(dtype: torch.dtype):
    assert recdrop.Dropout(0.5)(data().to(dtype)).dtype == dtype


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), 1 - 1e-6])
def test_forward_dropout_refuses_numbers_that_are_no_rate(p: float):
    with pytest.raises(ValueError, match=str(p)):
        recdrop.Dropout(p)


@pytest.mark.parametrize("p", ["0.5", None, True])
def test_forward_dropout_refuses_what_is_no_number(p: object):
    with pytest.raises(TypeError, match=repr(p)):
        recdrop.Dropout(p)


def test_forward_dropout_refuses_other_sites():
    with pytest.raises(ValueError, match="hidden.*input.*output"):
        recdrop.Dropout(0.5, site="hidden")


def test_forward_dropout_shows_its_rate():
    assert "0.25" in repr(recdrop.Dropout(0.25))


# states over time


@every_kind
@every_shape
def test_trace_shows_the_states_of_a_forward(kind: str, num_layers: int, bidirectional: bool):
    module = ours(kind, some_dropout(kind), num_layers=num_layers, bidirectional=bidirectional)
    x, hx = data(), initial(module, B)
    output, state = repeat(module, x, hx)
    with masks.seeding(torch.tensor(11)):
        traces = module.trace(x, hx)
    assert_equal([v[:, -1] for v in traces], state)
    last = traces[0][-1]  # backward steps stand in the order they are taken
    assert_equal(output[..., -H:], last.flip(0) if bidirectional else last)


@every_kind
def test_trace_of_an_unbatched_input(kind: str):
    module, x = ours(kind, some_dropout(kind), num_layers=2), data(T, I)
    for states in module.eval().trace(x):
        assert states.shape == (2, T, H)


# copies and changes


@every_kind
@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
@every_shape
def test_copies_are_whole(kind: str, twin_of, num_layers: int, bidirectional: bool):
    module = ours(
        kind, some_dropout(kind), num_layers=num_layers, bidirectional=bidirectional, dropout=0.0
    )
    twin, x = twin_of(module), data()
    assert type(twin) is type(module)
    assert twin.recurrent_dropout == module.recurrent_dropout
    assert_equal(repeat(twin, x), repeat(module, x))
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(module.parameters()).any(), "no shared weights"


@every_kind
@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_assigning_another_dropout_takes_effect(kind: str, rate: float):
    """As `module.dropout = p` does in torch.nn: a schedule may change the rates."""
    module, x = ours(kind, some_dropout(kind)), data()
    other = RecurrentDropout.gal(rate, per="step", scaling="paper")
    fresh = ours(kind, other)
    fresh.load_state_dict(module.state_dict())
    module.recurrent_dropout = other
    assert_equal(repeat(module, x), repeat(fresh, x))
    assert_equal(module.eval()(x), fresh.eval()(x))


@every_kind
def test_a_module_filled_after_the_fact_has_its_dropout(kind: str):
    """Made on the meta device, allocated and loaded: how large models are restored."""
    module, x = ours(kind, some_dropout(kind)), data()
    twin = ours(kind, some_dropout(kind), device="meta").to_empty(device="cpu")
    twin.load_state_dict(module.state_dict())
    assert_equal(repeat(twin, x), repeat(module, x))


@every_kind
@pytest.mark.parametrize("rank", [2, 3])
def test_states_of_the_wrong_rank_are_told_by_theirs(kind: str, rank: int):
    module, x = ours(kind, some_dropout(kind)), data()
    hx = torch.zeros(1, B, H, 1).double() if rank == 3 else torch.zeros(1, B, H).double()
    with pytest.raises(ValueError, match=rf"hx has the shape \[1, .* takes {rank} dimensions"):
        module(x if rank == 3 else x[:, 0], (hx, hx) if kind == "LSTM" else hx)


@every_kind
def test_repr_names_the_dropout(kind: str):
    assert "0.4" in repr(ours(kind, some_dropout(kind)))
    assert repr(ours(kind)).startswith(f"{kind}({I}, {H}")
    module, own = (getattr(of, kind)(I, H, 2, dropout=0.5) for of in (recdrop, nn))
    assert repr(module) == repr(own)
    module.dropout = 0.25
    assert "dropout=0.25" in repr(module)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(kind: str, dtype: torch.dtype):
    module, x = ours(kind, some_dropout(kind)), data()
    exact = repeat(module, x)
    low = repeat(module.to(dtype), x.to(dtype))
    error = 1e-5 if dtype == torch.float32 else 0.1
    for a, b in zip(flat(low), flat(exact), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=error, atol=error)


@every_kind
def test_trains(kind: str):
    """The whole path once: with all its dropout, a network learns to tell two inputs apart."""
    torch.manual_seed(0)
    module = ours(kind, some_dropout(kind))
    parameters = [*module.parameters()]
    optimiser = torch.optim.Adam(parameters, 0.03)
    x = torch.ones(T, 20, I).double()
    x[:, 10:] = -1
    for _ in range(40):
        h, _ = module(x)
        loss = nn.functional.softplus(-h[-1].sum(-1) * x[0, :, 0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    h, _ = module.eval()(x)
    assert (h[-1].sum(-1) * x[0, :, 0] > 0).all()


@given(
    kind=st.sampled_from(KINDS),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    steps=st.integers(1, 4),
    rows=st.integers(1, 4),
    scaling=st.sampled_from(["inverted", "paper"]),
    training=st.booleans(),
)
def test_any_shape_equals_the_reference(
    kind: str, num_layers: int, bidirectional: bool, steps: int, rows: int, scaling: str,
    training: bool,
):  # fmt: skip
    module = ours(
        kind, some_dropout(kind, scaling), num_layers=num_layers, bidirectional=bidirectional
    ).train(training)
    x, hx = data(steps, rows, I), initial(module, rows)
    assert_close(repeat(module, x, hx), expected(module, x, hx))


# refusal: the same on torch's path and on ours

both_paths = pytest.mark.parametrize("active", [False, True], ids=["torchs_path", "our_path"])
ERRORS = (RuntimeError, ValueError)


@every_kind
@both_paths
@pytest.mark.parametrize("shape", [(), (I,), (T, B, 1, I)], ids=str)
def test_refuses_wrong_ranks(kind: str, active: bool, shape: tuple[int, ...]):
    module = ours(kind, some_dropout(kind) if active else None)
    x = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ERRORS, match=rf"{len(shape)}-?D|{len(shape)} dim|rank {len(shape)}"):
        module(x)


@every_kind
@both_paths
@pytest.mark.parametrize("shape", [(T, B, I + 1), (T, I + 1)], ids=str)
def test_refuses_a_wrong_input_size(kind: str, active: bool, shape: tuple[int, ...]):
    module = ours(kind, some_dropout(kind) if active else None)
    with pytest.raises(ERRORS) as error:
        module(data(*shape))
    assert str(I) in str(error.value)
    assert str(I + 1) in str(error.value)


@every_kind
@both_paths
def test_refuses_a_wrong_input_size_in_a_packed_sequence(kind: str, active: bool):
    module = ours(kind, some_dropout(kind) if active else None)
    with pytest.raises(ERRORS) as error:
        module(pack_padded_sequence(data(T, B, I + 1), [6, 4, 1]))
    assert str(I) in str(error.value)
    assert str(I + 1) in str(error.value)


@every_kind
@both_paths
@pytest.mark.parametrize("shape", [(2, B, H), (1, B + 1, H), (1, B, H + 1), (1, H)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_refuses_a_wrong_initial_state(
    kind: str, active: bool, shape: tuple[int, ...], packed: bool
):
    module = ours(kind, some_dropout(kind) if active else None)
    state = data(*shape)
    x = pack_padded_sequence(data(), [6, 4, 1]) if packed else data()
    hx = (state, state) if kind == "LSTM" else state
    if not active:  # torch's own check, or what its operator stumbles over
        with pytest.raises((*ERRORS, IndexError)):
            module(x, hx)
        return
    wrong = {(1, H): r"\[1, 9\]", (2, B, H): 2, (1, B + 1, H): B + 1, (1, B, H + 1): H + 1}[shape]
    with pytest.raises(ERRORS, match=str(wrong)):
        module(x, hx)


@both_paths
def test_refuses_a_wrong_cell_state(active: bool):
    module = ours("LSTM", some_dropout("LSTM") if active else None)
    with pytest.raises(ERRORS, match=str(H + 1)):
        module(data(), (data(1, B, H), data(1, B, H + 1)))


@every_kind
@both_paths
def test_refuses_a_batched_state_for_an_unbatched_input(kind: str, active: bool):
    module = ours(kind, some_dropout(kind) if active else None)
    state = data(1, B, H)
    with pytest.raises(ERRORS):
        module(data(T, I), (state, state) if kind == "LSTM" else state)


@every_kind
@both_paths
def test_refuses_another_type_than_its_weights(kind: str, active: bool):
    module = ours(kind, some_dropout(kind) if active else None)
    with pytest.raises((*ERRORS, TypeError)):
        module(data().float())


@every_kind
@both_paths
def test_refuses_an_empty_sequence(kind: str, active: bool):
    module = ours(kind, some_dropout(kind) if active else None)
    with pytest.raises(ERRORS):
        module(data(0, B, I))


@every_kind
@pytest.mark.parametrize("drop", [0.5, "gal", (0.1, 0.2, 0.3), {"hidden": 0.5}, True])
def test_refuses_what_is_no_recurrent_dropout(kind: str, drop: object):
    with pytest.raises(TypeError) as error:
        ours(kind, drop)
    assert repr(drop) in str(error.value)
    assert "RecurrentDropout" in str(error.value)


@pytest.mark.parametrize("scheme", ["semeniuta", "moon"])
def test_rnn_has_no_update_and_no_cell(scheme: str):
    drop = getattr(RecurrentDropout, scheme)(0.5)
    site = {"semeniuta": "update", "moon": "cell"}[scheme]
    with pytest.raises(ValueError, match=site) as error:
        ours("RNN", drop)
    assert "hidden" in str(error.value), "the remedy"
    with pytest.raises(ValueError, match=site):
        ours("RNN", drop | RecurrentDropout.gal(0.5))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("activation", ["sigmoid", "", None, torch.tanh])
def test_refuses_unknown_activations(kind: str, activation: object):
    with pytest.raises((ValueError, TypeError)) as error:
        ours(kind, activation=activation)
    message = str(error.value)
    assert "tanh" in message
    assert "relu" in message
    assert repr(activation) in message


def test_rnn_refuses_unknown_nonlinearities():
    with pytest.raises(ValueError, match="sigmoid"):
        ours("RNN", nonlinearity="sigmoid")


@pytest.mark.parametrize("active", [False, True])
def test_refuses_projections(active: bool):
    with pytest.raises((ValueError, TypeError), match="proj_size"):
        ours("LSTM", some_dropout("LSTM") if active else None, proj_size=2)


@every_kind
def test_refuses_unknown_arguments(kind: str):
    with pytest.raises(TypeError, match="recurent_dropout"):
        getattr(recdrop, kind)(I, H, recurent_dropout=None)


@every_kind
@pytest.mark.parametrize("dropout", [-0.1, 1.5])
def test_refuses_wrong_dropout_between_layers(kind: str, dropout: float):
    with pytest.raises(ValueError, match="dropout"):
        ours(kind, some_dropout(kind), num_layers=2, dropout=dropout)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16])
def test_initial_states_of_another_dtype_are_refused(kind: str, dtype: torch.dtype):
    module = getattr(recdrop, kind)(4, 8, recurrent_dropout=RecurrentDropout.gal(0.5))
    h = torch.zeros(1, 3, 8, dtype=dtype)
    with pytest.raises(ValueError, match=f"hx has dtype {dtype}.*float32"):
        module(torch.zeros(5, 3, 4), (h, h) if kind == "LSTM" else h)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_lstm_takes_two_initial_states(count: int):
    module = recdrop.LSTM(4, 8, num_layers=2, recurrent_dropout=RecurrentDropout.gal(0.5))
    h = torch.zeros(2, 3, 8)
    with pytest.raises(ValueError, match=rf"two tensors but {count}; give an LSTM \(h_0, c_0\)"):
        module(torch.zeros(5, 3, 4), (h,) * count)
    with pytest.raises(ValueError, match="two tensors but 1"):
        module(torch.zeros(5, 3, 4), h)
