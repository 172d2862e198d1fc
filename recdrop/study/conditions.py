"""Conditions: the cells of the paper's tables, each a network to train."""

import functools
import hashlib
import itertools
import json
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from recdrop.dropout import SAMPLINGS, RecurrentDropout

SCHEMES = ("none", "semeniuta", "gal", "moon")
COMBINED = tuple("+".join(c) for n in (2, 3) for c in itertools.combinations(SCHEMES[1:], n))
"""Several schemes at once, all at one rate and sampling, such as ``semeniuta+gal``."""


def dropout(scheme: str, rate: float, per: str, scaling: str = "paper") -> RecurrentDropout:
    """The recurrent dropout of a scheme, of several joined by ``+``, or of ``none``.

    >>> dropout("semeniuta+gal", 0.5, "step")
    RecurrentDropout(update=0.5, hidden=0.5, per='step', scaling='paper')

    Raises:
        ValueError: the scheme is unknown, or the rate or sampling is none.
    """
    if scheme not in (*SCHEMES, *COMBINED):
        raise ValueError(f"scheme={scheme!r} is unknown; choose one of {(*SCHEMES, *COMBINED)}")
    if scheme == "none":
        return RecurrentDropout(scaling=scaling)
    parts = (getattr(RecurrentDropout, s)(rate, per, scaling) for s in scheme.split("+"))
    return functools.reduce(operator.or_, parts)


@dataclass(frozen=True)
class Condition:
    """One network of a study: what is dropped where, on which task, from which seed.

    ``settings`` are the task's own (sizes, optimiser, budget); with them in its name, a result can
    never be taken for that of another recipe.

    >>> c = Condition("temporal_order", "moon", 0.5, "sequence", settings={"length": 15})
    >>> c.name
    'temporal_order-moon-0.5-sequence-seed0-efe9f9cdc4'
    >>> c.recurrent_dropout
    RecurrentDropout(cell=0.5, per='sequence', scaling='paper')
    """

    task: str
    scheme: str
    rate: float
    per: str
    forward: bool = False
    seed: int = 0
    scaling: str = "paper"
    settings: dict = field(default_factory=dict, hash=False)

    def __post_init__(self):
        if self.scheme == "none" and (self.rate or self.per != "none"):
            raise ValueError(
                f"scheme='none' with rate={self.rate} per={self.per!r}; give rate=0, per='none'"
            )
        _ = self.recurrent_dropout  # refuses a bad rate, sampling or scaling

    @property
    def recurrent_dropout(self) -> RecurrentDropout:
        return dropout(self.scheme, self.rate, self.per, self.scaling)

    @property
    def name(self) -> str:
        """Unique to everything that decides the result: it names the manifest."""
        content = json.dumps(asdict(self), sort_keys=True)
        parts = [self.task, self.scheme]
        parts += [str(self.rate), self.per] if self.rate else []
        parts += ["forward"] if self.forward else []
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        return "-".join([*parts, f"seed{self.seed}", digest])


def grid(
    task: str,
    settings: dict,
    schemes: Iterable[str],
    rates: Iterable[float],
    samplings: Iterable[str] = SAMPLINGS,
    forward: Iterable[bool] = (False,),
    seeds: Iterable[int] = (0,),
    scaling: str = "paper",
) -> list[Condition]:
    """The distinct conditions of a product; a rate of 0 is the one network without any scheme.

    >>> [c.name[:25] for c in grid("temporal_order", {}, ["gal", "moon"], [0, 0.5], ["step"])]
    ['temporal_order-none-seed0', 'temporal_order-gal-0.5-st', 'temporal_order-moon-0.5-s']
    """
    found = {}
    for seed, fw, scheme, rate, per in itertools.product(seeds, forward, schemes, rates, samplings):
        if scheme == "none" or not rate:
            scheme, rate, per = "none", 0.0, "none"
        condition = Condition(task, scheme, float(rate), per, fw, seed, scaling, settings)
        found.setdefault(condition.name, condition)
    return list(found.values())


def select(manifests: Iterable[dict], **wanted) -> list[dict]:
    """Those manifests whose condition, or its settings, have the wanted values.

    >>> found = {"condition": {"scheme": "gal", "seed": 0, "settings": {"length": 15}}}
    >>> len(select([found], scheme="gal", length=15)), len(select([found], scheme="moon"))
    (1, 0)
    """

    def value(manifest: dict, key: str):
        condition = manifest["condition"]
        return condition[key] if key in condition else condition["settings"][key]

    return [m for m in manifests if all(value(m, k) == v for k, v in wanted.items())]
