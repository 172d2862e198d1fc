"""What becomes of modules besides being called: averaged, exported, set in inference mode."""

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from test_transforms import B, H, I, T, every_kind
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel

import recdrop
from recdrop import RecurrentDropout


@every_kind
def test_models_may_be_averaged_with_their_buffers(kind: str):
    module = getattr(recdrop, kind)(I, H, recurrent_dropout=RecurrentDropout.gal(0.5))
    average, x = AveragedModel(module, use_buffers=True), torch.randn(T, B, I)
    for _ in range(3):
        average.update_parameters(module)
    results = []
    for model in (module, average):
        torch.manual_seed(1)
        results.append(model(x)[0])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), nn.Module.double]
)
def test_a_copy_without_dropout_goes_on_to_run_torchs_own(copied: Callable):
    """Its buffers are still its own, which a table's networks are told by."""
    layer, x = copied(recdrop.LSTM(I, H)), torch.randn(T, B, I)
    assert layer._is_plain(x)
    assert not recdrop.LSTM(I, H, recurrent_dropout=RecurrentDropout.gal(0.5))._is_plain(x)


@every_kind
def test_a_shallow_copy_has_its_own_dropout(kind: str):
    """As torch.nn's has: weights are shared, a rate that is set on the copy is the copy's."""
    module = getattr(recdrop, kind)(I, H, 2, recurrent_dropout=RecurrentDropout.gal(0.5))
    x, results = torch.randn(T, B, I), []
    for _ in range(2):
        with recdrop.masks.seeding(1):
            results.append(module(x)[0])
        other = copy.copy(module)
        other.recurrent_dropout, other.dropout = None, 0.5
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert other.weight_hh_l0 is module.weight_hh_l0
    assert (module.dropout, other.dropout) == (0.0, 0.5)


@every_kind
@pytest.mark.parametrize("train", [True, False])
def test_torchscript_traces_it(kind: str, train: bool):
    drop = RecurrentDropout.gal(0.5, scaling="paper")
    module, x = (
        getattr(recdrop, kind)(I, H, recurrent_dropout=drop).train(train),
        torch.randn(T, B, I),
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes and types are checked once, while tracing
        traced = torch.jit.trace(module, (x,), check_trace=not train)
        assert torch.equal(traced(x)[0], traced(x)[0]) is not train  # masks are drawn anew
        if not train:
            torch.testing.assert_close(traced(x)[0], module(x)[0])


@every_kind
def test_dropout_that_was_set_in_inference_mode_trains(kind: str):
    module = getattr(recdrop, kind)(I, H, 2, recurrent_dropout=RecurrentDropout.gal(0.5))
    forward = recdrop.Dropout()
    with torch.inference_mode():
        module.recurrent_dropout, module.dropout, forward.p = RecurrentDropout.gal(0.3), 0.2, 0.1
    module(forward(torch.randn(T, B, I, requires_grad=True)))[0].sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@every_kind
@pytest.mark.parametrize("rate", [0.3, 0.0])
def test_dropout_between_layers_may_be_replaced(kind: str, rate: float):
    made = getattr(recdrop, kind)(I, H, 2, dropout=rate)
    changed = getattr(recdrop, kind)(I, H, 2, dropout=0.7)
    changed.load_state_dict(made.state_dict())
    changed.dropout = rate
    x, results = torch.randn(T, B, I), []
    for module in (made, changed):
        with recdrop.masks.seeding(1):
            results.append(module(x)[0])
    torch.testing.assert_close(*results, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"dropout=1\.5 is outside"):
        changed.dropout = 1.5


@every_kind
def test_a_compiled_model_may_change_its_rates_at_any_time(kind: str):
    """As one does who raises them while training goes on: it is compiled once."""
    made, graphs = getattr(recdrop, kind)(I, H, 2, dropout=0.1), []
    made.recurrent_dropout = RecurrentDropout.gal(0.1)

    def counting(graph, _):
        graphs.append(graph)
        return graph.forward

    fast, x = torch.compile(made, backend=counting, fullgraph=True), torch.randn(T, B, I)
    for k in range(12):
        made.recurrent_dropout = RecurrentDropout.gal(0.1 + 0.05 * k)
        made.dropout = 0.1 + 0.02 * k
        results = []
        for module in (fast, made):
            torch.manual_seed(k)
            results.append(module(x)[0])
        torch.testing.assert_close(*results)
    assert len(graphs) == 1


@every_kind
def test_a_layer_that_comes_from_another_process_can_be_compiled(kind: str):
    layer = getattr(recdrop, kind)(I, H, recurrent_dropout=RecurrentDropout.gal(0.5))
    saved = pickle.dumps(layer)
    with torch._dynamo.config.patch(allow_rnn=False):  # a process that has made none itself
        loaded = pickle.loads(saved)
        torch.compile(loaded, backend="eager", fullgraph=True)(torch.randn(T, B, I))


def test_a_level_lent_from_another_device_is_not_replaced():
    """A table's networks have rates of their own; that of the module would be another's."""
    drop, x = recdrop.Dropout(0.25), torch.ones(3, device="meta")
    assert drop(x).device.type == "meta"  # its own goes along
    with pytest.raises(RuntimeError, match="move all to one device"):
        functional_call(drop, {"threshold": torch.tensor(60000)}, (x,))


def test_integers_are_not_dropped():
    """Torch's own refuses them too; a kept 3 at rate 0.25 would have to become 4."""
    with pytest.raises(TypeError, match=r"torch\.int64; give a floating type"):
        recdrop.Dropout(0.25)(torch.ones(3, dtype=torch.int64))
    assert recdrop.Dropout(0.25).eval()(torch.ones(3, dtype=torch.int64)).dtype is torch.int64


@every_kind
def test_an_exported_layer_without_dropout_needs_no_recdrop(kind: str, tmp_path):
    module, x = getattr(recdrop, kind)(I, H).eval(), torch.randn(T, B, I)
    path, expected = tmp_path / "layer.pt2", tmp_path / "expected.pt"
    torch.export.save(torch.export.export(module, (x,)), path)
    torch.save([x, module(x)[0]], expected)
    code = (
        "import sys, torch; "
        f"layer = torch.export.load({str(path)!r}).module(); "
        f"x, y = torch.load({str(expected)!r}); "
        "torch.testing.assert_close(layer(x)[0], y); assert 'recdrop' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@every_kind
def test_an_exported_layer_with_dropout_is_the_layer(kind: str):
    drop = RecurrentDropout.gal(0.5, scaling="paper")
    model = nn.Sequential(recdrop.Dropout(), getattr(recdrop, kind)(I, H, recurrent_dropout=drop))
    x = torch.randn(T, B, I)
    exported = torch.export.export(model.eval(), (x,)).module()
    torch.testing.assert_close(exported(x)[0], model(x)[0])
