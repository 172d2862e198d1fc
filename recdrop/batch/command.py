"""``recdrop run`` and ``recdrop status``: arguments in, exit status out."""

import argparse
import json
import signal
import sys
from types import FrameType

from recdrop.batch import grid
from recdrop.batch import status as status_of
from recdrop.batch.folder import Folder
from recdrop.study import wall_time

DONE, FAILED, LEFT, INTERRUPTED, TERMINATED = 0, 1, 3, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a cluster sends it before it takes a machine away."""


def run(a: argparse.Namespace) -> int:
    """Execute a sweep.

    Raises:
        ValueError: an argument is wrong; nothing was started.
        OSError: the folder cannot be written to.
    """
    timeout = None if a.timeout is None else wall_time.seconds(a.timeout, "timeout")
    if a.jobs is not None and a.jobs < 1:
        raise ValueError(f"--jobs {a.jobs} executes nothing; give 1 or more")
    notebooks = grid.notebooks(a.notebook)
    elsewhere = a.scheduler is not None
    points = [p for nb in notebooks for p in grid.points(nb, a.parameters, a.grid, elsewhere)]
    if a.dry_run:
        for point in points:
            shown = {"point": point.name, "parameters": point.parameters}
            print(json.dumps(shown) if a.json else f"{point.name}  {json.dumps(point.parameters)}")
        return DONE
    from recdrop.batch.sweep import SchedulerError, Sweep  # Dask takes a second to load

    sweep = Sweep(
        notebooks, points, Folder(a.out), a.jobs, a.scheduler, _on_gpu(points), timeout, a.fresh
    )
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        summary = sweep.run(a.json)
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SchedulerError as error:
        print(f"recdrop: {error}", file=sys.stderr)
        return LEFT
    finally:
        signal.signal(signal.SIGTERM, before)
    return FAILED if summary.failed else LEFT if summary.left else DONE


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _on_gpu(points: list[grid.Point]) -> bool:
    return any(point.parameters.get("device") == "cuda" for point in points)


def status(a: argparse.Namespace) -> int:
    """Print what has become of a sweep.

    Raises:
        FileNotFoundError: there is none.
    """
    found = status_of.status(a.out)
    if a.json:
        content = found._asdict()
        content["running"] = [r._asdict() for r in found.running]
        content["failed"] = [{"name": o.name, "error": o.error} for o in found.failed]
        print(json.dumps(content, indent=1))
    else:
        print(status_of.text(found))
    if found.running or found.waiting:
        return LEFT
    return FAILED if found.failed else DONE
