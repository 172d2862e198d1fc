"""LSTMs that do the same work: ours, torch.nn's without dropout, and peers with it.

A backward pass takes the gradients of the input and of the weights. nn.LSTM has no recurrent
dropout: it is the denominator, what the work costs without.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

import recdrop
from recdrop import masks
from recdrop.bench.machine import backend
from recdrop.bench.shapes import Shape
from recdrop.layers import torch_runs_lstm

RATE = 0.5
BASE = ("nn.LSTM, no dropout", "fp32")
OURS = "recdrop"
FALLBACK = "recdrop, plain PyTorch"
LACKING = {"nn.LSTM in bfloat16": "torch has none for this processor"}


class Passes(NamedTuple):
    """Forward in training mode, and forward and backward."""

    forward: Callable[[], object]
    both: Callable[[], object]


class NotInstalled(Exception):
    """A peer is not there to be measured."""


def contenders(
    shape: Shape,
    dtypes: tuple[str, ...] = ("fp32", "bf16"),
    peers: tuple[str, ...] = (),
    fallback: bool = True,
) -> tuple[dict[tuple[str, str], Passes], dict[str, str]]:
    """Passes by name and dtype, the denominator first; and why a peer is absent.

    ``peers`` are names of PEERS; they have float32 and no replicas. ``fallback`` measures our plain
    PyTorch as well where a compiled kernel runs.
    """
    found, absent = {BASE: _nn_lstm(shape, "fp32")}, {}
    if "bf16" in dtypes:
        if torch_runs_lstm(torch.bfloat16):
            found[BASE[0], "bf16"] = _nn_lstm(shape, "bf16")
        else:
            absent |= LACKING
    for dtype in dtypes:
        found[OURS, dtype] = _ours(shape, dtype)
        if fallback and not backend().startswith("reference"):
            found[FALLBACK, dtype] = _ours(shape, dtype, "reference")
    for name in peers if shape.R == 1 else ():
        try:
            found[name, "fp32"] = PEERS[name](shape)
        except NotInstalled as error:
            absent[name] = str(error)
    return found, absent


def _nn_lstm(shape: Shape, dtype: str) -> Passes:
    """R networks one after the other."""
    networks = [nn.LSTM(shape.I, shape.H) for _ in range(shape.R)]

    def call(x: Tensor) -> Tensor:
        with autocast(dtype):
            found = [network(v)[0] for network, v in zip(networks, x.unbind(), strict=True)]
        return torch.stack([v.float() for v in found]) if shape.R > 1 else found[0].unsqueeze(0)

    return _torch(shape, call, [p for network in networks for p in network.parameters()])


def _ours(shape: Shape, dtype: str, backend: str = "auto") -> Passes:
    """The paper's own scheme, masks drawn anew at each step; a table as the study runs it."""
    drop = recdrop.RecurrentDropout.semeniuta(RATE, per="step")
    networks = [
        recdrop.LSTM(shape.I, shape.H, recurrent_dropout=drop, activation=shape.activation)
        for _ in range(shape.R)
    ]
    stacked, buffers = stack_module_state(networks)
    seeds = torch.arange(shape.R)

    def one(parameters, buffers, seed: Tensor, x: Tensor) -> Tensor:
        with masks.seeding(seed):
            return functional_call(networks[0], (parameters, buffers), x)[0]

    def call(x: Tensor) -> Tensor:
        with autocast(dtype):
            if shape.R == 1:
                return networks[0](x[0])[0].unsqueeze(0)
            return torch.vmap(one)(stacked, buffers, seeds, x)

    parameters = list(networks[0].parameters()) if shape.R == 1 else list(stacked.values())
    passes = _torch(shape, call, parameters)
    return Passes(*(_with_backend(backend, run) for run in passes)) if backend != "auto" else passes


def naive_loop(shape: Shape) -> Passes:
    """What one writes first: a Python loop over steps with F.dropout on the update."""
    loop, parameters = naive(shape)
    return _torch(shape, loop, parameters)


def compiled_loop(shape: Shape) -> Passes:
    """The naive loop by torch.compile, which unrolls it: compiling may take minutes."""
    loop, parameters = naive(shape)
    return _torch(shape, torch.compile(loop), parameters)


def naive(shape: Shape, device: str = "cpu") -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """A Python loop over steps with F.dropout on the update, and its parameters."""
    cell = nn.LSTMCell(shape.I, shape.H).to(device)
    act = getattr(torch, shape.activation)

    def loop(x: Tensor) -> Tensor:
        h = c = x.new_zeros(shape.B, shape.H)
        found = []
        for step in x[0].unbind():
            a = F.linear(step, cell.weight_ih, cell.bias_ih)
            i, f, g, o = (a + F.linear(h, cell.weight_hh, cell.bias_hh)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * F.dropout(act(g), RATE)
            h = o.sigmoid() * act(c)
            found.append(h)
        return torch.stack(found).unsqueeze(0)

    return loop, list(cell.parameters())


def keras_lstm(shape: Shape) -> Passes:
    """Keras 3 on torch with its own recurrent_dropout (on the state, once for a sequence)."""
    _need("keras")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    if keras.backend.backend() != "torch":
        raise NotInstalled("Keras runs on another backend here; set KERAS_BACKEND=torch")
    layer = keras.layers.LSTM(
        shape.H, activation=shape.activation, recurrent_dropout=RATE, return_sequences=True
    )
    layer.build((shape.B, shape.T, shape.I))

    def call(x: Tensor) -> Tensor:
        return layer(x[0].transpose(0, 1), training=True).transpose(0, 1).unsqueeze(0)

    return _torch(shape, call, [weight.value for weight in layer.trainable_weights])


def jax_scan(shape: Shape) -> Passes:
    """jax.lax.scan with masks on the update, compiled by XLA."""
    _need("jax")
    import jax
    from jax import numpy as jnp

    act = {"tanh": jnp.tanh, "relu": jax.nn.relu}[shape.activation]
    size, keys = (shape.T, shape.B, shape.H), jax.random.split(jax.random.key(0), 5)
    x = jax.random.normal(keys[0], (shape.T, shape.B, shape.I))
    w = jax.random.normal(keys[1], (shape.I, 4 * shape.H)) / shape.H**0.5
    u = jax.random.normal(keys[2], (shape.H, 4 * shape.H)) / shape.H**0.5
    upstream = jax.random.normal(keys[3], size)

    def run(x, w, u, b, key):
        kept = jax.random.bernoulli(key, 1 - RATE, size) / (1 - RATE)

        def step(state, at):
            h, c = state
            a, mask = at
            i, f, g, o = jnp.split(a + h @ u, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * mask * act(g)
            h = jax.nn.sigmoid(o) * act(c)
            return (h, c), h

        zeros = jnp.zeros((shape.B, shape.H))
        return jax.lax.scan(step, (zeros, zeros), (x @ w + b, kept))[1]

    def loss(*args):
        return (run(*args) * upstream).sum()

    args = (x, w, u, jnp.zeros(4 * shape.H), keys[4])
    forward, both = jax.jit(run), jax.jit(jax.grad(loss, (0, 1, 2, 3)))
    return Passes(lambda: jax.block_until_ready(forward(*args)),
                  lambda: jax.block_until_ready(both(*args)))  # fmt: skip


PEERS = {
    "naive loop": naive_loop,
    "naive loop, torch.compile": compiled_loop,
    "Keras 3, torch": keras_lstm,
    "JAX scan": jax_scan,
}


def _torch(shape: Shape, call: Callable[[Tensor], Tensor], parameters: list[Tensor]) -> Passes:
    """x (R, T, B, I) -> h (R, T, B, H), and back with a gradient of ordinary size."""
    x = torch.randn(shape.R, shape.T, shape.B, shape.I, requires_grad=True)
    upstream = torch.randn(shape.R, shape.T, shape.B, shape.H)

    def both() -> None:
        call(x).backward(upstream)
        for v in (x, *parameters):
            v.grad = None

    return Passes(lambda: call(x), both)


def autocast(dtype: str):
    """The precision that a contender is asked for."""
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else nullcontext()


def _with_backend(name: str, run: Callable[[], object]) -> Callable[[], object]:
    def inside() -> object:
        with use(name):
            return run()

    return inside


@contextmanager
def use(name: str) -> Iterator[None]:
    """RECDROP_BACKEND, for a while."""
    before = os.environ.get("RECDROP_BACKEND")
    os.environ["RECDROP_BACKEND"] = name
    try:
        yield
    finally:
        del os.environ["RECDROP_BACKEND"]
        if before is not None:
            os.environ["RECDROP_BACKEND"] = before


def _need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NotInstalled("not installed")
