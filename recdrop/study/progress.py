"""One progress bar for a table: epochs, loss, metric, networks still training, time left."""

import sys

AGAIN = "Run the same again"


class Progress:
    """A tqdm bar over updates where tqdm is installed; without it, messages alone."""

    def __init__(self, task, networks: int, updates: int, enabled: bool = True, again: str = AGAIN):
        self.again, self.label = again, task.label
        self.bar, self.networks, per_epoch = None, networks, task.updates_per_epoch
        if enabled:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(
                total=task.settings["epochs"] * per_epoch,
                initial=updates,
                desc=f"{task.label}, {_count(networks)}",
                mininterval=1.0,
                dynamic_ncols=True,
                file=sys.stderr,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind, *_) -> None:
        if self.bar is not None:
            self.bar.close()
        if kind is KeyboardInterrupt:
            self.say(f"Interrupted. {self.again} to go on from the last checkpoint.")

    def tick(self, **measured) -> None:
        """After each update: the means over networks so far."""
        if self.bar is not None:
            # Formatting reads numbers back from the device, so only when the bar is redrawn.
            if self.bar.n + 1 - self.bar.last_print_n >= self.bar.miniters:
                shown = {k: f"{float(v):.3f}" for k, v in measured.items()}
                self.bar.set_postfix(shown, refresh=False)
            self.bar.update()

    def left(self, networks: int) -> None:
        if self.bar is not None and networks:
            self.bar.set_description(f"{self.label}, {_count(networks)}")

    def say(self, message: str) -> None:
        if self.bar is not None:
            self.bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr)


def _count(networks: int) -> str:
    return "1 network" if networks == 1 else f"{networks} networks"
