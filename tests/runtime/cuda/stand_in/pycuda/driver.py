"""A stream by its handle."""

from functools import partial

import gpu_array

Stream = partial(gpu_array.Stream, "handle")
