"""How many networks are trained at once: as many as memory holds."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")

SHARE = 0.5
"""The share of free memory that a table may take."""
GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux tells of control groups, and of those that this process is in."""


def check(at_once: int | None) -> None:
    """Raise ValueError for a number of networks that is none."""
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once={at_once} trains nothing; give 1 or more, or None")


def split(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Parts of at most ``size``, as even as they can be, in order.

    >>> split("abcdefg", 3)
    ['abc', 'de', 'fg']
    """
    parts = -(-len(items) // size)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + -(-(len(items) - ends[-1]) // (parts - part)))
    return [items[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def fitting(task, network: nn.Module, device: str = "cpu") -> int:
    """How many such networks half of the device's free memory holds, at least one."""
    if device == "cpu":
        free = free_bytes()
    else:  # what torch holds for later is free, too
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + held
    return 10**6 if free is None else max(1, int(SHARE * free / bytes_of(task, network)))


def bytes_of(task, network: nn.Module) -> int:
    """An estimate of what one network takes while it is trained.

    Of each parameter there are its value, its gradient, a step and a copy that is written, under
    Adam two moments besides; of each position in an update some sixteen vectors of the hidden size.
    """
    copies = 6 if task.settings["optimiser"] == "adam" else 4
    parameters = sum(p.numel() for p in network.parameters())
    return 4 * (copies * parameters + 16 * task.settings["hidden"] * task.positions)


def free_bytes() -> int | None:
    """Memory that is free or can be freed at once, here and under the limit that a job or a
    container has; None where the system does not say."""
    known = [v for v in (_system(), _limited()) if v is not None]
    return min(known, default=None)


def _limited() -> int | None:
    """What a control group leaves, as SLURM and Kubernetes set them; None where there is none."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
        own = dict(line.split(":", 2)[1:] for line in lines)  # by controller; "" in version 2
    except (OSError, ValueError):
        return None
    left = []
    for base, at, most, used, cache in (
        (GROUPS, own.get(""), "memory.max", "memory.current", "inactive_file"),
        (GROUPS / "memory", own.get("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file"),
    ):  # fmt: skip
        if at is None:
            continue
        inner = base / at.lstrip("/")
        for group in (inner, *inner.parents):  # the tightest of those that it is in
            try:
                limit, usage = ((group / name).read_text().strip() for name in (most, used))
                stat = dict(map(str.split, (group / "memory.stat").read_text().splitlines()))
            except (OSError, ValueError):
                continue
            if limit.isdecimal():  # of what is used, files that were read can make room
                left.append(max(0, int(limit) - int(usage) + int(stat.get(cache, 0))))
    return min(left, default=None)


def _system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None
