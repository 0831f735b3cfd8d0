"""Other ways from a frame and boxes to keypoints, one adapter file each, and how `peers` times them in turn."""
