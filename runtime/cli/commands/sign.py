"""`posert sign`: sign a bundle, so that machines of its owner take no other."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import options
from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_bundle(parser)
    key = "file of the secret key, of minisign or of `posert sign new-key`"
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help=key)


def run(args: argparse.Namespace) -> int:
    """Check the bundle, then write BUNDLE.minisig."""
    from getpass import getpass

    from ...bundle.archive import Bundle
    from ...bundle.signature import SecretKey, sign

    key = SecretKey.read(args.key, lambda: getpass(f"passphrase of {args.key}: "))
    with Bundle(args.bundle, trusted_keys=()) as bundle:
        bundle.check()
    written = sign(args.bundle, key)
    if args.json:
        print(json.dumps({"bundle": str(args.bundle), "signature": str(written), "key": str(key.public)}))
    else:
        print(f"wrote {written}, signed by the key {key.public.id}\ncheck it: posert verify --key {key.public} BUNDLE")
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
    "Sign a bundle as its owner",
    "deploy",
    add_arguments,
    run,
    extra="sign",
    subcommands={"new-key": Command("Make a key to sign with", "deploy", _add_new_key, _new_key, extra="sign")},
)
