"""The layers under torch's transforms: vmap over stacked networks, torch.compile, and the checks
that torch.library has for an operator."""

import shutil
from collections.abc import Callable

import pytest
import torch
from test_recurrence import OFF, STEP, masking, networks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

import recdrop
from recdrop import RecurrentDropout, masks
from recdrop.recurrence import scan
from recdrop.softmax import linear_cross_entropy

KINDS = ["LSTM", "GRU", "RNN"]
I, H, T, B = 4, 9, 5, 3
every_kind = pytest.mark.parametrize("kind", KINDS)


class Tagger(nn.Module):
    """An ordinary network definition, with recurrent dropout inside."""

    def __init__(self, kind: str, drop: RecurrentDropout, forward: float = 0.0, **options):
        super().__init__()
        self.drop = recdrop.Dropout(forward)
        self.rnn = getattr(recdrop, kind)(I, H, recurrent_dropout=drop, **options)
        self.out = nn.Linear(H * (1 + self.rnn.bidirectional), 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.drop(x))[0])


def schemes(kind: str) -> list[RecurrentDropout]:
    """Conditions of one table: without dropout, and with different rates, sites and samplings."""
    found = [
        RecurrentDropout(),
        RecurrentDropout.gal(0.25, per="sequence"),
        RecurrentDropout.gal(0.5, per="step"),
        RecurrentDropout.gal(0.5, scaling="paper"),
    ]
    if kind != "RNN":
        found += [RecurrentDropout.moon(0.5), RecurrentDropout.semeniuta(0.25) | found[1]]
    return found


def together(networks: list[nn.Module], x: Tensor, seeds: Tensor) -> tuple[Tensor, dict]:
    """All networks as one program; outputs (R, T, B, 2) and the stacked parameters."""
    parameters, buffers = stack_module_state(networks)

    def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(networks[0], (parameters, buffers), (x,))

    return vmap(one, randomness="different")(parameters, buffers, seeds), parameters


def alone(network: nn.Module, x: Tensor, seed: Tensor) -> Tensor:
    with masks.seeding(seed):
        return network(x)


@every_kind
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "dropout": 0.5}],
    ids=["plain", "deep", "dropout_between_layers"],
)
def test_a_table_equals_its_networks_one_by_one(kind: str, training: bool, options: dict):
    networks = [Tagger(kind, drop, 0.2, **options).train(training) for drop in schemes(kind)]
    x = torch.randn(T, B, I, dtype=torch.float64)
    seeds = torch.randint(-(2**63), 2**63 - 1, (len(networks),))
    outputs, parameters = together(networks, x, seeds)
    weight = torch.randn(T, B, 2, dtype=torch.float64)
    (outputs * weight).sum().backward()
    for r, network in enumerate(networks):
        single = alone(network, x, seeds[r])
        torch.testing.assert_close(outputs[r], single, rtol=1e-10, atol=1e-10)
        (single * weight).sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(
                parameters[name].grad[r], parameter.grad, rtol=1e-10, atol=1e-10
            )


@pytest.mark.parametrize("first", [0.0, 0.2])
def test_dropout_between_layers_may_differ_by_network(first: float):
    networks = [recdrop.LSTM(I, H, 2, dropout=rate).double() for rate in (first, 0.6, 0.0)]
    x, seeds = torch.randn(T, B, I, dtype=torch.float64), torch.tensor([1, 2, 3])
    parameters, buffers = stack_module_state(networks)

    def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(networks[0], (parameters, buffers), (x,))[0]

    for output, network, seed in zip(
        vmap(one)(parameters, buffers, seeds), networks, seeds, strict=True
    ):
        torch.testing.assert_close(output, alone(network, x, seed)[0])


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_functional_call_drops_as_the_buffers_have_it(kind: str, training: bool):
    """Whatever the module drops that lends its code: nothing here, and torch.nn's way."""
    plain = getattr(recdrop, kind)(I, H, 2).train(training)
    drop = RecurrentDropout.gal(0.5, scaling="paper")
    other = getattr(recdrop, kind)(I, H, 2, recurrent_dropout=drop, dropout=0.5).train(training)
    state, results = dict(other.named_parameters()) | dict(other.named_buffers()), []
    x = torch.randn(T, B, I)
    for call in (lambda: other(x), lambda: functional_call(plain, state, (x,))):
        torch.manual_seed(1)
        results.append(call()[0])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert not torch.equal(plain(x)[0], results[0])


@every_kind
def test_a_network_does_not_notice_its_neighbours(kind: str):
    """Not by a bit: neither their dropout, nor their seeds, nor that one diverged to NaN."""
    mine = Tagger(kind, RecurrentDropout.gal(0.5))
    others = [Tagger(kind, drop) for drop in schemes(kind)[:2]]
    x, seeds = torch.randn(T, B, I, dtype=torch.float64), torch.tensor([1, 2])
    before, p_before = together([mine, others[0]], x, seeds)
    with torch.no_grad():
        for parameter in others[1].parameters():
            parameter.fill_(float("nan"))
    after, p_after = together([mine, others[1]], x, torch.tensor([1, 3]))
    assert torch.equal(before[0], after[0])
    before[0].sum().backward()
    after[0].sum().backward()
    for name in p_before:
        assert torch.equal(p_before[name].grad[0], p_after[name].grad[0])


@every_kind
def test_data_may_differ_by_network(kind: str):
    network = Tagger(kind, RecurrentDropout.gal(0.5))
    x, seeds = torch.randn(2, T, B, I, dtype=torch.float64), torch.tensor([1, 2])

    def one(x: Tensor, seed: Tensor) -> Tensor:
        return alone(network, x, seed)

    outputs = vmap(one, randomness="different")(x, seeds)
    for r in range(2):
        torch.testing.assert_close(outputs[r], one(x[r], seeds[r]), rtol=1e-10, atol=1e-10)


def arguments(cell: str, ragged: bool) -> tuple:
    """A small call of the operator with every argument given."""
    kind, R = cell.split("_")[0], 2
    N = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * H
    shapes = [(R, T, B, I), (R, B, H), (R, B, H), (R, N, I), (R, N, H), (R, N), (R, N)]
    x, h0, c0, *weights = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes
    )
    sites = torch.tensor([[0, 1, 0]] if kind == "rnn" else [[1, 1, 1]])
    return (
        cell, x, h0, c0 if kind == "lstm" else None, *weights,
        (20_000 * sites).expand(R, 3).contiguous(), torch.ones(R, 3, dtype=torch.float64),
        torch.tensor([[True, False, True], [False, True, False]]), torch.tensor([5, -6]),
        torch.tensor([[5, 2, 1], [1, 5, 5]]) if ragged else None, 1, 1,
    )  # fmt: skip


# gradients in batches


def one_by_one_and_together(out: Tensor, inputs: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The Jacobians of all elements of ``out`` by ``inputs``: by a loop, and by torch.vmap."""

    def pull(v: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out, inputs, v.view_as(out), retain_graph=True)

    directions = torch.eye(out.numel(), dtype=out.dtype)
    loop = (torch.stack(rows) for rows in zip(*map(pull, directions), strict=True))
    return list(zip(loop, vmap(pull)(directions), strict=True))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_jacobian_by_vmap_equals_a_loop(kind: str, dtype: torch.dtype, frozen: bool):
    layer = getattr(recdrop, kind)(I, H, num_layers=2, recurrent_dropout=schemes(kind)[-1])
    layer.to(dtype).requires_grad_(not frozen)
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    trained = [] if frozen else list(layer.parameters())
    for loop, batch in one_by_one_and_together(layer(x)[0][-1, 0], [x, *trained]):
        torch.testing.assert_close(batch, loop)
        assert loop.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_single_losses_by_vmap_equal_a_loop(dtype: torch.dtype, bias: bool):
    shapes = [(6, 5), (7, 5), (7,)][: 2 + bias]
    tensors = [torch.randn(*s, dtype=dtype, requires_grad=True) for s in shapes]
    losses = linear_cross_entropy(*tensors, *[None] * (not bias), torch.arange(6))
    for loop, batch in one_by_one_and_together(losses, tensors):
        torch.testing.assert_close(batch, loop)
        assert loop.abs().sum() > 0


@pytest.mark.parametrize("cell", ["lstm_tanh", "gru_relu", "rnn_tanh"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("keep", [False, True], ids=["forward", "training"])
def test_operator_passes_torchs_checks(cell: str, ragged: bool, keep: bool):
    torch.library.opcheck(torch.ops.recdrop.scan.default, (*arguments(cell, ragged), False, keep))


def compiled(function: Callable) -> Callable:
    """The graph must be whole, and gradients traced; code generation is torch's own affair."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@every_kind
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_compiles_as_one_graph(kind: str, training: bool):
    network = Tagger(kind, RecurrentDropout.gal(0.5, scaling="paper")).train(training)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    results = []
    for run in (network, compiled(network)):
        torch.manual_seed(3)
        output = run(x)
        results.append([output, *torch.autograd.grad(output.sum(), [x, *network.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


class Everything(nn.Module):
    """Each module is called twice on the same input, and one has two layers of dropout."""

    def __init__(self):
        super().__init__()
        deep = {"num_layers": 2, "dropout": 0.5, "bidirectional": True}
        self.parts = nn.ModuleList(
            [
                recdrop.Dropout(0.5),
                recdrop.Dropout(0.5),
                recdrop.LSTM(I, H, recurrent_dropout=RecurrentDropout(0.3, 0.4, 0.2), **deep),
                recdrop.GRU(I, H, recurrent_dropout=RecurrentDropout.gal(0.5)),
                recdrop.GRU(I, H, recurrent_dropout=RecurrentDropout.gal(0.5)),
                recdrop.LSTM(I, H),  # draws nothing
            ]
        )
        self.parts[4].load_state_dict(self.parts[3].state_dict())
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        results = [part(x) for part in self.parts for _ in range(2)]
        return [v[0] if isinstance(v, tuple) else v for v in results]


def test_compiled_modules_draw_the_masks_that_eager_ones_draw():
    model, x = Everything(), torch.randn(T, B, I, dtype=torch.float64)
    fast = compiled(model)
    for seed in (1, 2):
        torch.manual_seed(seed)
        eager, after = model(x), torch.get_rng_state()
        torch.manual_seed(seed)
        for a, b in zip(fast(x), eager, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        assert torch.equal(torch.get_rng_state(), after)


def test_compiled_modules_share_no_mask():
    """Neither the two calls of one module, nor two modules of one make and with the same weights,
    nor two passes."""
    fast, x = compiled(Everything()), torch.randn(T, B, I, dtype=torch.float64)
    passes = [fast(x), fast(x)]
    for alike in ((0, 1, 2, 3), (4, 5), (6, 7, 8, 9)):
        drawn = [results[k] for results in passes for k in alike]
        for k, a in enumerate(drawn):
            assert not any(torch.equal(a, b) for b in drawn[:k])


@pytest.mark.parametrize("seed_of", [int, torch.tensor], ids=["int", "tensor"])
def test_a_compiled_network_follows_a_surrounding_seed(seed_of: Callable):
    network, x = Tagger("LSTM", RecurrentDropout.gal(0.5), 0.2), torch.randn(T, B, I).double()
    fast = compiled(network)
    for seed in (5, 6, -(2**63)):
        torch.testing.assert_close(alone(fast, x, seed_of(seed)), alone(network, x, seed_of(seed)))
    torch.manual_seed(1)
    free = network(x)
    torch.manual_seed(1)
    torch.testing.assert_close(fast(x), free)  # and no longer


def test_a_seed_may_be_set_inside_what_is_compiled():
    network, x = Tagger("LSTM", RecurrentDropout.gal(0.5), 0.2), torch.randn(T, B, I).double()

    def twice(seed: Tensor) -> list[Tensor]:
        with masks.seeding(seed):
            return [network(x), network(x)]

    fast = compiled(twice)
    for seed in (torch.tensor(5), torch.tensor(6)):
        for a, b in zip(fast(seed), twice(seed), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", [*KINDS, "Dropout"])
def test_a_compiled_checkpoint_draws_no_mask_anew(kind: str):
    """It computes the forward pass again for the backward pass, with the masks that it had."""
    drop = RecurrentDropout.gal(0.5)
    made = (
        recdrop.Dropout()
        if kind == "Dropout"
        else getattr(recdrop, kind)(I, H, recurrent_dropout=drop)
    )
    x, results = torch.randn(T, B, I, requires_grad=True), []

    def run(x: Tensor) -> Tensor:
        output = made(x)
        return output[0] if isinstance(output, tuple) else output

    def checkpointed(x: Tensor) -> Tensor:
        return checkpoint(run, x, use_reentrant=False)

    torch._dynamo.reset()
    for call in (run, torch.compile(checkpointed, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(3)
        output = call(x)
        results.append([output, *torch.autograd.grad(output.sum(), x)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_many_calls_under_one_seed_are_compiled_once():
    """torch gives up after eight versions of a function."""
    network, x = Tagger("RNN", RecurrentDropout.gal(0.5)), torch.randn(T, B, I).double()
    fast, results = compiled(network), []
    for run in (network, fast):
        with masks.seeding(7):
            results.append([run(x) for _ in range(12)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_compiled_under_autocast():
    network, x = Tagger("LSTM", RecurrentDropout.gal(0.5)).float(), torch.randn(T, B, I)
    fast, results = compiled(network), []
    for run in (network, fast):
        with torch.autocast("cpu", torch.bfloat16):
            output = alone(run, x, torch.tensor(3))
        assert output.dtype == torch.bfloat16, "the linear layer's"
        results.append([output, *torch.autograd.grad(output.sum(), list(network.parameters()))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch's default backend needs a C++ compiler for the CPU, and there is none",
)
def test_the_default_backend():
    """As small as it gets: ten seconds are what the backend takes for x + 1."""
    torch._dynamo.reset()
    rnn, x = recdrop.RNN(2, 2, recurrent_dropout=RecurrentDropout.gal(0.5)), torch.randn(2, 1, 2)
    results = []
    for run in (rnn, torch.compile(rnn, fullgraph=True)):
        torch.manual_seed(3)
        output, _ = run(x)
        results.append([output, *torch.autograd.grad(output.sum(), list(rnn.parameters()))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_graphs_compiled_before_the_choice_get_every_gradient():
    """torch.compile keeps graphs in files, and asks for no change of what a backward pass calls."""
    nets, drop = networks("rnn_tanh", 1), masking([(OFF, STEP, OFF)])
    h, c = scan("rnn_tanh", *nets, *drop)
    tensors = [torch.ones_like(h), None, h, c, c, *nets, *drop, None]
    call = torch.ops.recdrop.scan_backward
    with FakeTensorMode(allow_non_fake_inputs=True):
        shapes = [v.shape for v in call("rnn_tanh", tensors, 0, 0, False)]
    found = [v.shape for v in call("rnn_tanh", tensors, 0, 0, False)]
    assert found == shapes == [v.shape for v in nets if v is not None]
