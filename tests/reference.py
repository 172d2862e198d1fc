"""The recurrences and their masks written a second time, for the tests to compare with.

Nothing here comes from `recdrop`. The mask stream is plain Python integers, each gate has its own
matrices as in the paper, and time, replicas, layers and directions are Python loops. Slow, float64,
and differentiable by torch's autograd.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

SITES = ("update", "hidden", "cell")
SITE_CODES = {"update": 0, "hidden": 1, "cell": 2, "input": 3, "output": 4}
CELLS = ("lstm_tanh", "lstm_relu", "gru_tanh", "gru_relu", "rnn_tanh", "rnn_relu")
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
WORD = 2**32


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox 4x32 (Salmon et al., 2011) on Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, WORD)
        high1, low1 = divmod(0xCD9E8D57 * c2, WORD)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return c0, c1, c2, c3


def draw(seed: int, site: str, step: int, row: int, unit: int, layer: int, direction: int) -> int:
    """The 16 random bits that decide about one unit."""
    counter = (unit // 8, row, step, (layer << 8) | (direction << 4) | SITE_CODES[site])
    words = philox4x32(counter, (seed % WORD, (seed >> 32) % WORD))
    word, half = divmod(unit % 8, 2)
    return (words[word] >> (16 * half)) & 0xFFFF


@cache
def kept(
    seed: int, threshold: int, site: str, step: int, rows: int, units: int,
    layer: int = 0, direction: int = 0,
) -> Tensor:  # fmt: skip
    """Which units of one step survive: (rows, units) of ones and zeros."""
    return torch.tensor(
        [
            [
                draw(seed, site, step, row, unit, layer, direction) >= threshold
                for unit in range(units)
            ]
            for row in range(rows)
        ],
        dtype=torch.float64,
    )


def recur(
    cell: str, x: Tensor, h: Tensor, c: Tensor | None,
    w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    thresholds: Sequence[int], scale: Tensor, per_step: Sequence[bool], seed: int,
    lengths: Tensor | None = None, layer: int = 0, direction: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One network, x (T, B, I) in the order of the recurrence: all its h and c, (T, B, H)."""
    kind, activation = cell.split("_")
    f = {"tanh": torch.tanh, "relu": torch.relu}[activation]
    rows, units = h.shape
    gates = GATES[kind]
    W = [w_ih[k * units : (k + 1) * units].T for k in range(gates)]
    U = [w_hh[k * units : (k + 1) * units].T for k in range(gates)]
    zero = torch.zeros(gates * units, dtype=x.dtype)
    b_x = (zero if b_ih is None else b_ih).reshape(gates, units)
    b_h = (zero if b_hh is None else b_hh).reshape(gates, units)

    def d(site: int, t: int, value: Tensor) -> Tensor:
        step = t if per_step[site] else 0
        ones = kept(seed, thresholds[site], SITES[site], step, rows, units, layer, direction)
        return scale[site] * ones * value

    hs, cs = [], []
    for t in range(len(x)):
        seen = d(1, t, h)  # what gates and candidate read of h_{t-1} (Eq. 7)
        reads = [x[t] @ W[k] + b_x[k] for k in range(gates)]
        recalls = [seen @ U[k] + b_h[k] for k in range(gates)]
        new_c = c
        if kind == "lstm":
            i, forget, o = (torch.sigmoid(reads[k] + recalls[k]) for k in (0, 1, 3))
            g = f(reads[2] + recalls[2])
            new_c = d(2, t, forget * c + i * d(0, t, g))  # Eq. 8 outside, Eq. 9 inside
            new_h = o * f(new_c)
        elif kind == "gru":
            r, z = (torch.sigmoid(reads[k] + recalls[k]) for k in (0, 1))
            n = f(reads[2] + r * recalls[2])
            new_h = d(2, t, (1 - z) * d(0, t, n) + z * h)
        else:
            new_h = f(reads[0] + recalls[0])
        if lengths is not None:  # a row that has ended holds its state
            alive = (t < lengths)[:, None]
            new_h = torch.where(alive, new_h, h)
            new_c = None if c is None else torch.where(alive, new_c, c)
        h, c = new_h, new_c
        hs.append(h)
        cs.append(c)
    return torch.stack(hs), (torch.stack(cs) if kind == "lstm" else x.new_empty(0, rows, units))


def scan(
    cell: str, x: Tensor, h0: Tensor, c0: Tensor | None,
    w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    thresholds: Tensor, scale: Tensor, per_step: Tensor, seeds: Tensor,
    lengths: Tensor | None = None, layer: int = 0, direction: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The replicas one after the other; arguments as in `recdrop.recurrence.scan`."""

    def of(stacked: Tensor | None, r: int) -> Tensor | None:
        return None if stacked is None else stacked[r]

    runs = [
        recur(
            cell, x[r], h0[r], of(c0, r), w_ih[r], w_hh[r], of(b_ih, r), of(b_hh, r),
            thresholds[r].tolist(), scale[r], per_step[r].tolist(), int(seeds[r]),
            of(lengths, r), layer, direction,
        )
        for r in range(len(x))
    ]  # fmt: skip
    return torch.stack([h for h, _ in runs]), torch.stack([c for _, c in runs])


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row of x (T, B, ...) back to front within its length; padding stays where it is."""
    T, B = x.shape[:2]
    source = [
        [n - 1 - t if t < n else t for n in lengths.tolist()] for t in range(T)
    ]  # fmt: skip
    return x[torch.tensor(source), torch.arange(B)]


def stack(
    cell: str, module: torch.nn.RNNBase, x: Tensor, h0: Tensor, c0: Tensor | None,
    thresholds: Sequence[int], scale: Tensor, per_step: Sequence[bool], seed: int,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """All layers and directions of a torch.nn-like module: output (T, B, D*H), h_n and c_n."""
    lengths = torch.full((x.shape[1],), len(x)) if lengths is None else lengths
    last_h, last_c = [], []
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(1 + module.bidirectional):
            suffix = f"_l{layer}" + "_reverse" * direction
            weights = [
                getattr(module, name + suffix, None)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            k = len(last_h)
            h, c = recur(
                cell, reverse(x, lengths) if direction else x, h0[k], None if c0 is None else c0[k],
                *weights, thresholds, scale, per_step, seed, lengths, layer, direction,
            )  # fmt: skip
            last_h.append(h[-1])
            last_c.append(c[-1] if len(c) else None)
            outputs.append(reverse(h, lengths) if direction else h)
        x = torch.cat(outputs, dim=-1)
    return x, torch.stack(last_h), (None if c0 is None else torch.stack(last_c))


def open_gates(module: torch.nn.LSTM | torch.nn.GRU) -> None:
    """The paper's simplification for Eqs. 10-15: all gates at 1 and a candidate equal to the input.

    A sigmoid of 40 is 1 to the last bit of float64. The candidate is act(x), thus x itself where
    the activation is relu and x positive. A GRU's update gate is left at 1/2: at 1 nothing enters.
    """
    units = module.hidden_size
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        candidate = slice(2 * units, 3 * units)  # the third block in LSTM and GRU alike
        module.weight_ih_l0[candidate] = torch.eye(units, dtype=module.weight_ih_l0.dtype)
        if isinstance(module, torch.nn.LSTM):
            module.bias_ih_l0[: 2 * units] = module.bias_ih_l0[3 * units :] = 40
