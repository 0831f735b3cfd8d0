"""A worker of the campaign: runs one case per request, and is replaced when a case ends or blocks it."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from posert.runtime.system.process import answer_channel
from posert.tests.campaign import planted
from posert.tests.campaign.case import LOG, PARTS, Case, generator, judge
from posert.tests.campaign.watch import Watch


def main() -> None:
    """Arguments: part, seed, folder, and the name of a planted defect or "-". Requests: {"index": n}."""
    name, seed, folder, plant = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    answer = answer_channel()
    folder.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    shared, own, temporary = folder / "shared", folder / "case", folder / "tmp"
    for path in (shared, temporary):
        path.mkdir(parents=True, exist_ok=True)
    os.environ.update(POSERT_CACHE=str(folder / "cache"), TMPDIR=str(temporary))
    tempfile.tempdir = str(temporary)
    part = PARTS.load(name)
    run = part.open(shared)
    if plant != "-":
        planted.plant(plant)
    watch = Watch(folder, part.starts_programs)
    answer(ready=True)
    for line in sys.stdin:
        index = json.loads(line)["index"]
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        os.truncate(folder / LOG, 0)
        faulthandler.dump_traceback_later(0.9 * part.limit_s)
        answer(**judge(run, Case(generator(seed, name, index), own, index), watch).to_json())
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
