"""Word language model, Sec. 4.2 and Table 2: the Penn Treebank, one word after the other."""

import math
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdrop.data import grammar, ptb
from recdrop.data.corpus import Corpus
from recdrop.dropout import RecurrentDropout
from recdrop.forward import Dropout
from recdrop.layers import LSTM
from recdrop.softmax import linear_cross_entropy
from recdrop.tasks.initialise import uniform

FORWARD = {"input": 0.2, "output": 0.5}
"""Rates of forward dropout where a condition has it."""

PROFILES = {
    "paper": dict(
        protocol="paper", hidden=256, train_tokens=None, held_out_tokens=None,
        optimiser="sgd", lr=1.0, clip=10.0, init=0.05, decay=1.5, least_lr=1 / 64,
        steps=35, batch=32, epochs=80, corpus="ptb",
    ),
    "quick": dict(
        protocol="quick", hidden=64, train_tokens=40_000, held_out_tokens=10_000,
        optimiser="sgd", lr=1.0, clip=10.0, init=0.05, decay=1.5, least_lr=1 / 64,
        steps=35, batch=32, epochs=12, corpus="ptb",
    ),
    "smoke": dict(
        protocol="smoke", hidden=16, train_tokens=4000, held_out_tokens=400,
        optimiser="sgd", lr=0.2, clip=10.0, init=0.05, decay=1.5, least_lr=1 / 64,
        steps=35, batch=8, epochs=2, corpus="generated",
    ),
}  # fmt: skip


class LanguageModel(nn.Module):
    """Embedding, LSTM, softmax; forward dropout before and behind the LSTM.

    >>> model = LanguageModel(words=50, hidden=16)
    >>> x, state = torch.zeros(35, 32, dtype=torch.int64), model.first_state(32)
    >>> losses, state = model(x, *state, x)
    >>> losses.shape  # (T, B)
    torch.Size([35, 32])
    """

    def __init__(
        self,
        words: int,
        hidden: int,
        recurrent_dropout: RecurrentDropout | None = None,
        forward: bool = False,
    ):
        super().__init__()
        rate = FORWARD if forward else dict.fromkeys(FORWARD, 0.0)
        self.embedding = nn.Embedding(words, hidden)
        self.drop_input = Dropout(rate["input"], "input")
        self.lstm = LSTM(hidden, hidden, recurrent_dropout=recurrent_dropout)
        self.drop_output = Dropout(rate["output"], "output")
        self.softmax = nn.Linear(hidden, words)

    def first_state(self, batch: int) -> tuple[Tensor, Tensor]:
        return (torch.zeros(1, batch, self.lstm.hidden_size),) * 2

    def forward(self, x: Tensor, h: Tensor, c: Tensor, target: Tensor):
        """x, target (T, B); h, c (1, B, H) -> losses (T, B) in nats, and the new (h, c)."""
        embedded = self.drop_input(self.embedding(x))  # (T, B, H)
        out, state = self.lstm(embedded, (h, c))
        softmax = self.softmax.weight, self.softmax.bias  # (V, H), (V,)
        return linear_cross_entropy(self.drop_output(out), *softmax, target), state


class WordLanguageModel:
    """The task at one profile: see PROFILES for what a profile fixes."""

    name, label = "word_lm", "Word language model"
    validated_by = "valid"
    keeps_weights = False

    def __init__(self, profile: str = "quick", data_dir: str | os.PathLike | None = None):
        self.settings = dict(PROFILES[profile])
        self.data_dir = data_dir
        self._corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        """Read when first asked for, so that finished results need no corpus."""
        if self._corpus is None:
            s = self.settings
            generated = s["corpus"] == "generated"
            whole = grammar.corpus() if generated else ptb.words(self.data_dir)
            self._corpus = whole.part(s["train_tokens"], s["held_out_tokens"])
        return self._corpus

    @property
    def data(self) -> dict:
        """What a manifest says of the corpus."""
        c = self.corpus
        tokens = {split: len(getattr(c, split)) for split in ("train", "valid", "test")}
        return {"corpus": c.name, "types": len(c.vocabulary), "tokens": tokens, "sha256": c.sha256}

    @property
    def updates_per_epoch(self) -> int:
        s = self.settings
        return math.ceil(len(self.corpus.train) // s["batch"] / s["steps"])

    def network(self, recurrent_dropout: RecurrentDropout, forward: bool, seed: int):
        """A network whose initial weights depend on ``seed`` alone, all U(-0.05, 0.05)."""
        s = self.settings
        words = len(self.corpus.vocabulary)
        with torch.random.fork_rng(devices=[]):  # torch's own first weights are not used
            network = LanguageModel(words, s["hidden"], recurrent_dropout, forward)
        return uniform(network, s["init"], seed)

    def train_epoch(self, table, epoch: int, tick=lambda **_: None) -> dict[str, Tensor]:
        """One pass; (R,) the training perplexity, masks on. State is carried between windows.

        The loss is summed over a window's steps and averaged over its rows: the scale to which the
        paper's learning rate and clipping refer.
        """
        state, total, count = self._first_state(table), 0.0, 0
        for x, y in self._windows(self.corpus.train, whole=False):
            losses, (h, c) = table(x, *state, y, in_dims=(None, 0, 0, None))  # (R, T, B)
            table.update(losses.sum(1).mean(1))
            state = h.detach(), c.detach()
            total, count = total + losses.detach().sum((1, 2)), count + y.numel()
            tick(loss=(total / count).nanmean(), perplexity=(total / count).exp().nanmean())
        return {"loss": total / count, "train": (total / count).exp()}

    def evaluate(self, table) -> dict[str, Tensor]:
        """(R,) perplexities: exp of the mean cross-entropy over all tokens of the split."""
        return {split: self.perplexity(table, getattr(self.corpus, split))
                for split in ("valid", "test")}  # fmt: skip

    @torch.no_grad()
    def perplexity(self, table, tokens: Tensor) -> Tensor:
        state, total = self._first_state(table), 0.0
        for x, y in self._windows(tokens, whole=True):
            counted = y >= 0
            losses, state = table(x, *state, y.clamp(min=0), in_dims=(None, 0, 0, None))
            total = total + (losses.double() * counted).sum((1, 2))
        return (total / len(tokens)).exp()

    def next_lr(self, curve: list[dict], lr: float) -> float:
        """Divided by 1.5 whenever validation is not a new best."""
        best = min((e["valid"] for e in curve[:-1]), default=math.inf)
        return lr if curve[-1]["valid"] < best else lr / self.settings["decay"]

    def is_finished(self, curve: list[dict], recurrent_dropout: RecurrentDropout) -> bool:
        return self.next_lr(curve, curve[-1]["lr"]) < self.settings["least_lr"]

    def _first_state(self, table) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(len(table), 1, self.settings["batch"], self.settings["hidden"])
        return zeros, zeros

    def _windows(self, tokens: Tensor, whole: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows (T, B) of inputs and targets over B contiguous streams, in order.

        Every token is a target once, the first one after an <eos>. Where B does not divide their
        number, training leaves out the last few; ``whole`` marks missing targets with -1 instead.
        """
        batch, steps = self.settings["batch"], self.settings["steps"]
        before = torch.cat([torch.tensor([self.corpus.eos]), tokens[:-1]])
        if whole:
            missing = -len(tokens) % batch
            before, tokens = F.pad(before, (0, missing)), F.pad(tokens, (0, missing), value=-1)
        size = len(tokens) // batch
        streams = [v[: size * batch].view(batch, size).T for v in (before, tokens)]  # (size, B)
        yield from zip(*(v.split(steps) for v in streams), strict=True)
