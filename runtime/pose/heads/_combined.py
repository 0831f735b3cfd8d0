"""What the rules share that read UDP's combined maps: per joint its class and the offsets to it along x and y."""

from ...bundle.contract import Contract
from .. import flip
from . import Outputs, Shapes

CHANNELS = 3  # per joint: class, x, y
RADIUS = 0.0546875  # of a side of the map: the radius within which offsets are trained


def shapes(contract: Contract) -> Shapes:
    """One output `(3 * K, h, w)`."""
    return ((CHANNELS * len(contract.keypoints), contract.heatmap_height, contract.heatmap_width),)


def merge(outputs: Outputs, contract: Contract) -> Outputs:
    """As of other maps; in a mirror image the offset along x points the other way."""
    return (flip.merge(outputs[0], contract.flip_index, contract.flip_shift, signs=(1, -1, 1)),)
