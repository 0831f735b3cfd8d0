"""ONNX files as other people write them: brought into one form that computes the same, or refused by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from posert.export.graph.from_onnx import from_onnx
from posert.export.graph.to_onnx import run
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError

MAPS = Contract("test", ("a", "b", "c"), ((1, 2),), (), (), 24, 32, 6, 8)
VECTORS = Contract("test", ("a", "b", "c"), ((1, 2),), (), (), 24, 32, 48, 64, decode="simcc")
SQUARE = Contract("test", ("a", "b", "c"), (), (), (), 32, 32, 64, 64, decode="simcc")


class Attention(nn.Module):
    """A transformer block over the cells of a map, as ViTPose has them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 3, 1)
        self.position = nn.Parameter(torch.randn(1, 48, 16))
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        batch, channels, height, width = x.shape
        x = x.flatten(2).transpose(1, 2) + self.position
        q, k, v = self.qkv(self.norm(x)).reshape(batch, height * width, 3, 2, 8).permute(2, 0, 3, 1, 4)
        seen = ((q @ k.transpose(-2, -1)) / 8**0.5).softmax(-1) @ v
        x = x + self.out(seen.transpose(1, 2).reshape(batch, height * width, channels))
        return self.head(x.transpose(1, 2).reshape(batch, channels, height, width))


class Vectors(nn.Module):
    """SimCC: features of a convolution, and a matrix product per axis."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU())
        cells = width * height // 4
        self.x, self.y = nn.Linear(cells, 2 * width), nn.Linear(cells, 2 * height)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images).flatten(2)
        return self.x(features), self.y(features)


class Upsampled(nn.Module):
    """Old exporters write the size of a Resize as a constant, batch included."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.head = nn.Conv2d(3, 8, 3, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.interpolate(self.down(images), size=(8, 6), mode="bilinear"))


def export(
    network: nn.Module, path: Path, contract: Contract, dynamic: bool = False, opset: int = 17, **names: list[str]
) -> Path:
    """By the exporter that MMDeploy and ViTPose's users have."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    names = {"input_names": ["input"], "output_names": ["output"], **names}
    axes = {name: {0: "batch"} for name in (*names["input_names"], *names["output_names"])} if dynamic else None
    images = torch.zeros(1, 3, contract.height, contract.width)
    torch.onnx.export(
        network.eval(), (images,), str(path), opset_version=opset, dynamo=False, dynamic_axes=axes, **names
    )
    return path


def check(path: Path, contract: Contract, network: nn.Module) -> onnx.ModelProto:
    """The graph takes any batch and computes what the network computes."""
    model = from_onnx(path, contract, 19).model
    images = np.random.default_rng(1).standard_normal((3, 3, contract.height, contract.width)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for seen, wanted in zip(run(model, {"images": images}), expected, strict=True):
        np.testing.assert_allclose(seen, wanted.numpy(), rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert [value.name for value in model.graph.output] == ["heatmaps", "output_1"][: len(expected)]
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    return model


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("make", [Attention, Upsampled])
def test_any_batch(tmp_path: Path, make: Callable[[], nn.Module], dynamic: bool, opset: int) -> None:
    network = make()
    model = check(export(network, tmp_path / "n.onnx", MAPS, dynamic, opset), MAPS, network)
    assert next(o.version for o in model.opset_import if o.domain == "") == 19
    (value,) = model.graph.output
    assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == ["N", 3, 8, 6]


@pytest.mark.parametrize("names", [["simcc_x", "simcc_y"], ["out617", "out618"], ["simcc_y", "simcc_x"]])
def test_two_outputs_are_told_apart_by_their_length(tmp_path: Path, names: list[str]) -> None:
    network = Vectors(24, 32)
    check(export(network, tmp_path / "n.onnx", VECTORS, output_names=names), VECTORS, network)


def test_two_outputs_of_one_length_are_told_apart_by_name_alone(tmp_path: Path) -> None:
    network = Vectors(32, 32)
    check(export(network, tmp_path / "n.onnx", SQUARE, output_names=["simcc_x", "simcc_y"]), SQUARE, network)
    with pytest.raises(
        InputError, match=r"out617 \(3, 64\), out618 \(3, 64\); 2 of them have.*rename them simcc_x and simcc_y"
    ):
        from_onnx(export(network, tmp_path / "n.onnx", SQUARE, output_names=["out617", "out618"]), SQUARE, 19)


class Many(nn.Module):
    """Maps with features beside them, or with those of an earlier stage."""

    def __init__(self, same: bool) -> None:
        super().__init__()
        self.first, self.last, self.same = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 3, 1), same

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.first(images)
        maps = self.last(features)
        return (maps * 2 if self.same else features), maps


def test_outputs_that_are_not_decoded_are_left_out(tmp_path: Path) -> None:
    path = export(Many(False), tmp_path / "n.onnx", MAPS, output_names=["features", "maps"])
    found = from_onnx(path, MAPS, 19)
    assert found.notes == ("outputs that are not decoded were left out: features",)
    assert [value.name for value in found.model.graph.output] == ["heatmaps"]
    path = export(Many(True), tmp_path / "n.onnx", MAPS, output_names=["stage_1", "stage_2"])
    with pytest.raises(
        InputError, match=r"stage_1 \(3, 8, 6\), stage_2 \(3, 8, 6\); 2 of them have .* the one to decode"
    ):
        from_onnx(path, MAPS, 19)


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def test_half_precision(tmp_path: Path) -> None:
    network = Attention()
    model = onnx.load(export(network, tmp_path / "n.onnx", MAPS))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "half.onnx")
    found = from_onnx(tmp_path / "half.onnx", MAPS, 19)
    assert "float16" in found.notes[0]
    check(tmp_path / "half.onnx", MAPS, network.half().float())


def test_a_network_that_normalises_by_itself(tmp_path: Path) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Upsampled()

        def forward(self, frames: Tensor) -> Tensor:
            return self.network(frames.permute(0, 3, 1, 2).float() / 255)

    network = Whole().eval()
    path = tmp_path / "n.onnx"
    frames = torch.zeros(1, 32, 24, 3, dtype=torch.uint8)
    torch.onnx.export(network, (frames,), str(path), opset_version=17, dynamo=False, input_names=["frames"])
    with pytest.raises(InputError, match=r"takes uint8, so it normalises by itself; say so .* mean: \[0, 0, 0\]"):
        from_onnx(path, MAPS, 19)
    contract = Contract(**{**vars(MAPS), "mean": (0, 0, 0), "std": (1 / 255,) * 3})
    found = from_onnx(path, contract, 19)
    assert found.notes == ("the network normalises by itself", "the network takes images as (N, H, W, 3)")
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(crops)).numpy()
    (seen,) = run(found.model, {"images": crops.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)


def test_external_data(tmp_path: Path) -> None:
    network = Upsampled()
    model = onnx.load(export(network, tmp_path / "n.onnx", MAPS))
    (tmp_path / "n.onnx").unlink()
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    check(tmp_path / "e.onnx", MAPS, network)
    (tmp_path / "e.bin").unlink()
    with pytest.raises(InputError, match="no complete ONNX graph: .*External data must lie beside the file"):
        from_onnx(tmp_path / "e.onnx", MAPS, 19)


def add_node(operator: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(operator, ["output"], ["more"], "strange", domain=domain))
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_node("MMCVDeformConv2d", "mmdeploy"), r"node 'strange' \(MMCVDeformConv2d\) is an operator of mmdeploy"),
        (add_node("Gelu", "com.microsoft"), r"'strange' \(Gelu\) is an operator of com.microsoft"),
        (opset(99), "cannot be read|has opset 99; posert reads up to 25|no complete ONNX graph"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str) -> None:
    path = changed(export(Upsampled(), tmp_path / "n.onnx", MAPS), change)
    with pytest.raises(InputError, match=message):
        from_onnx(path, MAPS, 19)


def test_a_graph_that_is_quantised_already(tmp_path: Path) -> None:
    import onnxruntime.quantization as quantization

    path, out = export(Upsampled(), tmp_path / "n.onnx", MAPS), tmp_path / "q.onnx"
    quantization.quantize_dynamic(path, out)
    with pytest.raises(InputError, match="is quantised already; give the float graph|operator of com.microsoft"):
        from_onnx(out, MAPS, 19)


def test_another_contract(tmp_path: Path) -> None:
    path = export(Upsampled(), tmp_path / "n.onnx", MAPS)
    size = {"width": 48, "height": 64, "heatmap_width": 12, "heatmap_height": 16}
    with pytest.raises(InputError, match=r"takes input \[1, 3, 32, 24\]; the contract's crops are \(N, 3, 64, 48\)"):
        from_onnx(path, Contract(**{**vars(MAPS), **size}), 19)
    names = ("a", "b", "c", "d")
    with pytest.raises(
        InputError, match=r"output \(3, 8, 6\); none of them has the shape \(4, 8, 6\) .* with 4 joints"
    ):
        from_onnx(path, Contract(**{**vars(MAPS), "keypoints": names}), 19)


def test_files_that_are_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    with pytest.raises(InputError, match="there is no ONNX file"):
        from_onnx(path, MAPS, 19)
    for content in (b"", b"\x00" * 100, b"PK\x03\x04 not a graph", io.BytesIO().getvalue() + b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as ONNX|holds no ONNX graph"):
            from_onnx(path, MAPS, 19)
