"""`posert inspect`: the contents of a bundle, without running anything."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bundle.archive import Bundle
    from ...bundle.contract import Contract
    from ...engines.engine_file import EngineFile


def run(args: argparse.Namespace) -> int:
    """Print a summary of the manifest, or with --json the manifest; of an engine the same of its sidecar."""
    from ...bundle.archive import Bundle
    from ...engines.sidecar import sidecar_of
    from ...selection import open_model

    with open_model(args.bundle) as opened:
        if isinstance(opened, Bundle):
            print(json.dumps(opened.manifest) if args.json else "\n".join(describe(opened)))
        elif args.json:
            print(json.dumps(json.loads(sidecar_of(opened.path).read_bytes())))
        else:
            print("\n".join(describe_engine(opened)))
    return 0


def describe(bundle: Bundle) -> list[str]:
    """A summary of the manifest for a terminal."""
    m, model = bundle.manifest, bundle.manifest["model"]
    size = bundle.path.stat().st_size / 1e6
    lines = [
        f"{bundle.name}  ({bundle.path}, {size:.1f} MB, schema {m['schema']})",
        f"  model      {model.get('arch')} on {model.get('dataset')}, row {model.get('id')}",
        f"  weights    {_weights(model.get('checkpoint', {}))}",
        *_contract(bundle.contract),
    ]
    for a in bundle.artifacts.values():
        kept = f", {len(a.float_nodes)} nodes in float" if a.float_nodes else ""
        opset = f", opset {a.opset}" if a.opset else ""
        lines.append(f"  {a.name:10} {a.file}, {a.bytes / 1e6:.1f} MB{opset}{kept}")
    if (m["calibration"] or {}).get("verdict"):
        first, *more = textwrap.wrap(m["calibration"]["verdict"], 100)
        lines += [f"  int8 costs {first}", *(f"             {line}" for line in more)]
    lines += _accuracy(bundle.accuracy)
    lines.append("  versions   " + ", ".join(f"{k} {v}" for k, v in sorted(m.get("versions", {}).items())))
    return lines


def describe_engine(engine: EngineFile) -> list[str]:
    """A summary of an engine's sidecar for a terminal."""
    m, model = engine.metadata, engine.model
    profiles = ", ".join(":".join(map(str, profile)) for profile in m.batch)
    layers = ", ".join(f"{count} {kind}" for kind, count in m.computing.items())
    return [
        f"{engine.name}  ({engine.path}, {engine.path.stat().st_size / 1e6:.1f} MB)",
        f"  engine     {m.precision} by {m.backend} {m.version} for {', '.join(m.devices)}, batch {profiles}",
        f"  layers     {layers}",
        f"  model      {model.get('arch')} on {model.get('dataset')}, row {model.get('id')}, graph {m.model[:16]}",
        f"  weights    {_weights(model.get('checkpoint', {}))}",
        *_contract(engine.contract),
        *_accuracy(engine.accuracy),
    ]


def _weights(checkpoint: dict[str, Any]) -> str:
    note = f"; {checkpoint['note']}" if checkpoint.get("note") else ""
    note = f", licence {checkpoint['license']}{note}" if checkpoint.get("license") else note
    digest = checkpoint.get("sha256")  # random weights have none
    told = (checkpoint.get("source"), checkpoint.get("file"), f"sha256 {digest}" if digest else None)
    return " ".join(str(part) for part in told if part) + note


def _contract(c: Contract) -> list[str]:
    grown = "" if c.enlarge == (1, 1) else f"{c.enlarge[0]}x wider and {c.enlarge[1]}x higher, then "
    from ...pose.words import output_words

    return [
        f"  takes      {c.width}x{c.height} px crops (width x height), uint8 {c.color}; trained on {c.model_color}, "
        f"mean {c.mean}, std {c.std}",
        f"  box        {grown}enlarged {c.padding}x, {'UDP' if c.udp else 'plain'} affine",
        f"  gives      {output_words(c)}",
    ]


def _accuracy(accuracy: dict[str, Any]) -> list[str]:
    lines = [f"  accuracy   {accuracy.get('verdict')}: {accuracy.get('data', {}).get('note', '')}"]
    figures = accuracy.get("published") or accuracy.get("published_elsewhere")
    if figures and isinstance(figures, dict):
        told = ", ".join(f"{name} {value:.3f}" for name, value in list(figures.items())[:2])
        lines.append(f"  published  {told}: of {accuracy.get('published_for', 'this checkpoint')}")
    data = accuracy.get("data", {})
    metric, subject = data.get("metric", "AP"), "instance" if data.get("subjects") == "instances" else "person"
    for r in accuracy.get("rows", ()):
        if r["ms_per_person"] is None or r["pixel_drift_p95"] is None:
            lines.append(f"             {r['backend']:12} {r['precision']:5} {r['verdict']}: {r.get('reason', '')}")
            continue
        dark, jumps = r.get("dark_drift_p95"), r.get("jumps")
        more = "" if dark is None else f" (DARK {dark:.2f})"
        more += "" if jumps is None else f", {jumps:.2%} jump"
        found = f"{metric} unproven" if r["accuracy"] is None else f"{metric} {r['accuracy']:.4f}"
        drop = "" if r["accuracy_drop"] is None else f" (drop {r['accuracy_drop']:+.4f})"
        lines.append(
            f"             {r['backend']:12} {r['precision']:5} {found}{drop}, p95 drift "
            f"{r['pixel_drift_p95']:.2f} px{more}, {r['ms_per_person']:.1f} ms per {subject}: {r['verdict']}"
        )
    return lines


COMMAND = Command("Show the contents of a bundle or an engine", "check", options.add_model, run)
