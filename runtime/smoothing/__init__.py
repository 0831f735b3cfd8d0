"""Smooth joints: `OneEuro` while a video runs, `smooth_tracks` once it is whole. Raw joints stay as they are.

A network looks at one frame at a time, so its joints tremble. `posert.runtime.metrics.acceleration` measures how much.
"""

from .late import smooth_recording
from .one_euro import OneEuro
from .outliers import fill_gaps, hampel
from .savitzky_golay import savitzky_golay
from .whole import SmoothTracks, smooth_tracks

__all__ = ["OneEuro", "SmoothTracks", "fill_gaps", "hampel", "savitzky_golay", "smooth_recording", "smooth_tracks"]
