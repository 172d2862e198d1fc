"""The mask stream: counter-based random bits, so that masks are recomputed and never stored.

A mask bit depends on (seed, layer, direction, site, step, row, unit) and on nothing else: not on
the device, the order of evaluation, the other replicas or the length of the sequence. The
generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):

    key      seed: low 32 bits, high 32 bits
    counter  unit // 8, row, step, layer << 8 | direction << 4 | site

Each call gives four 32-bit words, that is eight 16-bit slices, least significant half first; unit u
takes slice u % 8 and is kept where the slice >= round(65536 p).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.library import custom_op

from recdrop.replicate import vmap_rule

SITE_CODES = {"update": 0, "hidden": 1, "cell": 2, "input": 3, "output": 4}

_WORD = 0xFFFFFFFF


def philox4x32(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Philox 4x32-10 on tensors of int64 that hold 32-bit words, broadcast against each other.

    ``counter`` is four and ``key`` two such tensors; the result is four of the broadcast shape.
    Python's integers will do as well.

    >>> zero = torch.tensor(0)
    >>> [f"{int(word):08x}" for word in philox4x32((zero,) * 4, (zero,) * 2)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The 64-bit products wrap into the sign bit; shift and mask read the right words anyhow.
        # Only what is multiplied next must be free of higher bits.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((p1 >> 32) ^ (c1 ^ k0)) & _WORD, p1, ((p0 >> 32) ^ (c3 ^ k1)) & _WORD, p0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1 & _WORD, c2, c3 & _WORD


def _key(seed: Tensor | int) -> tuple:
    return seed & _WORD, (seed >> 32) & _WORD


def kept(
    seeds: Tensor,
    threshold: int | Tensor,
    site: str,
    steps: int,
    rows: int,
    units: int,
    layer: int = 0,
    direction: int = 0,
) -> Tensor:
    """Which units stay, for R independent seeds.

    Args:
        seeds: (R,) int64, one 64-bit seed per replica.
        threshold: ``round(65536 p)``, one for all or (R,) int64.
        site: a key of SITE_CODES.
        steps, rows, units: size of the masks; a per-sequence mask is that of step 0 alone.

    Returns (R, steps, rows, units) bool.

    >>> kept(torch.tensor([7]), 32768, "update", steps=1, rows=1, units=8).int().flatten().tolist()
    [0, 1, 1, 1, 1, 0, 1, 0]
    """
    site_word = layer << 8 | direction << 4 | SITE_CODES[site]

    def index(n: int) -> Tensor:
        return torch.arange(n, device=seeds.device)

    counter = (
        index(-(-units // 8)),  # (units / 8)
        index(rows)[:, None],  # (rows, 1)
        index(steps)[:, None, None],  # (steps, 1, 1)
        torch.full((), site_word, device=seeds.device),  # a GPU fills it without waiting
    )
    words = philox4x32(counter, _key(seeds.view(-1, 1, 1, 1)))
    words = torch.stack(words, -1).to(torch.int32)
    words ^= -0x7FFF8000  # int16 cannot hold 65535: all less by 32768
    halves = words.to(torch.int16), (words >> 16).to(torch.int16)
    draws = torch.stack(halves, -1).flatten(-3)  # (R, steps, rows, units)
    if isinstance(threshold, Tensor):
        threshold = threshold.view(-1, 1, 1, 1)
    return draws[..., :units] >= threshold - 32768


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""Types that a seed may have."""


def _backward_pass() -> int | None:
    """The number of the backward pass that calls, None outside of any."""
    number = -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()
    return None if number < 0 else number


class _Seeding:
    def __init__(self, seed: Tensor | int):
        if isinstance(seed, int) and not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed={seed} is not in 64 bits; give one from -2**63 to 2**63 - 1")
        self.seed = torch.as_tensor(seed)
        if self.seed.numel() != 1 or self.seed.dtype not in INTEGERS:
            raise ValueError(f"seed={seed!r} is no integer; give one, or a tensor of one")
        self.seed = self.seed.long()
        self.made_in = _backward_pass()
        self.calls = torch.zeros((), dtype=torch.int64, device=self.seed.device)

    def next(self) -> Tensor:
        """A fresh seed for each module called: Philox of (number of the call) under the seed.

        Raises RuntimeError in a backward pass that the seeding surrounds: what a checkpoint
        computes again there would take other masks than it had.
        """
        if _backward_pass() not in (self.made_in, None):
            raise RuntimeError(
                "a layer under recdrop.masks.seeding runs in a backward pass, as in activation "
                "checkpointing, where it would draw other masks than in the forward pass; put the "
                "checkpoint around the seeding, so that both are computed again"
            )
        seed = derived_seeds(self.seed.view(1), self.calls.view(1)).view(())
        self.calls = self.calls + 1  # a tensor, as a graph is fixed to numbers
        return seed


@custom_op("recdrop::derived_seeds", mutates_args=())
def derived_seeds(seeds: Tensor, calls: Tensor) -> Tensor:
    """(R,), (R,) -> (R,) int64: Philox of the calls' numbers, under the seeds.

    Its hundreds of small steps are slower in torch than in Python's own arithmetic, under
    torch.vmap most of all; a GPU has a kernel, in :mod:`recdrop.draws`.
    """
    if seeds.device.type != "cpu":
        return derive(seeds, calls)
    derived = [_derive(*pair, 0) for pair in zip(seeds.tolist(), calls.tolist(), strict=True)]
    return torch.tensor([(seed + 2**63) % 2**64 - 2**63 for seed in derived], dtype=torch.int64)


def derive(seeds: Tensor, calls: Tensor) -> Tensor:
    """Those of ``derived_seeds`` by operations of torch: (R,), (R,) -> (R,) int64."""
    return _derive(seeds, calls, torch.zeros_like(calls))


def _derive(seed, call, zero):
    low, high, _, _ = philox4x32((call, zero, zero, zero + _WORD), _key(seed))
    return high << 32 | low


@derived_seeds.register_fake
def _(seeds, calls):
    return torch.empty_like(seeds)


derived_seeds.register_vmap(vmap_rule(derived_seeds))


_surrounding: list[_Seeding] = []  # a plain list, which torch.compile can follow


@contextmanager
def seeding(seed: Tensor | int) -> Iterator[None]:
    """Inside, modules derive their seeds from ``seed`` and not from torch's default generator.

    This is how a table of networks gives each replica masks of its own: ``seed``, () int64, may
    be the batched tensor of a ``torch.vmap``. It holds for the whole process, so threads that
    compute at the same time must not use it. Activation checkpointing goes around it, not inside:
    a layer that is computed again counts as called again.

    Raises ValueError for a seed that is not one integer in 64 bits.
    """
    _surrounding.append(_Seeding(seed))
    try:
        yield
    finally:
        _surrounding.pop()


def is_seeded() -> bool:
    """Whether a :func:`seeding` surrounds the caller."""
    return bool(_surrounding)


def next_seed(device: torch.device | str = "cpu") -> Tensor:
    """One pass's seed, () int64: of the surrounding :func:`seeding`, else of torch's generator."""
    if _surrounding:
        return _surrounding[-1].next().to(device)
    if torch.compiler.is_compiling():
        # randint would draw from the graph's own generator.
        seed = _draw_in_graph(torch.empty((), dtype=torch.int64, device="cpu"))
    else:
        seed = _draw()
    return seed.to(device)


def _draw() -> Tensor:
    # On the CPU whatever torch's default device is: its generator is the one that seeds masks.
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device="cpu")


# The tag keeps two equal calls from becoming one, and a checkpoint that computes a forward pass
# anew for the backward pass from drawing anew, too.
@custom_op("recdrop::drawn_seed", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _draw_in_graph(like: Tensor) -> Tensor:
    return _draw()


@_draw_in_graph.register_fake
def _(like):
    return torch.empty_like(like)
