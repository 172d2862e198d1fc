"""What has become of a sweep, read from its folder alone."""

import time
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from recdrop.batch import claims
from recdrop.batch.folder import Folder, Outcome


class Running(NamedTuple):
    """A point that is being executed, where, and for how many seconds."""

    name: str
    host: str
    seconds: float


class Status(NamedTuple):
    """``seconds_left`` is None where nothing has finished or nothing runs."""

    finished: int
    running: list[Running]
    failed: list[Outcome]
    waiting: list[str]
    seconds_left: float | None


def status(path: str | Path) -> Status:
    """Of all points that were asked for in a folder.

    Raises:
        FileNotFoundError: no sweep was ever started there.
    """
    folder = Folder(path)
    if not folder.control.is_dir():
        raise FileNotFoundError(f"{folder.path} holds no sweep; `recdrop run --out` makes one")
    finished, running, failed, waiting = [], [], [], []
    for name in folder.asked():
        outcome = folder.outcome(name)
        if outcome is not None and outcome.status == "finished":
            finished.append(outcome)
        elif holder := claims.holder(folder.control, name):
            running.append(Running(name, holder["host"], time.time() - holder["since"]))
        elif outcome is not None:
            failed.append(outcome)
        else:
            waiting.append(name)
    return Status(len(finished), running, failed, waiting, _left(finished, running, len(waiting)))


def _left(finished: list[Outcome], running: list[Running], waiting: int) -> float | None:
    """As if every point took as long as the mean of those that have finished."""
    if not finished or not running:
        return None
    each = sum(o.seconds for o in finished) / len(finished)
    begun = sum(max(0.0, each - r.seconds) for r in running)
    return (begun + waiting * each) / len(running)


def text(s: Status) -> str:
    """For people."""
    counts = [f"{s.finished} finished", f"{len(s.running)} running", f"{len(s.failed)} failed"]
    lines = [", ".join([*counts, f"{len(s.waiting)} waiting"])]
    for r in s.running:
        lines.append(f"running: {r.name} on {r.host}, for {tqdm.format_interval(r.seconds)}")
    lines += [f"failed: {o.name}: {o.error}" for o in s.failed]
    if s.seconds_left is not None:
        lines.append(f"about {tqdm.format_interval(s.seconds_left)} left")
    return "\n".join(lines)
