"""Is this the engine that was built, and for which GPUs? Without posert: python check_pair.py ENGINE ..."""

import hashlib
import json
import sys
from pathlib import Path

for path in map(Path, sys.argv[1:]):
    facts = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
    same = hashlib.sha256(path.read_bytes()).hexdigest() == facts["plan"]["sha256"]
    engine = facts["engine"]
    print(f"{path.name}: {'intact' if same else 'CHANGED'}")
    print(f"  {engine['precision']} by {engine['backend']} {engine['version']} for {', '.join(engine['devices'])}")
