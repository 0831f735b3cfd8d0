"""What a build leaves to the system between its steps."""

from ..runtime.memory import give_back as give_back
