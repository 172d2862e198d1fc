"""Word language model, Sec. 4.2 and Table 2: the Penn Treebank, one word after the other."""

import math
import os

from torch import Tensor

from recdrop.data import grammar, ptb
from recdrop.data.corpus import Corpus
from recdrop.dropout import RecurrentDropout
from recdrop.tasks import profiles
from recdrop.tasks.language_model import LanguageModelling

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


class WordLanguageModel(LanguageModelling):
    """The task at one profile: see PROFILES for what a profile fixes."""

    name, label, metric = "word_lm", "Word language model", "perplexity"

    def __init__(
        self,
        profile: profiles.Profile = "quick",
        data_dir: str | os.PathLike | None = None,
        cell: str = "lstm",
    ):
        super().__init__(profiles.settings(PROFILES, profile, self.label), data_dir, cell)

    def read(self) -> Corpus:
        generated = self.settings["corpus"] == "generated"
        return grammar.corpus() if generated else ptb.words(self.data_dir)

    def measure(self, loss: Tensor) -> Tensor:
        """Perplexity: exp of the mean cross-entropy."""
        return loss.exp()

    def next_lr(self, curve: list[dict], lr: float) -> float:
        """Divided by 1.5 whenever validation is not a new best."""
        best = min((e["valid"] for e in curve[:-1]), default=math.inf)
        return lr if curve[-1]["valid"] < best else lr / self.settings["decay"]

    def is_finished(self, curve: list[dict], recurrent_dropout: RecurrentDropout) -> bool:
        """The learning rate has decayed away."""
        return self.next_lr(curve, curve[-1]["lr"]) < self.settings["least_lr"]
