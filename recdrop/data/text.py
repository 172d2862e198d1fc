"""Reading text files."""

import os
from pathlib import Path


def read_text(path: str | os.PathLike) -> str:
    """A file's text, without a byte order mark.

    Raises ValueError, which names the file, where it is not in UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8").removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); convert it, for "
            "instance by iconv"
        ) from error
