"""R networks of one architecture, trained as one program.

Parameters are stacked, (R, ...); the networks' ordinary definition is mapped over them with
torch.vmap, where one recurrent layer becomes one call of the scan with R replicas. On a GPU a
whole update, whose hundreds of kernels take a host longer to launch than the GPU to run, is
recorded once as a CUDA graph and replayed from then on.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from recdrop import masks
from recdrop.kernels import graphs, triton
from recdrop.seeds import seed

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Replicas:
    """A table of networks with an optimiser in which no network touches another.

    Args:
        networks: R networks that differ in their numbers alone: weights, rates, samplings.
        names: R names; a network's masks depend on its name and the number of its update.
        seeds: R seeds, for tasks that draw data.
        optimiser: ``"sgd"`` or ``"adam"``.
        lr: learning rate, kept for each network apart in ``self.lr`` (R,).
        clip: largest L2 norm of a network's gradient; larger ones are scaled down to it.
        device: where they are trained. On a GPU no call waits for it to be done.
    """

    def __init__(
        self,
        networks: list[nn.Module],
        names: list[str],
        seeds: list[int],
        optimiser: str,
        lr: float,
        clip: float,
        device: str | torch.device = "cpu",
    ):
        if optimiser not in ("sgd", "adam"):
            raise ValueError(f"optimiser={optimiser!r} is unknown; choose 'sgd' or 'adam'")
        self.names, self.seeds, self.optimiser, self.clip = (
            list(names),
            list(seeds),
            optimiser,
            clip,
        )
        self.device = torch.device(device)
        self.network = copy.deepcopy(networks[0]).to(self.device)
        parameters, buffers = stack_module_state(networks)
        self.buffers = {k: v.to(self.device) for k, v in buffers.items()}
        self.trained = [k for k, v in networks[0].named_parameters() if v.requires_grad]
        self.parameters = {
            k: v.detach().clone().to(self.device).requires_grad_(k in self.trained)
            for k, v in parameters.items()
        }
        self.lr = torch.full((len(names),), float(lr), device=self.device)
        self.alive = torch.ones(len(names), dtype=torch.bool, device=self.device)
        self.records = self.device.type == "cuda" and _asks_nothing(self.network)
        self.updates = 0
        self.moments = {
            f"{order} {k}": torch.zeros_like(self.parameters[k], requires_grad=False)
            for k in self.trained
            for order in (1, 2)
            if optimiser == "adam"
        }
        self.forget()

    def __len__(self) -> int:
        return len(self.names)

    def __enter__(self) -> "Replicas":
        return self

    def __exit__(self, *_) -> None:
        self.forget()

    def train(self, mode: bool = True) -> "Replicas":
        self.network.train(mode)
        return self

    def __call__(self, *args, in_dims=0):
        """Each network on its own arguments (``in_dims`` 0) or on shared ones (None).

        Results have R in front. As in torch.vmap, ``in_dims`` is one for all arguments or a tuple.
        """
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
        streams = self._there(self._streams()) if self._changing is None else self._changing[0]

        def one(parameters, buffers, stream, *args):
            with masks.seeding(stream):
                return functional_call(self.network, (parameters, buffers), args)

        return torch.vmap(one, (0, 0, 0, *dims))(self.parameters, self.buffers, streams, *args)

    def _streams(self) -> Tensor:
        return torch.tensor([seed(name, self.updates) for name in self.names])

    def _unbias(self) -> list[float]:
        """What Adam's two moments are divided by in the next update."""
        return [1 - beta ** (self.updates + 1) for beta in BETAS]

    def _there(self, v: Tensor) -> Tensor:
        """On the device; from memory that it reads by itself, while its host goes on."""
        on_gpu = self.device.type == "cuda"
        return (v.pin_memory() if on_gpu else v).to(self.device, non_blocking=on_gpu)

    def update(self, losses: Tensor) -> None:
        """One step of every network on its own loss (R,).

        A network whose loss or gradient is no longer finite is frozen as it stands.
        """
        unbias = self._unbias()
        if self.device.type == "cuda":  # a recorded step has a tensor, and other last bits without
            unbias = self._there(torch.tensor(unbias))
        self._step(losses, unbias)
        self.updates += 1

    def learn(self, function: Callable, *args: Tensor) -> tuple[Tensor, ...]:
        """One step on the losses (R,) that ``function(*args)`` gives first; its other results.

        ``function`` calls this table and returns a flat tuple of tensors. What it computes may
        depend on its arguments alone: on a GPU it is recorded, and not called again.
        """
        if self.records:
            # In another precision it is another program.
            kinds = [(v.shape, v.dtype) for v in args]
            low = torch.is_autocast_enabled("cuda"), torch.get_float32_matmul_precision()
            key = (function.__code__, *kinds, *low)
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] > graphs.WARM_UP:
                if key not in self._recorded:
                    self._recorded[key] = self._record(function, args)
                return self._recorded[key](*args)
        with graphs.launched():
            losses, *results = function(*args)
            self.update(losses)
        return tuple(results)

    def _record(self, function: Callable, args: tuple[Tensor, ...]) -> Callable:
        """The step as a CUDA graph, with tensors of its own for what changes between updates."""
        own = [v.clone() for v in args]
        self._changing = self._there(self._streams()), self._there(torch.tensor(self._unbias()))
        (streams, unbias), results = self._changing, []

        def step() -> None:
            losses, *results[:] = function(*own)
            self._step(losses, unbias)

        try:
            with torch.cuda.device_of(streams):
                graph = graphs.capture(step, self._pool)
        finally:
            self._changing = None
        self._pool = graph.pool()

        def replay(*args: Tensor) -> tuple[Tensor, ...]:
            changed = *args, self._there(self._streams()), self._there(torch.tensor(self._unbias()))
            torch._foreach_copy_([*own, streams, unbias], list(changed))
            graph.replay()
            self.updates += 1
            return tuple(v.clone() for v in results)

        replay.function = function  # as long as the graph lives, so must the tensors that it reads
        return replay

    def forget(self) -> None:
        """Drop recorded steps, which are of these very parameters, and the memory they hold."""
        self._recorded, self._seen, self._changing, self._pool = {}, {}, None, None

    def _step(self, losses: Tensor, unbias: Tensor | list[float]) -> None:
        losses.sum().backward()
        with torch.no_grad():
            grads = {k: self.parameters[k].grad for k in self.trained}
            norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads.values()]
            norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (R,)
            self.alive &= losses.isfinite() & norm.isfinite()
            scale = (self.clip / norm).clamp(max=1)
            # On a GPU to ask would be to wait.
            everyone = self.device.type == "cpu" and bool(self.alive.all())
            for k in self.trained:
                parameter, grad = self.parameters[k], grads[k]
                over = (-1, *[1] * (parameter.dim() - 1))
                if not everyone:
                    # 0 times what is no number would be none either
                    grad.masked_fill_(~self.alive.view(over), 0)
                    scale = torch.where(self.alive, scale, 0)
                rate = torch.where(self.alive, self.lr, 0).view(over)
                if self.optimiser == "adam":
                    parameter.addcmul_(
                        self._adam(k, grad.mul_(scale.view(over)), unbias), rate, value=-1
                    )
                else:
                    parameter.addcmul_(grad, rate * scale.view(over), value=-1)
                parameter.grad = None

    def _adam(self, name: str, grad: Tensor, unbias: Tensor | list[float]) -> Tensor:
        """Kingma and Ba (2015), Algorithm 1, without the learning rate."""
        first, second = self.moments[f"1 {name}"], self.moments[f"2 {name}"]
        first.lerp_(grad, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
        size = (second / unbias[1]).sqrt_().add_(EPSILON)
        return torch.div(first, size.mul_(unbias[0]), out=size)

    def keep(self, which: list[int]) -> None:
        """Go on with these networks alone."""
        index = torch.tensor(which, dtype=torch.int64, device=self.device)
        self.names, self.seeds = [self.names[i] for i in which], [self.seeds[i] for i in which]
        self.parameters = {
            k: v.detach()[index].requires_grad_(k in self.trained)
            for k, v in self.parameters.items()
        }
        self.buffers = {k: v[index] for k, v in self.buffers.items()}
        self.moments = {k: v[index] for k, v in self.moments.items()}
        self.lr, self.alive = self.lr[index], self.alive[index]
        self.forget()

    def weights(self, i: int) -> dict[str, Tensor]:
        """The state_dict of network i, on the CPU."""
        return {k: v.detach()[i].to("cpu", copy=True) for k, v in self.parameters.items()}

    def state_dict(self) -> dict:
        """All that training changes."""
        return {
            "names": self.names,
            "parameters": {k: v.detach() for k, v in self.parameters.items()},
            "moments": self.moments,
            "lr": self.lr,
            "alive": self.alive,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take up where :meth:`state_dict` was called; networks that had left are left out.

        Raises:
            ValueError: the state holds a network that this table does not.
        """
        if unknown := set(state["names"]) - set(self.names):
            raise ValueError(f"the checkpoint holds networks this table does not: {unknown}")
        self.keep([self.names.index(name) for name in state["names"]])
        self.parameters = {
            k: v.to(self.device).requires_grad_(k in self.trained)
            for k, v in state["parameters"].items()
        }
        self.moments = {k: v.to(self.device) for k, v in state["moments"].items()}
        self.lr, self.alive = state["lr"].to(self.device), state["alive"].to(self.device)
        self.updates = state["updates"]
        self.forget()


def _asks_nothing(network: nn.Module) -> bool:
    """Whether an update waits for no number from its GPU, which a recording could not have.

    The LSTM's kernels ask for none; cells and types that they do not know, plain PyTorch computes,
    which does.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.RNNBase)]
    parameters = list(network.parameters())
    known = all(p.dtype in (torch.float32, torch.bfloat16) for p in parameters)
    return known and all(m.mode == "LSTM" for m in layers) and triton.wanted(parameters[0])
