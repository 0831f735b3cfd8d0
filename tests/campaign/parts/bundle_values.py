"""Bundles whose manifest, contract and golden file say something else, under a right seal."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from posert.tests.campaign.bundles import Members, Uses, members, sealed
from posert.tests.campaign.case import Case, Part, Run
from posert.tests.campaign.hostile import Marker, npy
from posert.tests.campaign.material import bundle
from posert.tests.campaign.mutate import change_bytes, change_json, json_text, pick


def _manifest(case: Case, held: Members) -> bytes:
    """A manifest of other values; the members are as before."""
    value: Any = json.loads(held["manifest.json"])
    part = str(case.rng.choice(["manifest", "contract", "contract", "artifacts", "accuracy", "golden", "rows"]))
    if part == "manifest":
        value = change_json(case.rng, value, case.done)
    elif part == "rows":
        row = {
            "precision": "fp32", "backend": "openvino", "accuracy": 0.7, "accuracy_drop": 0.0, "verdict": "passed",
            "pixel_drift_p95": 0.1, "ms_per_person": 2.0, "artifact": "fp32", "reason": "", "jumps": 0.0,
        }  # fmt: skip
        value["accuracy"]["rows"] = change_json(case.rng, [row, {**row, "backend": "onnxruntime"}], case.done)
    else:
        value[part] = change_json(case.rng, value[part], case.done)
    if case.rng.random() < 0.3:
        return json_text(case.rng, value, case.done)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _golden(case: Case, held: Members) -> bytes:
    """A golden file that lies about its arrays, holds code, or expands."""
    rng, data = case.rng, held["golden.npz"]
    way = str(rng.choice(["bytes", "header", "header", "pickle", "deflate", "names", "arrays"]))
    case.done.append(f"golden: {way}")
    if way == "bytes":
        return change_bytes(rng, data, case.done)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, list(files))
    if way == "header":
        files[name] = npy(rng, files[name], case.done)
    elif way == "pickle":
        files[name] = pick(rng, (pickle.dumps(Marker()), _objects()))
    elif way == "names":
        files[pick(rng, ("output_2.npy", "../x.npy", "crops", "crops.npy ", "heatmaps.npy.npy"))] = files.pop(name)
    elif way == "arrays":
        stream = io.BytesIO()
        crops = np.zeros(
            pick(rng, ((0, 64, 48, 3), (65, 64, 48, 3), (64, 64, 48, 3), (2, 48, 64, 3), (2,), ())), np.uint8
        )
        maps = np.full(pick(rng, ((2, 17, 16, 12), (2, 17, 12, 16), (2, 18, 16, 12), (64, 17, 16, 12), (2,))),
                       pick(rng, (np.nan, np.inf, 0, 1e38, -1)), pick(rng, (np.float32, np.float64, np.float16, np.int8)))  # fmt: skip
        np.savez(stream, crops=crops, heatmaps=maps)
        return stream.getvalue()
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if way == "deflate" else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for key, content in files.items():
            archive.writestr(key, content + bytes(50 << 20) if way == "deflate" and key == name else content)
    return stream.getvalue()


def _objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Marker()], object), allow_pickle=True)
    return stream.getvalue()


def open_part(folder: Path) -> Run:
    held = members(bundle(folder))
    uses = Uses(folder, ("openvino", "onnxruntime"))

    def run(case: Case) -> str:
        if case.rng.random() < 0.75:
            new = sealed(held, _manifest(case, held))
        else:
            new = sealed({**held, "golden.npz": _golden(case, held)})
        return uses.any_of(case, case.write("case.pose", new), whole=False)

    return run


PART = Part(
    "bundle_values", "re-sealed bundles: manifests, contracts and golden files of other values", 6000, 60, open_part
)
