"""The doctor sees a driver and its GPU, in a process of its own."""

from __future__ import annotations

import ctypes

from posert.runtime.doctor import probe


def test_a_driver_and_its_gpu(fake_gpu: ctypes.CDLL) -> None:
    seen = probe("driver")
    assert seen.state == "ready"
    facts = {name: seen.facts[name] for name in ("cuda", "name", "integrated")}
    assert facts == {"cuda": "12.4", "name": "Fake GPU", "integrated": False}
    assert tuple(seen.facts["capability"]) >= (7, 5) and "kernels" not in seen.facts
