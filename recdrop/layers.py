"""LSTM, GRU and RNN: torch.nn's layers with recurrent dropout."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recdrop import layouts, masks
from recdrop.cells import ACTIVATIONS
from recdrop.dropout import LEVELS, SITES, RecurrentDropout, threshold
from recdrop.forward import forward_dropout
from recdrop.recurrence import scan
from recdrop.replicate import TransformType, transforms


class _Recurrent:
    """What LSTM, GRU and RNN share; it stands before the torch.nn class in their bases."""

    _sites = SITES

    def _set_up(self, drop: RecurrentDropout | None, activation: str, proj_size: int) -> None:
        if proj_size:
            raise ValueError(
                f"proj_size={proj_size} is not supported: the paper's cells have no projection; "
                "leave it out and put a torch.nn.Linear behind the layer"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is unknown; choose 'tanh' or 'relu'")
        self.activation, self.recurrent_dropout = activation, drop
        self.dropout = self.dropout  # torch.nn set it before there were weights to lie beside
        _allow_compilation()

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        _allow_compilation()  # the process may have made no layer itself

    @property
    def recurrent_dropout(self) -> RecurrentDropout:
        """What is dropped inside the recurrence; may be replaced at any time."""
        return self._recurrent_dropout

    @recurrent_dropout.setter
    def recurrent_dropout(self, drop: RecurrentDropout | None) -> None:
        drop = RecurrentDropout() if drop is None else drop
        if not isinstance(drop, RecurrentDropout):
            raise TypeError(
                f"recurrent_dropout={drop!r} is not a RecurrentDropout; "
                "give one such as recdrop.RecurrentDropout.semeniuta(0.25)"
            )
        for site, rate in zip(SITES, drop.rates, strict=True):
            if rate and site not in self._sites:
                raise ValueError(
                    f"{site}={rate} on an RNN: a vanilla RNN has no {site} to drop; "
                    "use RecurrentDropout(hidden=...)"
                )
        self._recurrent_dropout = drop
        self._keep("_thresholds", drop.thresholds)
        self._keep("_per_step", [int(each) for each in drop.per_step])
        self._keep("_inverted", int(drop.scaling == "inverted"))
        self._own_thresholds = self._thresholds

    @property
    def dropout(self) -> float:
        """torch.nn's, between layers; may be replaced at any time."""
        return self._dropout

    @dropout.setter
    def dropout(self, rate: float) -> None:
        self._keep("_between", threshold(rate, "dropout"))
        self._has_between = rate > 0  # as for RecurrentDropout.active
        self._dropout = vars(self)["dropout"] = rate  # there torch.nn's extra_repr looks for it

    def _keep(self, name: str, value) -> None:
        """As a buffer: torch.func.stack_module_state gives each replica dropout of its own.

        Of integers, as who averages a model's buffers cannot do so with truth values.
        """
        device = getattr(getattr(self, "weight_ih_l0", None), "device", None)
        with torch.inference_mode(False):  # which may end before training begins
            buffer = torch.tensor(value, device=device)
        self._buffers = self._buffers.copy()  # a shallow copy of the module shares them
        self.register_buffer(name, buffer, persistent=False)

    def _apply(self, fn, recurse=True):
        """The buffers are in no state_dict: make them anew, see Dropout."""
        super()._apply(fn, recurse)
        self._renew()
        return self

    def _load_from_state_dict(self, *args, **kwargs):
        """Weights may be assigned that lie on another device, in place of those on "meta"."""
        super()._load_from_state_dict(*args, **kwargs)
        self._renew()

    def _renew(self) -> None:
        self.recurrent_dropout, self.dropout = self.recurrent_dropout, self.dropout

    def _is_own(self) -> bool:
        """Whether the buffers are the module's. A table of networks and torch.func.functional_call
        lend it those of others, and drop what these say; an export's are but copies."""
        return torch.compiler.is_exporting() or self._thresholds is self._own_thresholds

    def _drops(self) -> bool:
        return self.recurrent_dropout.active or not self._is_own()

    def _drops_between(self) -> bool:
        return self._has_between or not self._is_own()

    def extra_repr(self) -> str:
        extra = super().extra_repr()
        drop = self.recurrent_dropout
        extra += f", recurrent_dropout={drop!r}" if drop.active else ""
        return extra + (f", activation={self.activation!r}" if self.activation == "relu" else "")

    def _is_plain(self, input: Tensor | PackedSequence) -> bool:
        """Whether this very pass is what torch.nn's own operator computes."""
        if self.weight_ih_l0.is_cuda and not self.training and torch.is_grad_enabled():
            # cuDNN would refuse the backward pass in evaluation.
            x = input.data if isinstance(input, PackedSequence) else input
            if x.requires_grad or any(p.requires_grad for p in self.parameters()):
                return False
        drop, lent = self.recurrent_dropout, not self._is_own()
        dropped = lent or drop.active and (self.training or drop.scaling == "paper")
        # torch's own between-layer dropout would not follow a table's seeds.
        seeded = self.training and self._has_between and masks.is_seeded()
        own_activation = self.activation == "relu" and self.mode in ("LSTM", "GRU")
        # torch.nn's own operator has no batching rule.
        if dropped or seeded or own_activation or TransformType.Vmap in transforms():
            return False
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        return low is None or self.mode != "LSTM" or torch_runs_lstm(low)

    def forward(self, input: Tensor | PackedSequence, hx=None):
        """As torch.nn's: output and final states, of the same shapes and types.

        Raises ValueError or RuntimeError for an input or state of the wrong rank, size or dtype,
        NotImplementedError under torch.func's grad, vjp or jvp where torch.nn's own operator does
        not run: where something is dropped, and under torch.vmap.
        """
        if self._is_plain(input):
            return super().forward(input, hx)
        output, states = self._run(input, hx)
        final = [torch.stack([v[-1] for v in kind]) for kind in zip(*states, strict=True)]
        if layouts.is_unbatched(input):
            final = [v.squeeze(1) for v in final]
        return output, tuple(final) if self.mode == "LSTM" else final[0]

    def trace(self, input: Tensor | PackedSequence, hx=None) -> tuple[Tensor, ...]:
        """The states after each step: h, and c for an LSTM.

        Each is (layers * directions, T, B, H), without B for an unbatched input. A backward
        direction's steps stand in the order it takes them, from the last to the first.
        """
        _, states = self._run(input, hx)
        traces = tuple(torch.stack(kind) for kind in zip(*states, strict=True))
        return tuple(v.squeeze(2) for v in traces) if layouts.is_unbatched(input) else traces

    def _run(self, input, hx):
        """Output as torch.nn's; for each layer and direction h, and c, over time (T, B, H)."""
        x, lengths = layouts.to_steps(input, self.batch_first)  # (T, B, I), (B,) or None
        hx = self._initial_states(input, x, hx)
        seed = torch.zeros((), dtype=torch.int64, device=x.device)
        if self.training and (self._drops() or self._drops_between()):
            seed = masks.next_seed(x.device)
        states = []
        for layer in range(self.num_layers):
            if layer and self.training and self._drops_between():
                x = forward_dropout(x, self._between, seed, "output", layer)
            outputs = []
            for direction in range(1 + self.bidirectional):
                first = [v[len(states)] for v in hx]
                steps = layouts.reverse(x, lengths) if direction else x
                traced = self._scan(steps, first, seed, lengths, layer, direction)
                states.append(traced)
                outputs.append(layouts.reverse(traced[0], lengths) if direction else traced[0])
            x = torch.cat(outputs, -1)  # (T, B, H or 2H)
        return layouts.from_steps(x, lengths, input, self.batch_first), states

    def _scan(self, x, first, seed, lengths, layer, direction) -> tuple[Tensor, ...]:
        """One layer in one direction as a table of one network: h, and c, (T, B, H)."""
        suffix = f"_l{layer}" + "_reverse" * direction
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        weights = [getattr(self, name + suffix) for name in names] + [None] * (4 - len(names))
        wide = torch.promote_types(weights[0].dtype, torch.float32)  # in either keep is exact
        keep = (LEVELS - self._thresholds).to(wide) / LEVELS
        # Eq. 14 scales in training, Eq. 3 in evaluation.
        inverted, paper = (1 / keep, 1.0) if self.training else (1.0, keep)
        scale = torch.where(self._inverted.bool(), inverted, paper)
        thresholds = self._thresholds * int(self.training)  # torch.jit.trace takes no truth value
        first = first if len(first) == 2 else [*first, None]
        tensors = (x, *first, *weights, thresholds, scale, self._per_step.bool(), seed, lengths)
        one_network = [None if v is None else v.unsqueeze(0) for v in tensors]
        cell = f"{self.mode.partition('_')[0].lower()}_{self.activation}"
        h, c = scan(cell, *one_network, layer, direction)
        return (h.squeeze(0), c.squeeze(0)) if self.mode == "LSTM" else (h.squeeze(0),)

    def _initial_states(self, input, x, hx) -> tuple[Tensor, ...]:
        """h0, and c0 for an LSTM, each (layers * directions, B, H); zeros where not given."""
        kinds = 2 if self.mode == "LSTM" else 1
        if hx is None:
            slots = self.num_layers * (1 + self.bidirectional)
            hx = (x.new_zeros(slots, x.shape[1], self.hidden_size),) * kinds
        else:
            hx = tuple(hx) if kinds == 2 and not isinstance(hx, Tensor) else (hx,)
            self._check_states(hx, kinds, 2 if layouts.is_unbatched(input) else 3)
            hx = tuple(v.unsqueeze(1) for v in hx) if layouts.is_unbatched(input) else hx
        rows_first = x.transpose(0, 1) if self.batch_first else x
        self.check_forward_args(rows_first, hx if kinds == 2 else hx[0], None)  # torch's messages
        return hx

    def _check_states(self, hx: tuple, kinds: int, rank: int) -> None:
        """What torch.nn leaves to its operator to find."""
        if strange := [type(v).__name__ for v in hx if not isinstance(v, Tensor)]:
            wanted = "a tuple (h_0, c_0) of tensors" if kinds == 2 else "one tensor h_0"
            raise TypeError(f"hx is or holds a {strange[0]}; give {wanted}")
        if len(hx) != kinds:
            raise ValueError(f"hx is not two tensors but {len(hx)}; give an LSTM (h_0, c_0)")
        weights = self.weight_ih_l0.dtype
        for v in hx:
            if v.dim() != rank:
                kind = "an unbatched" if rank == 2 else "a batched"
                raise ValueError(
                    f"hx has the shape {list(v.shape)}; {kind} input takes {rank} dimensions"
                )
            if v.dtype != weights and not torch._C._is_any_autocast_enabled():
                raise ValueError(
                    f"hx has dtype {v.dtype} and the weights have {weights}; convert it: "
                    f"hx.to({weights})"
                )


def _allow_compilation() -> None:
    """torch.compile refuses subclasses of torch.nn's recurrent layers unless it is told not to."""
    # The import is no extra cost: the first call of any custom operator makes it, too.
    import torch._dynamo.config

    torch._dynamo.config.allow_rnn = True


def torch_runs_lstm(low: torch.dtype) -> bool:
    """Whether torch.nn's LSTM runs on this processor under autocast to ``low``, or raises."""
    if low not in _RUNS:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", low):
            try:
                nn.LSTM(8, 8)(torch.zeros(2, 1, 8))
                _RUNS[low] = True
            except RuntimeError:  # oneDNN has none where there is no AVX-512
                _RUNS[low] = False
    return _RUNS[low]


_RUNS: dict[torch.dtype, bool] = {}
# What torch.compiler.assume_constant_result does, which would import the compiler: seconds.
torch_runs_lstm._dynamo_marked_constant = True


class _Gated(_Recurrent):
    """The arguments of LSTM and GRU."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: RecurrentDropout | None = None,
        activation: str = "tanh",
        proj_size: int = 0,
        device=None,
        dtype=None,
    ):
        torchs = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(*torchs, device=device, dtype=dtype)
        self._set_up(recurrent_dropout, activation, proj_size)


class LSTM(_Gated, nn.LSTM):
    r"""torch.nn.LSTM with recurrent dropout at any of three sites, Eqs. 4-9.

    .. math::

        a_t &= W x_t + U (m^h_t * h_{t-1}) + b \\
        i_t, f_t, o_t &= \sigma(a_t), \quad g_t = f(a_t) \\
        c_t &= m^c_t * (f_t * c_{t-1} + i_t * (m^u_t * g_t)) \\
        h_t &= o_t * f(c_t)

    Shapes, dtypes, initial states, ``state_dict`` and PackedSequence are torch.nn's. With no active
    recurrent dropout it runs torch.nn's own operator, except under torch.compile. bfloat16 and
    float16, and float32 under torch.autocast to bfloat16, have operands of low precision and states
    and sums in float32; under torch.autocast to float16 all is float32.

    Args:
        recurrent_dropout: sites, rates, sampling and scaling; none by default.
        activation: f above, ``"tanh"`` or ``"relu"``.
        input_size: and all others as for torch.nn.LSTM; ``dropout`` acts between layers,
            ``proj_size`` is not supported.

    Raises:
        TypeError: ``recurrent_dropout`` is not a RecurrentDropout.
        ValueError: ``activation`` is unknown, or ``proj_size`` is not 0.

    >>> lstm = LSTM(10, 20, recurrent_dropout=RecurrentDropout.semeniuta(0.25, per="step"))
    >>> out, (h, c) = lstm(torch.randn(35, 32, 10))  # (T, B, I)
    >>> out.shape, h.shape, c.shape
    (torch.Size([35, 32, 20]), torch.Size([1, 32, 20]), torch.Size([1, 32, 20]))
    >>> isinstance(lstm, torch.nn.LSTM)
    True
    """


class GRU(_Gated, nn.GRU):
    r"""torch.nn.GRU with recurrent dropout at any of three sites.

    .. math::

        r_t, z_t &= \sigma(W x_t + b + U (m^h_t * h_{t-1}) + b') \\
        n_t &= f(W_n x_t + b_n + r_t * (U_n (m^h_t * h_{t-1}) + b'_n)) \\
        h_t &= m^c_t * ((1 - z_t) * (m^u_t * n_t) + z_t * h_{t-1})

    torch.nn's z keeps the old state, where the paper's lets the new one in. Arguments and errors
    as for :class:`LSTM`.

    >>> GRU(10, 20, recurrent_dropout=RecurrentDropout.gal(0.5))(torch.randn(35, 32, 10))[1].shape
    torch.Size([1, 32, 20])
    """


class RNN(_Recurrent, nn.RNN):
    r"""torch.nn.RNN with dropout on the hidden state, Eq. 2.

    .. math:: h_t = f(W x_t + b + U (m^h_t * h_{t-1}) + b')

    A vanilla RNN has neither an update nor a cell of its own: only ``hidden`` may be dropped.

    Args:
        nonlinearity: f above, ``"tanh"`` or ``"relu"``; the other arguments as for :class:`LSTM`.

    Raises:
        ValueError: an ``update`` or ``cell`` rate, an unknown ``nonlinearity``, a ``proj_size``.

    >>> RNN(10, 20, recurrent_dropout=RecurrentDropout.gal(0.5))(torch.randn(35, 32, 10))[1].shape
    torch.Size([1, 32, 20])
    """

    _sites = ("hidden",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: RecurrentDropout | None = None,
        proj_size: int = 0,
        device=None,
        dtype=None,
    ):
        torchs = (input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout)
        super().__init__(*torchs, bidirectional, device=device, dtype=dtype)
        self._set_up(recurrent_dropout, nonlinearity, proj_size)
