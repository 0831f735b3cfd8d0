"""Signatures against the minisign program, and everything that must not pass for one."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posert.runtime import PoseEstimator
from posert.runtime.bundle import members
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.bundle.signature import TRUSTED_KEYS, PublicKey, SecretKey, check_signature, sign
from posert.runtime.cli.main import main
from posert.runtime.errors import BundleError, InputError

MINISIGN = shutil.which(os.environ.get("MINISIGN", "minisign"))
KEY = SecretKey(b"\1\2\3\4\5\6\7\x08", bytes(range(32)))
OTHER = SecretKey(b"\1\2\3\4\5\6\7\x08", bytes(range(1, 33)))  # of the same number


def refuse() -> str:
    raise AssertionError("this key is not encrypted")


def verify(path: Path, *keys: PublicKey) -> str:
    with path.open("rb") as file:
        return check_signature(file, path, keys or [KEY.public])[1]


@pytest.fixture
def signed(narrow_bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.pose"
    shutil.copyfile(narrow_bundle, path)
    sign(path, KEY)
    return path


def test_what_was_signed_is_taken(signed: Path) -> None:
    assert verify(signed).endswith("\tfile:mine.pose\thashed")
    with Bundle(signed, trusted_keys=[str(KEY.public)]) as bundle:
        bundle.check()


def test_rfc_8032() -> None:
    """Test 1 of the standard: the key and the signature of nothing."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SecretKey(bytes(8), seed)
    assert key.public.point.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")


def signature(path: Path) -> Path:
    return path.with_name(f"{path.name}.minisig")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 1 << 30), bit=st.integers(0, 7), cut=st.booleans())
def test_any_other_byte_is_refused(narrow_bundle: Path, tmp_path: Path, place: int, bit: int, cut: bool) -> None:
    path = tmp_path / "mine.pose"
    data = bytearray(narrow_bundle.read_bytes())
    path.write_bytes(data)
    sign(path, KEY)
    at = place % len(data)
    path.write_bytes(data[:at] if cut else bytes([*data[:at], data[at] ^ 1 << bit, *data[at + 1 :]]))
    with pytest.raises(BundleError, match="was changed since the key 0807060504030201 signed it"):
        verify(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 1 << 30), value=st.integers(0, 255), cut=st.integers(0, 80))
def test_any_other_signature_is_refused(tmp_path: Path, place: int, value: int, cut: int) -> None:
    path = tmp_path / "mine.pose"
    path.write_bytes(b"a bundle")
    sign(path, KEY)
    good = signature(path).read_bytes()
    head = good.index(b"\n")  # the first line is a remark that nobody signed
    bad = bytearray(good)
    bad[head + 1 + place % (len(good) - head - 1)] = value
    bad = bad[: len(bad) - cut]
    signature(path).write_bytes(bad)
    lines = [line.removesuffix(b"\r") for line in good.split(b"\n")[1:4]]
    if [line.removesuffix(b"\r") for line in bytes(bad).split(b"\n")[1:4]] == lines:
        verify(path)
    else:
        with pytest.raises((BundleError, InputError)):
            verify(path)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([OTHER], "was changed since"),
        ([SecretKey(b"another!", KEY.seed)], "signed by the key 0807060504030201; trusted: 21726568746F6E61"),
    ],
)
def test_of_another_key(signed: Path, keys: list[SecretKey], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        Bundle(signed, trusted_keys=[str(key.public) for key in keys])
    with Bundle(signed, trusted_keys=[str(key.public) for key in (*keys[1:], KEY)]):
        pass


def test_without_a_signature(signed: Path) -> None:
    signature(signed).unlink()
    with pytest.raises(BundleError, match=r"not signed, .* no mine\.pose\.minisig"):
        Bundle(signed, trusted_keys=[str(KEY.public)])
    with Bundle(signed) as bundle:  # nobody asked for one
        bundle.check()


def test_nothing_of_a_foreign_bundle_is_parsed(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed.write_bytes(signed.read_bytes() + b"x")

    def parse(*_: Any) -> None:
        raise AssertionError("it was read as a zip")

    monkeypatch.setattr(members.zipfile, "ZipFile", parse)
    monkeypatch.setattr(members, "_Zip", parse)
    with pytest.raises(BundleError, match="was changed"):
        Bundle(signed, trusted_keys=[str(KEY.public)])


class TestTrustedKeys:
    """What a fleet sets once."""

    def test_everything_that_opens_a_bundle_obeys(
        self, signed: Path, narrow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        file = tmp_path / "owner.pub"
        file.write_text(f"untrusted comment: minisign public key\n{KEY.public}\n")
        monkeypatch.setenv(TRUSTED_KEYS, os.pathsep.join([str(file), str(SecretKey.new().public)]))
        with Bundle(signed) as bundle:
            bundle.check()
        for use in (PoseEstimator, Bundle, Contract.from_file):
            with pytest.raises(BundleError, match="not signed"):
                use(narrow_bundle)  # type: ignore[operator]
        for command in (["inspect"], ["run", str(tmp_path)], ["verify"]):
            assert main([command[0], str(narrow_bundle), *command[1:], "--json"]) == 2
        assert main(["inspect", str(signed)]) == 0
        capsys.readouterr()

    @pytest.mark.parametrize("value", ["", os.pathsep, "RWQ", "no such file", "/dev/null"])
    def test_a_value_that_is_no_key_trusts_nobody(
        self, signed: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv(TRUSTED_KEYS, value)
        with pytest.raises(InputError):
            Bundle(signed)


class TestKeys:
    def test_a_new_key_is_written_and_read(self, tmp_path: Path, capsys: Any) -> None:
        assert main(["sign", "new-key", str(tmp_path / "key"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert stat.S_IMODE(os.stat(tmp_path / "key").st_mode) == 0o600
        key = SecretKey.read(tmp_path / "key", refuse)
        assert str(key.public) == told["key"] == str(PublicKey.read(tmp_path / "key.pub"))
        assert main(["sign", "new-key", str(tmp_path / "key")]) == 2
        assert "is there already" in capsys.readouterr().err

    def test_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        KEY.write(path)
        head, text, _ = path.read_text().split("\n")
        for at in range(0, 158, 7):
            data = bytearray(base64.b64decode(text))
            data[at] ^= 4
            path.write_text(f"{head}\n{base64.b64encode(data).decode()}\n")
            if 6 <= at < 54:  # salt and limits, which an unencrypted key does not use
                assert SecretKey.read(path, refuse) == KEY
            else:
                with pytest.raises(InputError):
                    SecretKey.read(path, lambda: "")
        path.write_bytes(b"\xff\xfe" * 3000)
        with pytest.raises(InputError):
            SecretKey.read(path, refuse)


class TestCommands:
    def test_sign_and_verify(self, narrow_bundle: Path, tmp_path: Path, capsys: Any) -> None:
        path, key = tmp_path / "b.pose", tmp_path / "key"
        shutil.copyfile(narrow_bundle, path)
        public = KEY.write(key)
        arguments = ["verify", str(path), "--backend", "onnxruntime", "--precision", "fp32", "--key"]
        assert main([*arguments, str(public)]) == 2 and "not signed" in capsys.readouterr().err
        assert main(["sign", str(path), "--key", str(key)]) == 0
        assert f"posert verify --key {KEY.public}" in capsys.readouterr().out
        assert main([*arguments, str(KEY.public), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["signed_by"] == "0807060504030201"
        assert main([*arguments, str(SecretKey.new().public)]) == 2
        assert "signed by the key 0807060504030201; trusted:" in capsys.readouterr().err

    def test_a_damaged_bundle_is_not_signed(self, narrow_bundle: Path, tmp_path: Path, capsys: Any) -> None:
        path = tmp_path / "b.pose"
        path.write_bytes(narrow_bundle.read_bytes()[:-9])
        KEY.write(tmp_path / "key")
        assert main(["sign", str(path), "--key", str(tmp_path / "key")]) == 2
        assert not signature(path).exists()

    def test_the_library_is_named_where_it_is_missing(
        self, signed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        arguments = ["verify", str(signed), "--key", str(KEY.public)]
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
        assert main(arguments) == 2
        assert 'pip install "posert[sign]"' in capsys.readouterr().err


@pytest.mark.skipif(MINISIGN is None, reason="the minisign program is not installed")
class TestMinisign:
    """The program itself, which MINISIGN or PATH names."""

    def run(self, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
        assert MINISIGN is not None
        return subprocess.run([MINISIGN, *map(str, arguments)], input=text, capture_output=True, text=True)

    def test_it_takes_our_signatures(self, signed: Path) -> None:
        done = self.run("-V", "-H", "-P", KEY.public, "-m", signed)
        assert done.returncode == 0, done.stderr
        signed.write_bytes(signed.read_bytes() + b"x")
        assert self.run("-V", "-P", KEY.public, "-m", signed).returncode != 0

    def test_it_signs_with_our_key_and_we_take_that(self, signed: Path, tmp_path: Path) -> None:
        public = KEY.write(tmp_path / "key")
        signature(signed).unlink()
        done = self.run("-S", "-W", "-s", tmp_path / "key", "-m", signed, "-t", "for the fleet")
        assert done.returncode == 0, done.stderr
        assert verify(signed, PublicKey.read(public)) == "for the fleet"

    @pytest.mark.parametrize("passphrase", ["", pytest.param("secret", marks=pytest.mark.slow)])  # a GB, as it should
    def test_we_sign_with_its_key(self, signed: Path, tmp_path: Path, passphrase: str) -> None:
        made = self.run(
            *("-G", "-s", tmp_path / "key", "-p", tmp_path / "key.pub", *(() if passphrase else ("-W",))),
            text=f"{passphrase}\n{passphrase}\n",
        )
        if made.returncode:
            pytest.skip(f"this release asks a terminal: {made.stderr}")
        key = SecretKey.read(tmp_path / "key", lambda: passphrase)
        assert key.public == PublicKey.read(tmp_path / "key.pub")
        sign(signed, key)
        assert self.run("-V", "-p", tmp_path / "key.pub", "-m", signed).returncode == 0
        if passphrase:
            with pytest.raises(InputError, match="passphrase is wrong"):
                SecretKey.read(tmp_path / "key", lambda: "other")
