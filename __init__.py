"""posert: export, calibrate and run 2D human-pose models. The repository root is this package."""
