"""What a trained Temporal Order network keeps in memory, and at which rates it can use it."""

import math
import os

import torch
from torch import Tensor

from recdrop.data.temporal_order import sequences
from recdrop.dropout import RecurrentDropout
from recdrop.study import results, tables
from recdrop.study.conditions import Condition, dropout
from recdrop.tasks.temporal_order import Classifier


def condition(manifest: dict) -> Condition:
    """The condition that a manifest reports on."""
    return Condition(**manifest["condition"])


def network(
    manifest: dict, results_dir: str | os.PathLike, rate: float | None = None
) -> Classifier:
    """A trained network, in evaluation mode, at its own rate or at another.

    Raises:
        FileNotFoundError: its weights were not kept.
        ValueError: ``rate`` is not a rate.
    """
    c = condition(manifest)
    drop = c.recurrent_dropout
    if rate is not None and drop.active:
        drop = dropout(c.scheme, rate, c.per, c.scaling)
    with torch.random.fork_rng(devices=[]):
        model = Classifier(c.settings["hidden"], drop)
    model.load_state_dict(results.load_weights(results_dir, c))
    return model.eval()


@torch.no_grad()
def accuracy(model: Classifier, length: int, masked: bool, count: int = 1000) -> float:
    """The share of ``count`` fixed sequences classified right, with masks or in evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, y = sequences(count, length)
        return float((model.train(masked)(x).argmax(-1) == y).float().mean())


@torch.no_grad()
def cell_states(model: Classifier, x: Tensor, masked: bool) -> Tensor:
    """(T, B, H): the cell states over x (T, B), with masks or in evaluation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train(masked)
        return model.recurrent.trace(model.one_hot(x))[1][0]


def phases(manifests: list[dict], results_dir: str | os.PathLike, x: Tensor) -> str:
    """A Markdown table: each network's accuracies and its largest cell state over x, by phase;
    of one that diverged in its first epoch there are none."""
    rows = []
    for m in (m for m in manifests if m["final"]["last"]):
        model, last = network(m, results_dir), m["final"]["last"]
        top = [cell_states(model, x, masked).abs().max() for masked in (True, False)]
        convention = "Eq. 3" if m["condition"]["scaling"] == "paper" else "Eq. 14"
        rows.append(
            [convention, tables.label(m)]
            + [f"{100 * last[split]:.1f}\N{NO-BREAK SPACE}%" for split in ("train", "test")]
            + [f"{float(v):.3g}" for v in top]
            + [tables.links([m["name"]], results_dir)]
        )
    header = ["convention", "network", "training", "test"]
    header += ["largest cell state with masks", "in evaluation", "manifest"]
    return tables.of(header, rows)


def fading(
    dropout: RecurrentDropout, steps: int, training: bool = False, updates: float = 1.0,
    start: float = 1.0, draws: int = 1,
) -> Tensor:  # fmt: skip
    """(steps, draws): the cell of a real LSTM unit whose gates are all 1, as in Eqs. 10-15.

    Weights are 0 and the biases saturate the gates, so that c_t = c_{t-1} + g_t with a constant
    ``updates`` (at most 1 in size: the candidate is a tanh) but for dropout. The gates are 1 to
    1e-12 in float64.
    """
    from recdrop.layers import LSTM

    lstm = LSTM(1, 1, recurrent_dropout=dropout, dtype=torch.float64).train(training)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in lstm.parameters():
            parameter.zero_()
        candidate = math.atanh(min(updates, 1 - 1e-12))
        lstm.bias_ih_l0.copy_(torch.tensor([30.0, 30.0, candidate, 30.0], dtype=torch.float64))
        first = torch.full((1, draws, 1), start, dtype=torch.float64)
        x = torch.zeros(steps, draws, 1, dtype=torch.float64)
        return lstm.trace(x, (torch.zeros_like(first), first))[1][0, :, :, 0]
