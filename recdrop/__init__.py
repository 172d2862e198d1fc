"""recdrop: recurrent dropout without memory loss, for torch.nn's recurrent layers."""

from recdrop.dropout import RecurrentDropout
from recdrop.forward import Dropout
from recdrop.kernels.backend import backend
from recdrop.layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Dropout", "RecurrentDropout", "backend"]
__version__ = "0.1.0"
