"""Language modelling, Secs. 4.2 and 4.3: what words and characters have in common."""

import math
import os
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdrop.data.corpus import Corpus
from recdrop.dropout import RecurrentDropout
from recdrop.forward import Dropout
from recdrop.softmax import linear_cross_entropy
from recdrop.tasks.cells import CELLS, named
from recdrop.tasks.initialise import uniform

FORWARD = {"input": 0.2, "output": 0.5}
"""Rates of forward dropout where a condition has it."""


class LanguageModel(nn.Module):
    """Embedding, recurrent layer, softmax; forward dropout before and behind the layer.

    >>> model = LanguageModel(types=50, embedding=8, hidden=16)
    >>> x, state = torch.zeros(35, 32, dtype=torch.int64), model.first_state(32)
    >>> losses, state = model(x, state, x)
    >>> losses.shape  # (T, B)
    torch.Size([35, 32])
    """

    def __init__(
        self,
        types: int,
        embedding: int,
        hidden: int,
        recurrent_dropout: RecurrentDropout | None = None,
        forward: bool = False,
        cell: str = "lstm",
    ):
        super().__init__()
        rate = FORWARD if forward else dict.fromkeys(FORWARD, 0.0)
        self.embedding = nn.Embedding(types, embedding)
        self.drop_input = Dropout(rate["input"], "input")
        self.recurrent = CELLS[cell](embedding, hidden, recurrent_dropout=recurrent_dropout)
        self.drop_output = Dropout(rate["output"], "output")
        self.softmax = nn.Linear(hidden, types)

    def first_state(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros (1, B, H): h and c for an LSTM, else h alone."""
        zeros = self.softmax.weight.new_zeros(1, batch, self.recurrent.hidden_size)
        return (zeros, zeros) if self.recurrent.mode == "LSTM" else (zeros,)

    def forward(self, x: Tensor, state: tuple[Tensor, ...], target: Tensor):
        """x, target (T, B); state of (1, B, H) -> losses (T, B) in nats, and the new state."""
        embedded = self.drop_input(self.embedding(x))  # (T, B, E)
        out, state = self.recurrent(embedded, state if len(state) == 2 else state[0])
        state = state if isinstance(state, tuple) else (state,)
        softmax = self.softmax.weight, self.softmax.bias  # (V, H), (V,)
        return linear_cross_entropy(self.drop_output(out), *softmax, target), state


class LanguageModelling:
    """A language modelling task; subclasses say on which text, in which unit, at which rate.

    ``settings`` decide the result, with ``cell`` ("lstm", "gru" or "rnn") among them where it is
    not the paper's LSTM.
    """

    name: str
    label: str
    metric: str
    """What ``train``, ``valid`` and ``test`` of a learning curve hold."""
    validated_by, best = "valid", min
    keeps_weights = False

    def __init__(self, settings: dict, data_dir: str | os.PathLike | None, cell: str = "lstm"):
        self.settings = settings | named(cell)
        self.data_dir = data_dir
        self._corpus: Corpus | None = None

    def read(self) -> Corpus:
        """The whole corpus that the settings name."""
        raise NotImplementedError

    def measure(self, loss: Tensor) -> Tensor:
        """The metric from a mean cross-entropy in nats."""
        raise NotImplementedError

    def next_lr(self, curve: list[dict], lr: float) -> float:
        """The learning rate of the next epoch, from the epochs so far."""
        raise NotImplementedError

    def is_finished(self, curve: list[dict], recurrent_dropout: RecurrentDropout) -> bool:
        """Whether a network ends before the last epoch that the settings allow."""
        return False

    @property
    def corpus(self) -> Corpus:
        """Read when first asked for, so that finished results need no corpus."""
        if self._corpus is None:
            s = self.settings
            self._corpus = self.read().part(s["train_tokens"], s["held_out_tokens"])
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

    @property
    def positions(self) -> int:
        """Time steps times rows of an update."""
        return self.settings["steps"] * self.settings["batch"]

    def network(
        self, recurrent_dropout: RecurrentDropout, forward: bool, seed: int
    ) -> LanguageModel:
        """A network whose initial weights depend on ``seed`` alone, all from U(-init, init)."""
        s = self.settings
        types, embedding = len(self.corpus.vocabulary), s.get("embedding", s["hidden"])
        cell = s.get("cell", "lstm")
        with torch.random.fork_rng(devices=[]):  # torch's own first weights are not used
            network = LanguageModel(types, embedding, s["hidden"], recurrent_dropout, forward, cell)
        return uniform(network, s["init"], seed)

    def train_epoch(
        self,
        table,
        epoch: int,
        tick: Callable = lambda *_, **__: None,
        begun: dict | None = None,
    ) -> dict[str, Tensor]:
        """One pass; (R,) the training loss and metric, masks on. State is carried between windows.

        The loss is summed over a window's steps and averaged over its rows: the scale to which the
        paper's learning rate and clipping refer. ``tick`` is given after each update what it takes
        to go on from there as ``begun``.
        """
        at = begun or {"updates": 0, "state": self._first_state(table), "total": 0.0, "count": 0}
        windows = self._windows(self.corpus.train.to(table.device), whole=False)

        def window(x: Tensor, y: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            losses, state = table(x, state, y, in_dims=(None, 0, None))  # (R, T, B)
            total = losses.detach().sum((1, 2))
            return losses.sum(1).mean(1), total, *(v.detach() for v in state)

        for x, y in islice(windows, at["updates"], None):
            total, *state = table.learn(window, x, y, *at["state"])
            at = {
                "updates": at["updates"] + 1,
                "state": tuple(state),
                "total": at["total"] + total,
                "count": at["count"] + y.numel(),
            }
            loss = at["total"] / at["count"]
            tick(at, loss=loss.nanmean(), **{self.metric: self.measure(loss).nanmean()})
        loss = at["total"] / at["count"]
        return {"loss": loss, "train": self.measure(loss)}

    def evaluate(self, table) -> dict[str, Tensor]:
        """(R,) the metric over all tokens of valid and of test; (R, windows, 2) ``items`` of test:
        the cross-entropy in nats of a stream's window, and its tokens."""
        windows = {s: self.windows(table, getattr(self.corpus, s)) for s in ("valid", "test")}
        found = {split: self.measure(_mean(items)) for split, items in windows.items()}
        return found | {"items": windows["test"]}

    def cross_entropy(self, table, tokens: Tensor) -> Tensor:
        """(R,) nats per token, each token of the split counted once, the state carried through."""
        return _mean(self.windows(table, tokens))

    @torch.no_grad()
    def windows(self, table, tokens: Tensor) -> Tensor:
        """(R, windows, 2) float64: of each stream's windows the sum of nats, and of tokens."""
        state, found = self._first_state(table), []
        for x, y in self._windows(tokens.to(table.device), whole=True):
            counted = y >= 0
            losses, state = table(x, state, y.clamp(min=0), in_dims=(None, 0, None))
            nats = (losses.double() * counted).sum(1)  # (R, B)
            found.append(torch.stack([nats, counted.sum(0).expand_as(nats)], -1))
        return torch.cat(found, 1)

    def _first_state(self, table) -> tuple[Tensor, ...]:
        s = self.settings
        zeros = torch.zeros(len(table), 1, s["batch"], s["hidden"], device=table.device)
        return (zeros, zeros) if s.get("cell", "lstm") == "lstm" else (zeros,)

    def _windows(self, tokens: Tensor, whole: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows (T, B) of inputs and targets over B contiguous streams, in order.

        Every token is a target once, the first one after a sentence's end. Where B does not divide
        their number, training leaves out the last few; ``whole`` marks missing targets with -1.
        """
        batch, steps = self.settings["batch"], self.settings["steps"]
        before = torch.cat([tokens.new_tensor([self.corpus.eos]), tokens[:-1]])
        if whole:
            missing = -len(tokens) % batch
            before, tokens = F.pad(before, (0, missing)), F.pad(tokens, (0, missing), value=-1)
        size = len(tokens) // batch
        streams = [v[: size * batch].view(batch, size).T for v in (before, tokens)]  # (size, B)
        yield from zip(*(v.split(steps) for v in streams), strict=True)


def _mean(windows: Tensor) -> Tensor:
    nats, tokens = windows.sum(1).unbind(-1)
    return nats / tokens
