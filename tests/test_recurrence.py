"""The scan against the independent float64 reference: outputs, final states and every gradient.

One scan carries every combination of sites and samplings as replicas, so each comparison also shows
that replicas with different settings live side by side.
"""

from itertools import product
from typing import NamedTuple

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import CELLS, GATES
from torch import Tensor

from recdrop import recurrence
from recdrop.recurrence import scan

OFF, STEP, SEQUENCE = "off", "step", "sequence"
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


class Networks(NamedTuple):
    """The tensors of R networks and their data, in scan's order."""

    x: Tensor
    h0: Tensor
    c0: Tensor | None
    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None


class Masking(NamedTuple):
    thresholds: Tensor
    scale: Tensor
    per_step: Tensor
    seeds: Tensor


def networks(
    cell: str, R: int, T: int = 5, B: int = 3, I: int = 4, H: int = 9, bias: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Networks:  # fmt: skip
    """Random networks. H is no multiple of 8, so that decisions span two Philox calls."""
    kind = cell.split("_")[0]
    N = GATES[kind] * H

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, dtype=torch.float64) / 2).to(dtype).requires_grad_()

    return Networks(
        random(R, T, B, I),
        random(R, B, H),
        random(R, B, H) if kind == "lstm" else None,
        random(R, N, I),
        random(R, N, H),
        random(R, N) if bias else None,
        random(R, N) if bias else None,
    )


def settings_of(cell: str) -> list[tuple[str, str, str]]:
    """Every choice of sites and samplings; a vanilla RNN has the hidden site alone."""
    choices = product((OFF, STEP, SEQUENCE), repeat=3)
    return [s for s in choices if not cell.startswith("rnn") or s[0] == s[2] == OFF]


def masking(
    settings: list[tuple[str, str, str]], scaling: str = "inverted", training: bool = True
) -> Masking:
    """Thresholds and scales as Eqs. 3 and 14 define them, at a rate of its own for each site."""
    on = torch.tensor([[choice != OFF for choice in s] for s in settings])
    rates = torch.randint(10_000, 50_000, on.shape) * on
    p = rates.double() / 65536
    one = torch.ones_like(p)
    scale = {
        ("inverted", True): 1 / (1 - p),
        ("inverted", False): one,
        ("paper", True): one,
        ("paper", False): 1 - p,
    }[scaling, training]
    return Masking(
        rates if training else torch.zeros_like(rates),
        scale,
        torch.tensor([[choice == STEP for choice in s] for s in settings]),
        torch.randint(-(2**63), 2**63 - 1, (len(settings),)),
    )


def given_tensors(nets: Networks) -> dict[str, Tensor]:
    return {name: v for name, v in nets._asdict().items() if v is not None}


def pull_back(outputs: tuple[Tensor, Tensor], nets: Networks) -> dict[str, Tensor]:
    """Gradients of a fixed random functional of all h and c, so that no output hides."""
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v * torch.randn(v.shape, dtype=torch.float64, generator=generator).to(v.dtype)).sum()
        for v in outputs
    )
    named = given_tensors(nets)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_same(cell: str, nets: Networks, masking: Masking, *rest: object) -> None:
    ours = scan(cell, *nets, *masking, *rest)
    theirs = reference.scan(cell, *nets, *masking, *rest)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **ROUNDING)
    ours, theirs = pull_back(ours, nets), pull_back(theirs, nets)
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], **ROUNDING, msg=lambda m, name=name: f"{name}: {m}"
        )


# against the reference


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_training_equals_the_reference(cell: str, scaling: str, bias: bool, ragged: bool):
    settings = settings_of(cell)
    nets = networks(cell, len(settings), bias=bias)
    lengths = torch.randint(1, 6, (len(settings), 3)) if ragged else None
    assert_same(cell, nets, masking(settings, scaling), lengths)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_evaluation_equals_the_reference(cell: str, scaling: str):
    settings = settings_of(cell)
    assert_same(cell, networks(cell, len(settings)), masking(settings, scaling, training=False))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("settings", [(OFF, STEP, OFF), (OFF, SEQUENCE, OFF), (OFF, OFF, OFF)])
def test_a_single_network_equals_the_reference(cell: str, settings: tuple[str, str, str]):
    """Alone, a network may take shortcuts (no mask at all, one for all steps)."""
    assert_same(cell, networks(cell, 1), masking([settings]))


@pytest.mark.parametrize("cell", ["lstm_tanh", "gru_tanh"])
@pytest.mark.parametrize("settings", settings_of("lstm_tanh"), ids="-".join)
def test_each_setting_alone_equals_the_reference(cell: str, settings: tuple[str, str, str]):
    assert_same(cell, networks(cell, 1), masking([settings]))


@pytest.mark.parametrize("cell", ["lstm_tanh", "gru_tanh", "rnn_tanh"])
@pytest.mark.parametrize(("layer", "direction"), [(0, 1), (1, 0), (3, 1)])
def test_layer_and_direction_choose_the_masks(cell: str, layer: int, direction: int):
    settings = settings_of(cell)
    assert_same(
        cell, networks(cell, len(settings)), masking(settings), None, layer, direction
    )  # fmt: skip


@given(data=st.data())
def test_any_shape_and_rate_equals_the_reference(data: st.DataObject):
    cell = data.draw(st.sampled_from(CELLS))
    R, T, B, I, H = (data.draw(st.integers(1, n)) for n in (3, 4, 3, 3, 18))
    kind_sites = [False, True, False] if cell.startswith("rnn") else [True] * 3
    thresholds = [
        [data.draw(st.integers(0, 65535)) if site else 0 for site in kind_sites] for _ in range(R)
    ]
    scale = [
        [data.draw(st.floats(0.1, 3)) if site else 1.0 for site in kind_sites] for _ in range(R)
    ]
    lengths = data.draw(
        st.none()
        | st.lists(st.lists(st.integers(1, T), min_size=B, max_size=B), min_size=R, max_size=R).map(
            torch.tensor
        )
    )
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    masks = Masking(
        torch.tensor(thresholds),
        torch.tensor(scale, dtype=torch.float64),
        torch.tensor([[data.draw(st.booleans()) for _ in range(3)] for _ in range(R)]),
        torch.tensor([data.draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(R)]),
    )
    assert_same(cell, networks(cell, R, T, B, I, H, data.draw(st.booleans())), masks, lengths)


@pytest.mark.parametrize("cell", ["lstm_tanh", "gru_tanh", "rnn_tanh"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_gradients_equal_finite_differences(cell: str, ragged: bool):
    settings = [(OFF, SEQUENCE, OFF)] if cell == "rnn_tanh" else [(STEP, SEQUENCE, STEP)]
    nets = networks(cell, 1, T=3, B=2, I=2, H=3)
    named, masks = given_tensors(nets), masking(settings)
    lengths = torch.tensor([[3, 1]]) if ragged else None

    def run(*values: Tensor) -> list[Tensor]:
        h, c = scan(cell, *nets._replace(**dict(zip(named, values, strict=True))), *masks, lengths)
        return [h, c] if c.numel() else [h]

    assert torch.autograd.gradcheck(run, tuple(named.values()), fast_mode=True)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [(c, w) for c in CELLS for w in Networks._fields if w != "c0" or c.startswith("lstm")],
)
def test_gradient_of_one_tensor_alone(cell: str, wanted: str):
    """Frozen weights, or data that need no gradient, change nothing for the others."""
    settings = settings_of(cell)[-2:]
    nets, masks = networks(cell, len(settings)), masking(settings)
    everything = pull_back(scan(cell, *nets, *masks), nets)
    frozen = Networks(*(None if v is None else v.detach() for v in nets))
    alone = frozen._replace(**{wanted: getattr(frozen, wanted).requires_grad_()})
    outputs = scan(cell, *alone, *masks)
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v * torch.randn(v.shape, dtype=torch.float64, generator=generator)).sum() for v in outputs
    )
    (gradient,) = torch.autograd.grad(loss, [getattr(alone, wanted)])
    torch.testing.assert_close(gradient, everything[wanted], **ROUNDING)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("create_graph", [False, True], ids=["once", "graph"])
def test_data_that_need_no_gradient_have_none_computed(
    cell: str, dtype: torch.dtype, create_graph: bool, monkeypatch: pytest.MonkeyPatch
):
    shapes, backward = [], recurrence._scan_backward

    def seen(*args: object) -> list[Tensor]:
        found = backward(*args)
        shapes.append([v.shape for v in found])
        return found

    monkeypatch.setattr(recurrence, "_scan_backward", seen)
    nets = Networks(
        *(None if v is None else v.detach().to(dtype).requires_grad_() for v in networks(cell, 1))
    )
    nets = nets._replace(x=nets.x.detach())
    h, _ = scan(cell, *nets, *masking(settings_of(cell)[-1:]))
    torch.autograd.grad(h.sum(), [v for v in nets[1:] if v is not None], create_graph=create_graph)
    assert shapes == [[v.shape for v in nets[1:] if v is not None]]


@pytest.mark.parametrize("cell", CELLS)
def test_a_second_backward_gives_the_same(cell: str):
    """Nothing saved for backward is used up or overwritten by it."""
    settings = settings_of(cell)[-1:]
    nets, masks = networks(cell, 1), masking(settings)
    h, _ = scan(cell, *nets, *masks)
    wanted = list(given_tensors(nets).values())
    first = torch.autograd.grad(h.sum(), wanted, retain_graph=True)
    second = torch.autograd.grad(h.sum(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("cell", ["lstm_tanh", "gru_tanh", "rnn_tanh"])
def test_second_derivatives_are_refused_rather_than_wrong(cell: str):
    nets, masks = networks(cell, 1), masking(settings_of(cell)[-1:])
    h, _ = scan(cell, *nets, *masks)
    (first,) = torch.autograd.grad(h.sum(), [nets.x], create_graph=True)
    with pytest.raises(RuntimeError, match="scan_backward"):
        torch.autograd.grad(first.sum(), [nets.x])


# shapes, types, time


@pytest.mark.parametrize("cell", CELLS)
def test_shapes(cell: str):
    nets = networks(cell, 2, T=5, B=3, I=4, H=9)
    h, c = scan(cell, *nets, *masking([(OFF, STEP, OFF)] * 2))
    assert h.shape == (2, 5, 3, 9)
    assert c.shape == ((2, 5, 3, 9) if cell.startswith("lstm") else (2, 0, 3, 9))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])
def test_lower_precision_follows(cell: str, dtype: torch.dtype, error: float):
    settings = settings_of(cell)[-1:]
    exact, masks = networks(cell, 1), masking(settings)
    nets = Networks(*(None if v is None else v.detach().to(dtype).requires_grad_() for v in exact))
    ours = scan(cell, *nets, *masks)
    theirs = scan(cell, *exact, *masks)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=error, atol=error)
    for name, gradient in pull_back(ours, nets).items():
        assert gradient.dtype == dtype, name
        assert gradient.isfinite().all(), name


@pytest.mark.parametrize("cell", CELLS)
def test_ended_rows_hold_their_state(cell: str):
    settings = settings_of(cell)[-1:]
    h, c = scan(cell, *networks(cell, 1), *masking(settings), torch.tensor([[5, 2, 1]]))
    for states in (h, c) if c.numel() else (h,):
        for row, length in enumerate((5, 2, 1)):
            for t in range(length, 5):
                assert torch.equal(states[0, t, row], states[0, length - 1, row])


@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_never_read(cell: str):
    """What stands after a row's end changes nothing, and gets no gradient."""
    settings = settings_of(cell)[-1:]
    nets, masks, lengths = networks(cell, 1), masking(settings), torch.tensor([[5, 2, 1]])
    padded = nets.x.detach().clone()
    padded[0, 2:, 1] = padded[0, 1:, 2] = 1e3
    other = nets._replace(x=padded.requires_grad_())
    ours, theirs = scan(cell, *nets, *masks, lengths), scan(cell, *other, *masks, lengths)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    gradient = pull_back(theirs, other)["x"]
    assert (gradient[0, 2:, 1] == 0).all()
    assert (gradient[0, 1:, 2] == 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_the_past_does_not_depend_on_the_future(cell: str):
    settings = settings_of(cell)[-1:]
    nets, masks = networks(cell, 1), masking(settings)
    whole, _ = scan(cell, *nets, *masks)
    part, _ = scan(cell, *nets._replace(x=nets.x[:, :3]), *masks)
    torch.testing.assert_close(part, whole[:, :3], **ROUNDING)


# replicas


def one_of(value: Tensor | None, r: int) -> Tensor | None:
    return None if value is None else value[r : r + 1].detach().clone().requires_grad_()


@pytest.mark.parametrize("cell", CELLS)
def test_a_replica_alone_is_the_replica_among_others(cell: str):
    settings = settings_of(cell)
    nets, masks = networks(cell, len(settings)), masking(settings)
    outputs = scan(cell, *nets, *masks)
    gradients = pull_back((outputs[0], outputs[1] * 0), nets)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(outputs[0].shape, dtype=torch.float64, generator=generator)
    for r in range(len(settings)):
        alone = Networks(*(one_of(v, r) for v in nets))
        h, c = scan(cell, *alone, *(v[r : r + 1] for v in masks))
        torch.testing.assert_close(h[0], outputs[0][r], **ROUNDING)
        torch.testing.assert_close(c[0], outputs[1][r], **ROUNDING)
        named = given_tensors(alone)
        for name, gradient in zip(
            named,
            torch.autograd.grad((h[0] * weight[r]).sum(), list(named.values()), allow_unused=True),
            strict=True,
        ):
            torch.testing.assert_close(gradient[0], gradients[name][r], **ROUNDING)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("trouble", [0.0, 1e30, float("inf"), float("nan")])
def test_neighbours_do_not_change_a_replica_by_a_bit(cell: str, trouble: float):
    """Whatever the neighbours' weights, data, rates, samplings and seeds; also if they diverge."""
    chosen = settings_of(cell)[-1]
    mine, masks = networks(cell, 3), masking([chosen] * 3)
    others = [settings_of(cell)[0], chosen, settings_of(cell)[1]]
    changed = Networks(*(None if v is None else v.detach().clone() for v in mine))
    for value in given_tensors(changed).values():
        value[0], value[2] = trouble, -trouble
        value.requires_grad_()
    other_masks = Masking(
        *(
            torch.stack([theirs[0], own[1], theirs[2]])
            for own, theirs in zip(masks, masking(others), strict=True)
        )
    )
    before, after = scan(cell, *mine, *masks), scan(cell, *changed, *other_masks)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[1], b[1])
    before, after = pull_back(before, mine), pull_back(after, changed)
    for name in before:
        assert torch.equal(before[name][1], after[name][1]), name


def test_replicas_with_one_seed_share_their_masks():
    nets = networks("lstm_tanh", 1)
    twins = Networks(*(v.detach().expand(2, *v.shape[1:]) for v in nets))
    masks = masking([(STEP, SEQUENCE, STEP)])
    twin_masks = Masking(*(v.expand(2, *v.shape[1:]) for v in masks))
    h, _ = scan("lstm_tanh", *twins, *twin_masks)
    torch.testing.assert_close(h[0], h[1], **ROUNDING)
    h, _ = scan("lstm_tanh", *twins, *twin_masks._replace(seeds=torch.tensor([1, 2])))
    assert not torch.allclose(h[0], h[1])
