"""Where a corpus lies: a folder of the user's, the per-user cache, or a verified download."""

import hashlib
import os
from pathlib import Path

CACHE = "recdrop"


class CorpusMissing(FileNotFoundError):
    """No copy of a corpus could be found or fetched."""


class CorpusDamaged(ValueError):
    """A file is there but is not the corpus: its SHA-256 differs."""


def locate(
    corpus: str,
    files: dict[str, str],
    urls: dict[str, str],
    licence: str,
    data_dir: str | os.PathLike | None = None,
    download: bool = True,
) -> dict[str, Path]:
    """Paths of a corpus' verified files.

    They are looked for in ``data_dir`` where given, else in the folder that the environment
    variable RECDROP_DATA names, each with or without a folder ``corpus`` in it; else in the
    per-user cache, into which they are downloaded.

    Args:
        corpus: name of the corpus and of its folder.
        files: SHA-256 by file name.
        urls: address by file name.
        licence: shown before a download.
        data_dir: a folder of the user's.
        download: whether the network may be asked.

    Raises:
        CorpusMissing: a file is nowhere and cannot be fetched.
        CorpusDamaged: a file has another SHA-256; it is left as it is.
    """
    given = data_dir or os.environ.get("RECDROP_DATA")
    folder = _folder(corpus, files, Path(given).expanduser() if given else _cache())
    absent = [name for name in files if not (folder / name).exists()]
    if absent and given:
        raise CorpusMissing(
            f"{corpus}: no {', '.join(absent)} in {folder} "
            f"({'data_dir' if data_dir else 'RECDROP_DATA'}={given!s}); put the files there, "
            "or leave data_dir and RECDROP_DATA unset to download them"
        )
    if absent:
        if not download:
            raise CorpusMissing(f"{corpus}: no {', '.join(absent)} in {folder}")
        print(f"{corpus}: downloading {', '.join(absent)} to {folder}. {licence}")
        for name in absent:
            _fetch(urls[name], files[name], folder, name)
    for name, expected in files.items():
        verify(folder / name, expected)
    return {name: folder / name for name in files}


def verify(path: Path, expected: str) -> None:
    """Raise CorpusDamaged unless the file's SHA-256 is the expected one."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise CorpusDamaged(
            f"{path} has SHA-256 {found}, expected {expected}: it is damaged or another version; "
            "move it away and put the original there"
        )


def _folder(corpus: str, files: dict[str, str], base: Path) -> Path:
    """``base/corpus``, or ``base`` itself where files lie in it directly."""
    direct = not (base / corpus).exists() and any((base / name).exists() for name in files)
    return base if direct else base / corpus


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / CACHE


def _fetch(url: str, sha256: str, folder: Path, name: str) -> None:
    try:
        import pooch
    except ImportError:
        raise CorpusMissing(
            f"{name} must be downloaded, which takes pooch: pip install 'recdrop[study]', "
            f"or save {url} as {folder / name}"
        ) from None
    try:
        # pooch downloads to a temporary file, verifies it and only then gives it its name.
        pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder)
    except Exception as error:  # pooch raises whatever its transport does
        raise CorpusMissing(
            f"{name} could not be downloaded from {url} ({error}); "
            f"try again, or save it as {folder / name}"
        ) from error
