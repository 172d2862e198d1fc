"""The bench on a GPU: tables of LSTMs against one of cuDNN's without dropout, and whole updates.

The question is how much time R networks take together, in units of one nn.LSTM's: cuDNN has no
replica dimension, so R of its networks take R such units.
"""

import itertools
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

import recdrop
from recdrop import masks
from recdrop.bench import steps
from recdrop.bench.contenders import LACKING, naive
from recdrop.bench.measure import spread
from recdrop.bench.shapes import PAPER, Shape
from recdrop.kernels import triton
from recdrop.layers import torch_runs_lstm
from recdrop.study.precision import PRECISIONS, arithmetic
from recdrop.study.replicas import Replicas
from recdrop.study.results import provenance

SCHEMA = 1
OURS, CUDNN = "recdrop", "nn.LSTM, no dropout"
LAUNCHES, KERNEL = f"{OURS}, a launch a step", f"{OURS}, loop in the kernel"
UPDATES = {"words": (1, 26), "characters": (1, 6), "order": (36,), "entities": (26,)}
"""Networks in a training update of each benchmark: a table's, or as many as fit in minutes."""


class Options(NamedTuple):
    """What is measured, and for how long."""

    device: str = "cuda"
    shapes: tuple[str, ...] = ("words", "characters", "entities", "order")
    replicas: tuple[int, ...] = (1, 8, 26, 78)
    precisions: tuple[str, ...] = PRECISIONS
    seconds: float = 1.0
    """For each call."""
    scale: int = 1
    """Divides sizes; for trying out."""
    peers: bool = True


QUICK = Options(shapes=("words",), replicas=(1, 26), seconds=0.3, peers=False)
"""A minute or two."""
TRIAL = Options("cpu", ("order",), (1, 2), ("fp32", "bf16"), seconds=0.01, scale=16)
"""The machinery alone, on any machine: its figures mean nothing."""


def measure(options: Options = Options(), say: Callable = print) -> dict:
    """A run: the machine, its ceilings, a row for each measurement.

    Raises:
        ValueError: a shape is unknown, or there is no GPU.
    """
    for name in options.shapes:
        if name not in PAPER:
            raise ValueError(f"shape {name!r} is unknown; choose from {', '.join(PAPER)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda', but torch finds no GPU here; leave --device out")
    torch.manual_seed(0)
    rows, absent = [], {}
    found = ceilings(options)
    for name, R in itertools.product(options.shapes, options.replicas):
        shape = PAPER[name]
        shape = shape._replace(R=R, I=max(1, shape.I // options.scale), H=shape.H // options.scale)
        say(f"{name}, {R} at once ...")
        for (contender, precision), call in _contenders(shape, options, absent):
            timed = _row(call, precision, options)
            rows.append({"part": "shapes", "name": name, "shape": list(shape)} | timed
                        | {"contender": contender, "precision": precision})  # fmt: skip
    for name, count in ((n, c) for n in options.shapes for c in UPDATES[n]):
        for precision in options.precisions:
            say(f"updates of {name}, {count} at once, {precision} ...")
            timed = _row(_update(name, count, options), precision, options)
            rows.append({"part": "updates", "name": name, "networks": count} | timed
                        | {"contender": OURS, "precision": precision})  # fmt: skip
    return {"schema": SCHEMA, "machine": machine(options.device), "ceilings": found,
            "options": options._asdict(), "absent": absent, "rows": rows}  # fmt: skip


def machine(device: str) -> dict:
    """Card, versions, commit, and what recdrop runs there."""
    made = provenance(device)
    cuda = torch.version.cuda if device == "cuda" else None
    cudnn = torch.backends.cudnn.version() if device == "cuda" else None
    system = f"{platform.system()} {platform.machine()}"
    return made | {"system": system, "cuda": cuda, "cudnn": cudnn,
                   "backend": recdrop.backend(device)}  # fmt: skip


def ceilings(options: Options) -> dict[str, float]:
    """The best of this card: products of large square matrices in operations per second by
    precision, and a copy's bytes read and written per second."""
    size = 8192 // options.scale
    a = torch.randn(size, size, device=options.device)
    source, low = torch.randn(1 << 28 if options.scale == 1 else 1 << 10, device=options.device), (
        a.bfloat16()
    )  # fmt: skip
    target, found = torch.empty_like(source), {}
    for precision in options.precisions:
        operand = low if precision == "bf16" else a
        with _products(precision, options.device):
            times = _times(lambda operand=operand: operand @ operand, options)
        found[precision] = 2 * size**3 / min(times)
    found["bandwidth"] = 2 * source.nbytes / min(_times(lambda: target.copy_(source), options))
    return found


@contextmanager
def _products(precision: str, device: str) -> Iterator[None]:
    """A precision for everything inside, cuDNN's too, which has a switch of its own for TF32."""
    before = torch.backends.cudnn.allow_tf32
    settings = {"precision": precision} if device == "cuda" or precision == "bf16" else {}
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with arithmetic(settings, device):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _contenders(shape: Shape, options: Options, absent: dict) -> Iterator[tuple]:
    """(name, precision) and a forward and backward pass that takes all gradients."""
    device = options.device
    drop = recdrop.RecurrentDropout.semeniuta(0.5, per="step")
    layers = [
        recdrop.LSTM(shape.I, shape.H, recurrent_dropout=drop, activation=shape.activation)
        for _ in range(shape.R)
    ]
    stacked, buffers = stack_module_state([layer.to(device) for layer in layers])
    seeds = torch.arange(shape.R, device=device)

    def one(parameters, buffers, seed: Tensor, x: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(layers[0], (parameters, buffers), x)[0]

    def table(x: Tensor) -> Tensor:
        return torch.vmap(one)(stacked, buffers, seeds, x)

    passes = {OURS: _pass(shape, table, list(stacked.values()), device)}
    if triton.wanted(seeds):
        for name, busy in ((KERNEL, 0), (LAUNCHES, 1 << 30)):
            passes[name] = _with_busy(busy, passes[OURS])
    if shape.R == 1:
        plain = nn.LSTM(shape.I, shape.H).to(device)
        parameters = list(plain.parameters())
        passes[CUDNN] = _pass(shape, lambda x: plain(x[0])[0][None], parameters, device)
        if options.peers:
            loop, weights = naive(shape, device)
            passes["naive loop"] = _pass(shape, loop, weights, device)
            if device == "cuda" and shape.T <= 35:
                passes["naive loop, torch.compile"] = _pass(
                    shape, torch.compile(loop), weights, device
                )
    lacking = device == "cpu" and not torch_runs_lstm(torch.bfloat16)
    for precision in options.precisions:
        for name, call in passes.items():
            if (name, precision) == (CUDNN, "bf16") and lacking:
                absent |= LACKING
            else:
                yield (name, precision), call
    if shape.R == 1 and options.peers and "bf16" in options.precisions:
        try:
            yield ("flashrnn, no dropout", "bf16"), _flashrnn(shape, device)
        except Exception as error:  # it compiles CUDA code of its own, which may fail anyhow
            absent["flashrnn"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _pass(
    shape: Shape, call: Callable[[Tensor], Tensor], parameters: list[Tensor], device: str
) -> Callable[[], None]:
    x = torch.randn(shape.R, shape.T, shape.B, shape.I, device=device, requires_grad=True)
    upstream = torch.randn(shape.R, shape.T, shape.B, shape.H, device=device)

    def both() -> None:
        call(x).backward(upstream)
        for v in (x, *parameters):
            v.grad = None

    return both


def _with_busy(busy: int, call: Callable[[], None]) -> Callable[[], None]:
    def inside() -> None:
        before, triton.BUSY = triton.BUSY, busy
        try:
            call()
        finally:
            triton.BUSY = before

    return inside


def _flashrnn(shape: Shape, device: str) -> Callable[[], None]:
    """FlashRNN's fused kernel in bfloat16: the recurrence alone, so with the input's product."""
    from flashrnn import flashrnn

    if device != "cuda":
        raise RuntimeError("it needs a GPU")
    new = {"device": device, "dtype": torch.bfloat16, "requires_grad": True}
    w = torch.randn(4 * shape.H, shape.I, **new)
    u, b = torch.randn(4, 1, shape.H, shape.H, **new), torch.randn(4, 1, shape.H, **new)

    def call(x: Tensor) -> Tensor:
        a = F.linear(x[0].transpose(0, 1), w).view(shape.B, shape.T, 4, 1, shape.H)
        states, _ = flashrnn(a, u, b, function="lstm", backend="cuda_fused", dtype="bfloat16")
        return states[0][:, :, 0].transpose(0, 1)[None].float()

    both = _pass(shape, lambda x: call(x.bfloat16()), [w, u, b], device)
    both()  # what fails, fails here
    return both


def _update(name: str, networks: int, options: Options) -> Callable[[], None]:
    """A training update of a whole table, as the study makes it."""
    benchmark = steps.benchmarks(options.scale)[name]
    drop, s = recdrop.RecurrentDropout.semeniuta(0.5, per="step"), benchmark.settings
    made = [benchmark.network(drop) for _ in range(networks)]
    names = [str(r) for r in range(networks)]
    table = Replicas(made, names, [0] * networks, s["optimiser"], steps.SMALL * s["lr"], s["clip"],
                     options.device)  # fmt: skip
    batch = [
        tuple(w.repeat(networks, 1, 1, 1).to(options.device) for w in v)
        if isinstance(v, tuple)
        else v.to(options.device)
        for v in benchmark.batch
    ]
    dims = tuple(0 if isinstance(v, tuple) else None for v in batch)

    def loss() -> tuple[Tensor]:
        return (benchmark.loss(steps.first(table(*batch, in_dims=dims))),)

    return lambda: table.learn(loss)


def _row(call: Callable[[], object], precision: str, options: Options) -> dict:
    """Quartiles of a call's seconds, and the most memory that it holds."""
    with _products(precision, options.device):
        times = _times(call, options)
        peak = None
        if options.device == "cuda":
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            call()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
    return {"seconds": list(spread(times)), "rounds": len(times), "peak_bytes": peak}


def _times(call: Callable[[], object], options: Options) -> list[float]:
    """Seconds of single calls after warm-up, each until the device is done.

    A call that takes less than a millisecond is timed ten at a time, as in a training loop that
    does not wait either.
    """
    on_gpu = options.device == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(4 if on_gpu else 1):
        call()
    wait()
    times, begin, many = [], time.perf_counter(), 1
    while len(times) < 5 or time.perf_counter() - begin < options.seconds:
        start = time.perf_counter()
        for _ in range(many):
            call()
        wait()
        times.append((time.perf_counter() - start) / many)
        if len(times) == 1 and times[0] < 1e-3 and on_gpu:
            times, many = [], 10
    return times
