"""Start of the command `posert`: an interrupt while Python still imports it ends as one in a command does."""

import sys


def main() -> int:
    """Run `posert` with the arguments of the process and return the exit status."""
    try:
        from .main import main as run
    except KeyboardInterrupt:
        print("posert: interrupted", file=sys.stderr)
        return 130
    return run()
