"""Training a table: all its networks in one program, resumable, one manifest per network."""

import hashlib
import os
import time
from pathlib import Path

import torch

from recdrop.study import results
from recdrop.study.conditions import Condition
from recdrop.study.progress import Progress
from recdrop.study.replicas import Replicas


def train(
    task,
    conditions: list[Condition],
    results_dir: str | os.PathLike,
    fresh: bool = False,
    progress: bool = True,
) -> list[dict]:
    """Manifests of ``conditions``, in order; networks that have none are trained.

    An interrupted run goes on from its last finished epoch: all random numbers depend on the
    condition and the epoch alone. A network that diverges is reported and leaves the table.

    Args:
        task: such as :class:`recdrop.tasks.temporal_order.TemporalOrder`.
        conditions: networks of this task.
        results_dir: folder of manifests, from the project's root if relative.
        fresh: train all of them anew, whatever is there.
        progress: show a bar with loss, metric and time left.

    Raises:
        OSError: the folder cannot be written to and something must be trained.
    """
    done = {} if fresh else {c.name: results.read(results_dir, c) for c in conditions}
    todo = [c for c in conditions if done.get(c.name) is None]
    if todo:
        folder = results.writable(results_dir)
        checkpoint = _checkpoint(folder, conditions)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        for group in _groups(todo, checkpoint):
            done.update(_train_table(task, group, folder, checkpoint, progress))
        checkpoint.unlink(missing_ok=True)
    return [done[c.name] for c in conditions]


def _checkpoint(folder: Path, conditions: list[Condition]) -> Path:
    """One file for each set of conditions that is trained together."""
    names = "\n".join(sorted(c.name for c in conditions))
    (folder / "checkpoints").mkdir(exist_ok=True)
    return folder / "checkpoints" / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.pt"


def _groups(todo: list[Condition], checkpoint: Path) -> list[list[Condition]]:
    """Those of an interrupted table first, then the others, if any."""
    if not checkpoint.exists():
        return [todo]
    begun = set(torch.load(checkpoint, weights_only=True)["table"]["names"])
    groups = [c for c in todo if c.name in begun], [c for c in todo if c.name not in begun]
    return [group for group in groups if group]


def _train_table(
    task, conditions: list[Condition], folder: Path, checkpoint: Path, progress: bool
) -> dict[str, dict]:
    by_name = {c.name: c for c in conditions}
    networks = [task.network(c.recurrent_dropout, c.forward, c.seed) for c in conditions]
    s = task.settings
    table = Replicas(
        networks, list(by_name), [c.seed for c in conditions], s["optimiser"], s["lr"], s["clip"]
    )
    state = {"epoch": 0, "seconds": 0.0, "curves": {name: [] for name in by_name}}
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if set(saved["table"]["names"]) == set(by_name):
            table.load_state_dict(saved.pop("table"))
            state = saved
    curves, manifests = state["curves"], {}
    with Progress(task, len(table), state["epoch"], enabled=progress) as bar:
        while len(table):
            start = time.perf_counter()
            measured = task.train_epoch(table.train(), state["epoch"], bar.tick)
            measured |= task.evaluate(table.train(False))
            state["epoch"] += 1
            state["seconds"] += time.perf_counter() - start
            staying = []
            for i, name in enumerate(table.names):
                curve, condition = curves[name], by_name[name]
                lr, diverged = float(table.lr[i]), not table.alive[i]
                curve.append(
                    {"epoch": state["epoch"], "lr": round(lr, 6)}
                    | {k: None if diverged else round(float(v[i]), 6) for k, v in measured.items()}
                )
                if diverged:
                    bar.say(f"{name} diverged in epoch {state['epoch']} and was frozen")
                elif not task.is_finished(curve, condition.recurrent_dropout) and (
                    state["epoch"] < s["epochs"]
                ):
                    table.lr[i] = task.next_lr(curve, lr)
                    staying.append(i)
                    continue
                if getattr(task, "keeps_weights", False):
                    results.save_weights(folder, condition, table.weights(i))
                manifests[name] = results.write(
                    folder,
                    condition,
                    status="diverged" if diverged else "finished",
                    final=_final(task, curve),
                    curve=curve,
                    data=task.data,
                    seconds=round(state["seconds"], 1),
                    networks_in_table=len(conditions),
                )
            if len(staying) < len(table):
                table.keep(staying)
                bar.left(len(table))
            with results.atomic(checkpoint) as part:
                torch.save(state | {"table": table.state_dict()}, part)
    return manifests


def _final(task, curve: list[dict]) -> dict:
    """The last epoch's figures and those of the epoch that was best in validation."""
    measured = [e for e in curve if e.get("loss") is not None]
    if not measured:
        return {"last": None, "best": None}
    if not hasattr(task, "validated_by"):
        return {"last": measured[-1], "best": None}
    return {"last": measured[-1], "best": min(measured, key=lambda e: e[task.validated_by])}
