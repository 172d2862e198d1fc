"""The LSTM in float32 and bfloat16 on the CPU, by the compiled kernel and by plain PyTorch alike:
against the independent float64 reference, bit for bit where bits are promised, and at the borders
of memory, threads and processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import reference
import torch
from test_recurrence import OFF, SEQUENCE, STEP, Masking, Networks, masking, networks, settings_of
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

import recdrop
from recdrop import RecurrentDropout, masks
from recdrop.forward import forward_dropout
from recdrop.kernels import build, cpu
from recdrop.kernels import reference as plain
from recdrop.recurrence import _scan, scan

ROOT = Path(__file__).parents[1]
REASON = cpu._load() if isinstance(cpu._load(), str) else ""
needs_kernel = pytest.mark.skipif(bool(REASON), reason=f"the kernel cannot be built: {REASON}")
BACKENDS = [pytest.param("cpu", marks=needs_kernel), "reference"]
ALL = settings_of("lstm_tanh")
CELLS = ["lstm_tanh", "lstm_relu"]
SINGLE, HALF, ROUGH = 1e-5, 8e-3, 1e-1
"""The norm of an error as a share of the value's norm: float32; operands in bfloat16; the same
where a sum has so few terms that they may cancel, but a wrong one would show."""


@pytest.mark.skipif(build._compiler() is None, reason="there is no C++ compiler")
def test_where_there_is_a_compiler_there_is_a_kernel():
    """Else all its tests would be skipped, and whoever broke it would not know."""
    assert not REASON


@pytest.fixture(params=BACKENDS, name="backend")
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RECDROP_BACKEND", request.param)
    return request.param


@pytest.fixture(name="kernel")
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDROP_BACKEND", "cpu")


def single(nets: Networks, dtype: torch.dtype = torch.float32) -> Networks:
    return Networks(*(None if v is None else v.detach().to(dtype).requires_grad_() for v in nets))


def results(function, cell: str, nets: Networks, *rest: object) -> dict[str, Tensor]:
    """Outputs, and gradients of a fixed random functional of them by what requires one."""
    outputs = function(cell, *nets, *rest)
    generator = torch.Generator().manual_seed(3)
    loss = sum(
        (v * torch.randn(v.shape, dtype=torch.float64, generator=generator).to(v.dtype)).sum()
        for v in outputs
    )
    named = {name: v for name, v in nets._asdict().items() if v is not None and v.requires_grad}
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {"h": outputs[0], "c": outputs[1], **dict(zip(named, gradients, strict=True))}


def assert_follows(
    cell: str, exact: Networks, masks_: Masking, *rest: object, share: float = SINGLE, **bf16: bool
) -> None:
    """Each replica's outputs and gradients, against float64 on the same rounded numbers."""
    nets = single(exact)
    rounded = single(nets, torch.float64)
    ours = results(lambda *a: scan(*a, **bf16), cell, nets, *masks_, *rest)
    theirs = results(reference.scan, cell, rounded, *masks_, *rest)
    for name in theirs:
        for a, b in zip(ours[name], theirs[name], strict=True):
            assert (a.double() - b).norm() <= share * b.norm(), name


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name in a:
        assert torch.equal(a[name], b[name]), name


# against the reference


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_training(backend: str, cell: str, scaling: str, ragged: bool, bias: bool):
    lengths = torch.randint(1, 6, (len(ALL), 3)) if ragged else None
    assert_follows(cell, networks(cell, len(ALL), bias=bias), masking(ALL, scaling), lengths)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
def test_evaluation(backend: str, cell: str, scaling: str):
    assert_follows(cell, networks(cell, len(ALL)), masking(ALL, scaling, training=False))


@pytest.mark.parametrize("settings", ALL, ids="-".join)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_each_setting_alone(backend: str, settings: tuple[str, str, str], ragged: bool):
    lengths = torch.tensor([[5, 1, 3]]) if ragged else None
    assert_follows("lstm_tanh", networks("lstm_tanh", 1), masking([settings]), lengths)


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("scaling", ["inverted", "paper"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("site", [0, 1, 2])
def test_one_network_of_a_table_drops(
    backend: str, site: int, training: bool, scaling: str, first: bool
):
    """What is spared where nothing is dropped, is not where something is."""
    drops = tuple(STEP if k == site else OFF for k in range(3))
    settings = [drops, (OFF, OFF, OFF)][:: 1 if first else -1]
    masks_ = masking(settings, scaling, training)
    assert_follows("lstm_tanh", networks("lstm_tanh", 2), masks_)


@pytest.mark.parametrize("H", [1, 7, 100, 257])
@pytest.mark.parametrize("B", [1, 33])
@pytest.mark.parametrize(("T", "I"), [(1, 1), (3, 70)])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_odd_shapes(backend: str, H: int, B: int, T: int, I: int, bf16: bool):
    settings = [(STEP, SEQUENCE, OFF), (OFF, STEP, STEP)]
    nets = networks("lstm_tanh", 2, T, B, I, H)
    for weight in (nets.w_ih, nets.w_hh):
        weight.data /= weight.shape[-1] ** 0.5  # as initialised for this size
    share = ROUGH if bf16 else SINGLE
    assert_follows("lstm_tanh", nets, masking(settings, "paper"), share=share, bf16=bf16)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_operands_in_bfloat16(backend: str, cell: str, ragged: bool):
    nets = networks(cell, len(ALL), T=10, B=8, I=33, H=70)
    for weight in (nets.w_ih, nets.w_hh):
        weight.data /= weight.shape[-1] ** 0.5
    lengths = torch.randint(1, 11, (len(ALL), 8)) if ragged else None
    share = HALF if cell == "lstm_tanh" else ROUGH  # relu: near 0 the slope may be the other one
    assert_follows(cell, nets, masking(ALL, "paper"), lengths, share=share, bf16=True)


def between(v: Tensor) -> Tensor:
    """Numbers half way from one that bfloat16 has to the next."""
    halves = (v.detach().bfloat16().float().view(torch.int32) | 0x8000).view(torch.float32)
    return halves.requires_grad_()


@pytest.mark.parametrize("cell", CELLS)
def test_operands_are_rounded_to_the_nearest_ties_to_even(backend: str, cell: str):
    """So numbers rounded beforehand give the same, to the last bit; as they are, they do not."""
    nets = single(networks(cell, 2, B=5, I=33, H=19))
    operands = ("x", "h0", "w_ih", "w_hh")
    nets = nets._replace(**{name: between(getattr(nets, name)) for name in operands})
    rounded = {k: getattr(nets, k).detach().bfloat16().float().requires_grad_() for k in operands}
    given = masking([(OFF, OFF, OFF)] * 2)
    found, same, exact = (
        results(lambda *a, bf16=bf16: scan(*a, bf16=bf16), cell, n, *given)
        for n, bf16 in ((nets, True), (nets._replace(**rounded), True), (nets, False))
    )
    assert_equal(found, same)
    for name, v in exact.items():
        assert not torch.equal(found[name], v), name


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0x7F800001, -1, 0x7FC00000])
@pytest.mark.parametrize("operand", ["x", "h0", "w_ih", "w_hh"])
def test_no_nan_is_rounded_away(backend: str, operand: str, bits: int, bf16: bool):
    """Whatever its bits: some would carry over into those of a zero."""
    nets = single(networks("lstm_tanh", 1))
    getattr(nets, operand).data.view(torch.int32).fill_(bits)
    h, c = scan("lstm_tanh", *nets, *masking([(OFF, OFF, OFF)]), bf16=bf16)
    assert h.isnan().all()
    assert c.isnan().all()


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_relu_passes_a_nan_on(backend: str, bf16: bool):
    """As torch.relu does: in a state alone it would otherwise turn into a zero."""
    nets = single(networks("lstm_relu", 1))
    nets.c0.data[0, 1, 2] = float("nan")
    h, c = scan("lstm_relu", *nets, *masking([(OFF, OFF, OFF)]), bf16=bf16)
    assert h[0, 0, 1, 2].isnan()
    assert c[0, :, 1, 2].isnan().all()
    assert h[0, :, 0].isfinite().all()


@pytest.mark.parametrize(("layer", "direction"), [(0, 1), (3, 0), (300, 1)])
def test_layer_and_direction(backend: str, layer: int, direction: int):
    assert_follows(
        "lstm_tanh", networks("lstm_tanh", len(ALL)), masking(ALL), None, layer, direction
    )  # fmt: skip


@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_small_numbers(backend: str, size: float):
    """The gates' functions are the kernel's own: near 0 they must not cancel."""
    exact = networks("lstm_tanh", 2)
    scaled = Networks(*(None if v is None else v.detach() * size for v in exact))
    assert_follows("lstm_tanh", scaled, masking(ALL[:2]))


def test_large_numbers_saturate(backend: str):
    nets, given = single(networks("lstm_tanh", 2)), masking(ALL[:2])
    nets = nets._replace(x=(nets.x.detach() * 1e4).requires_grad_())
    found = results(scan, "lstm_tanh", nets, *given)
    assert all(v.isfinite().all() for v in found.values())
    h, c = reference.scan("lstm_tanh", *single(nets, torch.float64), *given)
    torch.testing.assert_close(found["h"], h.float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found["c"], c.float(), rtol=1e-3, atol=1e-3)


# masks


@needs_kernel
@pytest.mark.parametrize("units", [1, 8, 63, 64, 65, 257])
@pytest.mark.parametrize("site", masks.SITE_CODES)
def test_masks_bit_for_bit(kernel: None, units: int, site: str):
    seeds, levels = torch.tensor([0, -1, 2**62 + 12345, 5]), torch.tensor([1, 32768, 65535, 0])
    word = 300 << 8 | 1 << 4 | masks.SITE_CODES[site]
    ours = cpu.kept(seeds, levels, word, 3, 4, units)
    assert torch.equal(ours, masks.kept(seeds, levels, site, 3, 4, units, 300, 1))


@needs_kernel
@pytest.mark.parametrize("count", [1, 2, 5])
def test_many_threads_draw_the_masks_of_one(kernel: None, threads, count: int):
    seeds, levels = torch.arange(6)[::2], torch.tensor([3000, 0, 65535])  # seeds with gaps
    wanted = masks.kept(seeds, levels, "input", 4, 5, 70)
    threads(count)
    assert torch.equal(cpu.kept(seeds, levels, masks.SITE_CODES["input"], 4, 5, 70), wanted)


@pytest.mark.parametrize("site", ["input", "output"])
def test_forward_dropout_draws_the_mask_stream(backend: str, site: str):
    """For a table of networks as for one: rates differ, one is 0."""
    seeds, levels, x = torch.arange(3), torch.tensor([0, 13107, 32768]), torch.ones(3, 7, 5, 9)
    table = vmap(lambda *each: forward_dropout(*each, site, layer=2))(x, levels, seeds)
    keep = masks.kept(seeds, levels, site, 1, 35, 9, 2).view(x.shape)
    assert torch.equal(table > 0, keep)
    for r, level in enumerate(levels):
        torch.testing.assert_close(table[r], keep[r] / (1 - level / 65536))
        assert torch.equal(forward_dropout(x[r], level, seeds[r], site, layer=2), table[r])


# bits


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_runs_are_equal(backend: str, bf16: bool, ragged: bool):
    nets, given = single(networks("lstm_tanh", len(ALL), H=70)), masking(ALL)
    lengths = torch.randint(1, 6, (len(ALL), 3)) if ragged else None
    run = lambda *a: scan(*a, bf16=bf16)  # noqa: E731
    first = results(run, "lstm_tanh", nets, *given, lengths)
    assert_equal(first, results(run, "lstm_tanh", nets, *given, lengths))


@needs_kernel
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("R", "B", "H"), [(1, 3, 200), (1, 33, 7), (3, 7, 130), (2, 1, 1)])
def test_the_number_of_threads_changes_no_bit(
    kernel: None, threads, bf16: bool, R: int, B: int, H: int
):
    """By units, by rows, by replica: however the work is divided, and whatever rows have ended."""
    nets, given = single(networks("lstm_tanh", R, B=B, H=H)), masking(ALL[-R:])
    for lengths in (None, torch.randint(0, 6, (R, B))):
        found = []
        for count in (1, 2, 3, 5):
            threads(count)
            run = results(lambda *a: scan(*a, bf16=bf16), "lstm_tanh", nets, *given, lengths)
            found.append(run)
        for other in found[1:]:
            assert_equal(found[0], other)


@needs_kernel
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("R", "count"), [(1, 2), (2, 2), (27, 1)])
def test_rows_that_have_ended_take_no_part(kernel: None, threads, bf16: bool, R: int, count: int):
    """What stands behind their ends is not read: numbers that would spoil all they meet."""
    threads(count)
    nets, given = networks("lstm_tanh", R, B=7, H=130), masking(ALL[-R:])
    lengths = torch.randint(0, 6, (R, 7))
    behind = torch.arange(5)[:, None] >= lengths[:, None]  # (R, T, B)
    found = []
    for filler in (0.0, torch.nan):
        filled = nets._replace(x=nets.x.detach().masked_fill(behind[..., None], filler))
        found.append(
            results(lambda *a: scan(*a, bf16=bf16), "lstm_tanh", single(filled), *given, lengths)
        )
    assert_equal(*found)
    assert not found[0]["x"][behind].any()
    assert found[0]["x"][~behind].any(-1).all()


@needs_kernel
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_replica_alone_is_the_replica_among_others_bit_for_bit(kernel: None, bf16: bool):
    nets, given = single(networks("lstm_tanh", len(ALL), H=70)), masking(ALL)
    run = lambda *a: scan(*a, bf16=bf16)  # noqa: E731
    together = results(run, "lstm_tanh", nets, *given)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(together["h"].shape, dtype=torch.float64, generator=generator).float()]
    weights.append(
        torch.randn(together["c"].shape, dtype=torch.float64, generator=generator).float()
    )
    for r in range(0, len(ALL), 5):
        alone = Networks(*(v[r : r + 1].detach().clone().requires_grad_() for v in nets))
        outputs = run("lstm_tanh", *alone, *(v[r : r + 1] for v in given))
        loss = sum((v * w[r : r + 1]).sum() for v, w in zip(outputs, weights, strict=True))
        gradients = torch.autograd.grad(loss, list(alone))
        for name, a in zip(("h", "c", *Networks._fields), (*outputs, *gradients), strict=True):
            assert torch.equal(a[0], together[name][r]), name


@pytest.mark.parametrize("trouble", [float("inf"), float("nan"), 1e30])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_trouble_next_door_changes_no_bit(backend: str, bf16: bool, trouble: float):
    nets, given = single(networks("lstm_tanh", 3, H=70)), masking(ALL[-3:])
    other = single(nets)
    for value in other:
        value.data[0] = value.data[2] = trouble
    before = results(lambda *a: scan(*a, bf16=bf16), "lstm_tanh", nets, *given)
    after = results(lambda *a: scan(*a, bf16=bf16), "lstm_tanh", other, *given)
    for name in before:
        assert torch.equal(before[name][1], after[name][1]), name
        assert trouble == 1e30 or not after[name][0].isfinite().all(), f"{name} hides the trouble"


@pytest.mark.parametrize("cell", CELLS)
def test_memory_in_any_order(backend: str, cell: str):
    nets, given = single(networks(cell, 2, T=4, B=5, I=6, H=19)), masking(ALL[-2:])
    strange = Networks(
        *(v.detach().mT.contiguous().mT.requires_grad_() if v.dim() > 2 else v for v in nets)
    )
    strange = strange._replace(h0=nets.h0.detach().repeat(1, 1, 2)[..., ::2].requires_grad_())
    nets = nets._replace(h0=strange.h0.detach().contiguous().requires_grad_())
    assert not any(v.is_contiguous() for v in strange if v.dim() > 2)
    assert_equal(results(scan, cell, nets, *given), results(scan, cell, strange, *given))


# transforms, types, states


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_data_that_need_no_gradient_change_no_bit(
    backend: str, bf16: bool, ragged: bool, bias: bool
):
    nets, masks_ = single(networks("lstm_tanh", len(ALL), bias=bias)), masking(ALL)
    rest = (torch.randint(1, 6, (len(ALL), 3)) if ragged else None, 0, 0, bf16)
    with_dx = results(scan, "lstm_tanh", nets, *masks_, *rest)
    without = results(scan, "lstm_tanh", nets._replace(x=nets.x.detach()), *masks_, *rest)
    assert set(with_dx) - set(without) == {"x"}
    assert_equal(without, with_dx)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_without_gradients_no_gates_are_kept(backend: str, bf16: bool):
    nets, given = single(networks("lstm_tanh", 2)), masking(ALL[-2:])
    h, c = scan("lstm_tanh", *nets, *given, bf16=bf16)
    with torch.no_grad():
        alone = scan("lstm_tanh", *nets, *given, bf16=bf16)
    assert torch.equal(h, alone[0])
    assert torch.equal(c, alone[1])
    arguments = (*nets, *given, None, 0, 0, bf16)
    for keep in (False, True):
        *_, gates = torch.ops.recdrop.scan("lstm_tanh", *arguments, keep)
        assert gates.shape == (2, 5 if keep else 0, 3, 36)
        assert not gates.requires_grad


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("keep", [False, True], ids=["forward", "training"])
def test_torchs_checks(backend: str, ragged: bool, keep: bool):
    nets, given = single(networks("lstm_tanh", 2)), masking(ALL[-2:])
    lengths = torch.tensor([[5, 2, 1], [1, 5, 5]]) if ragged else None
    torch.library.opcheck(
        torch.ops.recdrop.scan.default,
        ("lstm_tanh", *nets, *given, lengths, 1, 1, False, keep),
        rtol=1e-4,
        atol=1e-5,
    )


def lstm(drop: RecurrentDropout) -> recdrop.LSTM:
    return recdrop.LSTM(6, 21, recurrent_dropout=drop)


def test_vmap_keeps_gates_and_equals_single_networks(backend: str, monkeypatch):
    drops = [RecurrentDropout.gal(0.5), RecurrentDropout(0.25, 0.5, 0.125, per="sequence")]
    modules = [lstm(drop) for drop in drops]
    parameters, buffers = stack_module_state(modules)
    x, seeds = torch.randn(5, 3, 6), torch.tensor([3, 4])

    def one(parameters: dict, buffers: dict, seed: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(modules[0], (parameters, buffers), (x,))[0]

    kept = []
    name, module = ("forward", cpu if backend == "cpu" else plain)
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a: kept.append(a[-1]) or original(*a))
    outputs = vmap(one, randomness="different")(parameters, buffers, seeds)
    assert kept == [True], "one call for all, and its gates kept"
    outputs.sum().backward()
    for r, own in enumerate(modules):
        with masks.seeding(seeds[r]):
            alone, _ = own(x)
        alone.sum().backward()
        torch.testing.assert_close(outputs[r], alone)
        for key, parameter in own.named_parameters():
            torch.testing.assert_close(parameters[key].grad[r], parameter.grad)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_compiles_as_one_graph(backend: str, autocast: bool):
    torch._dynamo.reset()
    module, x = lstm(RecurrentDropout.gal(0.5)), torch.randn(5, 3, 6)
    fast, found = torch.compile(module, fullgraph=True, backend="aot_eager"), []
    for run in (module, fast):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output, _ = run(x)
        assert output.dtype == torch.float32
        found.append([output, *torch.autograd.grad(output.sum(), list(module.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_to_float16_takes_the_kernel_in_float32(backend: str, monkeypatch):
    """Low inputs, as a linear layer before it gives them, would else be left to plain PyTorch."""
    module, x = lstm(RecurrentDropout.gal(0.5)), torch.randn(5, 3, 6).half()
    with masks.seeding(7):
        expected, _ = module(x.float())
    with masks.seeding(7), torch.autocast("cpu", torch.float16):
        output, (h, c) = module(x)
    assert output.dtype is h.dtype is c.dtype is torch.float32
    assert torch.equal(output, expected)


def test_a_module_in_bfloat16(backend: str):
    exact = lstm(RecurrentDropout.gal(0.5, scaling="paper"))
    low = lstm(RecurrentDropout.gal(0.5, scaling="paper")).bfloat16()
    low.load_state_dict(exact.state_dict())
    x = torch.randn(5, 3, 6)
    found = []
    for module, data in ((exact, x), (low, x.bfloat16())):
        with masks.seeding(7):
            output, _ = module(data)
        found.append([output, *torch.autograd.grad(output.sum(), list(module.parameters()))])
    for a, b in zip(*found, strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b.float()).norm() < 2e-2 * a.norm()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("w_hh", (2, 36, 8)), ("h0", (2, 4, 9)), ("b_ih", (2, 35)), ("x", (2, 5, 3, 5))],
)
def test_tensors_that_do_not_fit_are_refused(backend: str, name: str, shape: tuple[int, ...]):
    """The kernel trusts its shapes, so nothing else may reach it."""
    nets = single(networks("lstm_tanh", 2))._replace(**{name: torch.zeros(shape)})
    with pytest.raises(RuntimeError, match="size|shape|match"):  # by plain PyTorch
        _scan("lstm_tanh", *nets, *masking(ALL[-2:]), None, 0, 0, False, False)


# choosing and building


def in_process(code: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **own, **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


RUN = """
import recdrop, torch
layer = recdrop.LSTM(4, 5, recurrent_dropout=recdrop.RecurrentDropout.gal(0.5))
for _ in range(2):
    layer(torch.ones(3, 2, 4))[0].sum().backward()
print(recdrop.backend())
"""


def test_the_backend_tells_itself(backend: str):
    assert recdrop.backend().startswith(f"{backend}: ")


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RECDROP_BACKEND", "fast")
    with pytest.raises(ValueError, match="'fast' is unknown; choose one of"):
        recdrop.backend()


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_kernel_one_warning_says_why_and_what_to_do(tmp_path: Path, compiler: str):
    run = in_process(RUN, tmp_path, CXX=compiler, RECDROP_BACKEND="auto")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("RuntimeWarning") == 1
    assert "install a C++ compiler" in run.stderr
    assert run.stdout.startswith("reference: ")


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_there_is_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for a container's user of any number; layers then warn and run in plain PyTorch."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(build.BuildError, match="no home directory, nor XDG_CACHE_HOME"):
        build.build()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build._cache() == tmp_path / "recdrop" / "kernels"


def test_a_kernel_that_is_insisted_on_must_be_had(tmp_path: Path):
    run = in_process(RUN, tmp_path, CXX="false", RECDROP_BACKEND="cpu")
    assert run.returncode == 1
    assert "RECDROP_BACKEND=cpu, but the kernel cannot be built: false failed" in run.stderr


@needs_kernel
def test_processes_that_come_at_once_compile_once(tmp_path: Path):
    quick = tmp_path / "c++"  # the same compiler, in a hurry
    quick.write_text(f'#!/bin/sh\nexec {" ".join(build._compiler())} "$@" -O0\n')
    quick.chmod(0o755)
    own = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "CXX": str(quick)}
    environment = {**os.environ, **own}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", "import recdrop; print(recdrop.backend())"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [run.communicate(timeout=300) for run in runs]
    assert all(out.startswith("cpu: ") for out, _ in said)
    assert sum("compiled in" in err for _, err in said) == 1
    assert len(list(tmp_path.rglob("*.so"))) == 1
    later = in_process("import recdrop; print(recdrop.backend())", tmp_path, CXX=str(quick))
    assert "compil" not in later.stderr, "and never again"
    orphan = in_process("import recdrop; print(recdrop.backend())", tmp_path, CXX="none-such")
    assert orphan.stdout.startswith("cpu: "), "a kernel built ahead needs no compiler"
    (library,) = tmp_path.rglob("*.so")
    library.write_bytes(library.read_bytes()[:1000])  # to load it would end the process
    mended = in_process("import recdrop; print(recdrop.backend())", tmp_path, CXX=str(quick))
    assert mended.stdout.startswith("cpu: "), mended.stderr
    assert "compiled in" in mended.stderr


def test_a_build_that_was_interrupted_leaves_nothing_to_load(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(build.BuildError, match="false failed"):
        build.build()
    assert not list(tmp_path.rglob("*.so"))


SANITISED = """
import ctypes, os, sys
sys.path[:0] = [{tests!r}]
import torch
from recdrop.kernels import cpu
library = ctypes.CDLL({library!r})
cpu._load = lambda: library
from test_recurrence import masking, networks, settings_of
from test_cpu_kernel import ALL, results, single
from recdrop.recurrence import _scan, scan
for threads in (1, 2):
    torch.set_num_threads(threads)
    for R, T, B, I, H in [(27, 3, 3, 4, 9), (1, 1, 1, 1, 1), (1, 2, 7, 65, 130), (3, 2, 33, 3, 64)]:
        nets, given = single(networks("lstm_tanh", R, T, B, I, H)), masking(ALL[-R:])
        for lengths in (None, torch.randint(0, T + 1, (R, B))):
            for bf16 in (False, True):
                results(lambda *a: scan(*a, bf16=bf16), "lstm_tanh", nets, *given, lengths)
print("sound")
"""


@needs_kernel
def test_sanitisers_find_nothing(tmp_path: Path):
    """Addresses and undefined behaviour, in a process of its own that loads the checker first."""
    compiler = build._compiler()
    find = [*compiler, "-print-file-name=libasan.so"]
    runtime = subprocess.run(find, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip(f"{compiler[0]} has no libasan.so")
    library = tmp_path / "checked.so"
    flags = "-std=c++17 -O0 -g1 -march=native -fopenmp -fPIC -shared -Wno-psabi".split()
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = [*compiler, *flags, str(build.MAIN), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    code = SANITISED.format(tests=str(ROOT / "tests"), library=str(library))
    options = {"ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": runtime, "RECDROP_BACKEND": "cpu"}
    run = in_process(code, tmp_path, **options)
    assert run.stdout == "sound\n", run.stderr[-3000:]
