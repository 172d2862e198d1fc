"""Gradients of whole layers against finite differences, in double precision, over the grid of
cell, dropped sites, sampling, scaling, layers, direction and packing.

All tensors of a network travel as one vector, all results come back as one, and gradcheck's fast
mode compares a random projection of the Jacobian: two more forward passes for each case instead of
two for each number, which a grid of this size could not afford. A wrong entry shows in it.
"""

from itertools import product

import pytest
import torch
from test_layers import flat
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence

import recdrop
from recdrop import RecurrentDropout, masks
from recdrop.dropout import SITES

I, H, T, B = 2, 3, 3, 2
RATES = {"update": 0.3, "hidden": 0.4, "cell": 0.25}
COMBINATIONS = [
    tuple(site for site, on in zip(SITES, chosen, strict=True) if on)
    for chosen in product((False, True), repeat=3)
]
CASES = [
    (cell, sites)
    for cell in ("LSTM_tanh", "LSTM_relu", "GRU_tanh", "RNN_tanh")
    for sites in COMBINATIONS
    if not cell.startswith("RNN") or sites in ((), ("hidden",))
]

every_case = pytest.mark.parametrize(
    ("cell", "sites"), CASES, ids=["-".join([cell, *sites]) for cell, sites in CASES]
)
every_per = pytest.mark.parametrize("per", ["step", "sequence"])
every_shape = pytest.mark.parametrize(
    ("layers", "bidirectional", "packed"),
    list(product((1, 2), (False, True), (False, True))),
    ids=lambda v: f"{v}",
)


def network(
    cell: str, sites: tuple[str, ...], per: object, scaling: str = "inverted", **options
) -> nn.RNNBase:
    kind, activation = cell.split("_")
    drop = RecurrentDropout(**{s: RATES[s] for s in sites}, per=per, scaling=scaling)
    options["nonlinearity" if kind == "RNN" else "activation"] = activation
    return getattr(recdrop, kind)(I, H, recurrent_dropout=drop, dtype=torch.float64, **options)


def assert_gradients_are_right(module: nn.RNNBase, packed: bool = False) -> None:
    """Of outputs and final states by input, initial states and parameters."""
    states = 2 if module.mode == "LSTM" else 1
    slots = module.num_layers * (1 + module.bidirectional)
    named = dict(module.named_parameters())
    tensors = [torch.randn(T, B, I), *[torch.randn(slots, B, H)] * states, *named.values()]
    sizes = [v.numel() for v in tensors]

    def run(everything: Tensor) -> Tensor:
        parts = [v.view_as(u) for v, u in zip(everything.split(sizes), tensors, strict=True)]
        x, hx = parts[0], parts[1 : 1 + states]
        if packed:
            x = pack_padded_sequence(x, [1, T], enforce_sorted=False)
        parameters = dict(zip(named, parts[1 + states :], strict=True))
        with masks.seeding(11):
            hx = hx if states == 2 else hx[0]
            results = flat(functional_call(module, parameters, (x, hx)))
        return torch.cat([v.flatten() for v in results])

    everything = torch.cat([v.detach().double().flatten() for v in tensors]).requires_grad_()
    torch.autograd.gradcheck(
        run, (everything,), fast_mode=True, atol=1e-7, rtol=1e-5, check_undefined_grad=False
    )


@every_case
@every_per
@every_shape
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_training(
    cell: str, sites: tuple[str, ...], per: str, layers: int, bidirectional: bool, packed: bool,
    scaling: str,
):  # fmt: skip
    options = {"num_layers": layers, "bidirectional": bidirectional}
    assert_gradients_are_right(network(cell, sites, per, scaling, **options), packed)


@every_case
@every_shape
def test_evaluation_under_eq_3(
    cell: str, sites: tuple[str, ...], layers: int, bidirectional: bool, packed: bool
):
    """Sampling means nothing here, and under Eq. 14 evaluation is torch.nn's own operator."""
    options = {"num_layers": layers, "bidirectional": bidirectional}
    module = network(cell, sites, "step", "paper", **options)
    assert_gradients_are_right(module.eval(), packed)


@pytest.mark.parametrize("cell", ["LSTM_tanh", "LSTM_relu", "GRU_tanh"])
@pytest.mark.parametrize("samplings", list(product(("step", "sequence"), repeat=3)), ids="-".join)
def test_each_site_with_a_sampling_of_its_own(cell: str, samplings: tuple[str, ...]):
    per = dict(zip(SITES, samplings, strict=True))
    assert_gradients_are_right(network(cell, SITES, per))


@pytest.mark.parametrize("cell", ["LSTM_tanh", "GRU_tanh", "RNN_tanh"])
@pytest.mark.parametrize("sites", [(), ("hidden",)], ids=["plain", "hidden"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_dropout_between_layers(
    cell: str, sites: tuple[str, ...], bidirectional: bool, packed: bool
):
    options = {"num_layers": 3, "dropout": 0.5, "bidirectional": bidirectional}
    assert_gradients_are_right(network(cell, sites, "step", **options), packed)


@pytest.mark.parametrize("cell", ["LSTM_tanh", "GRU_tanh", "RNN_tanh"])
def test_without_bias(cell: str):
    assert_gradients_are_right(network(cell, ("hidden",), "step", bias=False))


@pytest.mark.parametrize("cell", ["LSTM_tanh", "GRU_tanh", "RNN_tanh"])
def test_every_single_entry(cell: str):
    """The whole Jacobian, number by number, where all sites drop: no projection."""
    sites = ("hidden",) if cell.startswith("RNN") else SITES
    module = network(cell, sites, "step")
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    named = dict(module.named_parameters())

    def run(x: Tensor, *parameters: Tensor) -> list[Tensor]:
        with masks.seeding(11):
            return flat(functional_call(module, dict(zip(named, parameters, strict=True)), (x,)))

    assert torch.autograd.gradcheck(run, (x, *named.values()), atol=1e-7, rtol=1e-5)
