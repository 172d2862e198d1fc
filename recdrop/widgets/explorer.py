"""The memory explorer: trained LSTMs that answer as a reader moves their masks."""

import os

import numpy as np
import torch
import traitlets
from torch import Tensor

from recdrop import masks
from recdrop.data.temporal_order import SYMBOLS, sequences
from recdrop.dropout import SAMPLINGS, SCALINGS, threshold
from recdrop.study.conditions import Condition
from recdrop.study.parameters import BOOK
from recdrop.tasks.temporal_order import TemporalOrder
from recdrop.widgets import networks
from recdrop.widgets.part import Part, script, style

LENGTHS = (15, 30, 60)
COUNT = 400
"""Test sequences of each length; the same in the page and in Python."""


SETTINGS = ["scheme", "per", "trained", "rate", "masked", "scaling", "length", "sequence", "draw"]
"""What a reader chooses."""


class MemoryExplorer(Part):
    """Trained networks under any mask, in the page and, where there is a kernel, in torch.

    JavaScript computes all that is shown; in JupyterLab the settings reach Python, and torch
    answers with what :class:`recdrop.LSTM` computes for them. Every control is a trait:

    >>> explorer = MemoryExplorer()
    >>> explorer.scheme, explorer.trained, explorer.rate = "moon", 0.5, 0.25
    >>> explorer.condition.recurrent_dropout
    RecurrentDropout(cell=0.25, per='sequence', scaling='paper')

    Args:
        results_dir: folder with the manifests and weights of ``networks.conditions()``.
        **settings: first values of the traits below.

    Raises:
        FileNotFoundError: one of the networks has not been trained.
        traitlets.TraitError: a trait was given a value that it cannot have.
    """

    _esm = script("explorer.js")
    _css = style()

    scheme = traitlets.Enum(networks.SCHEMES, "moon").tag(sync=True)
    per = traitlets.Enum(SAMPLINGS, "sequence").tag(sync=True)
    trained = traitlets.Enum(networks.RATES, 0.5).tag(sync=True)
    rate = traitlets.Float(0.5).tag(sync=True)
    masked = traitlets.Bool(False).tag(sync=True)
    scaling = traitlets.Enum(SCALINGS, "paper").tag(sync=True)
    length = traitlets.Enum(LENGTHS, LENGTHS[0]).tag(sync=True)
    sequence = traitlets.Unicode().tag(sync=True)
    draw = traitlets.Int(0, min=0, max=2**31 - 1).tag(sync=True)

    networks = traitlets.List().tag(sync=True)
    sequences = traitlets.Dict().tag(sync=True)

    condition = traitlets.Instance(Condition, allow_none=True, read_only=True)
    """What is computed now, as the study names it; observe it to follow the reader."""

    def __init__(self, results_dir: str | os.PathLike = BOOK, **settings):
        self._tests = {length: _tests(length) for length in LENGTHS}
        given = len(settings.get("sequence", ""))
        length = settings.setdefault("length", given if given in LENGTHS else LENGTHS[0])
        if given in LENGTHS and given != length:
            raise traitlets.TraitError(
                f"sequence has {given} symbols and length={length}; leave one of them out"
            )
        super().__init__(
            networks=networks.read(results_dir),
            sequences={str(n): networks.pack_sequences(x) for n, (x, _) in self._tests.items()},
            **({"sequence": self._example(length)} if length in LENGTHS else {}) | settings,
        )
        self._follow()
        self.observe(self._follow, ["scheme", "per", "rate", "scaling", "length", "sequence"])
        self._question: dict | None = None
        self.on_msg(self._asked)
        self.observe(self._answer, SETTINGS)

    def __repr__(self) -> str:
        return f"MemoryExplorer({self.condition.recurrent_dropout!r})"

    @traitlets.validate("rate")
    def _rate(self, proposal: dict) -> float:
        try:
            threshold(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return proposal["value"]

    @traitlets.validate("sequence")
    def _sequence(self, proposal: dict) -> str:
        letters = proposal["value"]
        if len(letters) not in LENGTHS or set(letters) - set(SYMBOLS):
            raise traitlets.TraitError(
                f"sequence={letters!r} is not one of {LENGTHS} symbols from {SYMBOLS}; "
                f"give for example {self._example(LENGTHS[0])!r}"
            )
        return letters

    def _example(self, length: int) -> str:
        return "".join(SYMBOLS[s] for s in self._tests[length][0][:, 0])

    def _follow(self, change: dict | None = None) -> None:
        """Keep sequence, length and condition together."""
        if len(self.sequence) != self.length:
            if change and change["name"] == "sequence":
                self.length = len(self.sequence)
            else:
                self.sequence = self._example(self.length)
        scheme, rate, per = self.scheme, self.rate, self.per
        if scheme == "none":
            rate, per = 0.0, "none"
        settings = TemporalOrder("quick", self.length).settings
        condition = Condition(
            "temporal_order", scheme, rate, per, scaling=self.scaling, settings=settings
        )
        self.set_trait("condition", condition)

    @property
    def network(self) -> dict:
        """The trained network that answers now: its figures and its packed weights."""
        wanted = {"scheme": self.scheme}
        if self.scheme != "none":
            wanted |= {"per": self.per, "rate": self.trained}
        return next(n for n in self.networks if wanted.items() <= n.items())

    def torch(self) -> dict:
        """What recdrop.LSTM computes at the present settings, in float64.

        ``states`` (T, H) and ``probabilities`` (T, 4) of the sequence; of the ``n`` test sequences
        the network answers ``hits`` rightly.
        """
        model = networks.unpack(self.network, self.condition.recurrent_dropout).train(self.masked)
        letters = torch.tensor([[SYMBOLS.index(s)] for s in self.sequence])
        x, y = self._tests[self.length]
        with torch.no_grad():
            h, c = self._traced(model, letters)
            found = model.readout(self._traced(model, x)[0][-1]).argmax(-1)
            probabilities = model.readout(h[:, 0]).softmax(-1)
        return {
            "states": c[:, 0].numpy(), "probabilities": probabilities.numpy(),
            "hits": int((found == y).sum()), "n": len(y),
        }  # fmt: skip

    def _traced(self, model, x: Tensor) -> tuple[Tensor, Tensor]:
        """h and c (T, B, H) over x (T, B), under the masks that the page draws."""
        with masks.seeding(self.draw):
            h, c = model.recurrent.trace(model.one_hot(x))
        return h[0], c[0]

    def _asked(self, _, message: dict, buffers: list) -> None:
        """The page asks what torch finds; it is told, and nothing of it stays in the state."""
        if message.get("ask") == "torch":
            self._question = message
            self._answer()

    def _answer(self, _=None) -> None:
        """The last question, once the settings that it is about have arrived."""
        message = self._question
        if message is None or any(getattr(self, k) != v for k, v in message["settings"].items()):
            return
        self._question = None
        found = self.torch()
        arrays = [np.ascontiguousarray(found.pop(k)) for k in ("states", "probabilities")]
        self.send(
            found | {"key": message["key"], "version": torch.__version__.partition("+")[0]},
            [a.astype("<f8").tobytes() for a in arrays],
        )


def _tests(length: int) -> tuple[Tensor, Tensor]:
    return sequences(COUNT, length, torch.Generator().manual_seed(length))
