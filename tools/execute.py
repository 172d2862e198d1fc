"""Execute a notebook with papermill, its kernel on local sockets and its progress in the terminal.

    python tools/execute.py notebooks/NAME.ipynb runs/NAME.ipynb [name=value ...]

Over TCP, papermill's own default, parallel runs can collide on a port, and each kernel warns of it.
"""

import shutil
import sys

import papermill

from recdrop.batch import grid, job, kernel


def main(source: str, target: str, *parameters: str) -> int:
    """Run ``source`` into ``target``; 0 if it succeeded, 1 if a cell failed, 130 on Ctrl-C."""
    pairs = [parameter.split("=", 1) for parameter in parameters]
    sockets = kernel.sockets()
    try:
        papermill.execute_notebook(
            source,
            target,
            {name: grid.value(value) for name, value in pairs},
            kernel_name="python3",
            progress_bar=False,
            stderr_file=sys.stderr,
            config=job.config(sockets),
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
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
