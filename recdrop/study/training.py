"""Training a table: all its networks in one program, resumable, one manifest per network."""

import errno
import hashlib
import math
import os
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import torch

from recdrop.study import chunks, files, items, results
from recdrop.study.conditions import Condition
from recdrop.study.precision import arithmetic
from recdrop.study.progress import AGAIN, Progress
from recdrop.study.replicas import Replicas

CHECKPOINTS = "checkpoints"
"""Folder of interrupted tables, beside the manifests: one file for each table, and the one before
it, from which it goes on where that is damaged. What is damaged is kept: it may be no checkpoint of
ours."""
LAST, PREVIOUS, DAMAGED = ".pt", ".previous", ".damaged"
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises of a damaged file; one bit can make it an encrypted one."""


class OutOfTime(Exception):
    """The time is up; what has been trained so far is in a checkpoint."""


def train(
    task,
    conditions: list[Condition],
    results_dir: str | os.PathLike,
    fresh: bool = False,
    progress: bool = True,
    at_once: int | None = None,
    checkpoint_every: float = 600.0,
    device: str = "cpu",
    until: float = math.inf,
) -> list[dict]:
    """Manifests of ``conditions``, in order; networks that have none are trained.

    An interrupted run goes on from its last checkpoint to the same bits: all random numbers depend
    on the condition and the number of the update alone. A network that diverges is reported and
    frozen.

    Args:
        task: such as :class:`recdrop.tasks.temporal_order.TemporalOrder`.
        conditions: networks of this task.
        results_dir: folder of manifests, from the project's root if relative.
        fresh: train all of them anew; results that are there are set aside, not deleted.
        progress: show a bar with loss, metric and time left.
        at_once: networks in one table; as many as half of the free memory holds where None.
        checkpoint_every: seconds; besides, there is a checkpoint after each epoch.
        device: ``"cpu"`` or ``"cuda"``. It is no part of a condition: a result that is there is
            read wherever it was made, and says so.
        until: time, by ``time.monotonic()``, at which to stop with a checkpoint; an evaluation is
            not broken off, but there is a checkpoint before it.

    Raises:
        OutOfTime: ``until`` has come and networks are left.
        OSError: the folder cannot be written to and something must be trained, or the disk is full.
        ValueError: a manifest is damaged, or a checkpoint and the one before it, or a checkpoint
            was trained on other data; it is named and left as it is. Or ``at_once`` is less than 1,
            or the precision is not the device's.
    """
    chunks.check(at_once)
    results.commit()  # that of the code that runs, whatever is committed meanwhile
    done = {c.name: None if fresh else results.read(results_dir, c) for c in conditions}
    todo = {c.name for c in conditions if done[c.name] is None}
    folder = files.from_root(results_dir)
    if todo:
        files.writable(folder)
        # All that can fail, fails before anything that is there is touched.
        networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
        at_once = at_once or chunks.fitting(task, networks[0], device)
        _ = task.data, networks.clear()
        with arithmetic(task.settings, device):  # or it is no precision of this device
            pass
        if fresh:
            _ = list(_interrupted(folder / CHECKPOINTS, {}))
            results.set_aside(folder, conditions)
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
    # Whoever was killed after its last result left nothing to train, but perhaps half a file.
    files.clear_parts(folder)
    by_name = {c.name: c for c in conditions}
    options = {"progress": progress, "checkpoint_every": checkpoint_every, "device": device}
    options["until"] = until
    for path, names in _interrupted(folder / CHECKPOINTS, by_name, fresh, strict=bool(todo)):
        if todo & names:
            made = _train_table(task, by_name, names, folder, path, **options)
            done |= made
            # Not all its names: networks that had left the table may have lost their manifest.
            todo -= made.keys()
        _remove(path)
    again = "Run it again without fresh=True" if fresh else AGAIN
    for names in chunks.split([name for name in by_name if name in todo], at_once or 1):
        digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
        path = folder / CHECKPOINTS / f"{digest}{LAST}"
        done |= _train_table(task, by_name, set(names), folder, path, **options, again=again)
        _remove(path)
    return [done[c.name] for c in conditions]


def begun(results_dir: str | os.PathLike, conditions: list[Condition]) -> Iterator[list[Condition]]:
    """The tables among these networks that were interrupted and can go on from a checkpoint.

    Raises:
        ValueError: a checkpoint is damaged, and the one before it.
    """
    by_name = {c.name: c for c in conditions}
    for _, names in _interrupted(files.from_root(results_dir) / CHECKPOINTS, by_name):
        yield [c for c in conditions if c.name in names]


def _interrupted(
    folder: Path, by_name: dict[str, Condition], fresh: bool = False, strict: bool = True
) -> Iterator[tuple[Path, set[str]]]:
    """Checkpoints of tables whose networks are all asked for, the newest first, as one network may
    be in several; others wait for who asks for them.

    Raises ValueError for one that cannot be read if ``strict``: whose it is, it does not tell."""
    found = {p.with_suffix(LAST) for p in folder.glob("*") if p.suffix in (LAST, PREVIOUS)}
    for path in sorted(found, key=_age):
        try:
            state = _load(path)
        except ValueError:
            if strict:
                raise
            continue
        if state is None:  # another process has finished the table since
            continue
        names = set(state["names"])
        if names <= set(by_name):
            if fresh:
                _remove(path)
            else:
                yield path, names


def _age(checkpoint: Path) -> tuple[float, str]:
    """For sorting: less the later it was written."""
    for path in (checkpoint, checkpoint.with_suffix(PREVIOUS)):
        with suppress(FileNotFoundError):  # another process may have finished the table
            return -path.stat().st_mtime, path.name
    return 0.0, checkpoint.name


def _remove(checkpoint: Path) -> None:
    """This checkpoint and the one before it: in this order, so that none stays that is older."""
    for path in (checkpoint.with_suffix(PREVIOUS), checkpoint):
        path.unlink(missing_ok=True)


class _Damaged(Exception):
    pass


def _unused(checkpoint: Path) -> Path:
    """A name for a damaged checkpoint to be kept under: it may be somebody's file of that name."""
    names = (checkpoint.with_suffix(f"{DAMAGED}-{n}" if n > 1 else DAMAGED) for n in count(1))
    return next(path for path in names if not path.exists())


def _load(path: Path) -> dict | None:
    """The checkpoint, or, with what DAMAGED says of it, the one before it where it is damaged; None
    where there is neither."""
    damage = None
    for candidate in (path, path.with_suffix(PREVIOUS)):
        try:
            state = _read(candidate)
        except FileNotFoundError:  # a process may die after moving the last away
            continue
        except _Damaged as error:
            damage = damage or f"checkpoint {candidate} is damaged ({error})"
            continue
        if damage is not None:
            # It is moved when a whole one takes its place: whoever dies before that loses nothing.
            state[DAMAGED] = damage
        return state
    if damage is not None:
        raise ValueError(
            f"{damage} and there is no other; move it away to train its networks from the start"
        )
    return None


def _read(path: Path) -> dict:
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as parts:  # as torch saves; each part has a checksum
                if broken := parts.testzip():
                    raise _Damaged(f"checksum of {broken}")
        except BROKEN as error:
            raise _Damaged(str(error)) from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # of a place in the file that cannot be
                raise
            raise _Damaged(str(error)) from error
        file.seek(0)
        try:
            state = torch.load(file, weights_only=True, map_location="cpu")
        except (OSError, MemoryError):
            raise
        except Exception as error:  # whole, but not of our making: torch refuses to unpickle it
            raise _Damaged(f"{type(error).__name__}: it holds more than numbers") from error
    if not isinstance(state, dict) or not {"names", "epoch", "table"} <= state.keys():
        raise _Damaged("it is not one of recdrop's")
    return state


def _train_table(
    task,
    by_name: dict[str, Condition],
    names: set[str],
    folder: Path,
    checkpoint: Path,
    progress: bool,
    checkpoint_every: float,
    device: str,
    until: float,
    again: str = AGAIN,
) -> dict[str, dict]:
    """Train the named networks, from the checkpoint if it exists; their manifests by name."""
    conditions = [c for name, c in by_name.items() if name in names]
    networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
    s = task.settings
    table = Replicas(
        networks,
        [c.name for c in conditions],
        [c.seed for c in conditions],
        s["optimiser"],
        s["lr"],
        s["clip"],
        device,
    )
    state = {"names": sorted(names), "epoch": 0, "begun": None, "seconds_on": {}, "frozen": []}
    state |= {"curves": {name: [] for name in names}, "items": {}, "data": task.data, "commits": []}
    where = results.device_name(device)
    damage = None
    if found := _load(checkpoint):
        if damage := found.pop(DAMAGED, None):
            print(f"{damage}; going on from the one before it.", file=sys.stderr)
        _check_data(checkpoint, found.get("data", task.data), task.data)
        state |= found
        table.load_state_dict(state.pop("table"))
        state["begun"] = _there(state["begun"], table.device)
    if results.commit() not in state["commits"]:
        state["commits"] = [*state["commits"], results.commit()]
    manifests, saved = {}, time.perf_counter()

    def save() -> None:
        nonlocal saved, damage
        with files.atomic(checkpoint) as part:
            with open(part, "wb") as file:  # so that a full disk is an OSError, and says so
                torch.save(state | {"table": table.state_dict()}, file)
            aside = checkpoint.with_suffix(PREVIOUS) if damage is None else _unused(checkpoint)
            with suppress(FileNotFoundError):
                os.replace(checkpoint, aside)
                if damage is not None:
                    bar.say(f"what was damaged is kept as {aside}")
            damage = None
        saved = time.perf_counter()

    def spend() -> None:
        spent = state["seconds_on"]
        spent[where] = spent.get(where, 0.0) + time.perf_counter() - saved

    def tick(begun: dict, **figures) -> None:
        bar.tick(**figures)
        late = time.monotonic() >= until
        before_evaluation = until < math.inf and begun["updates"] == task.updates_per_epoch
        if late or before_evaluation or time.perf_counter() - saved >= checkpoint_every:
            state["begun"] = begun
            spend()
            save()
        if late:
            raise OutOfTime

    updates = state["epoch"] * task.updates_per_epoch
    updates += state["begun"]["updates"] if state["begun"] else 0
    bar = Progress(task, len(table), updates, progress, again)
    with arithmetic(s, device), bar, table:
        while set(table.names) - set(state["frozen"]):
            measured = task.train_epoch(table.train(), state["epoch"], tick, state["begun"])
            # What is validated, is so after each epoch: its learning rate may depend on it.
            if task.validated_by or task.is_due(
                state["epoch"] + 1, {k: v[table.alive] for k, v in measured.items()}
            ):
                measured |= task.evaluate(table.train(False))
            tested = measured.pop("items", None)  # (R, items, sums)
            state["epoch"], state["begun"] = state["epoch"] + 1, None
            spend()
            staying = []
            for i, name in enumerate(table.names):
                if name in state["frozen"]:
                    staying.append(i)
                    continue
                found = {k: round(float(v[i]), 6) for k, v in measured.items()}
                lr, curve = float(table.lr[i]), state["curves"][name]
                diverged = not (table.alive[i] and all(map(math.isfinite, found.values())))
                # A result that another table has brought meanwhile stays, and this one ends.
                there = results.read(folder, by_name[name])
                curve.append(
                    {"epoch": state["epoch"], "lr": round(lr, 6)}
                    | (dict.fromkeys(found) if diverged else found)
                )
                if tested is not None and not diverged and curve[-1] is _shown(task, curve):
                    state["items"][name] = tested[i].float().cpu()
                if diverged:
                    # It stays in its place: the others' last bits may depend on their number.
                    bar.say(f"{name} diverged in epoch {state['epoch']} and was frozen")
                    table.alive[i] = False
                    state["frozen"].append(name)
                    staying.append(i)
                elif (
                    there is None
                    and state["epoch"] < s["epochs"]
                    and not task.is_finished(curve, by_name[name].recurrent_dropout)
                ):
                    table.lr[i] = task.next_lr(curve, lr)
                    staying.append(i)
                    continue
                if there is not None:
                    manifests[name] = there
                    state["items"].pop(name, None)
                    continue
                if task.keeps_weights:
                    results.save_weights(folder, by_name[name], table.weights(i))
                # A task may have none, and so may a checkpoint of a version that kept none.
                (folder / f"{name}{results.ITEMS}").unlink(missing_ok=True)
                if name in state["items"]:
                    items.save(folder, by_name[name], state["items"].pop(name).numpy())
                manifests[name] = results.write(
                    folder,
                    by_name[name],
                    status="diverged" if diverged else "finished",
                    final=_final(task, curve),
                    curve=curve,
                    data=task.data,
                    seconds=round(sum(state["seconds_on"].values()), 1),
                    seconds_on={k: round(v, 1) for k, v in state["seconds_on"].items()},
                    networks_in_table=len(state["names"]),
                    commits=state["commits"],
                    device=device,
                )
            if len(staying) < len(table):
                table.keep(staying)
            bar.left(len(table) - len(state["frozen"]))
            save()
    return manifests


def _check_data(checkpoint: Path, then: dict, now: dict) -> None:
    """Raise ValueError where a checkpoint would go on with data of another kind, such as word
    vectors that were trained anew on another machine."""
    if then != now:
        other = [k for k in now | then if then.get(k) != now.get(k)]
        told = "; ".join(f"{k} {then.get(k)} then, {now.get(k)} now" for k in other)
        raise ValueError(
            f"checkpoint {checkpoint} was trained on other data: {told}; bring the data along, or "
            "move the checkpoint away to train its networks from the start"
        )


def _there(begun, device: torch.device):
    """What goes on from the middle of an epoch, with its tensors on the device."""
    if isinstance(begun, dict):
        return {k: _there(v, device) for k, v in begun.items()}
    if isinstance(begun, tuple):
        return tuple(_there(v, device) for v in begun)
    return begun.to(device) if isinstance(begun, torch.Tensor) else begun


def _final(task, curve: list[dict]) -> dict:
    """The last epoch's figures and those of the epoch that was best in validation."""
    measured = [e for e in curve if e.get("test") is not None]  # not each epoch need be tested
    last = measured[-1] if measured else None
    return {"last": last, "best": _shown(task, measured) if task.validated_by and last else None}


def _shown(task, curve: list[dict]) -> dict:
    """The epoch whose test figure counts: the best in validation, or the last where none is."""
    if task.validated_by is None:
        return curve[-1]
    return task.best(curve, key=lambda e: e[task.validated_by])
