"""What is measured: the paper's shapes, and a sweep around one of them."""

from typing import NamedTuple


class Shape(NamedTuple):
    """R networks, each an LSTM of H units on T steps of B rows with I inputs."""

    R: int
    T: int
    B: int
    I: int
    H: int
    activation: str = "tanh"

    @property
    def flops(self) -> int:
        """Of all products, forward and backward: each weight is used once forward, twice back."""
        return 3 * 2 * self.R * self.T * self.B * 4 * self.H * (self.I + self.H)

    @property
    def bytes(self) -> int:
        """The least traffic of forward and backward in float32, with no cache to help.

        x, h, c and four gates written or read forward and back, gradients of x and h; weights read
        twice, their gradient written.
        """
        steps = self.R * self.T * self.B * (3 * self.I + 2 * 6 * self.H + self.H)
        return 4 * (steps + 3 * self.R * 4 * self.H * (self.I + self.H))

    def bound(self, ceilings: dict[str, float], dtype: str = "fp32") -> float:
        """Seconds below which no forward and backward pass can be, by the machine's ceilings."""
        return max(self.flops / ceilings[dtype], self.bytes / ceilings["bandwidth"])

    def __str__(self) -> str:
        relu = " relu" if self.activation == "relu" else ""
        return f"{self.R} × {self.T}×{self.B}×{self.I}×{self.H}{relu}"


PAPER = {
    "order": Shape(1, 15, 32, 4, 256),
    "words": Shape(1, 35, 32, 256, 256),
    "characters": Shape(1, 100, 32, 256, 1024),
    "entities": Shape(1, 15, 32, 256, 1024, "relu"),
}
REPLICAS = 8
SHAPES = PAPER | {f"{name}-{REPLICAS}": shape._replace(R=REPLICAS) for name, shape in PAPER.items()}
"""The LSTMs of the four benchmarks, alone and as a table of eight."""

SWEEP = {"H": (32, 64, 128, 256, 512, 1024), "T": (5, 15, 35, 100), "B": (1, 8, 32, 128),
         "R": (1, 2, 4, 8, 16)}  # fmt: skip


def sweep(quick: bool = False, scale: int = 1) -> dict[str, Shape]:
    """Shapes that differ from that of words in one size; of H, the input's size goes along.

    ``quick`` leaves out every other one; ``scale`` divides H and I.

    >>> sweep()["T=100"]
    Shape(R=1, T=100, B=32, I=256, H=256, activation='tanh')
    """
    base, found = PAPER["words"], {}
    for axis, values in SWEEP.items():
        for value in values[1::2] if quick else values:
            size = {"H": value, "I": value} if axis == "H" else {axis: value}
            shape = base._replace(**size)
            found[f"{axis}={value}"] = shape._replace(I=shape.I // scale, H=shape.H // scale)
    return found


def named(names: str) -> dict[str, Shape]:
    """Shapes by name, comma separated, or as five numbers R×T×B×I×H.

    >>> named("words,2x3x4x5x6")
    {'words': Shape(R=1, T=35, B=32, I=256, H=256, activation='tanh'), \
'2x3x4x5x6': Shape(R=2, T=3, B=4, I=5, H=6, activation='tanh')}
    """
    found = {}
    for name in names.split(","):
        sizes = name.split("x")
        if name in SHAPES:
            found[name] = SHAPES[name]
        elif len(sizes) == 5 and all(size.isdigit() and int(size) for size in sizes):
            found[name] = Shape(*map(int, sizes))
        else:
            raise ValueError(
                f"shape {name!r} is unknown; choose from {', '.join(SHAPES)} or give RxTxBxIxH"
            )
    return found
