"""A training step of each benchmark's model, against the same model on nn.LSTM in float32.

Sizes are those of the paper's protocol, data are random: no corpus is needed. A step is forward,
backward, clipping and optimiser; an epoch is a step times the steps of the paper's epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import recdrop
from recdrop.bench.contenders import OURS, RATE, autocast
from recdrop.study.replicas import Replicas
from recdrop.tasks import char_lm, ner, temporal_order, word_lm
from recdrop.tasks.language_model import LanguageModel

BASE = ("nn.LSTM and F.cross_entropy, no dropout", "fp32")
TABLE = 8
OURS_TABLE = f"{OURS}, {TABLE} at once"
SMALL = 1e-3
"""Of the protocol's learning rate: on a batch that never changes, weights should stay ordinary."""


class Benchmark(NamedTuple):
    """A benchmark at its full size."""

    settings: dict
    steps_per_epoch: int
    network: Callable[[recdrop.RecurrentDropout | None], nn.Module]
    batch: tuple
    """What all networks are given; but a state, a tuple, is each network's own."""
    loss: Callable[[Tensor], Tensor]
    """What networks return first (R, ...) -> (R,) one loss for each."""


class PlainLanguageModel(LanguageModel):
    """The same network as one writes it with torch alone."""

    def forward(self, x: Tensor, state: tuple[Tensor, ...], target: Tensor):
        out, state = self.recurrent(self.embedding(x), state)
        logits = self.softmax(out).flatten(0, 1)
        losses = F.cross_entropy(logits, target.flatten(), reduction="none")
        return losses.view(target.shape), state


def benchmarks(scale: int = 1) -> dict[str, Benchmark]:
    """The paper's four; ``scale`` divides sizes, for trying out."""
    return {
        "order": _temporal_order(scale),
        "words": _language(word_lm.PROFILES["paper"], 10_000 // scale, 929_589, scale),
        "characters": _language(char_lm.PROFILES["paper"], 50, 5_017_482, scale),
        "entities": _entities(scale),
    }


def _language(settings: dict, types: int, tokens: int, scale: int) -> Benchmark:
    T, B, H = settings["steps"], settings["batch"], settings["hidden"] // scale
    embedding = settings.get("embedding", settings["hidden"]) // scale

    def network(drop):
        return (LanguageModel if drop else PlainLanguageModel)(types, embedding, H, drop)

    text = torch.randint(types, (T + 1, B))
    batch = text[:-1], (torch.zeros(1, B, H),) * 2, text[1:]
    return Benchmark(settings, tokens // B // T, network, batch, _summed)


def _temporal_order(scale: int) -> Benchmark:
    settings = temporal_order.PROFILES["paper"]
    x, target = torch.randint(4, (15, settings["batch"])), torch.randint(4, (settings["batch"],))

    def network(drop):
        return temporal_order.Classifier(settings["hidden"] // scale, drop)

    return Benchmark(settings, settings["batches"], network, (x,), _classes(target))


def _entities(scale: int) -> Benchmark:
    settings, tags = ner.PROFILES["paper"], 9
    T, B = settings["steps"], settings["batch"]
    features = settings["vector_size"] + len(ner.CAPITALS)
    sizes = features, settings["filters"] // scale, settings["hidden"] // scale, tags

    def network(drop):
        return ner.Tagger(*sizes, drop)

    loss = _classes(torch.randint(tags, (T, B)))
    return Benchmark(settings, 14_041 // B, network, (torch.randn(T, B, features),), loss)


def _summed(losses: Tensor) -> Tensor:
    """(R, T, B): summed over steps, averaged over rows."""
    return losses.sum(1).mean(1)


def _classes(target: Tensor) -> Callable[[Tensor], Tensor]:
    there = {}  # the target by device, moved once

    def loss(logits: Tensor) -> Tensor:  # (R, ..., classes)
        if logits.device not in there:
            there[logits.device] = target.to(logits.device)
        repeated = there[logits.device].expand(logits.shape[:-1]).flatten()
        losses = F.cross_entropy(logits.flatten(0, -2), repeated, reduction="none")
        return losses.view(len(logits), -1).mean(1)

    return loss


def steps(benchmark: Benchmark, dtypes: tuple[str, ...]) -> dict[tuple[str, str], Callable]:
    """Training steps by name and dtype, the denominator first.

    A table is several networks trained at once, as the study does; its step is for all of them.
    """
    drop = recdrop.RecurrentDropout.semeniuta(RATE, per="step")
    plain = benchmark.network(None)
    recurrent = plain.recurrent
    plain.recurrent = nn.LSTM(recurrent.input_size, recurrent.hidden_size)  # tanh: it has no relu
    found = {BASE: _step(benchmark, plain, "fp32")}
    for dtype in dtypes:
        found[OURS, dtype] = _step(benchmark, benchmark.network(drop), dtype)
        table = [benchmark.network(drop) for _ in range(TABLE)]
        found[OURS_TABLE, dtype] = _table_step(benchmark, table, dtype)
    return found


def _step(benchmark: Benchmark, network: nn.Module, dtype: str) -> Callable[[], None]:
    """One network with torch's own optimiser."""
    s, parameters = benchmark.settings, list(network.parameters())
    kind = torch.optim.SGD if s["optimiser"] == "sgd" else torch.optim.Adam
    optimiser = kind(parameters, lr=SMALL * s["lr"])

    def step() -> None:
        with autocast(dtype):
            found = network(*benchmark.batch)
        benchmark.loss(first(found).unsqueeze(0)).sum().backward()
        nn.utils.clip_grad_norm_(parameters, s["clip"])
        optimiser.step()
        optimiser.zero_grad()

    return step


def _table_step(benchmark: Benchmark, networks: list[nn.Module], dtype: str) -> Callable[[], None]:
    s, R = benchmark.settings, len(networks)
    names = [str(r) for r in range(R)]
    table = Replicas(networks, names, [0] * R, s["optimiser"], SMALL * s["lr"], s["clip"])
    dims = tuple(0 if isinstance(v, tuple) else None for v in benchmark.batch)
    batch = [tuple(w.repeat(R, 1, 1, 1) for w in v) if isinstance(v, tuple) else v
             for v in benchmark.batch]  # fmt: skip

    def step() -> None:
        with autocast(dtype):
            found = table(*batch, in_dims=dims)
        table.update(benchmark.loss(first(found)))

    return step


def first(found: Tensor | tuple) -> Tensor:
    return found[0] if isinstance(found, tuple) else found
