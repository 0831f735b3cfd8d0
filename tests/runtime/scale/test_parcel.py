"""Files that travel to workers."""

from __future__ import annotations

from pathlib import Path

from posert.runtime.annotation.settings import Settings
from posert.runtime.scale.cluster import Parcel
from posert.runtime.system.files import cache_folder


def test_a_copy_that_was_changed_is_written_again(tmp_path: Path) -> None:
    bundle = tmp_path / "a.pose"
    bundle.write_bytes(b"right")
    parcel = Parcel.of(Settings(str(bundle), "onnxruntime", "fp32"))
    copy = Path(parcel.unpacked().bundle)
    assert copy.read_bytes() == b"right" and copy.is_relative_to(cache_folder())
    written = copy.stat().st_mtime_ns
    assert parcel.unpacked().bundle == str(copy) and copy.stat().st_mtime_ns == written
    copy.write_bytes(b"wrong")
    assert Path(parcel.unpacked().bundle).read_bytes() == b"right"
