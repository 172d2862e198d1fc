"""The long test, `make soak`: many kills, many points, and the table of the page "Reproduce it".

    python tests/reliability/soak.py [--kills 100] [--points 500] [--out runs/soak]

It goes on where it was interrupted: each sample is a line of OUT/kills.jsonl. Other processes on
the machine make it slower, and change nothing else.
"""

import argparse
import json
import random
import re
import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import disturb
import psutil
from disturb import LIGHT, ROOT, RUN, TRAININGS

from recdrop.study.files import atomic
from recdrop.study.results import provenance

REPORT, PAGE = ROOT / "book/results/soak.json", ROOT / "book/reproduce.md"
BEGIN, END = "<!-- made by: make soak -->\n", "<!-- end -->"
KINDS = {
    "temporal_order": "a training of Temporal Order",
    "word_lm": "a training of the word language model",
    "driver": "a sweep, its driver",
    "worker": "a sweep, a worker",
    "kernel": "a sweep, a kernel",
}


def kills(number: int, out: Path) -> list[dict]:
    """Of trainings, and every fourth of a sweep; samples done before are read."""
    log = out / "kills.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    expected: dict[str, tuple[dict, float]] = {}
    for n in range(len(done), number):
        kind = "sweep" if n % 4 == 3 else TRAININGS[n % 2]
        if kind not in expected:
            expected[kind] = disturb.undisturbed(kind)
        rng = random.Random(n)
        if kind == "sweep":
            sample = disturb.kill_sweep(*expected[kind], rng)
        else:
            sample = disturb.kill_training(kind, *expected[kind], rng)
        done.append(sample._asdict())
        with open(log, "a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{n + 1} of {number} kills: {done[-1]}", flush=True)
    return done[:number]


def points(number: int, out: Path) -> dict:
    """So many light points through two workers, and the memory of their processes meanwhile.

    An interrupted sweep is begun anew, as its memory is what is looked at.
    """
    report = out / "points.json"
    if report.exists() and (found := json.loads(report.read_text()))["tried"] == number:
        return found
    folder, token = out / "points", uuid.uuid4().hex
    shutil.rmtree(folder, ignore_errors=True)
    grid = ["--grid", "n=" + ",".join(map(str, range(number))), "--jobs", "2", "--json"]
    process = disturb.start([*RUN, str(LIGHT), *grid, "--out", str(folder)], token, out / "t")
    memory: dict[str, list[list[float]]] = {"driver": [], "worker": []}
    began = time.time()
    for line in process.stdout:  # one after each point
        event = json.loads(line)["event"]
        if event not in ("finished", "failed"):
            continue
        for part, megabytes in _memory(token).items():
            memory[part].append(megabytes)
        if len(memory["driver"]) % 50 == 0:
            print(f"{len(memory['driver'])} of {number} points", flush=True)
    code, said = disturb.finish(process)
    right = sum(_printed(folder, n) for n in range(number))
    wrong = disturb.litter(folder, number) + disturb.orphans(token)
    found = {
        "tried": number, "survived": right, "wrong": wrong, "status": code,
        "seconds": round(time.time() - began),
        "memory": {part: _growth(values) for part, values in memory.items()},
    }  # fmt: skip
    assert code == 0, said
    report.write_text(json.dumps(found))
    return found


def _memory(token: str) -> dict[str, float]:
    """MB of resident memory of the driver, and of the larger worker."""
    found: dict[str, list[float]] = {"driver": [0.0], "worker": [0.0]}
    for process in disturb.descendants(token):
        part = disturb.part_of(process)
        if part in found:
            try:
                found[part].append(process.memory_info().rss / 2**20)
            except psutil.Error:
                pass
    return {part: max(values) for part, values in found.items()}


def _growth(values: list[float]) -> dict[str, int]:
    """MB after the first tenth, when all is loaded, at the end, and at most."""
    tenth = max(1, len(values) // 10)
    early, late = values[tenth : 2 * tenth] or values, values[-tenth:]
    return {"early": round(statistics.median(early)), "late": round(statistics.median(late)),
            "most": round(max(values))}  # fmt: skip


def _printed(folder: Path, n: int) -> bool:
    """Whether the notebook of a point is there, once, with its square."""
    (path,) = folder.glob(f"light-n={n}-*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(o.get("text", [])) for c in cells for o in c.get("outputs", [])]
    return texts == [f"{n * n}\n"]


def table(report: dict) -> str:
    """Markdown: tried, survived, lost; and memory."""
    lines = ["| killed at a random moment | tried | survived | lost |", "|---|---|---|---|"]
    for kind, label in KINDS.items():
        row = report["kills"][kind]
        lines.append(f"| {label} | {row['tried']} | {row['survived']} | {row['lost']} |")
    p, m = report["points"], report["points"]["memory"]
    lost = p["tried"] - p["survived"]
    lines.append(
        f"| nothing: light points on two workers | {p['tried']} | {p['survived']} | {lost} |"
    )
    lines += ["", f"| memory in {p['tried']} points, MB | after a tenth | at the end | at most |",
              "|---|---|---|---|"]  # fmt: skip
    for part, label in (("driver", "driver"), ("worker", "the larger worker")):
        lines.append(f"| {label} | {m[part]['early']} | {m[part]['late']} | {m[part]['most']} |")
    made = report["made_with"]
    versions = f"Dask {made['dask']}, papermill {made['papermill']}, torch {made['torch']}"
    lines += ["", f"Made on {made['cores']} cores, shared with other work, with {versions}."]
    return "\n".join(lines)


def show(report: dict, page: Path = PAGE) -> None:
    """Put the table into the page, in place of the one before."""
    text = page.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    new = re.sub(pattern, lambda _: f"{BEGIN}\n{table(report)}\n\n{END}", text, flags=re.S)
    with atomic(page) as part:
        part.write_text(new, encoding="utf-8")


def counted(samples: Iterable[dict]) -> dict[str, dict]:
    """By kind: tried, survived, lost, and what was wrong."""
    rows = {kind: {"tried": 0, "survived": 0, "lost": 0, "wrong": []} for kind in KINDS}
    for sample in samples:
        row = rows[sample["target"] if sample["kind"] == "sweep" else sample["kind"]]
        row["tried"] += 1
        row["lost" if sample["wrong"] else "survived"] += 1
        row["wrong"] += sample["wrong"]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/soak")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    from importlib.metadata import version

    made = provenance() | {name: version(name) for name in ("distributed", "papermill")}
    made["dask"], made["cores"] = made.pop("distributed"), psutil.cpu_count()
    report = {
        "schema": 1,
        "kills": counted(kills(a.kills, a.out)),
        "points": points(a.points, a.out),
        "made_with": made,
    }
    with atomic(REPORT) as part:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if PAGE.exists():
        show(report)
    print(table(report))
    p = report["points"]
    lost = sum(row["lost"] for row in report["kills"].values()) + p["tried"] - p["survived"]
    return int(lost > 0 or bool(p["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
