"""The Temporal Order task (Hochreiter and Schmidhuber, 1997), as in Sec. 4.1 of the paper."""

import torch
from torch import Tensor

SYMBOLS = "ABCD"
CLASSES = ("AA", "AB", "BA", "BB")


def sequences(
    count: int, length: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw sequences whose class is the order of their two meaningful symbols.

    Every symbol is drawn from {C, D} but two from {A, B}: one at a random place in the first third,
    one at a random place in the second.

    Args:
        count: how many sequences.
        length: symbols per sequence, a positive multiple of 3 (the paper's: 15 and 30).
        generator: random state; torch's default where None.

    Returns:
        x (length, count) int64 with A, B, C, D as 0 to 3; y (count,) int64, indices of CLASSES.

    Raises:
        ValueError: ``length`` is not a positive multiple of 3, or ``count`` is negative.

    >>> x, y = sequences(1, 15, torch.Generator().manual_seed(3))
    >>> "".join(SYMBOLS[s] for s in x[:, 0]), CLASSES[y[0]]
    ('CCDDBBCDDDCDDDC', 'BB')
    """
    if length < 3 or length % 3:
        raise ValueError(f"length={length} is not a positive multiple of 3; the paper's are 15, 30")
    if count < 0:
        raise ValueError(f"count={count} is negative; give the number of sequences to draw")

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    third = length // 3
    x = draw(2, 4, length, count)
    symbols = draw(0, 2, 2, count)
    places = torch.stack([draw(0, third, count), draw(third, 2 * third, count)])
    x.scatter_(0, places, symbols)
    return x, 2 * symbols[0] + symbols[1]
