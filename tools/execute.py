"""Execute a notebook with papermill, its kernel on local sockets and its progress in the terminal.

    python tools/execute.py notebooks/NAME.ipynb runs/NAME.ipynb [name=value ...]

Over TCP, papermill's own default, parallel runs can collide on a port, and each kernel warns of it.
"""

import sys

import papermill
import yaml
from traitlets.config import Config


def main(source: str, target: str, *parameters: str) -> int:
    """Run ``source`` into ``target``; 0 if it succeeded, 1 if a cell failed, 130 on Ctrl-C."""
    pairs = [parameter.split("=", 1) for parameter in parameters]
    transport = "tcp" if sys.platform == "win32" else "ipc"
    try:
        papermill.execute_notebook(
            source,
            target,
            {name: yaml.safe_load(value) for name, value in pairs},
            kernel_name="python3",
            progress_bar=False,
            stderr_file=sys.stderr,
            config=Config({"KernelManager": {"transport": transport}}),
        )
    except (papermill.PapermillExecutionError, KeyboardInterrupt) as error:
        if getattr(error, "ename", "KeyboardInterrupt") == "KeyboardInterrupt":
            message = "interrupted; the same command goes on from the last checkpoint"
            print(f"\n{source}: {message}.", file=sys.stderr)
            return 130
        print(
            f"{source}: {error.ename}: {error.evalue}\nThe whole is in {target}.", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
