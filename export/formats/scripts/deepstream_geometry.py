"""From a box to the rectangle that nvinfer crops, and from joints in the crop back to the frame; contract.json rules.

nvinfer takes an object's rectangle at even pixels, left and top rounded up, width and height down (gstnvinfer.cpp), and
stretches it to the network's input. Here the rectangles are such already, so that what comes back is known exactly.
"""

BORDER = 1 / 8  # of the height of a frame, on each side: as much as a box of its height grows by a padding of 1.25


def rectangle(left, top, width, height, frame_width, frame_height, contract):
    """The rectangle (left, top, width, height) of a box, px of the frame; None where none is left of it."""
    c = contract
    ratio = c["width"] / c["height"]
    wide, high = width * c["enlarge"][0], height * c["enlarge"][1]
    wide, high = max(wide, high * ratio) * c["padding"], max(high, wide / ratio) * c["padding"]
    if c["udp"]:  # the region spans W - 1 px of the crop, a rectangle W
        wide, high = wide * c["width"] / (c["width"] - 1), high * c["height"] / (c["height"] - 1)
        x, y = left + width / 2 + 0.5, top + height / 2 + 0.5
    else:  # the region begins at the centre of the crop's first pixel, a rectangle at its edge
        x = left + width / 2 + 0.5 - wide / c["width"] / 2
        y = top + height / 2 + 0.5 - high / c["height"] / 2
    first = [max(0, 2 * round((middle - size / 2) / 2)) for middle, size in ((x, wide), (y, high))]
    last = [
        min(2 * (limit // 2), 2 * round((middle + size / 2) / 2))
        for middle, size, limit in ((x, wide, frame_width), (y, high, frame_height))
    ]
    if last[0] <= first[0] or last[1] <= first[1]:
        return None
    return first[0], first[1], last[0] - first[0], last[1] - first[1]


def to_frame(x, y, rect, contract):
    """A joint in px of the crop as px of the frame; (0, 0) is the centre of the first pixel in both."""
    left, top, width, height = rect
    across, down = width / contract["width"], height / contract["height"]
    return left + (x + 0.5) * across - 0.5, top + (y + 0.5) * down - 0.5
