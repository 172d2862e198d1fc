"""What a sweep gives its workers. They alone load papermill, when they are given the first."""

import sys
from dataclasses import dataclass

from recdrop.batch.folder import Outcome
from recdrop.batch.grid import Point


@dataclass(frozen=True)
class Task:
    """All that a worker must know.

    Attributes:
        out: the sweep's folder, an absolute path.
        text: the notebook.
        digest: its own, to tell it from later versions.
        sweep: a token of the sweep that asks.
        timeout: seconds for the whole notebook, or None.
        environment: variables for the kernel, besides the worker's own.
        gpus: one for each worker, by its name; None leaves the choice to the worker's environment.
    """

    point: Point
    out: str
    text: str
    digest: str
    sweep: str
    timeout: float | None = None
    environment: tuple[tuple[str, str], ...] = ()
    gpus: tuple[str, ...] | None = None


def execute(task: Task) -> Outcome:
    """See :func:`recdrop.batch.job.run`."""
    # Else jsonschema, which papermill loads, builds a grammar of addresses that no notebook is held
    # against: 3 s in each worker. It does without where there is none.
    sys.modules.setdefault("rfc3987_syntax", None)
    from recdrop.batch import job

    return job.run(task)


def stop(sweep: str) -> None:
    """See :func:`recdrop.batch.job.stop`."""
    from recdrop.batch import job

    job.stop(sweep)
