"""The GPU's kernels: compiled where torch finds a GPU, elsewhere in Triton's interpreter on the CPU
with small tensors. Against the independent float64 reference, the mask stream bit for bit; and that
they compile for GPUs of two generations, which takes none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import reference
import torch
from test_cpu_kernel import ALL, SINGLE, assert_equal, results, single
from test_layers import data, flat, ours, repeat, some_dropout
from test_recurrence import OFF, SEQUENCE, STEP, masking, networks
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence

import recdrop
from recdrop import masks
from recdrop.kernels import output, triton
from recdrop.recurrence import scan
from recdrop.softmax import cross_entropy

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
needs_triton = pytest.mark.skipif(
    not triton.available(), reason="Triton is not installed, which has wheels for Linux alone"
)


@pytest.fixture(name="kernels")
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDROP_BACKEND", "triton")


@pytest.fixture(params=[0, 10**6], ids=["whole", "split"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop over time in the kernel, or a launch for each step."""
    monkeypatch.setattr(triton, "BUSY", request.param)


def there(tensors):
    """The same on the kernels' device, leaves that require gradients where they did."""
    return type(tensors)(
        *(
            v
            if not isinstance(v, Tensor)
            else v.detach().to(DEVICE).requires_grad_(v.requires_grad)
            for v in tensors
        )
    )


def assert_follows(cell: str, exact, masking_, *rest, share: float = SINGLE) -> None:
    nets = there(single(exact))
    rounded = single(single(exact), torch.float64)
    placed = [v.to(DEVICE) if isinstance(v, Tensor) else v for v in rest]
    mine = results_there(nets, cell, there(masking_), *placed)
    theirs = results(reference.scan, cell, rounded, *masking_, *rest)
    for name in theirs:
        for a, b in zip(mine[name], theirs[name], strict=True):
            assert (a.cpu().double() - b).norm() <= share * b.norm(), name


def results_there(nets, cell: str, masking_, *rest) -> dict[str, Tensor]:
    """As test_cpu_kernel's results, whose random functional is drawn on the CPU."""

    def run(*args) -> tuple[Tensor, ...]:
        return tuple(v.cpu() for v in scan(*args))

    return results(run, cell, nets, *masking_, *rest)


# against the reference


@needs_triton
@pytest.mark.parametrize(
    ("cell", "scaling", "ragged"),
    [("lstm_tanh", "inverted", False), ("lstm_relu", "paper", True)],
    ids=["tanh-inverted-full", "relu-paper-ragged"],
)
def test_training(kernels, plan, cell: str, scaling: str, ragged: bool):
    """Each combination of sites and samplings, one network for each."""
    lengths = torch.randint(0, 4, (len(ALL), 3)) if ragged else None
    assert_follows(cell, networks(cell, len(ALL), T=3), masking(ALL, scaling), lengths)


@needs_triton
def test_evaluation(kernels, plan):
    some = ALL[::5]
    nets = networks("lstm_tanh", len(some), T=2, bias=False)
    assert_follows("lstm_tanh", nets, masking(some, "paper", training=False))


@needs_triton
@pytest.mark.parametrize(
    ("T", "B", "I", "H"), [(1, 1, 1, 1), (2, 33, 3, 7), (3, 16, 5, 40)], ids=str
)
def test_odd_shapes(kernels, plan, T: int, B: int, I: int, H: int):
    settings = [(STEP, SEQUENCE, OFF), (OFF, STEP, STEP)]
    nets = networks("lstm_tanh", 2, T, B, I, H)
    assert_follows("lstm_tanh", nets, masking(settings, "paper"), None, 3, 1)


@needs_triton
@pytest.mark.parametrize("site", ["update", "hidden", "cell"])
def test_masks_bit_for_bit(kernels, site: str):
    seeds, levels = torch.tensor([0, -1, 2**62 + 12345]), torch.tensor([1, 32768, 65535])
    wanted = masks.kept(seeds, levels, site, 4, 5, 21, layer=1, direction=1)
    word = 1 << 8 | 1 << 4 | masks.SITE_CODES[site]
    found = triton.kept(seeds.to(DEVICE), levels.to(DEVICE), word, 4, 5, 21)
    assert torch.equal(found.cpu(), wanted)


@needs_triton
def test_seeds_bit_for_bit(kernels):
    seeds, calls = torch.tensor([0, -1, 2**62 + 12345, 7]), torch.tensor([0, 1, 2, 2**32 - 1])
    found = triton.derived_seeds(seeds.to(DEVICE), calls.to(DEVICE))
    assert torch.equal(found.cpu(), masks.derived_seeds(seeds, calls))


@needs_triton
def test_only_one_gradient(kernels, plan):
    """A loss on c alone leaves h without one, and the other way round."""
    nets = there(single(networks("lstm_tanh", 1)))
    exact = single(nets, torch.float64)
    drop = masking([(STEP, OFF, STEP)])
    for which in (0, 1):
        mine = scan("lstm_tanh", *nets, *there(drop))[which].sum()
        wanted = reference.scan("lstm_tanh", *(v.cpu() for v in exact), *drop)[which].sum()
        (a,) = torch.autograd.grad(mine, nets.w_hh)
        (b,) = torch.autograd.grad(wanted, exact.w_hh)
        assert (a.cpu().double() - b.cpu()).norm() <= SINGLE * b.norm()


@needs_triton
def test_data_that_need_no_gradient_change_no_bit(kernels, plan):
    nets, drop = there(single(networks("lstm_tanh", 1))), there(masking([(STEP, OFF, STEP)]))
    with_dx = results_there(nets, "lstm_tanh", drop)
    without = results_there(nets._replace(x=nets.x.detach()), "lstm_tanh", drop)
    assert set(with_dx) - set(without) == {"x"}
    assert_equal(without, with_dx)


@needs_triton
def test_a_diverged_neighbour_changes_nothing(kernels, plan):
    nets, drop = single(networks("lstm_tanh", 2)), masking([(STEP, STEP, OFF)] * 2)
    before = results_there(there(nets), "lstm_tanh", there(drop))
    nets.w_hh.data[1] = float("nan")
    after = results_there(there(nets), "lstm_tanh", there(drop))
    assert all(torch.equal(before[k][0], after[k][0]) for k in before)
    assert after["h"][1].isnan().any()


# layers and tables


@needs_triton
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_layer(kernels, training: bool):
    drop, options = some_dropout("LSTM", "paper"), {"num_layers": 2, "bidirectional": True}
    module = ours("LSTM", drop, **options).float().train(training)
    packed = pack_padded_sequence(data().float(), [6, 4, 1])
    wanted = _plainly(lambda: flat(repeat(module, packed)))
    found = flat(repeat(module.to(DEVICE), packed.to(DEVICE)))
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a.cpu(), b, atol=1e-5)


def _plainly(call):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECDROP_BACKEND", "reference")
        return call()


@needs_triton
def test_a_table(kernels):
    drop = recdrop.RecurrentDropout.semeniuta(0.5) | recdrop.RecurrentDropout.gal(0.25, "sequence")
    modules = [recdrop.LSTM(4, 9, recurrent_dropout=drop) for _ in range(3)]
    x, seeds = torch.randn(5, 2, 4), torch.tensor([3, 4, 5])

    def table(device: str) -> list[Tensor]:
        stacked = stack_module_state([m.to(device) for m in modules])

        def one(parameters, buffers, seed):
            with masks.seeding(seed):
                return functional_call(modules[0], (parameters, buffers), (x.to(device),))[0]

        out = vmap(one, randomness="different")(*stacked, seeds.to(device))
        found = torch.autograd.grad(out.square().sum(), list(stacked[0].values()))
        return [v.cpu() for v in (out, *found)]

    wanted = _plainly(lambda: table("cpu"))
    for a, b in zip(table(DEVICE), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@needs_triton
@pytest.mark.parametrize("layers", [1, 2])
def test_a_table_with_dropout_between_layers(kernels, layers: int):
    """Its rate is one number for all networks, its masks are each network's own."""
    modules = [nn.Sequential(
        recdrop.Dropout(0.25), recdrop.LSTM(4, 9, num_layers=layers, dropout=0.5 * (layers > 1))
    ) for _ in range(4)]  # fmt: skip
    x, seeds = torch.randn(5, 2, 4), torch.arange(4)

    def table(device: str) -> Tensor:
        stacked = stack_module_state([m.to(device) for m in modules])

        def one(parameters, buffers, seed):
            with masks.seeding(seed):
                return functional_call(modules[0], (parameters, buffers), (x.to(device),))[0]

        return vmap(one, randomness="different")(*stacked, seeds.to(device)).cpu()

    assert torch.allclose(table(DEVICE), _plainly(lambda: table("cpu")), atol=1e-5)


# the output layer


@needs_triton
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("alike", [True, False], ids=["summed", "weighted"])
@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("V", [3, 1100, 2500])
def test_output_layer(kernels, monkeypatch, bias: bool, alike: bool, ahead: bool, V: int):
    monkeypatch.setattr(output, "CHUNK", 4 * V)  # so that there are several
    shapes = [(2, 5, 6), (2, V, 6), *([(2, V)] if bias else [])]
    exact = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    near = [v.detach().float().to(DEVICE).requires_grad_() for v in exact]
    target = torch.randint(V, (2, 5))
    weights = torch.ones(2, 5) if alike else torch.randn(2, 5)

    def run(tensors: list[Tensor], target: Tensor) -> list[Tensor]:
        given = [*tensors, *[None] * (3 - len(tensors))]
        losses = cross_entropy(*given, target, ahead)[0]
        total = (losses * weights.to(losses)).sum()
        return [losses.detach(), *torch.autograd.grad(total, tensors)]

    wanted = _plainly(lambda: run(exact, target))
    for a, b in zip(run(near, target.to(DEVICE)), wanted, strict=True):
        assert (a.cpu().double() - b).norm() <= SINGLE * b.norm()


@needs_triton
def test_output_layer_with_likely_and_absent_words(kernels):
    """A loss close to 0 is exact; a target that is no word gives no number, and no one else's."""
    x, weight = torch.tensor([[[1.0], [1.0], [1.0]]]), torch.tensor([[[40.0], [0.0], [-40.0]]])
    target = torch.tensor([[0, 2, 3]])
    losses = cross_entropy(x.to(DEVICE), weight.to(DEVICE), None, target.to(DEVICE))[0].cpu()[0]
    assert losses[0] == 0
    assert losses[1] == 80
    assert losses[2].isnan()


# what is asked for


@needs_triton
@pytest.mark.skipif(ON_GPU, reason="the kernels are compiled here, for a GPU")
def test_the_interpreter_refuses_bfloat16(kernels):
    nets = single(networks("lstm_tanh", 1))
    with pytest.raises(NotImplementedError, match=r"interpreter.*float32"):
        scan("lstm_tanh", *nets, *masking([(STEP, OFF, OFF)]), bf16=True)


def test_cpu_tensors_are_not_tritons(monkeypatch):
    monkeypatch.setenv("RECDROP_BACKEND", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not triton.wanted(torch.zeros(1))


def test_insisting_on_triton_without_it(monkeypatch):
    monkeypatch.setenv("RECDROP_BACKEND", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(triton, "available", lambda: False)
    with pytest.raises(RuntimeError, match="RECDROP_BACKEND=triton.*not installed"):
        triton.wanted(torch.zeros(1))


def test_backend_says_what_a_gpu_runs(monkeypatch):
    assert recdrop.backend("cuda").split(":")[0] in ("triton", "reference")
    monkeypatch.setattr(triton, "available", lambda: False)
    assert "not installed" in recdrop.backend("cuda")
    monkeypatch.setenv("RECDROP_BACKEND", "reference")
    assert recdrop.backend("cuda").startswith("reference")
    assert recdrop.backend("meta").startswith("reference")


@pytest.mark.parametrize(("setting", "found"), [("highest", "ieee"), ("high", "tf32")])
def test_precision_follows_torchs_setting(monkeypatch, setting: str, found: str):
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: setting)
    assert triton.precision() == found


# for GPUs that are not here

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from recdrop.kernels import triton_lstm, triton_output

INTEGERS = {"thresholds": "*i64", "seeds": "*i64", "lengths": "*i64", "target": "*i64",
            "derived": "*i64", "calls": "*i64", "per_step": "*u8", "out": "*i8"}
OPERANDS = "read", "w_t", "w_hh", "d_gates", "d"
NUMBERS = "gates h c h0 c0 bias scale dh dc grad_h grad_c losses logits".split()

def compile(kernel, arch, low, **flags):
    def kind(name):
        if name in flags:
            return "constexpr"
        if name in OPERANDS:
            return "*bf16" if low else "*fp32"
        return INTEGERS.get(name, "*fp32" if name in NUMBERS else "i32")

    names = kernel.arg_names
    signature = {name: kind(name) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names)
               if signature[name][0] == "*" or name in ("B", "H", "V")}
    constants = {(names.index(name),): value for name, value in flags.items()}
    source = ASTSource(kernel, signature, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32))
    assert made.asm["cubin"] and made.metadata.shared <= 64 * 1024, made.metadata.shared

for arch, low, split, relu in ((90, True, False, False), (80, False, True, True)):
    size = {"ROWS": 32, "UNITS": 32, "DEPTH": 64 if low else 32, "RELU": relu,
            "PRECISION": "ieee" if low else "tf32", "UNITS_SPLIT": split, "LENGTHS": split}
    compile(triton_lstm.forward, arch, low, BIAS=True, **size)
    compile(triton_lstm.backward, arch, low, GRAD_H=True, GRAD_C=split, **size)
    compile(triton_lstm.read_states, arch, low, ROWS=16, UNITS=32)
    compile(triton_lstm.kept, arch, low, ROWS=16, UNITS=32)
    compile(triton_lstm.derived_seeds, arch, low)
    compile(triton_output.cross_entropy, arch, low, BIAS=True, AHEAD=True, BLOCK=2048)
print("compiled")
"""


@needs_triton
def test_kernels_compile_for_gpus(tmp_path: Path):
    """By Triton's own compiler, for two generations, and within the memory of a processor."""
    script = tmp_path / "compile_kernels.py"
    script.write_text(COMPILE)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=Path(__file__).parents[1],
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled"
