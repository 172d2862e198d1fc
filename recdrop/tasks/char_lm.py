"""Character language model, Sec. 4.3 and Table 3: the same text, one character after the other."""

import math
import os

from torch import Tensor

from recdrop.data import grammar, ptb
from recdrop.data.corpus import Corpus
from recdrop.tasks import profiles
from recdrop.tasks.language_model import LanguageModelling

PROFILES = {
    "paper": dict(
        protocol="paper", embedding=256, hidden=1024, train_tokens=None, held_out_tokens=None,
        optimiser="adam", lr=1e-3, clip=10.0, init=0.01, decay=0.97, decay_from=10,
        steps=100, batch=32, epochs=50, corpus="ptb",
    ),
    "reduced": dict(
        protocol="reduced", embedding=256, hidden=256, train_tokens=1_000_000,
        held_out_tokens=100_000, optimiser="adam", lr=1e-3, clip=10.0, init=0.01, decay=0.97,
        decay_from=10, steps=100, batch=32, epochs=10, corpus="ptb",
    ),
    "quick": dict(
        protocol="quick", embedding=32, hidden=128, train_tokens=300_000, held_out_tokens=40_000,
        optimiser="adam", lr=4e-3, clip=10.0, init=0.05, decay=0.97, decay_from=10,
        steps=100, batch=16, epochs=10, corpus="ptb",
    ),
    "smoke": dict(
        protocol="smoke", embedding=8, hidden=16, train_tokens=8000, held_out_tokens=800,
        optimiser="adam", lr=1e-2, clip=10.0, init=0.05, decay=0.97, decay_from=1,
        steps=50, batch=8, epochs=2, corpus="generated",
    ),
}  # fmt: skip


class CharacterLanguageModel(LanguageModelling):
    """The task at one profile: see PROFILES for what a profile fixes."""

    name, label, metric = "char_lm", "Character language model", "bits"

    def __init__(
        self,
        profile: profiles.Profile = "quick",
        data_dir: str | os.PathLike | None = None,
        cell: str = "lstm",
    ):
        super().__init__(profiles.settings(PROFILES, profile, self.label), data_dir, cell)

    def read(self) -> Corpus:
        generated = self.settings["corpus"] == "generated"
        return grammar.characters() if generated else ptb.characters(self.data_dir)

    def measure(self, loss: Tensor) -> Tensor:
        """Bits per character: the mean cross-entropy to base 2."""
        return loss / math.log(2)

    def next_lr(self, curve: list[dict], lr: float) -> float:
        """Multiplied by 0.97 after each epoch from the tenth on."""
        s = self.settings
        return lr * s["decay"] if curve[-1]["epoch"] >= s["decay_from"] else lr
