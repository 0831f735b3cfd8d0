"""Bundles on the Hugging Face Hub, with its real client, from a server that speaks its interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from posert.runtime import Bundle, BundleError, PoseEstimator
from posert.runtime.bundle.hub import local_file
from posert.runtime.bundle.signature import SecretKey, sign
from posert.runtime.cli.main import main
from posert.runtime.errors import PosertError
from posert.tests.runtime.bundle.hub import Hub, commit

pytest.importorskip("huggingface_hub", reason='pip install "posert[hf]"')


def forget() -> None:
    """The client reads HF_ENDPOINT and HF_HOME when it is imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


def changed(bundle: bytes) -> bytes:
    """A bundle with another bit in the middle, which is a graph's."""
    middle = len(bundle) // 2
    return bundle[:middle] + bytes([bundle[middle] ^ 1]) + bundle[middle + 1 :]


@pytest.fixture
def hub(tmp_path: Path, narrow_bundle: Path) -> Iterator[Hub]:
    key = SecretKey.new()
    signed = tmp_path / "signed.pose"
    signed.write_bytes(narrow_bundle.read_bytes())
    signature = sign(signed, key).read_bytes()
    key.write(tmp_path / "owner.key")
    good = signed.read_bytes()
    models = {
        "team/one": {"main": {"README.md": b"# one", "narrow.pose": good}, "v1": {"old/first.pose": good}},
        "team/signed": {"main": {"narrow.pose": good, "narrow.pose.minisig": signature}},
        "team/two": {"main": {"a.pose": good, "b[1].pose": good}},
        "team/none": {"main": {"model.onnx": b"onnx"}},
        "team/gated": {"main": {"narrow.pose": good}},
        "team/damaged": {"main": {"narrow.pose": changed(good)}},
    }
    with Hub(models, gated=("team/gated",)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.address)
        patch.setenv("HF_HOME", str(tmp_path / "hf"))
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        forget()
        yield server
    forget()


def test_an_estimator_runs_a_bundle_of_the_hub(hub: Hub, narrow_bundle: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    expected = PoseEstimator(narrow_bundle, backend="onnxruntime", threads=1)(frame)
    found = PoseEstimator("hf://team/one", backend="onnxruntime", threads=1)(frame)
    np.testing.assert_array_equal(found.xy, expected.xy)
    hub.requests.clear()
    with Bundle("hf://team/one") as again:
        again.check()
    assert not any("/resolve/" in request or "/cdn/" in request for request in hub.requests)  # the cache has it


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("hf://team/one", "narrow.pose"),
        ("hf://team/one/narrow.pose", "narrow.pose"),
        ("hf://team/one@v1", "old/first.pose"),
        (f"hf://team/one@{commit('v1')}/old/first.pose", "old/first.pose"),
        ("hf://team/two/b[1].pose", "b[1].pose"),
    ],
)
def test_addresses(hub: Hub, narrow_bundle: Path, address: str, file: str) -> None:
    path = local_file(address)
    assert path.as_posix().endswith(f"/{file}") and path.read_bytes() == narrow_bundle.read_bytes()
    revision = "v1" if "v1" in address or commit("v1") in address else "main"
    assert commit(revision) in path.as_posix()
    other = "a.pose" if file == "b[1].pose" else "README.md"
    assert not any(other in request and "/resolve/" in request for request in hub.requests)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("hf://team/two", r"2 bundles in it: name one of hf://team/two/a\.pose, hf://team/two/b\[1\]\.pose"),
        ("hf://team/one/x.pose", r"no x\.pose in it: name one of hf://team/one/narrow\.pose"),
        ("hf://team/none", r"no \.pose file in it; it holds model\.onnx"),
        ("hf://team/gated", r"access is not granted.*huggingface\.co/team/gated.*hf auth login"),
        ("hf://team/missing", r"no model team/missing, or it is private"),
        ("hf://team/one@v9", r"no revision 'v9'"),
        ("hf://team", r"expected hf://OWNER/NAME"),
        ("hf://team/one/model.onnx", r"expected hf://OWNER/NAME"),
        ("hf://-team-/..one", r"hf://-team-/\.\.one: "),
    ],
)
def test_errors(hub: Hub, address: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        PoseEstimator(address)


def test_what_was_changed_on_the_hub_is_refused(hub: Hub) -> None:
    with pytest.raises(BundleError, match="narrow.pose.*(damaged|not the file)"):
        Bundle("hf://team/damaged").check()


def test_a_signature_comes_along(hub: Hub, tmp_path: Path) -> None:
    key = tmp_path / "owner.key.pub"
    with Bundle("hf://team/signed", trusted_keys=[key]) as bundle:
        bundle.check()
    with pytest.raises(BundleError, match="minisig"):
        Bundle("hf://team/one", trusted_keys=[key])


@pytest.mark.parametrize("how", ["switched off", "unreachable"])
def test_offline(hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = local_file("hf://team/one")
    local_file("hf://team/two/a.pose")
    if how == "unreachable":
        hub.__exit__()
    else:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert local_file("hf://team/one") == local_file("hf://team/one/narrow.pose") == kept
    assert local_file("hf://team/two/a.pose").exists()
    for missing in ("hf://team/gated", "hf://team/two/b[1].pose", "hf://team/one@v1"):
        with pytest.raises(BundleError, match="cannot be reached .* and the cache does not have it"):
            local_file(missing)
    if how == "unreachable":
        hub.__enter__()  # for the fixture's end


def test_commands_take_an_address(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["inspect"], ["verify", "--backend", "onnxruntime"]):
        assert main([command[0], "hf://team/one", *command[1:], "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
    assert main(["inspect", "hf://team/two"]) == 2
    assert "name one of" in capsys.readouterr().err
    without = {**os.environ, "HF_HUB_OFFLINE": "1"}  # as a user sets it
    command = [sys.executable, "-m", "posert.runtime.cli", "inspect", "hf://team/one"]
    done = subprocess.run(command, env=without, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "narrow-coco-128x96" in done.stdout, done.stderr


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(PosertError, match=r'pip install "posert\[hf\]"'):
        PoseEstimator("hf://team/one")
