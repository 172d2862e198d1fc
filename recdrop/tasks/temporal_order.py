"""Temporal Order, Sec. 4.1 and Table 1: can a network keep two symbols in memory?"""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdrop.data.temporal_order import CLASSES, SYMBOLS, sequences
from recdrop.dropout import RecurrentDropout
from recdrop.seeds import seed
from recdrop.tasks import profiles
from recdrop.tasks.cells import CELLS, named
from recdrop.tasks.initialise import uniform

PROFILES = {
    "paper": dict(
        protocol="paper", hidden=256, optimiser="sgd", lr=0.1, clip=5.0, init=0.05,
        batch=32, batches=200, epochs=5000, test=10_000, solved=0.999,
    ),
    "quick": dict(
        protocol="quick", hidden=32, optimiser="adam", lr=3e-3, clip=5.0, init=0.15,
        batch=32, batches=200, epochs=30, test=2000, solved=0.99,
    ),
    "smoke": dict(
        protocol="smoke", hidden=8, optimiser="adam", lr=1e-2, clip=5.0, init=0.15,
        batch=16, batches=5, epochs=2, test=100, solved=0.99,
    ),
}  # fmt: skip

IN_A_ROW = 3
"""So many evaluations above ``solved`` end a network's training."""
GUESSING = 0.3
"""An accuracy that 6,400 guesses among four classes do not reach."""


class Classifier(nn.Module):
    """A recurrent layer over one-hot symbols; the class is read from its last state.

    >>> Classifier(16)(torch.zeros(15, 32, dtype=torch.int64)).shape  # (T, B) -> (B, 4)
    torch.Size([32, 4])
    """

    def __init__(
        self, hidden: int, recurrent_dropout: RecurrentDropout | None = None, cell: str = "lstm"
    ):
        super().__init__()
        self.recurrent = CELLS[cell](len(SYMBOLS), hidden, recurrent_dropout=recurrent_dropout)
        self.readout = nn.Linear(hidden, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.recurrent(self.one_hot(x))  # (T, B, 4) -> (T, B, H)
        return self.readout(out[-1])

    def one_hot(self, x: Tensor) -> Tensor:
        return torch.eye(len(SYMBOLS), dtype=self.readout.weight.dtype, device=x.device)[x]


class TemporalOrder:
    """The task at one length and profile: see PROFILES for what a profile fixes."""

    name, label, metric = "temporal_order", "Temporal Order", "accuracy"
    validated_by = best = None

    def __init__(self, profile: profiles.Profile = "quick", length: int = 15, cell: str = "lstm"):
        self.settings = profiles.settings(PROFILES, profile, self.label)
        self.settings |= {"length": length} | named(cell)
        self.updates_per_epoch = self.settings["batches"]
        self.positions = self.settings["batch"] * length
        # The figures look into LSTMs, if they are small enough to lie in the repository.
        self.keeps_weights = self.settings["hidden"] <= 64 and cell == "lstm"
        self.data = {"corpus": "Temporal Order, drawn afresh in each epoch"}

    def network(self, recurrent_dropout: RecurrentDropout, forward: bool, seed: int) -> Classifier:
        """A network whose initial weights depend on ``seed`` alone."""
        if forward:
            raise ValueError("forward=True: Table 1 has no forward dropout; use forward=False")
        with torch.random.fork_rng(devices=[]):  # torch's own first weights are not used
            network = Classifier(
                self.settings["hidden"], recurrent_dropout, self.settings.get("cell", "lstm")
            )
        return uniform(network, self.settings["init"], seed)

    def train_epoch(
        self,
        table,
        epoch: int,
        tick: Callable = lambda *_, **__: None,
        begun: dict | None = None,
    ) -> dict[str, Tensor]:
        """200 fresh batches, the same for all networks of a seed. (R,) loss and accuracy.

        ``tick`` is given after each update what it takes to go on from there as ``begun``.
        """
        at = begun or {"updates": 0, "loss": 0.0, "accuracy": 0.0}
        s = self.settings
        x, y = self._draw(table.seeds, s["batches"] * s["batch"], f"train, epoch {epoch}")
        x, y = x.to(table.device), y.to(table.device)
        batches = zip(x.split(s["batch"], 2), y.split(s["batch"], 1), strict=True)

        def batch(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            logits = table(x)  # (R, T, B) -> (R, B, 4)
            losses = _cross_entropy(logits, y)
            return losses, losses.detach(), _accuracy(logits, y)

        for n, pair in islice(enumerate(batches, 1), at["updates"], None):
            losses, accuracy = table.learn(batch, *pair)
            at = {
                "updates": n,
                "loss": at["loss"] + losses,
                "accuracy": at["accuracy"] + accuracy,
            }
            tick(at, loss=at["loss"].nanmean() / n, accuracy=at["accuracy"].mean() / n)
        n = at["updates"]
        return {"loss": at["loss"] / n, "train": at["accuracy"] / n}

    @torch.no_grad()
    def evaluate(self, table) -> dict[str, Tensor]:
        """(R,) accuracy over the test sequences."""
        x, y = self._draw(table.seeds, self.settings["test"], "test")
        x, y = x.to(table.device), y.to(table.device)
        parts = [_accuracy(table(a), b) * b.shape[1] for a, b in zip(
            x.split(1000, 2), y.split(1000, 1), strict=True)]  # fmt: skip
        return {"test": sum(parts) / self.settings["test"]}

    def is_due(self, epoch: int, trained: dict[str, Tensor]) -> bool:
        """Whether to test after this epoch, the first being 1.

        In a training of thousands of epochs only each tenth one is tested while all networks guess:
        a test takes a third of an epoch's time and more.
        """
        epochs = self.settings["epochs"]
        begun = bool((trained["train"] > GUESSING).any())
        return begun or epoch % max(1, epochs // 500) == 0 or epoch == epochs

    def is_finished(self, curve: list[dict], recurrent_dropout: RecurrentDropout) -> bool:
        """Solved three evaluations in a row; Moon's test accuracy may never follow its training."""
        watched = ("train",) if recurrent_dropout.cell else ("train", "test")
        last = curve[-IN_A_ROW:]
        return len(last) == IN_A_ROW and all(
            e[k] > self.settings["solved"] for e in last for k in watched
        )

    def next_lr(self, curve: list[dict], lr: float) -> float:
        return lr

    def _draw(self, seeds: list[int], count: int, purpose: str) -> tuple[Tensor, Tensor]:
        """(R, T, count), (R, count): one draw for each distinct seed."""
        drawn = {
            s: sequences(
                count, self.settings["length"], torch.Generator().manual_seed(seed(purpose, s))
            )
            for s in set(seeds)
        }
        x, y = zip(*(drawn[s] for s in seeds), strict=True)
        return torch.stack(x), torch.stack(y)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(R, B, 4), (R, B) -> (R,) mean over the batch."""
    return (
        F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        .view(target.shape)
        .mean(1)
    )


def _accuracy(logits: Tensor, target: Tensor) -> Tensor:
    return (logits.argmax(-1) == target).float().mean(1)
