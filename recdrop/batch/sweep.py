"""A sweep: the points of a grid on Dask's workers, to their end or to an orderly stop."""

import json
import logging
import os
import queue
import signal
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import dask
from distributed import CancelledError, Client, Future, LocalCluster
from distributed.comm import CommClosedError

from recdrop.batch import claims, task
from recdrop.batch.folder import Folder, Outcome, with_error, write
from recdrop.batch.grid import Notebook, Point
from recdrop.batch.progress import Progress
from recdrop.study.files import atomic

POLL = 1.0
"""Seconds between looks at what other sweeps execute."""
PATIENCE = 300.0
"""Seconds for a scheduler that has gone to come back."""
LETTING_GO = 15.0
"""Seconds for kernels to end after a stop."""
STARTS = 3
"""Times that embedded workers are started, should one be killed over it."""
QUIET = {"logging.distributed": "critical", "distributed.worker.profile.enabled": False}
"""Of embedded workers: a profile of each would grow by 0.2 MB a point, and nobody reads it."""


class Summary(NamedTuple):
    """Points wanted, and what has become of them."""

    wanted: int
    finished: int
    failed: int

    @property
    def left(self) -> int:
        return self.wanted - self.finished - self.failed


class SchedulerError(OSError):
    """There is no scheduler, or it has no worker for these points."""


@dataclass
class Sweep:
    """Points to be executed in a folder.

    Attributes:
        jobs: points at a time; by default one, one for each GPU, or what a cluster has.
        scheduler: address of a Dask scheduler; None starts workers here.
        gpu: each point needs one.
        timeout: seconds for one notebook.
        fresh: execute finished points, too.
    """

    notebooks: list[Notebook]
    points: list[Point]
    folder: Folder
    jobs: int | None = None
    scheduler: str | None = None
    gpu: bool = False
    timeout: float | None = None
    fresh: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, as_json: bool = False) -> Summary:
        """Execute what has not finished.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, when all kernels have ended.
            OSError: the folder cannot be written to, or the scheduler does not answer.
            ValueError: a file is in the way that is not these points'.
        """
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is told here
        for point in self.points:
            self.folder.check(point, self._notebook(point).digest, self.fresh)
        self.folder.create().tidy()
        self.folder.ask(self.points)
        if self.fresh:
            live = claims.held(self.folder.control)
            for point in self.points:
                if point.name not in live:
                    self.folder.set_aside(point.name)
        before = {p.name: self.folder.outcome(p.name) for p in self.points}
        done = {k: o for k, o in before.items() if o is not None and o.status == "finished"}
        self._progress = Progress(len(self.points), len(done), as_json)
        self._compare(done)
        self._ended: dict[str, Outcome] = dict(done)
        self._began = time.time()
        try:
            self._until_done()
        finally:
            with suppress(OSError):  # what killed workers have left
                self.folder.tidy()
            summary = self._summary()
            self._progress.end(self._last_word(summary), **summary._asdict(), left=summary.left)
        return summary

    def _summary(self) -> Summary:
        statuses = [o.status for o in self._ended.values()]
        return Summary(len(self.points), statuses.count("finished"), statuses.count("failed"))

    def _last_word(self, s: Summary) -> str:
        text = f"{s.finished} of {s.wanted} points finished in {self.folder.path}"
        text += f", {s.failed} failed" if s.failed else ""
        again = " Run the same again" + (" without --fresh" if self.fresh else "")
        if s.left:
            return f"{text}, {s.left} left.{again} to go on."
        return f"{text}.{again} to try what failed." if s.failed else f"{text}."

    def _compare(self, done: dict[str, Outcome]) -> None:
        versions = {n.digest for n in self.notebooks}
        if older := sum(o.source not in versions for o in done.values()):
            self._progress.note(
                f"{older} finished points are of another version of the notebook; "
                "--fresh executes them anew"
            )

    # the loop

    def _until_done(self) -> None:
        todo = deque(p for p in self.points if p.name not in self._ended)
        lost = None
        while todo:
            try:
                with self._client() as client:
                    lost = None
                    self._on(client, todo)
            except (_SchedulerLost, CommClosedError):
                lost = lost or time.monotonic()
                self._progress.note(f"scheduler {self.scheduler} is lost; trying to find it again")
            except SchedulerError:
                if lost is None or time.monotonic() - lost > PATIENCE:
                    raise
                time.sleep(POLL)

    def _on(self, client: Client, todo: deque[Point]) -> None:
        """Execute points until none is left; those that have ended leave ``todo``."""
        waiting, elsewhere, ready = deque(todo), {}, queue.SimpleQueue()
        running: dict[Future, Point] = {}
        jobs = self._at_once()
        try:
            while waiting or running or elsewhere:
                while waiting and len(running) < jobs:
                    point = waiting.popleft()
                    future = self._submit(client, point)
                    running[future] = point
                    future.add_done_callback(ready.put)
                self._progress.running(len(running), len(elsewhere))
                with suppress(queue.Empty):
                    future = ready.get(timeout=POLL)
                    point = running.pop(future)
                    outcome = self._outcome(point, future)
                    if outcome.status == "elsewhere":
                        elsewhere[point.name] = point
                    else:
                        self._end(point, outcome, todo)
                for point in list(elsewhere.values()):
                    if claims.holder(self.folder.control, point.name) is None:
                        del elsewhere[point.name]
                        outcome = self.folder.outcome(point.name)
                        if outcome is not None and outcome.ended > self._began:
                            self._end(point, outcome, todo)
                        else:  # its process has died over it
                            waiting.append(point)
        except KeyboardInterrupt:
            self._stop(client, running, ready)
            raise

    def _end(self, point: Point, outcome: Outcome, todo: deque[Point]) -> None:
        self._ended[point.name] = outcome
        todo.remove(point)
        self._progress.ended(outcome)

    def _submit(self, client: Client, point: Point) -> Future:
        notebook, here = self._notebook(point), self.scheduler is None
        given = task.Task(
            point,
            str(self.folder.path),
            notebook.text,
            notebook.digest,
            self.token,
            self.timeout,
            environment=_threads(self._at_once()) if here else (),
            gpus=tuple(_gpus()) if self.gpu and here else None,
        )
        key = f"{point.name}-{uuid.uuid4().hex[:8]}"
        resources = {"GPU": 1} if self.gpu else None
        return client.submit(task.execute, given, key=key, pure=False, resources=resources)

    def _notebook(self, point: Point) -> Notebook:
        return next(n for n in self.notebooks if str(n.path) == point.notebook)

    def _outcome(self, point: Point, future: Future) -> Outcome:
        """What a worker has to say, and whether it is so."""
        try:
            error = future.exception()
            outcome = None if error else future.result()
        except CancelledError:  # what Dask makes of the futures of a scheduler that is gone
            raise _SchedulerLost from None
        if outcome is not None:
            if outcome.status in ("finished", "failed") and not self._is_there(point):
                message = "its worker wrote it to a folder that is not seen here; share --out"
                return Outcome(point.name, "failed", f"FileNotFoundError: {message}")
            return outcome
        message = str(error)
        if type(error).__name__ == "KilledWorker":
            message = "every worker that tried it was killed; if memory ran out, give fewer --jobs"
        return self._report(point, type(error).__name__, message)

    def _is_there(self, point: Point) -> bool:
        """Folders of a network show a new file with a delay."""
        for _ in range(10):
            if self.folder.outcome(point.name) is not None:
                return True
            time.sleep(POLL)
        return False

    def _report(self, point: Point, kind: str, message: str) -> Outcome:
        """Leave a notebook with an error that no worker could write; a full disk leaves none."""
        notebook, error = self._notebook(point), f"{kind}: {message}"
        now = time.time()
        outcome = Outcome(point.name, "failed", error, ended=now, source=notebook.digest)
        nb = with_error(json.loads(notebook.text), kind, message)
        with suppress(OSError, UnicodeError), atomic(self.folder.notebook(point.name)) as part:
            write(part, nb, outcome, point)
        return outcome

    def _stop(self, client: Client, running: dict, ready: queue.SimpleQueue) -> None:
        """End all kernels of this sweep, and wait for it."""
        deadline = time.monotonic() + LETTING_GO
        with suppress(Exception):  # a cluster that does not answer is left to its own
            client.run(task.stop, self.token, on_error="ignore")
            while running and (left := deadline - time.monotonic()) > 0:
                future = ready.get(timeout=left)
                point = running.pop(future)
                if (outcome := future.result()).status in ("finished", "failed"):
                    self._ended[point.name] = outcome
            client.cancel(list(running))

    # the cluster

    def _at_once(self) -> int:
        if self.scheduler:
            return self.jobs or len(self.points)
        wanted = self.jobs or (len(_gpus()) if self.gpu else 1)
        return min(wanted, len(self.points))  # a worker without work would take others' threads

    @contextmanager
    def _client(self) -> Iterator[Client]:
        if self.scheduler is None:
            if self.gpu and not _gpus():
                raise ValueError(
                    "device cuda, and this machine has no GPU; give device cpu, or --scheduler"
                )
            with _embedded(self._at_once(), self.gpu) as cluster, Client(cluster) as client:
                yield client
            return
        try:
            client = Client(self.scheduler, timeout="5s", set_as_default=False)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"scheduler={self.scheduler!r} is no address ({error}); give one such as "
                "tcp://host:8786"
            ) from error
        except OSError as error:  # it may be about to start
            raise SchedulerError(
                f"no Dask scheduler at {self.scheduler!r} ({error}); start one with "
                "`dask scheduler`, or leave --scheduler out"
            ) from error
        with client:
            self._look_for_gpus(client)
            yield client

    def _look_for_gpus(self, client: Client) -> None:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if self.gpu and workers and not any(w["resources"].get("GPU") for w in workers):
            raise SchedulerError(
                f"device='cuda', but no worker of {self.scheduler} offers a GPU; start each with "
                "`dask worker --nthreads 1 --resources GPU=1`"
            )


class _SchedulerLost(Exception):
    pass


@contextmanager
def _embedded(jobs: int, gpu: bool) -> Iterator[LocalCluster]:
    """Workers of this machine, one point each."""
    with _leaving_interrupts_to_us(), dask.config.set(QUIET):
        cluster = _started(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            resources={"GPU": 1} if gpu else None,
            memory_limit=0,  # a notebook's memory is its kernel's, of which Dask knows nothing
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with cluster:
        yield cluster


def _started(tries: int = STARTS, **options) -> LocalCluster:
    """A cluster; Dask looks after a worker that is killed, but not while it starts."""
    try:
        return LocalCluster(**options)
    except RuntimeError as error:
        if tries > 1:
            return _started(tries - 1, **options)
        raise SchedulerError(f"no workers could be started here ({error})") from error


@contextmanager
def _leaving_interrupts_to_us() -> Iterator[None]:
    """A terminal sends Ctrl-C to workers as well: what starts within ignores it."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone receives it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(jobs: int) -> tuple[tuple[str, str], ...]:
    """The cores divided among the kernels, unless the user has; Dask would give each kernel one."""
    each = os.environ.get("OMP_NUM_THREADS") or str(max(1, _cores() // jobs))
    return tuple((f"{kind}_NUM_THREADS", each) for kind in ("OMP", "MKL", "OPENBLAS"))


def _gpus() -> list[str]:
    """This machine's GPUs, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
