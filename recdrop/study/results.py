"""Result files: one JSON manifest for each finished network, and the tables read from them."""

import json
import math
import os
import platform
import subprocess
from dataclasses import asdict
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import torch

from recdrop.study.conditions import Condition
from recdrop.study.files import ROOT, atomic, from_root

SCHEMA = 1
"""Of the manifests written; those of an older schema are read as well, down to the first."""
BEYOND = "beyond"
"""Folder of the networks that are in no table of the paper, under that of those that are."""

MANIFEST, WEIGHTS, ITEMS = ".json", ".npz", ".items.npz"
"""What a network's files are called behind its name."""


def set_aside(folder: Path, conditions: list[Condition]) -> None:
    """Move results that are about to be made anew to the folder ``replaced``, or ``replaced-2`` and
    so on where it has one of the same network: nothing is lost."""
    for condition in conditions:
        files = [folder / f"{condition.name}{suffix}" for suffix in (ITEMS, WEIGHTS, MANIFEST)]
        manifest = files[-1]
        if not manifest.exists():  # what is there without it, a run left that was interrupted
            for path in files:
                path.unlink(missing_ok=True)
            continue
        asides = (folder / ("replaced" + f"-{n}" * (n > 1)) for n in count(1))
        aside = next(a for a in asides if not (a / manifest.name).exists())
        aside.mkdir(exist_ok=True)
        for path in files:  # the manifest goes last: whoever dies before that has not begun
            if path.exists():
                os.replace(path, aside / path.name)


def write(folder: Path, condition: Condition, device: str = "cpu", **content) -> dict:
    """Write a network's manifest; it is there whole or not at all."""
    manifest = {
        "schema": SCHEMA,
        "name": condition.name,
        "condition": asdict(condition),
        "protocol": condition.settings["protocol"],
        **content,
        "made_with": provenance(device),
    }
    with atomic(folder / f"{condition.name}{MANIFEST}") as part:
        part.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return manifest


def read(folder: str | os.PathLike, condition: Condition) -> dict | None:
    """A condition's manifest, or None where there is none."""
    path = from_root(folder) / f"{condition.name}{MANIFEST}"
    return load(path) if path.exists() else None


def read_all(folder: str | os.PathLike, task: str | None = None) -> list[dict]:
    """Every manifest in a folder, in the order of names; other reports have no hyphen in theirs."""
    found = [load(path) for path in sorted(from_root(folder).glob("*-*.json"))]
    return [m for m in found if task in (None, m["condition"]["task"])]


def read_everything(folder: str | os.PathLike) -> list[dict]:
    """Every manifest in a folder and in its BEYOND; one that lies in both counts once."""
    folders = (from_root(folder) / BEYOND, folder)
    return list({m["name"]: m for f in folders for m in read_all(f)}.values())


def load(path: Path) -> dict:
    """A manifest from its file.

    Raises:
        ValueError: it is damaged, or of another version; the file is named.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] not in range(1, SCHEMA + 1):
            raise ValueError(f"schema {manifest['schema']}; this version reads 1 to {SCHEMA}")
        if Condition(**manifest["condition"]).name != path.stem:
            raise ValueError("its name is not that of its condition")
        _check(manifest)
        return manifest
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is not a result of this version ({error}); "
            "move it away and run its notebook again to make it anew"
        ) from error


_DAMAGE = ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError


def _check(manifest: dict) -> None:
    """Raise one of several errors unless it holds all that is read of it elsewhere."""
    if manifest["name"] != Condition(**manifest["condition"]).name:
        raise ValueError("the name in it is not that of its condition")
    if manifest["status"] not in ("finished", "diverged"):
        raise ValueError(f"status {manifest['status']!r} is neither finished nor diverged")
    _ = manifest["protocol"], manifest["made_with"]["device"]
    _ = [epoch["epoch"] for epoch in manifest["curve"]]
    last, best = manifest["final"]["last"], manifest["final"]["best"]
    for measured in (last, best if "valid" in (last or {}) else last):
        if manifest["status"] == "finished" or measured is not None:
            numbers = {k: float(v) for k, v in measured.items()}
            if not math.isfinite(numbers["test"]) and manifest["status"] == "finished":
                raise ValueError(f"its test is {numbers['test']}")


def save_weights(folder: Path, condition: Condition, weights: dict[str, torch.Tensor]) -> None:
    """Keep a small network beside its manifest, as NumPy arrays."""
    with atomic(folder / f"{condition.name}{WEIGHTS}") as part, open(part, "wb") as file:
        np.savez_compressed(file, **{k: v.numpy().astype(np.float32) for k, v in weights.items()})


def load_weights(folder: str | os.PathLike, condition: Condition) -> dict[str, torch.Tensor]:
    """The weights beside a manifest.

    Raises:
        FileNotFoundError: this network's weights were not kept.
        ValueError: the file is damaged; it is named.
    """
    path = from_root(folder) / f"{condition.name}{WEIGHTS}"
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}; train the condition again with fresh=True")
    try:
        return {k: torch.from_numpy(v) for k, v in arrays(path).items()}
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold weights ({error}); move it away and train the condition again "
            "with fresh=True"
        ) from error


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises ValueError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return {k: held[k] for k in held.files}
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's reader have many of their own
        raise ValueError(str(error)) from error


def device_name(device: str) -> str:
    """``"cpu"``, or what the GPU is called."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def provenance(device: str = "cpu") -> dict:
    """Package and torch versions, device, and the commit of a checkout."""
    import recdrop

    return {
        "recdrop": recdrop.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device_name(device),
        "machine": platform.machine(),
        "processor": processor(),
        "backend": recdrop.backend(device),
        "threads": torch.get_num_threads(),
        "commit": commit(),
    }


def processor() -> str:
    """Its name with family and model, as virtual machines often hide half the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in found.items()}
    if "model name" not in found:
        return platform.machine()
    return f"{found['model name']} (family {found.get('cpu family')}, model {found.get('model')})"


@cache
def commit() -> str | None:
    """The commit of a checkout when it was first asked for, with ``-dirty`` where the package's
    code differs from it; None where it is installed, maybe within somebody else's repository."""
    if not (ROOT / "pyproject.toml").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "recdrop"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
