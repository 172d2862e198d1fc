"""Reading text files."""

import os
from pathlib import Path


def read_text(path: str | os.PathLike) -> str:
    """A file's text. Raises ValueError, which names it, where it is not in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); convert it, for "
            "instance by iconv"
        ) from error
