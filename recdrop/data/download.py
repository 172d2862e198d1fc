"""Where a corpus lies: a folder of the user's, the per-user cache, or a verified download."""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

CACHE = "recdrop"
TIMEOUT = (10, 30)
"""Seconds to wait for a connection, and for each further piece of a file."""
PAUSES = (0.5, 1.0, 2.0)
"""Seconds to wait before each further attempt."""
PASSING = (408, 425, 429)
"""Refusals that are none for long: such as too many requests."""


class CorpusMissing(FileNotFoundError):
    """No copy of a corpus could be found or fetched."""


class CorpusDamaged(ValueError):
    """A file is there but is not the corpus."""


@dataclass(frozen=True)
class Source:
    """What a corpus consists of, and where it can be had.

    Attributes:
        name: of the corpus and of its folder.
        editions: sets of files, each of them the whole corpus: hash by file name, a SHA-256 or
            "md5:..."; empty where none is published. The first edition is the one downloaded.
        urls: address of each file of the first edition.
        licence: shown before a download.
    """

    name: str
    editions: tuple[dict[str, str], ...]
    urls: dict[str, str]
    licence: str


@dataclass(frozen=True)
class Place:
    """A folder that holds an edition of a corpus, or some of its files, or should hold them.

    Attributes:
        origin: "data_dir", "RECDROP_DATA" or "cache".
        folder: where the files lie, or belong.
        files: hash by file name.
    """

    origin: str
    folder: Path
    files: dict[str, str]

    @property
    def paths(self) -> dict[str, Path]:
        return {name: self.folder / name for name in self.files}

    def is_begun(self, name: str) -> bool:
        """Whether it holds some of the corpus ``name``. Files without a hash have names such as
        test.txt: elsewhere than in a folder of that name, one alone is another project's."""
        common = not any(self.files.values()) and self.folder.name != name
        return len(self.files) - len(self.absent) > common

    @property
    def absent(self) -> list[str]:
        """Names of the files that are not there."""
        return [name for name, path in self.paths.items() if not path.exists()]


def locate(
    source: Source, data_dir: str | os.PathLike | None = None, download: bool = True
) -> dict[str, Path]:
    """Paths of a corpus' verified files.

    They are looked for as :func:`find` says, and downloaded into the cache if they are nowhere.

    Args:
        source: the corpus.
        data_dir: a folder of the user's.
        download: whether the network may be asked.

    Raises:
        CorpusMissing: the given folder does not exist or holds the corpus in part; or a file is
            nowhere and cannot be fetched.
        CorpusDamaged: a file has another hash; it is left as it is.
    """
    place = find(source, data_dir)
    if absent := place.absent:
        names = ", ".join(absent)
        if place.origin != "cache":
            raise CorpusMissing(
                f"{source.name}: no {names} in {place.folder} ({place.origin}); put the files "
                "there, or take the others away to use the cache or a download"
            )
        if not download:
            raise CorpusMissing(f"{source.name}: no {names} in {place.folder}")
        print(f"{source.name}: downloading {names} to {place.folder}. {source.licence}")
        for name in absent:
            fetch(source.urls[name], place.files[name], place.folder / name)
    return verified(place)


def find(source: Source, data_dir: str | os.PathLike | None = None) -> Place:
    """The first folder that holds an edition of the corpus, else one that holds part of it.

    Looked into are ``data_dir`` where given, else the folder that the environment variable
    RECDROP_DATA names, then the per-user cache; each of them with or without a folder
    ``source.name`` in it. Where there is nothing, the place is the one to download to.

    Raises:
        CorpusMissing: ``data_dir`` or RECDROP_DATA names a folder that does not exist, or there is
            no per-user cache to download to.
    """
    bases = {}
    if given := data_dir or os.environ.get("RECDROP_DATA"):
        origin, base = "data_dir" if data_dir else "RECDROP_DATA", Path(given).expanduser()
        if not base.is_dir():
            raise CorpusMissing(
                f"{source.name}: {origin}={given!s} is not a folder; put the files there "
                f"({' or '.join(', '.join(files) for files in source.editions)}), "
                "or leave data_dir and RECDROP_DATA unset to download them"
            )
        bases[origin] = base
    try:
        bases["cache"] = cache()
    except CorpusMissing:
        if not bases:
            raise
    places = [
        Place(origin, folder, files)
        for origin, base in bases.items()
        for folder in (base / source.name, base)
        for files in source.editions
    ]
    for origin in bases:
        held = [p for p in places if p.origin == origin and p.is_begun(source.name)]
        if held:
            return min(held, key=lambda p: len(p.absent) > 0)  # a whole edition, else a part
    return Place("cache", cache() / source.name, source.editions[0])


def verified(place: Place) -> dict[str, Path]:
    """The place's paths. Raises CorpusDamaged where a file has another hash."""
    for name, path in place.paths.items():
        verify(path, place.files[name])
    return place.paths


def verify(path: Path, expected: str) -> None:
    """Raise CorpusDamaged unless the file's hash is the expected one; none is expected of ""."""
    algorithm, _, digest = expected.rpartition(":")
    if not digest:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm or "sha256").hexdigest()
    if found != digest:
        raise CorpusDamaged(
            f"{path} has {algorithm or 'SHA-256'} {found}, expected {digest}: it is damaged or "
            "another version; move it away and put the original there"
        )


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache() -> Path:
    """The per-user folder of what was downloaded or made here: XDG_CACHE_HOME, or ~/.cache.

    Raises:
        CorpusMissing: neither is there.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / CACHE
    except RuntimeError as error:  # a container's user may have no home
        raise CorpusMissing(
            "there is no home directory for downloads; name a folder in XDG_CACHE_HOME"
        ) from error


def fetch(url: str, expected: str, path: Path) -> None:
    """Download ``url`` as ``path``, which never names anything but the whole verified file.

    Raises:
        CorpusMissing: the network, the server or the disk failed, or what came was another file.
    """
    try:
        import pooch
        import requests
    except ImportError:
        raise CorpusMissing(
            f"{path.name} must be downloaded, which takes pooch: pip install 'recdrop[study]', "
            f"or save {url} as {path}"
        ) from None
    known = expected if ":" in expected else f"sha256:{expected}"
    try:
        # pooch downloads to a temporary file, verifies it and only then gives it its name.
        pooch.retrieve(url, known, fname=path.name, path=path.parent, downloader=_resuming)
    except (requests.RequestException, ValueError) as error:
        raise CorpusMissing(
            f"{path.name} could not be downloaded from {url} ({error}); "
            f"try again, or save it as {path}"
        ) from error
    except OSError as error:
        raise CorpusMissing(
            f"{path} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can, "
            f"or save {url} in a folder of yours and name it by data_dir or RECDROP_DATA"
        ) from error


def _resuming(url: str, path: str, _pooch: object) -> None:
    """A downloader of pooch's that goes on where a broken connection has left off."""
    import requests
    from tqdm import tqdm

    with open(path, "wb") as file, tqdm(unit="B", unit_scale=True, desc=url.split("/")[-1]) as bar:
        for pause in (*PAUSES, None):
            try:
                return _rest(url, file, bar)
            except requests.RequestException as error:
                status = 500 if error.response is None else error.response.status_code
                refused = status < 500 and status not in PASSING
                if refused or pause is None:
                    raise
                time.sleep(pause)


def _rest(url: str, file, bar) -> None:
    """Append to ``file`` what it lacks; from its beginning where the server cannot do that."""
    import requests

    have = file.tell()
    # Not compressed on the way: bytes are counted, and a part of a stream cannot be unpacked.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == requests.codes.range_not_satisfiable:
            return  # nothing is lacking; the hash will tell
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = file.seek(0)
            file.truncate()
        bar.reset(have + int(response.headers.get("Content-Length", 0)) or None)
        bar.update(have)
        for piece in response.iter_content(1 << 16):
            bar.update(file.write(piece))
