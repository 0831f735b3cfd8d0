"""Who was seen when, and how far each person's nose went: from the table that posert run wrote."""

import csv
import math
import sys
from collections import defaultdict

seen = defaultdict(list)
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        seen[int(row["id"])].append((int(row["frame"]), float(row["nose_x"]), float(row["nose_y"])))

for person, rows in sorted(seen.items()):
    way = sum(math.dist(a[1:], b[1:]) for a, b in zip(rows, rows[1:], strict=False))
    print(f"person {person}: frames {rows[0][0]} to {rows[-1][0]}, nose moved {way:.0f} px")
