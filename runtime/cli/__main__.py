"""`python -m posert.runtime.cli` is `posert`."""

import sys

from .entry import main

sys.exit(main())
