"""Other ways from a frame and boxes to keypoints, timed beside ours: one file for each, and the contest."""
