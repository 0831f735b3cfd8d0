"""`python -m posert.runtime.cli` is the command `posert`."""

import sys

from .main import main

sys.exit(main())
