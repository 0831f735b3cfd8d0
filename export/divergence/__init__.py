"""Where two models differ: in heatmaps, layer by layer, and in joints."""

from .drift import Drift, measure, picture
from .layers import LayerDivergence, compare_layers
from .operands import ModelRef, open_pair

__all__ = ["Drift", "LayerDivergence", "ModelRef", "compare_layers", "measure", "open_pair", "picture"]
