"""What the machine's files tell: free memory within a container's limit, the processor for reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from posert.runtime.system import machine

MEMINFO = "MemTotal: 16000000 kB\nMemFree: 10 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 8000000 << 10),
        (  # a container with a limit, whose cached files can be given up
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "2000000000\n",
                "sys/fs/cgroup/memory.current": "1500000000\n",
                "sys/fs/cgroup/memory.stat": "anon 7\nfile 9\ninactive_file 300000000\n",
            },
            800000000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "1500000000\n",
                "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
            },
            8000000 << 10,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000000\n",
                "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 100000000\n",
            },
            500000000,
        ),
    ],
)
def test_free_memory(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.free_memory(tmp_path) == free


def test_a_report_and_the_doctor_name_the_same_processor() -> None:
    here = machine.machine().cpu
    assert machine.processor() == {"cpu": here.name, "cores": here.cores}
