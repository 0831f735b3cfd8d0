"""What a description says, in words: for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.pose.heads import head
from .description import Description


def in_words(d: Description) -> list[tuple[str, str]]:
    """Names and sentences, from the input to the joints; a row without a name belongs to the one before it."""
    f, joints = d.fields, d.joints
    color, udp = f.get("model_color", "RGB"), f.get("udp", False)
    channels = {"RGB": "red, green, blue", "BGR": "blue, green, red"}[color]
    span = "W - 1 px (UDP)" if udp else "W px (plain)"
    grown = _grown(f.get("enlarge", (1.0, 1.0)))
    rows = [
        ("input", f"{f['width']} x {f['height']} px (width x height), {color} ({channels})"),
        ("pixels", f"(p / 255 - mean) / std; mean {_numbers(f.get('mean', ()))}, std {_numbers(f.get('std', ()))}"),
        ("box", f"{grown}enlarged {f.get('padding', 1.25):g} times; it spans {span} of the crop"),
        ("output", _output(d)),
        ("decoding", _decoding(f)),
        ("flip test", _flip(d)),
    ]
    if joints is None:
        rows.append(("joints", "not stated; give them with --dataset-file"))
    else:
        contract = d.with_joints(joints)
        names = contract.keypoints
        rows += [
            ("joints", f"{len(names)} of {contract.dataset}: {', '.join(names)}"),
            ("", f"swap in a mirror image: {_pairs(names, contract.flip_pairs)}"),
            ("", f"limbs: {_pairs(names, contract.skeleton)}"),
            ("", f"OKS constants: {_numbers(contract.sigmas) or 'none (no OKS figures without them)'}"),
        ]
    if d.network:
        rows.append(("network", _network(d.network)))
    return rows + [("note", note) for note in d.notes]


def _numbers(values: Any) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _grown(enlarge: tuple[float, float]) -> str:
    return "" if tuple(enlarge) == (1, 1) else f"{enlarge[0]:g} times wider and {enlarge[1]:g} times higher, then "


def _output(d: Description) -> str:
    f = d.fields
    map_udp = f.get("udp", False) if f.get("heatmap_udp") is None else f["heatmap_udp"]
    cells = "w - 1 cells (UDP)" if map_udp else "w cells (plain)"
    channels = "" if d.channels is None else f"{d.channels} "
    if d.kind == "simcc":
        return f"{channels}vectors of {f['heatmap_width']} along x and of {f['heatmap_height']} along y (SimCC)"
    left = f"; {len(d.output_keypoints)} joints come out" if d.output_keypoints else ""
    return f"{channels}maps of {f['heatmap_width']} x {f['heatmap_height']} cells; the box spans {cells}{left}"


def _decoding(f: Mapping[str, Any]) -> str:
    rule = head(f.get("decode", "default"))
    kernels = [k for k in (f.get("kernel", 11), f.get("kernel_y", 0)) if k]
    return f"{rule.name}: {rule.summary}" + (f"; kernel {' and '.join(map(str, kernels))}" if rule.blurs else "")


def _flip(d: Description) -> str:
    moved = (
        "" if d.kind == "simcc" else f"; the mirrored map {'moves' if d.fields.get('flip_shift', True) else 'stays'}"
    )
    return f"{'on' if d.flip_test else 'off'} in the file{moved}{' by one cell' if moved.endswith('moves') else ''}"


def _pairs(names: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(f"{names[a]}/{names[b]}" for a, b in pairs) or "none"


def _network(network: Mapping[str, Any]) -> str:
    """The parts of a network by type, or its name in an experiment file."""
    parts = [network.get(part) for part in ("backbone", "neck", "head", "keypoint_head")]
    types = [str(part.get("type")) for part in parts if isinstance(part, Mapping)]
    return ", ".join(types) or str(network.get("NAME", "not named"))
