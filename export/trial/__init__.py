"""Try a network on photos: what it sees, what it finds, and which of the usual mistakes its contract has."""

from .judgement import Agreement, Change, Judgement, judge
from .network import Subjects
from .photos import read_photos
from .sight import Sight
from .trial import Trial, try_out

__all__ = ["Agreement", "Change", "Judgement", "Sight", "Subjects", "Trial", "judge", "read_photos", "try_out"]
