"""`config.pbtxt`: read back by Protocol Buffers' own parser, and what a client takes out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime import PoseEstimator
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import ServerError
from posert.runtime.serving.model_config import CROPS, ModelFacts, Name, as_text, warmup
from posert.runtime.serving.repository import MAX_FRAMES, golden_frame, write_frames_model


def parsed(text: str) -> Any:
    """A config as the server reads it."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


@given(name=st.text(max_size=20), value=st.text(max_size=60), dims=st.lists(st.integers(-1, 4096), max_size=4))
def test_any_text_and_numbers_survive(name: str, value: str, dims: list[int]) -> None:
    config = {
        "name": name,
        "input": [{"name": value, "data_type": Name("TYPE_UINT8"), "dims": dims, "allow_ragged_batch": True}],
        "parameters": [{"key": "k", "value": {"string_value": json.dumps({"text": value})}}],
        "dynamic_batching": {},
    }
    read = parsed(as_text(config))
    assert read.name == name and read.input[0].name == value and list(read.input[0].dims) == dims
    assert json.loads(read.parameters["k"].string_value) == {"text": value}
    assert read.HasField("dynamic_batching") and read.input[0].allow_ragged_batch


def test_a_model_of_frames(narrow_bundle: Path, tmp_path: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        facts = write_frames_model(tmp_path / "pose", bundle, name="pose", backend="openvino", precision="fp32")
        crop = bundle.golden().crops[0]
    read = parsed((tmp_path / "pose" / "config.pbtxt").read_text())
    assert (read.name, read.backend, read.max_batch_size) == ("pose", "python", MAX_FRAMES)
    assert [list(tensor.dims) for tensor in (*read.input, *read.output)] == [[-1, -1, 3], [-1, 4], [-1, 17, 3]]
    (golden,) = read.model_warmup
    for key, size in (("frame", crop.size), ("boxes", 32)):
        assert (tmp_path / "pose" / "warmup" / golden.inputs[key].input_data_file).stat().st_size == size
    assert (tmp_path / "pose" / "1" / "model.pose").read_bytes() == narrow_bundle.read_bytes()
    as_json = {"name": "pose", "max_batch_size": MAX_FRAMES}
    as_json["parameters"] = {key: {"string_value": value.string_value} for key, value in read.parameters.items()}
    assert ModelFacts.from_config(as_json) == facts


@pytest.mark.parametrize("config", [{}, {"parameters": {"metadata": {"string_value": "{"}}}, {"parameters": []}])
def test_models_of_others(config: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="no contract of posert's"):
        ModelFacts.from_config({"name": "resnet", **config})


@pytest.mark.parametrize("changes", [{}, {"udp": True}, {"padding": 1.0, "enlarge": (1.09, 1.135)}])
def test_the_golden_frame_is_its_own_crop(narrow_bundle: Path, changes: dict[str, Any]) -> None:
    """The box of the warm-up shows the golden crop itself: the network must see what the reference saw."""
    with Bundle(narrow_bundle) as bundle:
        contract = Contract.from_json({**bundle.contract.to_json(), **changes})
        crop = bundle.golden().crops[0]
    frame, boxes = golden_frame(crop, contract)
    seen: list[np.ndarray] = []

    class Session:
        def infer(self, crops: np.ndarray) -> tuple[np.ndarray, ...]:
            seen.append(crops.copy())
            return (np.ones((len(crops), 17, contract.heatmap_height, contract.heatmap_width), np.float32),)

    PoseEstimator.from_session(contract, Session(), None)(frame, boxes)  # type: ignore[arg-type]
    # OpenCV rounds to 1/32 px. Of UDP the extent has the ratio W:H, but spans W-1 by H-1 px: 1/8 px here, at the edges.
    off = 1 / 32 + (1 / 8 if contract.udp else 0)
    assert np.abs(seen[0][0].astype(int) - crop).max() <= 255 * off + 1


def test_facts_and_warmup_are_plain() -> None:
    assert warmup("golden", {"crops": np.zeros((4, 3, 3), np.uint8)})["inputs"][0]["value"]["dims"] == [4, 3, 3]
    assert CROPS == "crops"
