"""`posert sign`: sign a bundle, so that machines of its owner take no other."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import options
from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_model(parser)
    key = "file of the secret key, of minisign or of `posert sign new-key`"
    parser.add_argument("--key", type=Path, required=True, metavar="KEY", help=key)


def run(args: argparse.Namespace) -> int:
    """Check the bundle or engine, then write BUNDLE.minisig, or ENGINE.json.minisig for an engine's sidecar."""
    from getpass import getpass

    from ...bundle.signature import SecretKey, sign
    from ...engines.engine_file import is_engine
    from ...engines.sidecar import sidecar_of
    from ...selection import open_model

    key = SecretKey.read(args.key, lambda: getpass(f"passphrase of {args.key}: "))
    with open_model(args.bundle, trusted_keys=()) as bundle:
        bundle.check()
    written = sign(sidecar_of(args.bundle) if is_engine(args.bundle) else args.bundle, key)
    if args.json:
        print(json.dumps({"bundle": str(args.bundle), "signature": str(written), "key": str(key.public)}))
    else:
        print(f"wrote {written}, signed by the key {key.public.id}")
        print(f"check it: posert verify --key {key.public} {args.bundle}")
    return 0


def _add_new_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="secret key to write; the public key goes into FILE.pub")


def _new_key(args: argparse.Namespace) -> int:
    from ...bundle.signature import SecretKey

    key = SecretKey.new()
    public = key.write(args.file)
    if args.json:
        print(json.dumps({"secret": str(args.file), "public": str(public), "key": str(key.public)}))
    else:
        print(f"wrote {args.file}, which is not encrypted: keep it where only you can read it")
        print(f"wrote {public}, for the machines that run your bundles: POSERT_TRUSTED_KEYS={public}")
    return 0


COMMAND = Command(
    "Sign a bundle or an engine as its owner",
    "deploy",
    add_arguments,
    run,
    extra="sign",
    subcommands={"new-key": Command("Make a key to sign with", "deploy", _add_new_key, _new_key, extra="sign")},
)
