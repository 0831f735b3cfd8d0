"""Keypoints of the people in an image: python client.py IMAGE X1,Y1,X2,Y2 ... [--url HOST:PORT] [--http]

Cropping and the way back to the frame are posert's: pip install "posert[triton]".
"""

import argparse
from pathlib import Path

import cv2

from posert.runtime.serving import PoseClient

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("image")
parser.add_argument("boxes", nargs="*", type=lambda text: [float(n) for n in text.split(",")])
parser.add_argument("--url", help="default: localhost:8001, with --http localhost:8000")
parser.add_argument("--http", action="store_true", help="HTTP in place of gRPC")
parser.add_argument("--timeout", type=float, default=30, help="seconds, retries included (default: 30)")
args = parser.parse_args()
(model,) = [folder.name for folder in (Path(__file__).parent / "models").iterdir()]
url = args.url or ("localhost:8000" if args.http else "localhost:8001")
with PoseClient(url, model, protocol="http" if args.http else "grpc", timeout=args.timeout) as pose:
    image = cv2.imread(args.image)
    assert image is not None, f"{args.image} cannot be read"
    people = pose(image, args.boxes or None)
for joints, scores in zip(people.xy, people.score, strict=True):
    for name, (x, y), score in zip(people.names, joints, scores, strict=True):
        print(f"{name:16} {x:8.1f} {y:8.1f} {score:6.3f}")
