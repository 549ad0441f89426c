"""The command line: ``cnnviz layers|features|weights|cam|attribute|ascend|...``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import typer

from cnnviz.cli.app import app
from cnnviz.errors import CnnvizError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        0; 1 if two networks part; 2 where the user can mend it, told in one line on stderr;
        130 if interrupted.
    """
    # TensorFlow talks on stderr as it computes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            # Not app(): typer would draw a box around an error, and a traceback for an interrupt.
            command = typer.main.get_command(app)
            with command.make_context("cnnviz", given or ["--help"]) as context:
                command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort) as stop:
        return _failed(str(stop) or "interrupted", 130)
    except BrokenPipeError:
        # The reader has what it wanted; Python would complain of it once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CnnvizError as error:
        return _failed(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _failed(f"{error.filename}: {error.strerror}")
    except Exception as error:
        # The class of wrong usage is public in no version of typer.
        if not hasattr(error, "format_message"):
            raise
        return _failed(_usage(error))
    return 0


def _failed(reason: str, status: int = 2) -> int:
    print("cnnviz:", " ".join(reason.split()), file=sys.stderr)
    return status


def _usage(error: Exception) -> str:
    reason: str = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{reason.rstrip('.')} (see {context.command_path if context else 'cnnviz'} --help)"
