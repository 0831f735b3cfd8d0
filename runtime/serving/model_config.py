"""`config.pbtxt` of a model of Triton Inference Server, and what a client reads back out of it.

Fields are those of Triton's docs/user_guide/model_configuration.md. Every field that Triton could complete by itself is
there, so that `--disable-auto-complete-config` holds the model to what the contract says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import BundleError, ServerError

METADATA = "metadata"
"""The parameter that holds the contract as JSON, under the name that ultralytics' client reads, too."""
FRAMES, CROPS = "frames", "crops"
_TYPES = {"uint8": ("TYPE_UINT8", "UINT8"), "float32": ("TYPE_FP32", "FP32"), "float64": ("TYPE_FP64", "FP64")}


class Name(str):
    """A word that stands without quotes in a config, such as KIND_CPU."""


@dataclass(frozen=True)
class ModelFacts:
    """What the client of a model has to know.

    Attributes:
        contract: of the network.
        takes: `FRAMES`: a frame and boxes, and the joints are px of the frame; `CROPS`: what the network takes.
        gives: "keypoints" or "heatmaps".
        verdict: of the accuracy gate.
        max_batch: most frames or crops of one request.
        input: name, type and layout of the graph's input, as a crop is given; empty for frames.
        outputs: names of the outputs.
    """

    contract: Contract
    takes: str
    gives: str
    verdict: str
    max_batch: int
    input: Mapping[str, Any]
    outputs: tuple[str, ...]

    def parameter(self) -> str:
        """The facts as JSON, for the parameter `METADATA`."""
        said = {"takes": self.takes, "gives": self.gives, "verdict": self.verdict, "input": dict(self.input)}
        return json.dumps({**said, "outputs": list(self.outputs), "contract": self.contract.to_json()})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelFacts:
        """From the JSON form of a served model's config. Raises ServerError: posert did not write it."""
        name = config.get("name", "the model")
        try:
            said = json.loads(config["parameters"][METADATA]["string_value"])
            contract = Contract.from_json(said["contract"])
            most, outputs = int(config["max_batch_size"]), tuple(said["outputs"])
            return cls(contract, said["takes"], said["gives"], said["verdict"], most, said["input"], outputs)
        except (KeyError, TypeError, ValueError, BundleError) as error:
            raise ServerError(
                f"{name} has no contract of posert's in its parameter {METADATA!r} ({error!r}): serve what "
                "`posert serve` or `posert export triton` writes"
            ) from error


def type_of(dtype: str) -> str:
    """What a config calls a type of numpy's: TYPE_UINT8."""
    return _TYPES[dtype][0]


def wire_type(array: NDArray[Any]) -> str:
    """What a request calls the type of an array: UINT8."""
    return _TYPES[np.dtype(array.dtype).name][1]


def warmup(name: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """A request that the server answers before it is ready; its arrays, without the batch, lie in warmup/NAME.INPUT."""
    given = [
        {
            "key": key,
            "value": {
                "data_type": Name(type_of(array.dtype.name)),
                "dims": list(array.shape),
                "input_data_file": f"{name}.{key}",
            },
        }
        for key, array in inputs.items()
    ]
    return {"name": name, "batch_size": 1, "inputs": given}


def as_text(config: Mapping[str, Any], indent: str = "") -> str:
    """A config in the text format of Protocol Buffers: mappings are messages, sequences of mappings repeat a field."""
    lines = []
    for key, value in config.items():
        for one in value if _repeats(value) else [value]:
            if isinstance(one, Mapping):
                lines += [f"{indent}{key} {{", as_text(one, f"{indent}  "), f"{indent}}}"]
            else:
                lines.append(f"{indent}{key}: {_literal(one)}")
    return "\n".join(line for line in lines if line)


def _repeats(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping)


def _literal(value: Any) -> str:
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers, lists of them: the same in both formats
