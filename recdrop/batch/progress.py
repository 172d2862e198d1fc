"""What a sweep says while it runs: a bar for people, lines of JSON for machines."""

import json
import sys
from typing import Any

from recdrop.batch.folder import Outcome


class Progress:
    """Points done, failed and left, and the time left.

    On a terminal there is a bar. Elsewhere only failures are told, as they come. With ``as_json``
    each event is a line on stdout, an object with ``event``: ``start``, a point's ``finished`` or
    ``failed``, ``note``, ``end``.
    """

    def __init__(self, total: int, finished: int, as_json: bool = False):
        from tqdm import tqdm

        self.as_json, self.failed, self._shown = as_json, 0, ""
        self.bar = tqdm(
            total=total, initial=finished, unit="point", dynamic_ncols=True, file=sys.stderr,
            disable=True if as_json else None,  # None: where stderr is no terminal
        )  # fmt: skip
        self._event("start", total=total, finished=finished)

    def running(self, here: int, elsewhere: int) -> None:
        """How many points are being executed, by this sweep and by others."""
        text = f"{here} running" + (f", {elsewhere} elsewhere" if elsewhere else "")
        text += f", {self.failed} failed" if self.failed else ""
        self.bar.set_description_str(text, refresh=text != self._shown)
        self._shown = text

    def ended(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failed += 1
            self._say(f"failed: {outcome.name}: {outcome.error}")
        self.bar.update()
        seconds = round(outcome.seconds, 1)
        self._event(outcome.status, point=outcome.name, error=outcome.error, seconds=seconds)

    def note(self, text: str) -> None:
        self._say(text)
        self._event("note", text=text)

    def end(self, text: str, **counts: Any) -> None:
        """The last word, on stdout."""
        self.bar.close()
        if not self.as_json:
            print(text, flush=True)
        self._event("end", **counts)

    def _say(self, text: str) -> None:
        if not self.as_json:
            self.bar.write(text, file=sys.stderr)

    def _event(self, event: str, **content: Any) -> None:
        if self.as_json:
            print(json.dumps({"event": event, **content}), flush=True)
