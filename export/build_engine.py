#!/usr/bin/env python3
"""Checkpoint -> checked bundle -> engines: `python export/build_engine.py --arch hrnet_w32`, or `posert build`."""

import sys

try:
    from posert.runtime.cli.entry import main
except ModuleNotFoundError as error:
    if error.name != "posert":
        raise
    sys.exit('posert is not installed. From the folder of the checkout: pip install -e ".[export]"')

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
