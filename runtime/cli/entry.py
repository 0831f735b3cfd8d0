"""Start of the command `posert`."""

import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `posert` with arguments (default: those of the process) and return the exit status.

    Ctrl-C ends the process at once while Python still imports the command, and when the command is done. Python's own
    way, an exception, may be ignored or become another one inside an import, and prints a traceback at the exit.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run

    return run(sys.argv[1:] if arguments is None else arguments)
