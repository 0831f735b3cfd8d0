"""`python -m posert.runtime.cli` is `posert`."""

import sys

from .main import main

sys.exit(main())
