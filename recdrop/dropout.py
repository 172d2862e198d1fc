"""Where recurrent dropout stands in a cell, how strong it is, and how often its mask is redrawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, get_args

Sampling = Literal["step", "sequence"]
Scaling = Literal["inverted", "paper"]

SITES = ("update", "hidden", "cell")
SAMPLINGS, SCALINGS = get_args(Sampling), get_args(Scaling)
LEVELS = 1 << 16  # a decision compares 16 random bits with a threshold


def threshold(rate: float, name: str = "rate") -> int:
    """The 16-bit threshold below which a unit is dropped: ``round(65536 * rate)``.

    >>> threshold(0.25)
    16384

    Raises:
        TypeError: ``rate`` is not a real number.
        ValueError: it lies outside [0, 1), or cannot be told from 0 or 1 in steps of 1/65536.
    """
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise TypeError(f"{name}={rate!r} is not a number; give a dropout rate such as 0.25")
    if not 0 <= rate < 1:  # also false for NaN
        raise ValueError(f"{name}={rate!r} is outside [0, 1); give a dropout rate such as 0.25")
    level = round(LEVELS * float(rate))
    if level == LEVELS or (rate and not level):
        raise ValueError(
            f"{name}={rate!r} rounds to {level // LEVELS} in steps of 1/65536; "
            f"give 0, or a rate from {1 / LEVELS:.6f} to {1 - 1 / LEVELS:.6f}"
        )
    return level


@dataclass(frozen=True, init=False)
class RecurrentDropout:
    r"""Recurrent dropout at any of three sites of a gated cell, in any combination.

    For an LSTM, with masks :math:`m` whose units are independently 0 with probability ``rate``:

    .. math::

        a_t &= W x_t + U (m^h_t * h_{t-1}) + b \\
        c_t &= m^c_t * (f_t * c_{t-1} + i_t * (m^u_t * g_t)) \\
        h_t &= o_t * \tanh(c_t)

    ``update`` is the paper's own scheme (Eq. 9), ``hidden`` Gal's (Eq. 7), ``cell`` Moon's (Eq. 8).

    Args:
        update: rate in [0, 1) on the update (candidate) :math:`g_t`.
        hidden: on :math:`h_{t-1}`, wherever a gate or the candidate reads it.
        cell: on the new :math:`c_t`.
        per: ``"step"`` draws masks anew at each time step, ``"sequence"`` once per sequence;
            a dict such as ``{"update": "step", "hidden": "sequence"}`` chooses by site.
        scaling: ``"inverted"`` multiplies kept units by 1/(1-p) in training (Eq. 14);
            ``"paper"`` leaves them and multiplies by (1-p) in evaluation (Eq. 3).

    Rates are used in multiples of 1/65536, in the masks and in the scale factors alike.

    Raises:
        TypeError: a rate is not a number, or ``per`` neither a string nor a dict.
        ValueError: a rate lies outside [0, 1) or cannot be told from 0 or 1 there; unknown ``per``,
            site or ``scaling``.

    >>> RecurrentDropout(update=0.25)
    RecurrentDropout(update=0.25, per='step')
    >>> RecurrentDropout.semeniuta(0.25) | RecurrentDropout.gal(0.5)
    RecurrentDropout(update=0.25, hidden=0.5, per={'update': 'step', 'hidden': 'sequence'})
    """

    rates: tuple[float, float, float]
    samplings: tuple[Sampling, Sampling, Sampling]
    scaling: Scaling
    active: bool = field(compare=False)
    """Whether any site drops anything."""

    def __init__(
        self,
        update: float = 0.0,
        hidden: float = 0.0,
        cell: float = 0.0,
        per: Sampling | Mapping[str, Sampling] = "step",
        scaling: Scaling = "inverted",
    ):
        rates = (update, hidden, cell)
        _ = [threshold(rate, site) for site, rate in zip(SITES, rates, strict=True)]
        if scaling not in SCALINGS:
            raise ValueError(f"scaling={scaling!r} is unknown; choose one of {SCALINGS}")
        # A frozen dataclass assigns through object.__setattr__.
        object.__setattr__(self, "rates", tuple(float(rate) for rate in rates))
        object.__setattr__(self, "samplings", _samplings(per, rates))
        object.__setattr__(self, "scaling", scaling)
        # Kept, and not read off the rates: torch.compile compiles anew where what it read is other.
        object.__setattr__(self, "active", any(rates))

    @classmethod
    def semeniuta(cls, rate: float, per: Sampling = "step", scaling: Scaling = "inverted"):
        """The paper's own scheme, Eq. 9: dropout on the update g_t alone."""
        return cls(update=rate, per=per, scaling=scaling)

    @classmethod
    def gal(cls, rate: float, per: Sampling = "sequence", scaling: Scaling = "inverted"):
        """Gal (2015), Eq. 7: dropout on the hidden state, one mask shared by gates and update."""
        return cls(hidden=rate, per=per, scaling=scaling)

    @classmethod
    def moon(cls, rate: float, per: Sampling = "sequence", scaling: Scaling = "inverted"):
        """Moon et al. (2015), Eq. 8: dropout on the cell state, which it makes forget."""
        return cls(cell=rate, per=per, scaling=scaling)

    def __or__(self, other: "RecurrentDropout") -> "RecurrentDropout":
        """Combine two schemes; each site keeps its rate and its sampling.

        Raises:
            ValueError: both sides drop the same site, or their scalings differ.
        """
        if not isinstance(other, RecurrentDropout):
            return NotImplemented
        if self.scaling != other.scaling:
            raise ValueError(
                f"cannot combine scaling={self.scaling!r} with scaling={other.scaling!r}; "
                "give both sides the same scaling"
            )
        both = [s for s, a, b in zip(SITES, self.rates, other.rates, strict=True) if a and b]
        if both:
            raise ValueError(f"both sides drop the {both[0]}; give its rate on one side only")
        rates = (a or b for a, b in zip(self.rates, other.rates, strict=True))
        per = {s: other.samplings[k] if other.rates[k] else self.samplings[k]
               for k, s in enumerate(SITES)}  # fmt: skip
        return RecurrentDropout(*rates, per=per, scaling=self.scaling)

    def __repr__(self) -> str:
        parts = [f"{site}={rate}" for site, rate in zip(SITES, self.rates, strict=True) if rate]
        parts += [f"per={self.per!r}"]
        parts += [f"scaling={self.scaling!r}"] if self.scaling != "inverted" else []
        return f"RecurrentDropout({', '.join(parts)})"

    update = property(lambda self: self.rates[0], doc="The rate on the update, as given.")
    hidden = property(lambda self: self.rates[1], doc="The rate on the hidden state, as given.")
    cell = property(lambda self: self.rates[2], doc="The rate on the cell state, as given.")

    @property
    def per(self) -> Sampling | dict[str, Sampling]:
        """One sampling for all dropped sites, or a dict by dropped site where they differ."""
        dropped = {s: p for s, p, r in zip(SITES, self.samplings, self.rates, strict=True) if r}
        used = set(dropped.values()) or {"step"}
        return used.pop() if len(used) == 1 else dropped

    @property
    def thresholds(self) -> tuple[int, int, int]:
        """By site, ``round(65536 * rate)``."""
        return tuple(threshold(rate) for rate in self.rates)

    @property
    def per_step(self) -> tuple[bool, bool, bool]:
        """By site, whether masks are redrawn at each step."""
        return tuple(sampling == "step" for sampling in self.samplings)

    def scales(self, training: bool) -> tuple[float, float, float]:
        """By site, the factor of a kept unit: Eq. 14 ("inverted") or Eq. 3 ("paper").

        >>> RecurrentDropout.moon(0.5).scales(training=True)
        (1.0, 1.0, 2.0)
        >>> RecurrentDropout.moon(0.5, scaling="paper").scales(training=False)
        (1.0, 1.0, 0.5)
        """
        keep = tuple(1 - level / LEVELS for level in self.thresholds)
        if self.scaling == "inverted":
            return tuple(1 / q for q in keep) if training else (1.0, 1.0, 1.0)
        return (1.0, 1.0, 1.0) if training else keep


def _samplings(per: Sampling | Mapping[str, Sampling], rates: tuple) -> tuple[Sampling, ...]:
    """By site; "step" where nothing is dropped and the sampling means nothing, so that equal is
    equal."""
    if isinstance(per, str):
        per = dict.fromkeys(SITES, per)
    elif not isinstance(per, Mapping):
        raise TypeError(f"per={per!r} is neither a string nor a dict; choose one of {SAMPLINGS}")
    for site, sampling in per.items():
        if site not in SITES:
            raise ValueError(f"per names the unknown site {site!r}; the sites are {SITES}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"per={sampling!r} is unknown; choose one of {SAMPLINGS}")
    chosen = (per.get(site, "step") for site in SITES)
    return tuple(s if rate else "step" for s, rate in zip(chosen, rates, strict=True))
