"""The model card of a bundle: Markdown with the front matter that the Hugging Face Hub reads.

Fields of the front matter: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .accuracy.gate_table import gate_table, gate_words, measured
from .bundle.archive import Bundle
from .pose.words import output_words

# Names that the hub knows, of those that SPDX has, too: https://huggingface.co/docs/hub/repositories-licenses
_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0
ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib
"""


def card(bundle: Bundle) -> str:
    """The model card of a bundle, Markdown with front matter."""
    parts = ["---", *_front_matter(bundle), "---", "", f"# {_line(bundle.name)}", "", *_body(bundle)]
    return "\n".join(parts) + "\n"


def _front_matter(bundle: Bundle) -> Iterator[str]:
    """YAML, of which JSON is a part: texts are written as JSON has them."""
    model, license = bundle.manifest["model"], _license(bundle)
    if license:
        known = re.sub(r"-(only|or-later)$", "", license.lower())
        listed = known in _LICENSES.split()
        yield f"license: {known if listed else 'other'}"
        if not listed:
            yield f"license_name: {_json(license)}"
    yield "library_name: posert"
    yield "pipeline_tag: keypoint-detection"
    yield from ("tags:", "- pose-estimation", *(f"- {_json(model[name])}" for name in ("arch", "dataset")))
    if not measured(bundle.accuracy):
        return
    data = bundle.accuracy.get("data", {})
    kinds = {"demo": ("Synthetic people of posert's demo", "posert-demo"), "user": ("Images of the builder", "private")}
    name, kind = kinds.get(data.get("kind", ""), (str(data.get("kind")), "unknown"))
    metric = data.get("metric", "AP")
    task, of = {"type": "keypoint-detection"}, {"name": name, "type": kind}
    figures = [
        {"type": metric, "value": round(row["accuracy"], 4), "name": f"{metric}, {row['backend']} {row['precision']}"}
        for row in bundle.accuracy["rows"]
        if row["accuracy"] is not None
    ]
    yield f"metrics: {_json([metric])}"
    yield from ("model-index:", f"- name: {_json(bundle.name)}", "  results:", f"  - task: {_json(task)}")
    yield from (f"    dataset: {_json(of)}", "    metrics:", *(f"    - {_json(one)}" for one in figures))


def _body(bundle: Bundle) -> Iterator[str]:
    file = bundle.path.name
    kinds = ", ".join(artifact.name for artifact in bundle.artifacts.values())
    yield f"A 2D pose network as a bundle of posert: {_line(kinds)}, with its contract and its measured accuracy."
    yield ""
    yield from _section("Use", *_use(bundle, file))
    yield from _section("Accuracy", *_accuracy(bundle))
    yield from _section("Contract", *_contract(bundle))
    yield from _section("Weights", *_weights(bundle))
    yield from _section("Calibration", *_calibration(bundle))
    yield from _section("Tested on", *_tested(bundle))
    rows = [(a.file, a.precision, f"{a.bytes / 1e6:.1f}", a.sha256) for a in bundle.artifacts.values()]
    yield from _section("Graphs", *_table(("file", "precision", "MB", "sha256"), rows))


def _use(bundle: Bundle, file: str) -> Iterator[str]:
    yield from ("```bash", 'pip install "posert[openvino]"', f"posert verify {shlex.quote(file)}", "```", "")
    yield from ("```python", "import cv2", "from posert.runtime import PoseEstimator", "")
    yield f"pose = PoseEstimator({_json(file)})"
    yield 'frame = cv2.imread("photo.jpg")  # (H, W, 3) uint8 BGR'
    yield f"{bundle.contract.subject[1]} = pose(frame, [[0, 0, 100, 200]])  # boxes xyxy, px of the frame"
    yield from (
        "```",
        "",
        'From the Hugging Face Hub, with `pip install "posert[hf]"`: `PoseEstimator("hf://OWNER/NAME")`.',
    )


def _accuracy(bundle: Bundle) -> Iterator[str]:
    accuracy = bundle.accuracy
    yield f"Accuracy gate: **{_line(accuracy.get('verdict', 'unproven'))}**. {_line(gate_words(accuracy))}"
    note = _line(accuracy.get("data", {}).get("note", ""))
    if note and note not in gate_words(accuracy):
        yield f"{note[0].upper()}{note[1:]}."
    if accuracy["rows"]:
        yield from ("", *_table(*gate_table(accuracy)), "")
        yield "Drift: the distance from the PyTorch model's joints within which 95 % of a graph's joints are."
    for key in ("published", "published_elsewhere"):
        if figures := accuracy.get(key):
            told = ", ".join(f"{_line(name)} {value:g}" for name, value in figures.items())
            yield from ("", f"Published for {_line(accuracy.get('published_for', 'this checkpoint'))}: {told}.")


def _contract(bundle: Bundle) -> Iterator[str]:
    c = bundle.contract
    grown = "" if c.enlarge == (1, 1) else f"{c.enlarge[0]:g}x wider and {c.enlarge[1]:g}x higher, then "
    rows = [
        ("input", f"crops of {c.width}x{c.height} px (width x height), uint8 {c.color}; normalisation is in the graph"),
        ("normalisation", f"(p / 255 - mean) / std in {c.model_color}: mean {c.mean}, std {c.std}"),
        ("crop", f"the box {grown}enlarged {c.padding:g}x, {'UDP' if c.udp else 'plain'} affine transform"),
        ("output", output_words(c)),
        ("joints", f"{len(c.keypoints)}, of {c.dataset}: {', '.join(c.keypoints)}"),
    ]
    yield from _table(("", ""), rows)


def _weights(bundle: Bundle) -> Iterator[str]:
    model, license = bundle.manifest["model"], _license(bundle)
    checkpoint = model.get("checkpoint", {})
    rows = [
        ("network", model["arch"]),
        ("row", model.get("id")),
        ("source", checkpoint.get("source")),
        ("file", checkpoint.get("file")),
        ("sha256", checkpoint.get("sha256")),
        ("note", checkpoint.get("note")),
        ("licence", license or "not recorded"),
    ]
    yield from _table(("", ""), [(name, str(value)) for name, value in rows if value])
    if not license:
        yield ""
        yield "The bundle does not record the licence of the weights. `posert build --license SPDX` records it."


def _calibration(bundle: Bundle) -> Iterator[str]:
    record = bundle.manifest["calibration"]
    if not record:
        yield "None: no graph is in int8."
        return
    rows = [(name, str(record[key])) for name, key in _CALIBRATION.items() if record.get(key) is not None]
    yield from _table(("", ""), rows)
    if record.get("verdict"):
        yield from ("", _line(record["verdict"]))


_CALIBRATION = {"method": "method", "data": "data", "instances": "people", "images": "images", "sha256": "sha256"}


def _tested(bundle: Bundle) -> Iterator[str]:
    ran = dict.fromkeys(row["backend"] for row in bundle.accuracy["rows"] if row["verdict"] != "reference")
    yield f"Backends that the accuracy gate ran: {_line(', '.join(ran)) or 'none'}. Others were not run."
    versions = bundle.manifest["versions"]
    if versions:
        yield from ("", *_table(("library", "version"), sorted(versions.items())))


def _license(bundle: Bundle) -> str:
    return str(bundle.manifest["model"].get("checkpoint", {}).get("license", ""))


def _section(title: str, *lines: str) -> Iterable[str]:
    return (f"## {title}", "", *lines, "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(_line(cell) for cell in row)} |"


def _json(value: Any) -> str:
    """A value as JSON that is YAML, too: YAML takes no characters that cannot be printed."""
    return "".join(one for one in json.dumps(value, ensure_ascii=False) if one.isprintable())


def _line(text: Any) -> str:
    """A text in one line of Markdown, and in one cell of a table."""
    return re.sub(r"([|<\\`])", r"\\\1", " ".join(str(text).split()))
