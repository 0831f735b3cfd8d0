"""What a build's report.json says of every graph, for a script that decides what to do next."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    report = json.load(file)
print(f"{report['verdict']}: a loss of {report['max_drop']} is allowed")
for row in report["rows"]:
    if row["verdict"] == "reference":
        continue
    low, high = row["accuracy_drop_interval"]
    line = f"{row['backend']} {row['precision']}: {row['verdict']}, lost {row['accuracy_drop']:+.4f}"
    line += f" ({low:+.4f} to {high:+.4f})"
    if row["verdict"] == "undecided":
        line += f", labels needed: {row['people_needed'] or 'more would not tell'}"
    print(line)
