"""Named entities, Sec. 4.4 and Table 4: which words of a sentence name somebody or something?"""

import math
import os
from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from recdrop.data import conll2003, grammar, word2vec
from recdrop.data.conll2003 import Sentence, TaggedCorpus
from recdrop.dropout import RecurrentDropout
from recdrop.forward import Dropout
from recdrop.seeds import seed
from recdrop.tasks import profiles
from recdrop.tasks.cells import CELLS, named
from recdrop.tasks.initialise import uniform
from recdrop.tasks.language_model import FORWARD

PROFILES = {
    "paper": dict(
        protocol="paper", vector_size=300, filters=256, hidden=1024, train_sentences=None,
        held_out_sentences=None, optimiser="adam", lr=1e-3, clip=10.0, init=0.05, decay=0.95,
        decay_from=10, steps=15, batch=32, epochs=50, corpus="conll2003",
    ),
    "reduced": dict(
        protocol="reduced", vector_size=300, filters=256, hidden=256, train_sentences=None,
        held_out_sentences=None, optimiser="adam", lr=1e-3, clip=10.0, init=0.05, decay=0.95,
        decay_from=10, steps=15, batch=32, epochs=15, corpus="conll2003",
    ),
    "quick": dict(
        protocol="quick", vector_size=50, filters=64, hidden=128, train_sentences=3000,
        held_out_sentences=500, optimiser="adam", lr=2e-3, clip=10.0, init=0.1, decay=0.95,
        decay_from=10, steps=15, batch=32, epochs=10, corpus="conll2003",
    ),
    "smoke": dict(
        protocol="smoke", vector_size=16, filters=16, hidden=16, train_sentences=400,
        held_out_sentences=40, optimiser="adam", lr=1e-2, clip=10.0, init=0.1, decay=0.95,
        decay_from=1, steps=15, batch=16, epochs=2, corpus="generated",
    ),
}  # fmt: skip

WIDTH = 5
"""Words that the convolution sees: the one to be tagged, two before and two behind it."""

CAPITALS = ("no capital", "first letter", "all letters", "others")
OUTSIDE = -1
"""The tag of a place that no word stands at."""


def capitalisation(word: str) -> int:
    """Where a word has capitals, an index of CAPITALS.

    >>> [CAPITALS[capitalisation(w)] for w in ("dog", "U.N.", "Paris", "McDonald", "1996")]
    ['no capital', 'all letters', 'first letter', 'others', 'no capital']
    """
    if not any(c.isupper() for c in word):
        return 0
    if word.isupper():
        return 2 if len(word) > 1 else 1
    return 1 if word[0].isupper() and not any(c.isupper() for c in word[1:]) else 3


def f1(true: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """F1 of whole entities as a fraction, as seqeval and the task's conlleval have it.

    Raises:
        ImportError: seqeval is not installed.
        ValueError: there are not as many sentences, or words in one, in ``found`` as in ``true``.

    >>> f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]])
    0.5
    """
    return _f1([entities(*pair) for pair in zip(true, found, strict=True)])


def entities(true: Sequence[str], found: Sequence[str]) -> tuple[int, int, int]:
    """Of a sentence's entities: how many are found rightly, are found, and are there.

    >>> entities(["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O", "O", "B-LOC"])
    (1, 2, 2)
    """
    try:
        from seqeval.metrics.sequence_labeling import get_entities
    except ImportError:
        raise ImportError("F1 takes seqeval: pip install 'recdrop[study]'") from None
    if len(true) != len(found):
        raise ValueError(f"{len(found)} tags for a sentence of {len(true)} words")
    there, claimed = set(get_entities(list(true))), set(get_entities(list(found)))
    return len(there & claimed), len(claimed), len(there)


def _f1(counts: list[tuple[int, int, int]]) -> float:
    """Of the sentences' entities; seqeval's own takes ten times as long to count them."""
    right, claimed, there = (sum(c[k] for c in counts) for k in range(3))
    precision, recall = right / max(1, claimed), right / max(1, there)
    return 2 * precision * recall / (precision + recall) if right else 0.0


class Tagger(nn.Module):
    """Convolution over five words, recurrent layer, softmax for each word.

    >>> tagger = Tagger(features=20, filters=16, hidden=8, tags=9)
    >>> tagger(torch.zeros(15, 32, 20)).shape  # (T, B, F) -> (T, B, tags)
    torch.Size([15, 32, 9])
    """

    def __init__(
        self,
        features: int,
        filters: int,
        hidden: int,
        tags: int,
        recurrent_dropout: RecurrentDropout | None = None,
        forward: bool = False,
        cell: str = "lstm",
    ):
        super().__init__()
        rate = FORWARD if forward else dict.fromkeys(FORWARD, 0.0)
        relu = {"nonlinearity" if cell == "rnn" else "activation": "relu"}
        self.convolution = nn.Linear(WIDTH * features, filters)  # the same for each five words
        self.drop_input = Dropout(rate["input"], "input")
        self.recurrent = CELLS[cell](filters, hidden, recurrent_dropout=recurrent_dropout, **relu)
        self.drop_output = Dropout(rate["output"], "output")
        self.softmax = nn.Linear(hidden, tags)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, F), features of words; zeros where there is none -> logits (T, B, tags)."""
        margin = WIDTH // 2
        context = F.pad(x, (0, 0, 0, 0, margin, margin)).unfold(0, WIDTH, 1)  # (T, B, F, 5)
        filtered = self.convolution(context.flatten(2)).relu()  # (T, B, filters)
        out, _ = self.recurrent(self.drop_input(filtered))
        return self.softmax(self.drop_output(out))


class NamedEntities:
    """The task at one profile: see PROFILES for what a profile fixes.

    Args:
        profile: a key of PROFILES, or a condition's settings, which are taken as they are.
        data_dir: folder of the corpora.
        vectors: file of word2vec vectors; vectors trained on the training text where None. Figures
            with the one and with the other are of different protocols: ``paper`` and
            ``paper-own-vectors``, ``quick-given-vectors`` and ``quick``.
        cell: "lstm", "gru" or "rnn".
    """

    name, label, metric = "ner", "Named entities", "accuracy"
    validated_by, best = "valid", max
    keeps_weights = False

    def __init__(
        self,
        profile: profiles.Profile = "quick",
        data_dir: str | os.PathLike | None = None,
        vectors: str | os.PathLike | None = None,
        cell: str = "lstm",
    ):
        settings = profiles.settings(PROFILES, profile, self.label) | named(cell)
        if isinstance(profile, str):
            settings["vectors"] = word2vec.label(vectors) if vectors else "own"
            if vectors and profile != "paper":
                settings["protocol"] += "-given-vectors"
                settings["vector_size"] = None  # the file's
            if profile == "paper" and not vectors:
                settings["protocol"] = "paper-own-vectors"
        self.settings, self.data_dir, self.path = settings, data_dir, vectors
        self._read: tuple | None = None

    @property
    def positions(self) -> int:
        """Time steps times rows of an update."""
        return self.settings["steps"] * self.settings["batch"]

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(len(self.corpus.train) / self.settings["batch"])

    @property
    def corpus(self) -> TaggedCorpus:
        return self._loaded()[0]

    @property
    def data(self) -> dict:
        """What a manifest says of the corpus and of the vectors."""
        corpus, vectors, *_ = self._loaded()
        splits = {split: getattr(corpus, split) for split in ("train", "valid", "test")}
        return {
            "corpus": corpus.name,
            "sentences": {split: len(sentences) for split, sentences in splits.items()},
            "tokens": {k: sum(len(s.words) for s in v) for k, v in splits.items()},
            "sha256": corpus.sha256,
            "vectors": {"name": vectors.name, "size": vectors.size, "sha256": vectors.sha256},
        }

    def network(self, recurrent_dropout: RecurrentDropout, forward: bool, seed: int) -> Tagger:
        """A network whose initial weights depend on ``seed`` alone, all from U(-init, init)."""
        s, (corpus, vectors, *_) = self.settings, self._loaded()
        sizes = vectors.size + len(CAPITALS), s["filters"], s["hidden"], len(corpus.tags)
        with torch.random.fork_rng(devices=[]):  # torch's own first weights are not used
            network = Tagger(*sizes, recurrent_dropout, forward, s.get("cell", "lstm"))
        return uniform(network, s["init"], seed)

    def train_epoch(
        self,
        table,
        epoch: int,
        tick: Callable = lambda *_, **__: None,
        begun: dict | None = None,
    ) -> dict[str, Tensor]:
        """A random sample of up to 15 words of each sentence, in random order.

        (R,) the mean loss of a word and the share of words with the right tag. The loss is summed
        over a sample's words and averaged over samples. ``tick`` is given after each update what it
        takes to go on from there as ``begun``.
        """
        at = begun or {"updates": 0, "loss": 0.0, "right": 0.0, "count": 0}
        drawn = {s: self._samples(epoch, s) for s in set(table.seeds)}
        batches = list(zip(*(drawn[s] for s in table.seeds), strict=True))
        stacked = [[torch.stack(v).to(table.device) for v in zip(*b, strict=True)] for b in batches]
        features = self._loaded()[2].to(table.device)

        def batch(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:  # (R, T, B)
            logits = table(features[x])  # (R, T, B, tags)
            losses = F.cross_entropy(
                logits.flatten(0, -2), y.flatten(), ignore_index=OUTSIDE, reduction="none"
            ).view(y.shape)
            counted = y != OUTSIDE
            right = (logits.argmax(-1) == y) & counted
            sums = (v.detach().sum((1, 2)) for v in (losses, right, counted))
            return losses.sum(1).mean(1), *sums

        for x, y in islice(stacked, at["updates"], None):
            loss, right, count = table.learn(batch, x, y)
            at = {
                "updates": at["updates"] + 1,
                "loss": at["loss"] + loss,
                "right": at["right"] + right,
                "count": at["count"] + count,
            }
            loss, right = at["loss"] / at["count"], at["right"] / at["count"]
            tick(at, loss=loss.nanmean(), accuracy=right.mean())
        return {"loss": at["loss"] / at["count"], "train": at["right"] / at["count"]}

    def evaluate(self, table) -> dict[str, Tensor]:
        """(R,) F1 of entities over the whole sentences of valid and of test; (R, sentences, 3)
        ``items`` of test: entities found rightly, found, and there."""
        counts = {}
        for split in ("valid", "test"):
            true = [sentence.tags for sentence in getattr(self.corpus, split)]
            counts[split] = [list(map(entities, true, tags)) for tags in self.tags(table, split)]
        figures = {split: torch.tensor([_f1(c) for c in found]) for split, found in counts.items()}
        return figures | {"items": torch.tensor(counts["test"])}

    @torch.no_grad()
    def tags(self, table, split: str) -> list[list[list[str]]]:
        """For each network, the tags of each sentence; the likeliest one for each word."""
        sentences, features = self._loaded()[3][split], self._loaded()[2].to(table.device)
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i][0]))
        found = [[[] for _ in sentences] for _ in range(len(table))]
        for start in range(0, len(order), 64):
            which = order[start : start + 64]
            x = pad_sequence([sentences[i][0] for i in which]).to(table.device)  # (T, B)
            best = table(features[x], in_dims=None).argmax(-1).mT.tolist()  # (R, B, T)
            for network, rows in zip(found, best, strict=True):
                for i, row in zip(which, rows, strict=True):
                    network[i] = [self.corpus.tags[t] for t in row[: len(sentences[i][0])]]
        return found

    def next_lr(self, curve: list[dict], lr: float) -> float:
        """Multiplied by 0.95 after each epoch from the tenth on."""
        s = self.settings
        return lr * s["decay"] if curve[-1]["epoch"] >= s["decay_from"] else lr

    def is_finished(self, curve: list[dict], recurrent_dropout: RecurrentDropout) -> bool:
        return False

    def _samples(self, epoch: int, first: int) -> list[tuple[Tensor, Tensor]]:
        """Batches of samples (T, B), the same for all networks of a seed."""
        generator = torch.Generator().manual_seed(seed(f"train, epoch {epoch}", first))
        sentences, s = self._loaded()[3]["train"], self.settings
        order = torch.randperm(len(sentences), generator=generator)
        where = torch.rand(len(sentences), generator=generator)
        samples = []
        for i, u in zip(order.tolist(), where.tolist(), strict=True):
            words, tags = sentences[i]
            start = int(u * (max(0, len(words) - s["steps"]) + 1))
            samples.append((words[start : start + s["steps"]], tags[start : start + s["steps"]]))
        batches = []
        for n in range(0, len(samples), s["batch"]):
            words, tags = zip(*samples[n : n + s["batch"]], strict=True)
            words, tags = pad_sequence(words), pad_sequence(tags, padding_value=OUTSIDE)
            missing = (0, 0, 0, s["steps"] - len(words))  # one length for all seeds
            batches.append((F.pad(words, missing), F.pad(tags, missing, value=OUTSIDE)))
        return batches

    def _loaded(self):
        """Corpus, vectors, features (words, F) and numbered sentences, read when first needed."""
        if self._read is None:
            s = self.settings
            entities([], [])  # what counts them should be missed now, not behind an epoch
            if s["corpus"] == "generated":
                corpus = grammar.entities(s["train_sentences"])
            else:
                corpus = conll2003.sentences(self.data_dir)
            if self.path:
                vectors = word2vec.load(self.path)
                if vectors.size != (s["vector_size"] or vectors.size):
                    raise ValueError(
                        f"vectors={str(self.path)!r} have {vectors.size} numbers a word, and this "
                        f"protocol's have {s['vector_size']}; give others, or another profile"
                    )
            else:
                text = [sentence.words for sentence in corpus.train]
                vectors = word2vec.train(text, size=s["vector_size"])
            corpus = corpus.part(s["train_sentences"], s["held_out_sentences"])
            self._read = (corpus, vectors, *_numbered(corpus, vectors))
        return self._read


def _numbered(corpus: TaggedCorpus, vectors) -> tuple[Tensor, dict[str, list]]:
    """Features of each distinct word, with zeros in front, and sentences as numbers."""
    splits = {split: getattr(corpus, split) for split in ("train", "valid", "test")}
    words = sorted({w for sentences in splits.values() for s in sentences for w in s.words})
    capitals = F.one_hot(torch.tensor([capitalisation(w) for w in words]), len(CAPITALS))
    features = F.pad(torch.cat([vectors.lookup(words), capitals], 1), (0, 0, 1, 0))
    number = {word: i for i, word in enumerate(words, 1)}
    tag = {name: i for i, name in enumerate(corpus.tags)}

    def encode(sentence: Sentence) -> tuple[Tensor, Tensor]:
        return (torch.tensor([number[w] for w in sentence.words]),
                torch.tensor([tag[t] for t in sentence.tags]))  # fmt: skip

    return features, {split: [encode(s) for s in v] for split, v in splits.items()}
