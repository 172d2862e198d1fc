"""Low precision: operands of matrix products in bfloat16 or float16, states and sums in float32.

The reference is the float64 network with the same weights, data and masks. An operand rounded to
bfloat16 is off by at most 2^-9, so outputs and gradients may be off by a few thousandths, and no
more after 200 steps than after 20.
"""

import pytest
import torch
from reference import open_gates
from test_layers import flat, some_dropout
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import recdrop
from recdrop import RecurrentDropout, cells, masks
from recdrop.layers import torch_runs_lstm
from recdrop.recurrence import scan

KINDS = ["LSTM", "GRU", "RNN"]
I, H, B = 8, 16, 4
BF16, FP16 = torch.bfloat16, torch.float16
SHARE = {BF16: 8e-3, FP16: 1e-3}
"""The norm of an error as a share of the value's norm; about twice what is seen."""

every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def pair(
    kind: str, dtype: torch.dtype, training: bool = True, scaling: str = "paper"
) -> tuple[nn.RNNBase, nn.RNNBase]:
    """A network in float64 and the same in ``dtype``.

    Eq. 3 by default: evaluation is then ours, too, and no state grows without bound (Eq. 14).
    """
    drop = some_dropout(kind, scaling)
    exact = getattr(recdrop, kind)(I, H, recurrent_dropout=drop, dtype=torch.float64)
    low = getattr(recdrop, kind)(I, H, recurrent_dropout=drop, dtype=dtype)
    low.load_state_dict(exact.state_dict())
    return exact.train(training), low.train(training)


def data(T: int) -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64)


def run(module: nn.Module, x: Tensor, autocast: torch.dtype | None = None) -> list[Tensor]:
    """Outputs, final states and all gradients, under the masks of seed 11."""
    x = x.detach().requires_grad_()
    with masks.seeding(11), torch.autocast("cpu", autocast, enabled=autocast is not None):
        results = flat(module(x))
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v.double() * torch.randn(v.shape, generator=generator, dtype=torch.float64)).sum()
        for v in results
    )
    return [*results, *torch.autograd.grad(loss, [x, *module.parameters()])]


def assert_within(share: float, found: list[Tensor], exact: list[Tensor]) -> None:
    for a, b in zip(found, exact, strict=True):
        assert (a.double() - b.double()).norm() < share * b.double().norm()


# modules of low precision


@every_kind
@every_dtype
@both_modes
@pytest.mark.parametrize("T", [20, 200])
def test_a_module_of_low_precision_follows_float64(
    kind: str, dtype: torch.dtype, training: bool, T: int
):
    exact, low = pair(kind, dtype, training)
    x = data(T)
    found = run(low, x.to(dtype))
    assert {v.dtype for v in found} == {dtype}
    assert_within(SHARE[dtype], found, run(exact, x))


@every_kind
@both_modes
def test_float32_follows_float64(kind: str, training: bool):
    exact, low = pair(kind, torch.float32, training)
    x = data(200)
    assert_within(2e-6, run(low, x.float()), run(exact, x))


# autocast


@every_kind
@every_dtype
def test_inverted_scaling_of_low_precision_follows_float64(kind: str, dtype: torch.dtype):
    exact, low = pair(kind, dtype, scaling="inverted")
    x = data(20)
    assert_within(SHARE[dtype], run(low, x.to(dtype)), run(exact, x))


@every_kind
@both_modes
@pytest.mark.parametrize("T", [20, 200])
def test_autocast_follows_float64_with_float32_results(kind: str, training: bool, T: int):
    exact, low = pair(kind, torch.float32, training)
    x = data(T)
    found = run(low, x.float(), BF16)
    assert {v.dtype for v in found} == {torch.float32}
    assert_within(SHARE[BF16], found, run(exact, x))
    with pytest.raises(AssertionError):
        assert_within(1e-4, found, run(exact, x))  # it did round


@every_kind
def test_autocast_takes_an_input_of_low_precision(kind: str):
    """As the layer before leaves it: the linear layers of torch put out bfloat16."""
    exact, low = pair(kind, torch.float32)
    x = data(20)
    results = run(low, x.to(BF16), BF16)
    assert [v.dtype for v in results[:2]] == [torch.float32] * 2
    assert {v.dtype for v in results[-4:]} == {torch.float32}, "gradients of the parameters"
    assert_within(SHARE[BF16], results, run(exact, x))


@every_kind
@pytest.mark.parametrize("low", [BF16, FP16], ids=str)
def test_gradients_do_not_depend_on_where_backward_is_called(
    kind: str, low: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    """Torch would round in the backward pass, too, if it was called under autocast."""
    monkeypatch.setenv("RECDROP_BACKEND", "reference")  # a kernel has no products of torch
    monkeypatch.setattr("recdrop.kernels.products._HAS_OP", False)  # nor has oneDNN's
    module, x, found = pair(kind, torch.float32)[1], data(20).float(), []
    for inside in (False, True):
        module.zero_grad()
        with torch.autocast("cpu", low):
            with masks.seeding(11):
                loss = module(x)[0].square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append([p.grad for p in module.parameters()])
    for outer, inner in zip(*found, strict=True):
        assert torch.equal(outer, inner)


@every_kind
@both_modes
def test_autocast_leaves_float64_alone(kind: str, training: bool):
    exact, _ = pair(kind, torch.float32, training)
    x = data(20)
    for a, b in zip(run(exact, x, BF16), run(exact, x), strict=True):
        assert torch.equal(a, b)


@every_kind
def test_autocast_to_float16_computes_in_float32(kind: str):
    """Gradients in float16 need a scaler; the scan rounds to bfloat16 or not at all."""
    _, low = pair(kind, torch.float32)
    x = data(20).float()
    for a, b in zip(run(low, x, FP16), run(low, x), strict=True):
        assert torch.equal(a, b)


@every_kind
def test_inactive_under_autocast_is_torchs_own(kind: str):
    module = getattr(recdrop, kind)(I, H, recurrent_dropout=some_dropout(kind)).eval()
    twin = getattr(nn, kind)(I, H)
    twin.load_state_dict(module.state_dict())
    x = data(5).float()
    if kind == "LSTM" and not torch_runs_lstm(BF16):  # for some processors torch has none
        for a, b in zip(run(module, x, BF16), run(twin, x), strict=True):
            torch.testing.assert_close(a.float(), b, atol=0.02, rtol=0)
        return
    for a, b in zip(run(module, x, BF16), run(twin, x, BF16), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@every_kind
def test_a_table_under_autocast_equals_its_networks_one_by_one(kind: str):
    networks = [pair(kind, torch.float32)[1] for _ in range(3)]
    x, seeds = data(10).float(), torch.tensor([1, 2, 3])
    parameters, buffers = stack_module_state(networks)

    def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(networks[0], (parameters, buffers), (x,))[0]

    with torch.autocast("cpu", BF16):
        together = vmap(one, randomness="different")(parameters, buffers, seeds)
        alone = [
            one(dict(network.named_parameters()), dict(network.named_buffers()), seed)
            for network, seed in zip(networks, seeds, strict=True)
        ]
    assert together.dtype == torch.float32
    # Sums in another order may end on the other side of a rounding: one unit of bfloat16.
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=2e-3)
    together.sum().backward()
    torch.stack(alone).sum().backward()
    for name, stacked in parameters.items():
        assert stacked.grad.dtype == torch.float32
        single = torch.stack([network.get_parameter(name).grad for network in networks])
        assert_within(SHARE[BF16], [stacked.grad], [single])


# which numbers are rounded, and which are not


OPERANDS = ["x", "h0", "w_ih", "w_hh"]
FINE = 1 + 2**-12
"""bfloat16 has 8 significant bits and rounds this to 1; float32 keeps it."""


def one_unit(
    fine: str, autocast: torch.dtype | None, low: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step h = relu(w_ih x + w_hh h0 + b_ih + b_hh) of one unit and all gradients.

    All numbers are 1, but the one named ``fine``; "grad" is the gradient of h.
    """
    ones = {name: torch.ones(1, 1, 1, 1) for name in ("x", "grad")}
    ones |= {name: torch.ones(1, 1, 1) for name in ("h0", "w_ih", "w_hh")}
    ones |= {name: torch.ones(1, 1) for name in ("b_ih", "b_hh")}
    ones[fine] *= FINE
    grad = ones.pop("grad")
    named = {name: value.requires_grad_() for name, value in ones.items()}
    v = {name: value.to(BF16) if low and name != "h0" else value for name, value in named.items()}
    none = torch.zeros(1, 3, dtype=torch.int64)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        h, _ = scan(
            "rnn_relu", v["x"], v["h0"], None, v["w_ih"], v["w_hh"], v["b_ih"], v["b_hh"],
            none, torch.ones(1, 3), none.bool(), torch.tensor([0]),
        )  # fmt: skip
    found = torch.autograd.grad(h, list(named.values()), grad.to(h.dtype))
    return h.double(), dict(zip(named, (v.item() for v in found), strict=True))


@pytest.mark.parametrize("operand", OPERANDS)
def test_autocast_rounds_each_operand(operand: str):
    """Forward and backward: nothing that h or a gradient is a product of has more than 8 bits."""
    h, gradients = one_unit(operand, BF16)
    assert h == 4
    assert set(gradients.values()) == {1.0}


@pytest.mark.parametrize("operand", OPERANDS)
def test_without_autocast_nothing_is_rounded(operand: str):
    h, gradients = one_unit(operand, None)
    assert h > 4
    partner = {"x": "w_ih", "w_ih": "x", "h0": "w_hh", "w_hh": "h0"}[operand]
    assert gradients[partner] == FINE


def test_autocast_rounds_the_gradient_where_it_is_an_operand():
    """A bias's gradient is a sum and stays whole; all others are products with it."""
    _, gradients = one_unit("grad", BF16)
    assert {name for name, v in gradients.items() if v == FINE} == {"b_ih", "b_hh"}
    assert {name for name, v in gradients.items() if v == 1} == {*OPERANDS}


@pytest.mark.parametrize("bias", ["b_ih", "b_hh"])
def test_autocast_does_not_round_a_bias(bias: str):
    h, _ = one_unit(bias, BF16)
    assert h == 3 + FINE


@every_kind
def test_autocast_rounds_after_the_mask(kind: str):
    """What is multiplied is m * h, scale included: one rounding, not two."""
    drop = RecurrentDropout.gal(1 - 1 / 1.3)
    module = getattr(recdrop, kind)(I, H, recurrent_dropout=drop)
    scale = drop.scales(True)[1]
    hx = torch.rand(1, 1, H)
    x = torch.zeros(1, 1, I)
    with masks.seeding(11), torch.autocast("cpu", BF16):
        found = module(x, (hx, hx) if kind == "LSTM" else hx)[0]
    with masks.seeding(11):
        keep = masks.kept(masks.next_seed().view(1), drop.thresholds[1], "hidden", 1, 1, H)
    read = (hx * (keep[0] * torch.tensor(scale).float())).to(BF16).float()
    plain = getattr(nn, kind)(I, H)
    rounded = {
        name: v.to(BF16).float() if name.startswith("weight") else v
        for name, v in module.state_dict().items()
    }
    plain.load_state_dict(rounded)
    if kind == "LSTM":
        expected = plain(x, (read, hx))[0]
    elif kind == "RNN":
        expected = plain(x, read)[0]
    else:  # torch's GRU carries over what it reads
        z = torch.sigmoid(
            plain.bias_ih_l0[H : 2 * H]
            + read @ plain.weight_hh_l0[H : 2 * H].T
            + plain.bias_hh_l0[H : 2 * H]
        )
        expected = plain(x, read)[0] + z * (hx - read)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


# states and sums over a long time


def accumulator(dtype: torch.dtype) -> recdrop.LSTM:
    """Gates at 1 and a candidate equal to the input: c_t is the sum of all updates so far.

    Half of them are dropped for the whole sequence and the others doubled, if only formally so.
    """
    drop = RecurrentDropout.semeniuta(0.5, per="sequence")
    lstm = recdrop.LSTM(8, 8, recurrent_dropout=drop, activation="relu", dtype=dtype)
    open_gates(lstm)
    return lstm


T_LONG = 400
SMALL = 1 / 512
"""Doubled by the scale: 1/256. Added to 1 in bfloat16, it is lost; 400 of them make 1.5625."""


@pytest.mark.parametrize("mode", ["bfloat16 module", "autocast"])
def test_small_updates_are_not_lost(mode: str):
    dtype, autocast = (BF16, None) if mode == "bfloat16 module" else (torch.float32, BF16)
    lstm = accumulator(dtype)
    x = torch.full((T_LONG, B, 8), SMALL, dtype=dtype)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        _, (h, c) = lstm(x)
    assert set(c.flatten().tolist()) == {0.0, 1.5625}
    assert torch.equal(h, c)


def test_small_updates_are_lost_with_states_of_low_precision():
    """What the layers are spared: the same sum with bfloat16 all through stops at 1."""
    lstm = accumulator(BF16)
    h = c = torch.zeros(1, B, 8, dtype=BF16)
    a = torch.full((1, B, 8), SMALL, dtype=BF16) @ lstm.weight_ih_l0.T + lstm.bias_ih_l0
    double = cells.Masks(update=torch.full_like(h, 2))
    with torch.no_grad():
        for _ in range(T_LONG):
            h, c = cells.lstm(a, h, c, lstm.weight_hh_l0[None], None, double, torch.relu)
    assert set(c.flatten().tolist()) == {1.0}


@pytest.mark.parametrize("mode", ["bfloat16 module", "autocast"])
def test_gradients_over_a_long_time_are_not_lost(mode: str):
    """c_0 is in each of 400 outputs; counted in bfloat16, that would stop at 256."""
    dtype, autocast = (BF16, None) if mode == "bfloat16 module" else (torch.float32, BF16)
    lstm = accumulator(dtype)
    c0 = torch.ones(1, B, 8, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        output, _ = lstm(torch.zeros(T_LONG, B, 8, dtype=dtype), (torch.zeros_like(c0), c0))
    output.sum().backward()
    assert set(c0.grad.flatten().tolist()) == {400.0}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_of_low_precision_would_be_clearly_worse(kind: str):
    """The same equations and masks with bfloat16 all through. (An RNN keeps nothing for long.)"""
    exact, low = pair(kind, BF16)
    exact.recurrent_dropout = low.recurrent_dropout = RecurrentDropout.gal(0.5, scaling="paper")
    x = data(200)
    wanted, ours = run(exact, x)[0], run(low, x.to(BF16))[0]
    with masks.seeding(11):
        keep = masks.kept(masks.next_seed().view(1), 32768, "hidden", 1, B, H)[:, 0]
    w_ih, w_hh, b_ih, b_hh = (v.detach()[None] for v in low.parameters())
    rest = (w_hh, b_hh, cells.Masks(hidden=keep.to(BF16)))
    step, state = getattr(cells, kind.lower()), [torch.zeros(1, B, H, dtype=BF16)] * 2
    naive = []
    for row in x.to(BF16):
        a = cells.linear(row[None], w_ih, b_ih)
        state = step(a, *state, *rest) if kind == "LSTM" else [step(a, *state[:1], *rest)]
        naive.append(state[0][0])
    ours, naive = ((v.double() - wanted).norm() for v in (ours, torch.stack(naive)))
    assert ours < naive / 1.5


# forward dropout


@every_dtype
def test_forward_dropout_has_the_masks_of_float64(dtype: torch.dtype):
    drop, x = recdrop.Dropout(0.5), data(5)
    low, exact = run(drop, x.to(dtype)), run(drop, x)
    assert {v.dtype for v in low} == {dtype}
    assert torch.equal(low[0] == 0, exact[0] == 0)
    assert torch.equal(low[1].double(), low[1].new_tensor(exact[1].tolist()).double())


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("lacking", [False, True], ids=["as it is", "without torch's"])
def test_evaluation_under_autocast_also_where_torch_has_no_lstm_for_it(
    lacking: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
):
    """oneDNN has an LSTM in bfloat16 for some processors alone, and torch.nn's raises on others."""
    monkeypatch.setattr("recdrop.layers._RUNS", {torch.bfloat16: False} if lacking else {})
    layer, x = (
        recdrop.LSTM(I, H, recurrent_dropout=RecurrentDropout.gal(0.5)).eval(),
        data(5).float(),
    )
    run = torch.compile(layer, backend="eager", fullgraph=True) if compiled else layer
    before = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = run(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(out.float(), layer(x)[0], atol=0.02, rtol=0)
