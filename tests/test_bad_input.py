"""What reaches a compiled kernel has the shapes and types that it trusts: it reads by pointers, and
would compute with foreign memory, or die of it, where plain PyTorch raises."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_recurrence import CELLS, masking, networks, settings_of
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

import recdrop
from recdrop import RecurrentDropout, draws, masks, softmax
from recdrop.data import conll2003, ptb
from recdrop.recurrence import scan

KINDS = ["LSTM", "GRU", "RNN"]
every_kind = pytest.mark.parametrize("kind", KINDS)
I, H, T, B = 4, 9, 5, 3


def layer(kind: str, **options) -> nn.RNNBase:
    return getattr(recdrop, kind)(I, H, recurrent_dropout=RecurrentDropout.gal(0.5), **options)


# gaps between a tensor's elements


def gradients(call, tensors: dict[str, Tensor]) -> list[Tensor]:
    with masks.seeding(1):
        out = call(tensors)
    return [out, *torch.autograd.grad(out.square().sum(), list(tensors.values()))]


@every_kind
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_weights_with_gaps_are_those_without(kind: str, training: bool, activation: str):
    """As a network that makes another one's weights gives them: oneDNN reads no bias's strides."""
    options = {"nonlinearity" if kind == "RNN" else "activation": activation}
    module, x = layer(kind, **options).train(training), torch.randn(T, B, I)
    gaps = {k: (torch.randn(*v.shape, 5) / 3)[..., 0] for k, v in module.named_parameters()}
    whole = {k: v.clone(memory_format=torch.contiguous_format) for k, v in gaps.items()}
    found = [
        gradients(
            lambda given: functional_call(module, given, x)[0],
            {k: v.detach().requires_grad_() for k, v in given.items()},
        )
        for given in (gaps, whole)
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@every_kind
def test_stacked_networks_may_lie_in_the_last_dimension(kind: str):
    modules, x = [layer(kind) for _ in range(3)], torch.randn(T, B, I)
    parameters, buffers = stack_module_state(modules)

    def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(modules[0], (parameters, buffers), x)[0]

    seeds = torch.arange(3)
    expected = vmap(one)(parameters, buffers, seeds)
    last = {k: v.detach().movedim(0, -1).contiguous() for k, v in parameters.items()}
    found = vmap(one, in_dims=(-1, 0, 0))(last, buffers, seeds)
    torch.testing.assert_close(found, expected)


@every_kind
def test_a_compiled_layer_takes_batches_first(kind: str):
    """The gradient of an input of any order is in one piece; a compiler relies on what is said."""
    module, embedding = layer(kind, batch_first=True), nn.Embedding(7, I)
    tokens = torch.randint(0, 7, (B, T))
    found = []
    for wrap in (lambda f: f, torch.compile):
        with masks.seeding(1):
            loss = wrap(lambda: module(embedding(tokens))[0].square().sum())()
        found.append(torch.autograd.grad(loss, [embedding.weight, *module.parameters()]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_a_compiled_output_layer_takes_a_transposed_weight():
    x, weight = torch.randn(6, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    found = []
    for wrap in (lambda f: f, torch.compile):
        loss = wrap(
            lambda: softmax.linear_cross_entropy(x, (2 * weight).T, None, torch.arange(6)).sum()
        )()
        found.append(torch.autograd.grad(loss, [x, weight]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


# the scan


def arguments(cell: str) -> dict:
    settings = settings_of(cell)[-2:]
    nets, drop = networks(cell, 2, dtype=torch.float32), masking(settings)
    return {"cell": cell, **nets._asdict(), **drop._asdict()}


@pytest.mark.parametrize("cell", CELLS)
def test_a_scan_of_other_shapes_is_refused(cell: str):
    """Where plain PyTorch would stretch a tensor of one row, too."""
    given = arguments(cell)
    scan(**given)
    for name, v in given.items():
        if not isinstance(v, Tensor) or name == "x":
            continue
        for shape in ((*v.shape[:-1], 1), (1, *v.shape[1:]), v.shape[:-1]):
            if shape != v.shape:
                wrong = torch.zeros(shape, dtype=v.dtype)
                with pytest.raises(ValueError, match=r"has the shape .*; give \("):
                    scan(**given | {name: wrong})


@pytest.mark.parametrize("cell", CELLS)
def test_a_scan_needs_its_states_and_both_biases(cell: str):
    given = arguments(cell)
    states = given["h0"] if given["c0"] is None else None
    for wrong in ({"c0": states}, {"b_hh": None}, {"b_ih": None}):
        with pytest.raises(ValueError, match=r"begins with h0 .*; give these"):
            scan(**given | wrong)


@pytest.mark.parametrize("cell", ["lstm", "lstm_sigmoid", "LSTM_tanh", ""])
def test_an_unknown_cell_is_refused(cell: str):
    with pytest.raises(ValueError, match="cell=.* is unknown"):
        scan(**arguments("lstm_tanh") | {"cell": cell})


def test_a_scan_of_integers_is_refused():
    given = arguments("lstm_tanh")
    with pytest.raises(TypeError, match="give a floating type"):
        scan(**given | {"x": given["x"].long()})


@every_kind
def test_a_lent_weight_of_one_row_is_refused(kind: str):
    module = layer(kind)
    lent = {"weight_hh_l0": torch.randn(1, H)}
    with pytest.raises(ValueError, match="w_hh has the shape"):
        functional_call(module, lent, torch.randn(T, B, I))


@every_kind
def test_states_that_are_no_tensors_are_refused(kind: str):
    wrong = (torch.zeros(1, B, H), None) if kind == "LSTM" else (torch.zeros(1, B, H),)
    with pytest.raises(TypeError, match="hx is or holds a (NoneType|tuple); give"):
        layer(kind)(torch.randn(T, B, I), wrong)


# masks


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64])
def test_lent_rates_may_be_of_another_type(dtype: torch.dtype):
    """Who casts all tensors of a module casts the buffers, too."""
    module, x = recdrop.Dropout(0.25), torch.ones(50, 40)
    with masks.seeding(1):
        expected = module(x)
    with masks.seeding(1):
        found = functional_call(module, {"threshold": module.threshold.to(dtype)}, x)
    assert torch.equal(found, expected)


@every_kind
def test_all_tensors_of_a_module_may_be_cast(kind: str):
    module, x = layer(kind, num_layers=2, dropout=0.25), torch.randn(T, B, I)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    found = []
    for given in (tensors, {k: v.float() for k, v in tensors.items()}):
        with masks.seeding(1):
            found.append(functional_call(module, given, x)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("shapes", [((3,), (1,)), ((1,), (3,)), ((), ()), ((3, 1), (3, 1))])
def test_masks_need_a_level_for_each_seed(shapes: tuple):
    seeds, levels = (torch.full(shape, 9) for shape in shapes)
    with pytest.raises(ValueError, match="seeds have the shape"):
        draws.kept(seeds, levels, "input", 1, 2, 8, 0)


def test_masks_of_an_unknown_site_are_refused():
    with pytest.raises(ValueError, match="site='nowhere' is unknown"):
        draws.kept(torch.arange(1), torch.full((1,), 9), "nowhere", 1, 2, 8, 0)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 1.5, torch.tensor(1.5), torch.arange(2)])
def test_seeds_that_are_no_integer_are_refused(seed):
    with pytest.raises(ValueError, match="seed="), masks.seeding(seed):
        pass


def test_a_single_number_is_dropped_too():
    assert recdrop.Dropout(0.5)(torch.tensor(1.0)) in (0, 2)


# the output layer


@pytest.mark.parametrize(("bias", "target"), [(3, 6), (None, 3), (7, 3)])
def test_the_output_layers_operator_refuses_other_shapes(bias: int | None, target: int):
    x, weight = torch.randn(1, 6, 5), torch.randn(1, 7, 5)
    bias = None if bias is None else torch.zeros(1, bias)
    for ahead in (False, True):
        with pytest.raises((ValueError, RuntimeError)):
            softmax.cross_entropy(x, weight, bias, torch.zeros(1, target).long(), ahead)


def test_losses_of_integers_or_of_no_classes_are_refused():
    x, target = torch.ones(3, 5), torch.zeros(3).long()
    with pytest.raises(TypeError, match="give a floating type"):
        softmax.linear_cross_entropy(x.long(), torch.ones(7, 5), None, target)
    with pytest.raises(ValueError, match="weight has the shape"):
        softmax.linear_cross_entropy(x, torch.ones(0, 5), None, target)


# memory

TOO_LITTLE = """
import resource
import torch
import recdrop

B, I, H = 8192, 512, 128  # the kernel's largest piece, of up to 16 MB, is a thread's own
drop = recdrop.RecurrentDropout.gal(0.5)
layer, x = recdrop.LSTM(I, H, recurrent_dropout=drop), torch.randn(1, B, I)
ours = "recdrop_forward: not enough memory", "recdrop_backward: not enough memory"

def gradients():
    for p in layer.parameters():
        p.grad = None
    with recdrop.masks.seeding(3), torch.autocast("cpu", torch.bfloat16):
        out, _ = layer(x)
    out.sum().backward()
    return [p.grad for p in layer.parameters()]

before = gradients()
pages = int(open("/proc/self/statm").read().split()[0])
for megabytes in range(0, 400, 4):
    limit = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        after = gradients()
        print("enough" if all(map(torch.equal, before, after)) else "wrong")
    except (MemoryError, RuntimeError) as error:
        print("ours: " * (str(error) in ours) + str(error).partition(" ")[0])
    else:
        break
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_where_memory_does_not_suffice_there_is_an_error(threads: str, monkeypatch):
    """And no process that dies, hangs or computes something else, whichever of its threads lacks it
    and wherever in a forward or backward pass."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "262144")  # what is freed is given back at once
    command = [sys.executable, "-c", TOO_LITTLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "wrong" not in said
    assert said[-1] == "enough"
    if recdrop.backend().startswith("cpu"):
        assert {"ours: recdrop_forward:", "ours: recdrop_backward:"} <= set(said)


# texts


@pytest.mark.parametrize("read", [ptb.read_words, ptb.read_characters, conll2003.read])
def test_a_text_that_is_not_utf_8_is_named(read, tmp_path: Path):
    path = tmp_path / "train.txt"
    path.write_bytes("Z\xfcrich NNP B-NP B-LOC\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.txt is not text in UTF-8 .* at byte 1"):
        read(path)
