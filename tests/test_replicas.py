"""A table of networks: no network touches another, and each is trained as torch would train it."""

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import recdrop
from recdrop import RecurrentDropout
from recdrop.kernels import graphs, triton
from recdrop.study.conditions import Condition, grid
from recdrop.study.replicas import Replicas, _asks_nothing
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.tasks.word_lm import WordLanguageModel


class Net(nn.Module):
    """Every part of the studies' networks, small; one parameter is not trained."""

    def __init__(self, drop: RecurrentDropout, hidden: int = 8):
        super().__init__()
        self.drop_input = recdrop.Dropout(0.25)
        self.lstm = recdrop.LSTM(4, hidden, recurrent_dropout=drop)
        self.readout = nn.Linear(hidden, 2)
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.lstm(self.drop_input(x))[0])


DROPS = {
    "none": RecurrentDropout(),
    "gal": RecurrentDropout.gal(0.5, "step"),
    "moon": RecurrentDropout.moon(0.25, "sequence"),
    "own": RecurrentDropout.semeniuta(0.5, "step", "paper"),
    "all": RecurrentDropout(0.25, 0.5, 0.125, per="sequence"),
}


def net(name: str, **options) -> Net:
    torch.manual_seed(sum(name.encode()))
    return Net(DROPS[name], **options)


def table(*names: str, optimiser: str = "sgd", lr: float = 0.1, clip: float = 1.0, **options):
    networks = [net(name, **options) for name in names]
    return Replicas(networks, list(names), list(range(len(names))), optimiser, lr, clip)


def batch(n: int = 0) -> Tensor:
    return torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(n))


def train(replicas: Replicas, updates: int = 3, first: int = 0, weigh=1.0) -> None:
    """Each on the same batches; ``weigh`` (R,) scales the losses."""
    for n in range(first, first + updates):
        out = replicas.train()(batch(n), in_dims=None)
        replicas.update(weigh * (out - 1).square().mean((1, 2, 3)))


def same(a: dict, b: dict, exactly: bool = True) -> bool:
    return all(torch.equal(a[k], b[k]) if exactly else torch.allclose(a[k], b[k], atol=1e-6)
               for k in a)  # fmt: skip


needs_triton = pytest.mark.skipif(
    not triton.available(), reason="Triton is not installed, which has wheels for Linux alone"
)
every_optimiser = pytest.mark.parametrize("optimiser", ["sgd", "adam"])


# alone and among others


@every_optimiser
@pytest.mark.parametrize("hidden", [8, 5])
def test_a_network_alone_equals_itself_in_a_table(optimiser, hidden):
    """To rounding: the matrix library may sum in another order for another number of networks."""
    together = table(*DROPS, optimiser=optimiser, hidden=hidden)
    train(together)
    for i, name in enumerate(DROPS):
        alone = table(name, optimiser=optimiser, hidden=hidden)
        train(alone)
        assert same(together.weights(i), alone.weights(0), exactly=False), name
        assert not same(alone.weights(0), net(name, hidden=hidden).state_dict(), exactly=False)


@every_optimiser
def test_the_order_in_a_table_does_not_matter(optimiser):
    names = list(DROPS)
    forwards, backwards = (table(*order, optimiser=optimiser) for order in (names, names[::-1]))
    train(forwards)
    train(backwards)
    for i in range(len(names)):
        assert same(forwards.weights(i), backwards.weights(len(names) - 1 - i))


@pytest.mark.parametrize("task", [TemporalOrder("smoke"), WordLanguageModel("smoke")])
def test_the_studys_networks_alone_equal_themselves_in_a_table(task):
    forward = [False, True] if task.name == "word_lm" else [False]
    conditions = grid(task.name, task.settings, ["gal", "moon", "semeniuta"], [0.5], ["step"],
                      forward)  # fmt: skip

    def trained(conditions: list[Condition]) -> Replicas:
        s = task.settings
        networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
        replicas = Replicas(networks, [c.name for c in conditions], [0] * len(conditions),
                            s["optimiser"], s["lr"], s["clip"])  # fmt: skip
        task.train_epoch(replicas.train(), 0)
        return replicas

    together, alone = trained(conditions), trained(conditions[-1:])
    assert same(together.weights(len(conditions) - 1), alone.weights(0), exactly=False)


def test_a_networks_answers_equal_the_network_called_by_itself():
    together = table(*DROPS).train(False)
    found = together(batch(), in_dims=None)
    for i, name in enumerate(DROPS):
        torch.testing.assert_close(found[i], net(name).eval()(batch()))


def test_arguments_are_shared_or_each_networks_own():
    together = table("gal", "moon").train(False)
    own = torch.stack([batch(0), batch(1)])
    found, shared = together(own), together(batch(1), in_dims=None)
    assert not torch.allclose(found[0], shared[0])
    torch.testing.assert_close(found[1], shared[1])


# masks


def test_masks_do_not_depend_on_neighbours():
    together = table(*DROPS).train()
    found = together(batch(), in_dims=None)
    for i, name in enumerate(DROPS):
        torch.testing.assert_close(found[i], table(name).train()(batch(), in_dims=None)[0])


def test_masks_depend_on_the_name_and_the_update_and_nothing_else():
    networks = [net("own"), net("own")]
    replicas = Replicas(networks, ["a", "b"], [0, 0], "sgd", 0.0, 1.0).train()
    first, again = replicas(batch(), in_dims=None), replicas(batch(), in_dims=None)
    assert torch.equal(first, again)
    assert not torch.allclose(first[0], first[1])
    replicas.update(first.square().mean((1, 2, 3)))
    later = replicas(batch(), in_dims=None)
    assert not torch.allclose(later[0], first[0])
    torch.manual_seed(1)
    assert torch.equal(replicas(batch(), in_dims=None), later)


def test_torchs_random_state_is_not_touched():
    together = table(*DROPS)
    before = torch.get_rng_state()
    train(together)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_networks_given_are_not_changed():
    networks = [net("gal"), net("own")]
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in networks]
    train(Replicas(networks, ["a", "b"], [0, 0], "adam", 0.1, 1.0))
    assert all(same(n.state_dict(), b) for n, b in zip(networks, before, strict=True))


# the optimisers are torch's


def reference(name: str, optimiser: str, lr: float, clip: float, updates: int) -> Net:
    """The same training by torch.optim and clip_grad_norm_, under the table's masks."""
    from recdrop import masks
    from recdrop.seeds import seed

    model = net(name)
    trained = [p for p in model.parameters() if p.requires_grad]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    stepper = kind(trained, lr)
    for n in range(updates):
        stepper.zero_grad()
        with masks.seeding(torch.tensor(seed(name, n))):
            loss = (model(batch(n)) - 1).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, clip)
        stepper.step()
    return model


@every_optimiser
@pytest.mark.parametrize("clip", [0.05, 1e9])
@pytest.mark.parametrize("name", ["none", "own"])
def test_steps_and_clipping_are_torchs(optimiser, clip, name):
    """Up to clip_grad_norm_'s 1e-6 in the divisor."""
    replicas = table("gal", name, optimiser=optimiser, clip=clip, lr=0.01)
    train(replicas, 8)
    expected = reference(name, optimiser, 0.01, clip, 8).state_dict()
    for key, value in replicas.weights(1).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=2e-6)


def test_each_network_is_clipped_by_its_own_norm():
    names, clip = ["none", "own", "gal"], 0.01
    replicas = table(*names, clip=clip, lr=1.0)
    before = [replicas.weights(i) for i in range(3)]
    train(replicas, 1, weigh=torch.tensor([1.0, 1e-4, 1e4]))
    lengths = [
        sum((before[i][k] - replicas.weights(i)[k]).square().sum() for k in before[i]).sqrt().item()
        for i in range(3)
    ]
    assert lengths[0] == pytest.approx(clip, rel=1e-4)
    assert lengths[1] < clip / 10  # too short to be clipped
    assert lengths[2] == pytest.approx(clip, rel=1e-4)


@every_optimiser
def test_a_gradient_of_zero_moves_nothing(optimiser):
    replicas = table("none", "own", optimiser=optimiser)
    before = replicas.weights(0)
    train(replicas, 2, weigh=torch.tensor([0.0, 1.0]))
    assert same(replicas.weights(0), before)
    assert replicas.alive.all()


@every_optimiser
def test_what_needs_no_gradient_stays(optimiser):
    replicas = table("gal", "own", optimiser=optimiser)
    before = replicas.parameters["lstm.bias_hh_l0"].clone()
    train(replicas, 3)
    assert torch.equal(replicas.parameters["lstm.bias_hh_l0"], before)
    assert not replicas.parameters["lstm.bias_hh_l0"].requires_grad


def test_each_network_has_its_own_learning_rate():
    one, two = table("gal", "own"), table("gal", "own")
    two.lr[1] = 0.0
    before = two.weights(1)
    train(one)
    train(two)
    assert same(one.weights(0), two.weights(0))
    assert same(two.weights(1), before)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="optimiser='adamw' is unknown; choose 'sgd' or 'adam'"):
        table("gal", optimiser="adamw")


# divergence


def poison(replicas: Replicas, i: int, value: float = float("nan")) -> None:
    with torch.no_grad():
        replicas.parameters["readout.weight"][i, 0, 0] = value


@every_optimiser
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_diverging_network_is_frozen_and_changes_no_bit_of_its_neighbours(optimiser, value):
    names = ["gal", "moon", "own"]
    sick, sound = table(*names, optimiser=optimiser), table(*names, optimiser=optimiser)
    train(sick, 2)
    train(sound, 2)
    poison(sick, 1, value)
    frozen = sick.weights(1)
    train(sick, 3, first=2)
    train(sound, 3, first=2)
    assert sick.alive.tolist() == [True, False, True]
    for i in (0, 2):
        assert same(sick.weights(i), sound.weights(i)), names[i]
    for key, weight in sick.weights(1).items():
        assert torch.equal(weight.nan_to_num(), frozen[key].nan_to_num()), key


@every_optimiser
def test_a_network_that_learns_too_fast_spoils_no_other(optimiser):
    names = ["gal", "moon", "own"]
    sick, sound = table(*names, optimiser=optimiser), table(*names, optimiser=optimiser)
    sick.lr[1] = 3e38
    train(sick, 4)
    train(sound, 4)
    assert not sick.alive[1]
    for i in (0, 2):
        assert sick.alive[i]
        assert same(sick.weights(i), sound.weights(i)), names[i]


def test_a_frozen_network_never_comes_back():
    replicas = table("gal", "own")
    replicas.update(
        replicas(batch(), in_dims=None).mean((1, 2, 3)) * torch.tensor([1.0, torch.nan])
    )
    frozen = replicas.weights(1)
    train(replicas, 3)
    assert replicas.alive.tolist() == [True, False]
    assert same(replicas.weights(1), frozen)


# recorded updates, with a recording that calls what it has recorded


def learn(replicas: Replicas, updates: int = 5, first: int = 0) -> list[Tensor]:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        losses = (replicas(x, in_dims=None) - 1).square().mean((1, 2, 3))
        return losses, losses.detach()

    replicas.train()
    return [replicas.learn(function, batch(n))[0] for n in range(first, first + updates)]


@pytest.fixture
def recorded(monkeypatch) -> list[Callable]:
    """What has been recorded. Recording does not run it; a replay that asked its host for seeds or
    for Adam's numbers would, on a GPU, have those of the recording for ever, and is refused."""
    found = []

    def refuse(self) -> None:
        raise AssertionError("asked while it replays")

    def capture(work: Callable, pool: object) -> SimpleNamespace:
        cells = [cell.cell_contents for cell in work.__closure__]
        (replicas,) = (v for v in cells if isinstance(v, Replicas))
        changing = replicas._changing

        def replay() -> None:
            replicas._changing = changing
            with monkeypatch.context() as patch:
                patch.setattr(Replicas, "_streams", refuse)
                patch.setattr(Replicas, "_unbias", refuse)
                work()
            replicas._changing = None

        found.append(work)
        return SimpleNamespace(replay=replay, pool=lambda: None)

    monkeypatch.setattr(graphs, "capture", capture)
    return found


def recording(*args, **options) -> Replicas:
    replicas = table(*args, **options)
    replicas.records = True
    return replicas


@every_optimiser
def test_recorded_updates_are_the_updates(optimiser, recorded):
    launched, replayed = table(*DROPS, optimiser=optimiser), recording(*DROPS, optimiser=optimiser)
    for a, b in zip(learn(launched), learn(replayed), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert len(recorded) == 1
    assert launched.updates == replayed.updates == 5
    assert all(same(launched.weights(i), replayed.weights(i), False) for i in range(len(DROPS)))


def test_a_recorded_update_draws_masks_of_its_own(recorded):
    replicas = recording("gal", "own", lr=0.0)

    def function() -> tuple[Tensor, ...]:
        losses = replicas(batch(), in_dims=None).square().mean((1, 2, 3))
        return losses, losses.detach()

    losses = torch.stack([replicas.train().learn(function)[0] for _ in range(6)])
    assert len(recorded) == 1
    assert all(len(column.unique()) == 6 for column in losses.T)


def test_networks_that_leave_take_their_recording_along(recorded):
    launched, replayed = table(*DROPS), recording(*DROPS)
    for replicas in (launched, replayed):
        learn(replicas)
        replicas.keep([0, 2, 3])
        learn(replicas, first=5)
    assert len(recorded) == 2
    assert all(same(launched.weights(i), replayed.weights(i), False) for i in range(3))


@needs_triton
def test_only_what_asks_a_gpu_for_nothing_is_recorded(monkeypatch):
    """Plain PyTorch reads numbers back from the device, which a recording cannot do."""
    monkeypatch.setenv("RECDROP_BACKEND", "triton")
    gru = nn.Sequential(recdrop.GRU(4, 8))
    assert _asks_nothing(net("own"))
    assert not _asks_nothing(gru)
    assert not _asks_nothing(net("own").double())
    monkeypatch.setenv("RECDROP_BACKEND", "reference")
    assert not _asks_nothing(net("own"))


def test_a_table_that_is_done_with_drops_its_recordings(recorded):
    with recording("gal", "own") as replicas:
        learn(replicas)
        assert replicas._recorded
    assert not replicas._recorded


# leaving, saving, taking up


@every_optimiser
def test_networks_leave_and_the_others_go_on(optimiser):
    leaving, staying = table(*DROPS, optimiser=optimiser), table("all", "gal", optimiser=optimiser)
    train(leaving, 2)
    names = list(DROPS)
    leaving.keep([names.index("all"), names.index("gal")])
    assert leaving.names == ["all", "gal"]
    assert leaving.seeds == [4, 1]
    assert len(leaving) == 2
    train(leaving, 2, first=2)
    train(staying, 4)
    for i in range(2):
        assert same(leaving.weights(i), staying.weights(i), exactly=False)


def test_all_may_leave():
    replicas = table("gal", "own")
    replicas.keep([])
    assert len(replicas) == 0


@every_optimiser
def test_a_table_taken_up_goes_on_to_the_last_bit(optimiser):
    whole = table(*DROPS, optimiser=optimiser)
    train(whole, 2)
    whole.lr[3] /= 1.5
    poison(whole, 4)
    train(whole, 1, first=2)
    whole.keep([3, 0, 4])
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = table(*DROPS, optimiser=optimiser)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.names == whole.names == ["own", "none", "all"]
    assert resumed.seeds == whole.seeds
    assert resumed.alive.tolist() == [True, True, False]
    train(whole, 3, first=3)
    train(resumed, 3, first=3)
    for i in range(2):
        assert same(whole.weights(i), resumed.weights(i))
    assert torch.equal(whole.lr, resumed.lr)
    assert same(whole.moments, resumed.moments)


def test_another_tables_state_is_refused():
    with pytest.raises(ValueError, match="networks this table does not: {'own'}"):
        table("gal").load_state_dict(table("gal", "own").state_dict())


def test_weights_are_a_networks_own_copy():
    replicas = table("gal", "own")
    weights = replicas.weights(1)
    assert same(weights, net("own").state_dict())
    net("own").load_state_dict(weights)
    weights["readout.weight"].zero_()
    assert replicas.parameters["readout.weight"][1].any()
