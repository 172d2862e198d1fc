"""The core on CUDA, where there is such a device: the CPU's masks bit for bit and the reference's
numbers, every task trained without waiting; on the meta device, which has shapes and no data; and
for devices without float64.

The kernels themselves are tested on every machine, in test_triton.py."""

import pytest
import torch
from test_layers import (
    KINDS,
    B,
    H,
    I,
    T,
    assert_close,
    data,
    expected,
    flat,
    gradients,
    initial,
    ours,
    repeat,
    some_dropout,
)
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import recdrop
from recdrop import masks, recurrence
from recdrop.kernels import bptt, graphs, reference
from recdrop.softmax import linear_cross_entropy
from recdrop.study import grids
from recdrop.study.conditions import grid
from recdrop.study.replicas import Replicas
from recdrop.study.training import train
from recdrop.tasks.word_lm import WordLanguageModel

every_kind = pytest.mark.parametrize("kind", KINDS)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine"
)


def on_cpu(result: object) -> list[Tensor]:
    return [v.cpu() for v in flat(result)]


def moved(hx: Tensor | tuple[Tensor, ...], device: str) -> Tensor | tuple[Tensor, ...]:
    return hx.to(device) if isinstance(hx, Tensor) else tuple(v.to(device) for v in hx)


# CUDA


@needs_cuda
@pytest.mark.parametrize("site", masks.SITE_CODES)
def test_cuda_draws_the_masks_of_the_cpu(site: str):
    seeds, levels = torch.tensor([0, -1, 2**62 + 12345]), torch.tensor([1, 32768, 65535])
    here = masks.kept(seeds, levels, site, 4, 5, 21, layer=1, direction=1)
    there = masks.kept(seeds.cuda(), levels.cuda(), site, 4, 5, 21, layer=1, direction=1)
    assert there.is_cuda
    assert torch.equal(there.cpu(), here)


@needs_cuda
@every_kind
@both_modes
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_cuda_equals_the_reference(kind: str, training: bool, scaling: str):
    module = ours(kind, some_dropout(kind, scaling), num_layers=2, bidirectional=True)
    module.train(training)
    x, hx = data().requires_grad_(), initial(module, B)
    theirs = expected(module, x, hx)
    wanted = gradients(theirs, [x, *module.parameters()])
    module.cuda()
    x = x.detach().cuda().requires_grad_()
    mine = repeat(module, x, moved(hx, "cuda"))
    assert all(v.is_cuda for v in flat(mine))
    assert_close(on_cpu(mine), flat(theirs))
    weighted = [v.cpu() for v in flat(mine)]  # gradients() draws its weights on the CPU
    assert_close([v.cpu() for v in gradients(weighted, [x, *module.parameters()])], wanted)


@needs_cuda
@every_kind
@pytest.mark.parametrize("lengths", [[6, 4, 1], [1, 6, 4]], ids=str)
def test_cuda_takes_packed_sequences(kind: str, lengths: list[int]):
    module = ours(kind, some_dropout(kind), num_layers=2, bidirectional=True)
    packed = pack_padded_sequence(data(), lengths, enforce_sorted=False)
    here = repeat(module, packed)
    there = repeat(module.cuda(), packed.cuda())
    assert there[0].data.is_cuda
    assert_close(on_cpu(there), flat(here))


@needs_cuda
@every_kind
def test_cuda_and_cpu_follow_the_same_generator(kind: str):
    """One draw from the CPU's generator per forward: a run moves to another device and goes on."""
    module, x = ours(kind, some_dropout(kind)), data()
    torch.manual_seed(5)
    here = [module(x)[0] for _ in range(2)]
    state = torch.get_rng_state()
    module.cuda()
    torch.manual_seed(5)
    there = [module(x.cuda())[0].cpu() for _ in range(2)]
    assert_close(there, here)
    assert torch.equal(torch.get_rng_state(), state)


@needs_cuda
@every_kind
def test_a_module_comes_back_from_cuda(kind: str):
    module, x = ours(kind, some_dropout(kind)), data()
    before = repeat(module, x)
    assert_close(repeat(module.cuda().cpu(), x), before)


@needs_cuda
@every_kind
def test_cuda_with_dropout_between_layers_and_on_the_input(kind: str):
    model = nn.Sequential(
        recdrop.Dropout(0.3), ours(kind, some_dropout(kind), num_layers=2, dropout=0.5)
    )
    x = data()
    here = repeat(model, x)
    assert_close(on_cpu(repeat(model.cuda(), x.cuda())), flat(here))


@needs_cuda
@every_kind
@both_modes
def test_cuda_autocast_rounds_operands_and_keeps_float32(kind: str, training: bool):
    module = ours(kind, some_dropout(kind, "paper"), dtype=torch.float32).train(training)
    x = data().float()
    exact = repeat(module, x)
    module.cuda()
    x = x.cuda().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        low = repeat(module, x)
    for a, b in zip(on_cpu(low), flat(exact), strict=True):
        assert a.dtype == torch.float32
        assert 1e-5 < (a - b).norm() / b.norm() < 8e-3
    low[0].sum().backward()
    assert {p.grad.dtype for p in module.parameters()} == {torch.float32}


@needs_cuda
@every_kind
def test_cuda_table_equals_the_cpus(kind: str):
    networks = [ours(kind, some_dropout(kind)) for _ in range(2)]
    x, seeds = data(), torch.tensor([1, 2])

    def table(device: str) -> Tensor:
        stacked = stack_module_state([network.to(device) for network in networks])

        def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
            with masks.seeding(seed):
                return functional_call(networks[0], (parameters, buffers), (x.to(device),))[0]

        return vmap(one, randomness="different")(*stacked, seeds.to(device)).cpu()

    assert_close(table("cuda"), table("cpu"))


@needs_cuda
@pytest.mark.parametrize("table", [1, 2, 3, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cuda_trains_every_task(tmp_path, table: int, precision: str):
    """The smoke profile, on both devices; a manifest says on which."""
    axes = {"schemes": "semeniuta,moon", "rates": "0.5", "samplings": "step", "forward": "no"}
    for n, work in enumerate(grids.works(table, "smoke", axes, arithmetic=precision)):
        found = {
            device: train(*work, tmp_path / f"{device}{n}", progress=False, device=device)
            for device in ("cpu", "cuda")
        }
        for here, there in zip(found["cpu"], found["cuda"], strict=True):
            assert there["made_with"]["device"] == torch.cuda.get_device_name()
            a, b = (m["curve"][0]["loss"] for m in (here, there))
            assert abs(a - b) < (2e-3 if precision == "fp32" else 5e-2) * a


@needs_cuda
@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_cuda_trains_without_waiting(table: int):
    """From an update to the next nothing asks the GPU for a number, which would wait for it."""
    task, conditions = grids.works(table, "smoke", {"rates": "0.5", "forward": "no"})[0]
    networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
    s, names = task.settings, [c.name for c in conditions]
    seeds = [c.seed for c in conditions]
    replicas = Replicas(networks, names, seeds, s["optimiser"], s["lr"], s["clip"], "cuda")
    done = []

    def tick(*_, **__) -> None:
        done.append(torch.cuda.set_sync_debug_mode("error"))  # from the first update on

    try:
        task.train_epoch(replicas.train(), 0, tick)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(done) > 2


@needs_cuda
@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_cuda_recorded_updates_equal_launched_ones(tmp_path, monkeypatch, table: int):
    axes = {"rates": "0,0.5", "samplings": "step"} | ({} if table == 1 else {"forward": "no,yes"})
    work, found = grids.works(table, "smoke", axes)[0], []
    for n, warm_up in enumerate((2, 10**9)):
        monkeypatch.setattr(graphs, "WARM_UP", warm_up)
        found.append(train(*work, tmp_path / str(n), progress=False, device="cuda"))
    for recorded, launched in zip(*found, strict=True):
        for a, b in zip(recorded["curve"], launched["curve"], strict=True):
            assert a == pytest.approx(b, rel=1e-3), recorded["name"]


@needs_cuda
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_cuda_trains_other_cells(tmp_path, cell: str):
    """Plain PyTorch computes them, which reads numbers back: nothing of it can be recorded."""
    task = WordLanguageModel("smoke", cell=cell)
    conditions = grid(task.name, task.settings, ["gal"], [0.5], ["step"])
    found = [train(task, conditions, tmp_path / device, progress=False, device=device)[0]
             for device in ("cpu", "cuda")]  # fmt: skip
    assert found[1]["curve"][0]["loss"] == pytest.approx(found[0]["curve"][0]["loss"], rel=2e-3)


# meta


@every_kind
@both_modes
@pytest.mark.parametrize("given_state", [False, True])
def test_meta_has_the_shapes_of_the_cpu(kind: str, training: bool, given_state: bool):
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}
    module = ours(kind, some_dropout(kind, "paper"), **options).train(training)
    x, hx = data(), initial(module, B) if given_state else None
    here = flat(module(x, hx))
    module.to("meta")
    there = flat(module(x.to("meta"), None if hx is None else moved(hx, "meta")))
    assert [(v.shape, v.dtype) for v in there] == [(v.shape, v.dtype) for v in here]
    assert all(v.is_meta for v in there)


@every_kind
def test_meta_has_gradients_of_the_right_shapes(kind: str):
    module = ours(kind, some_dropout(kind), num_layers=2, device="meta")
    module(data().to("meta"))[0].sum().backward()
    assert [p.grad.shape for p in module.parameters()] == [p.shape for p in module.parameters()]


@every_kind
def test_a_model_made_on_meta_is_filled_and_drops(kind: str):
    """to_empty leaves random bits in every buffer that no state_dict restores."""
    with torch.device("meta"):
        model = nn.Sequential(recdrop.Dropout(0.3), ours(kind, some_dropout(kind)))
    twin = nn.Sequential(recdrop.Dropout(0.3), ours(kind, some_dropout(kind)))
    model.to_empty(device="cpu").load_state_dict(twin.state_dict())
    x = data()
    assert_close(repeat(model, x), repeat(twin, x))


@every_kind
@both_modes
def test_a_model_made_on_meta_may_have_its_weights_assigned(kind: str, training: bool):
    """The buffers, which no state_dict holds, must not stay behind: nothing would be computed."""
    with torch.device("meta"):
        model = nn.Sequential(recdrop.Dropout(0.3), ours(kind, some_dropout(kind, "paper")))
    twin = nn.Sequential(recdrop.Dropout(0.3), ours(kind, some_dropout(kind, "paper")))
    model.load_state_dict(twin.state_dict(), assign=True)
    x = data()
    assert_close(repeat(model.train(training), x), repeat(twin.train(training), x))


@every_kind
def test_tensors_on_two_devices_are_refused(kind: str):
    forgotten = ours(kind, some_dropout(kind), device="meta")
    with pytest.raises(RuntimeError, match="input on cpu and weights or other tensors on meta"):
        forgotten(data())


def test_the_output_layers_tensors_on_two_devices_are_refused():
    x, target = torch.randn(T, I), torch.zeros(T, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="linear_cross_entropy has its input on cpu"):
        linear_cross_entropy(x, torch.empty(H, I, device="meta"), None, target)


def test_meta_forward_dropout():
    y = recdrop.Dropout(0.5).to("meta")(torch.empty(T, B, I, device="meta"))
    assert y.is_meta
    assert y.shape == (T, B, I)


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_an_epoch_asks_its_device_for_no_number(table: int):
    """Meta tensors have none to give: what trains on them never waits for a GPU, either."""
    axes = {"rates": "0,0.5", "samplings": "step"} | ({} if table == 1 else {"forward": "no,yes"})
    task, conditions = grids.works(table, "smoke", axes)[0]
    networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
    s, names = task.settings, [c.name for c in conditions]
    seeds, updates = [c.seed for c in conditions], []
    replicas = Replicas(networks, names, seeds, s["optimiser"], s["lr"], s["clip"], "meta")
    found = task.train_epoch(replicas.train(), 0, lambda *_, **__: updates.append(1))
    assert len(updates) == task.updates_per_epoch
    assert all(v.is_meta and v.shape == (len(names),) for v in found.values())


@every_kind
def test_meta_costs_no_memory(kind: str):
    """Only shapes are computed: the recurrent weights alone would take hundreds of terabytes."""
    huge = 10**7
    module = getattr(recdrop, kind)(H, huge, recurrent_dropout=some_dropout(kind), device="meta")
    assert module(torch.empty(2, 1, H, device="meta"))[0].shape == (2, 1, huge)


# devices without float64, such as Apple's


class WithoutFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for v in torch.utils._pytree.tree_leaves(result):
            if isinstance(v, Tensor) and v.dtype in (torch.float64, torch.complex128):
                raise TypeError(f"{func} made a tensor of {v.dtype}")
        return result


def refusing(function):
    """Modes end where an operator of ours begins: this one stands behind it as well."""

    def inside(*args):
        with WithoutFloat64():
            return function(*args)

    return inside


@every_kind
@both_modes
@pytest.mark.parametrize("scaling", ["paper", "inverted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_need_no_float64(monkeypatch, kind: str, training: bool, scaling: str, dtype):
    monkeypatch.setattr(recurrence, "_kernel", lambda *_: None)  # which are not for such devices
    monkeypatch.setattr(reference, "forward", refusing(reference.forward))
    monkeypatch.setattr(bptt, "backward", refusing(bptt.backward))
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "dtype": dtype}
    layer = ours(kind, some_dropout(kind, scaling), **options).train(training)
    model, x = nn.Sequential(recdrop.Dropout(0.2), layer), data().to(dtype)
    with WithoutFloat64():
        model(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad.abs().sum() > 0


def test_masks_and_losses_need_no_float64():
    with WithoutFloat64():
        masks.kept(torch.tensor([1, 2]), torch.tensor([0, 32768]), "cell", 3, 4, 5)
        x, weight = torch.randn(6, 4, requires_grad=True), torch.randn(7, 4)
        linear_cross_entropy(x, weight, None, torch.arange(6)).sum().backward()
