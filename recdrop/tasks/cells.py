"""The recurrent layers a task can be trained with; the paper's experiments have LSTMs alone."""

from recdrop.layers import GRU, LSTM, RNN

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def named(cell: str) -> dict:
    """What the settings of a task say of its cell: nothing where it is the paper's.

    Raises:
        ValueError: there is no such cell.
    """
    if cell not in CELLS:
        raise ValueError(f"cell={cell!r} is unknown; choose one of {list(CELLS)}")
    return {} if cell == "lstm" else {"cell": cell}
