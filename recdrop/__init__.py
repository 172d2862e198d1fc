"""recdrop: recurrent dropout without memory loss, for torch.nn's recurrent layers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recdrop.dropout import RecurrentDropout
    from recdrop.forward import Dropout
    from recdrop.kernels.backend import backend
    from recdrop.layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Dropout", "RecurrentDropout", "backend"]
__version__ = "0.1.0"

_HOMES = {
    "recdrop.layers": ("GRU", "LSTM", "RNN"),
    "recdrop.dropout": ("RecurrentDropout",),
    "recdrop.forward": ("Dropout",),
    "recdrop.kernels.backend": ("backend",),
}


def __getattr__(name: str) -> Any:
    """A public name at its first use: the command line and the workers of a sweep do without torch,
    which takes them seconds and hundreds of MB."""
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
