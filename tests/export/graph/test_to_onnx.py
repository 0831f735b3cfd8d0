"""The ONNX graphs: clean, self-contained, and the same function as the network."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import posert
from posert.export.graph.reference import ExportError, Reference, random_crops
from posert.export.graph.to_onnx import OPSET, run, to_onnx, with_crops
from posert.runtime.bundle.contract import Contract


class Tiny(nn.Module):
    """Two convolutions, exported in a second."""

    def __init__(self, keypoints: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, keypoints, 1)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.first(images))))


CONTRACT = Contract(
    dataset="coco", keypoints=("a", "b", "c"), flip_pairs=(), skeleton=(), sigmas=(0.1, 0.1, 0.1),
    width=24, height=32, heatmap_width=12, heatmap_height=16,
)  # fmt: skip


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, onnx.ModelProto]:
    network = Tiny().eval()
    return network, to_onnx(Reference(network, CONTRACT))


class TestPlainGraph:
    def test_inputs_and_outputs(self, narrow_onnx: onnx.ModelProto) -> None:
        graph = narrow_onnx.graph
        assert [(v.name, dims(v)) for v in graph.input] == [("images", ["N", 3, 128, 96])]
        assert [(v.name, dims(v)) for v in graph.output] == [("heatmaps", ["N", 17, 32, 24])]
        assert all(v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for v in (*graph.input, *graph.output))
        assert [(o.domain, o.version) for o in narrow_onnx.opset_import] == [("", OPSET)]

    def test_equals_pytorch_at_any_batch(self, narrow_onnx: onnx.ModelProto, narrow_reference: Reference) -> None:
        for count in (1, 4):
            images = narrow_reference.normalise(torch.from_numpy(random_crops(narrow_reference.contract, count, 9)))
            with torch.inference_mode():
                expected = narrow_reference.network(images).numpy()
            (seen,) = run(narrow_onnx, {"images": images.numpy()})
            np.testing.assert_allclose(seen, expected, rtol=0, atol=5e-5 * float(np.abs(expected).max()))

    def test_nothing_but_the_network_is_left(self, narrow_onnx: onnx.ModelProto) -> None:
        """Batch-norms are folded; the exporter's Identity, Constant and Cast nodes are gone."""
        assert {n.op_type for n in narrow_onnx.graph.node} == {"Conv", "Relu", "Add", "Resize"}
        assert not narrow_onnx.functions and not narrow_onnx.training_info

    def test_one_node_for_each_layer(self, narrow_onnx: onnx.ModelProto, narrow_reference: Reference) -> None:
        layers = [m for m in narrow_reference.network.modules() if isinstance(m, nn.Conv2d)]
        assert sum(n.op_type == "Conv" for n in narrow_onnx.graph.node) == len(layers)

    def test_nodes_are_named_after_modules_and_no_name_is_there_twice(
        self, narrow_onnx: onnx.ModelProto, narrow_reference: Reference
    ) -> None:
        modules = dict(narrow_reference.network.named_modules())
        nodes = [n for n in narrow_onnx.graph.node if n.op_type == "Conv"]
        assert all(isinstance(modules[n.name], nn.Conv2d) for n in nodes)
        names = [n.name for n in narrow_onnx.graph.node]
        assert len(set(names)) == len(names)
        made = [o for n in narrow_onnx.graph.node for o in n.output]
        assert len(set(made)) == len(made)

    def test_weights_are_embedded_and_used(self, narrow_onnx: onnx.ModelProto) -> None:
        read = {i for n in narrow_onnx.graph.node for i in n.input}
        for tensor in narrow_onnx.graph.initializer:
            assert tensor.data_location == onnx.TensorProto.DEFAULT and not tensor.external_data
            assert tensor.name in read

    def test_nothing_of_this_machine(self, narrow_onnx: onnx.ModelProto, narrow_reference: Reference) -> None:
        for model in (narrow_onnx, with_crops(narrow_onnx, narrow_reference.contract)):
            data = model.SerializeToString()
            for text in (str(Path(posert.__file__).parent), str(Path.home()), "site-packages", ".py", "pkg.torch"):
                assert text.encode() not in data, text
            assert not model.metadata_props and not model.doc_string
            assert (model.producer_name, model.producer_version) == ("posert", "")

    def test_the_same_network_gives_the_same_bytes(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        assert to_onnx(Reference(Tiny().eval(), CONTRACT)).SerializeToString() == tiny[1].SerializeToString()

    @pytest.mark.parametrize("opset", [17, 21])
    def test_the_opset_is_the_one_that_was_asked_for(self, opset: int) -> None:
        model = to_onnx(Reference(Tiny().eval(), CONTRACT), opset)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
        onnx.checker.check_model(model, full_check=True)

    @pytest.mark.parametrize("opset", [9, 16, 26, 0, -1])
    def test_an_opset_that_cannot_be_had_is_refused(self, opset: int) -> None:
        with pytest.raises(ExportError, match=f"--opset {opset}: expected 17 to 25"):
            to_onnx(Reference(Tiny().eval(), CONTRACT), opset)

    def test_a_network_that_the_exporter_changes_is_caught(self) -> None:
        class Forgetful(Tiny):
            """Gives one thing while it is exported and another when it is run."""

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                maps = super().forward(images)
                return maps * 1.01 if torch.compiler.is_compiling() else maps

        with pytest.raises(ExportError, match="the ONNX graph differs from the PyTorch model by"):
            to_onnx(Reference(Forgetful().eval(), CONTRACT))

    def test_a_network_that_cannot_be_exported_says_so(self) -> None:
        class Branching(Tiny):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                maps = super().forward(images)
                return maps if float(maps.sum()) > 0 else -maps

        with pytest.raises(ExportError, match="could not export the network"):
            to_onnx(Reference(Branching().eval(), CONTRACT))


class TestGraphOfTheBundle:
    @pytest.mark.parametrize("color", ["RGB", "BGR"])
    def test_crops_in_the_references_heatmaps_out(self, tiny: tuple[nn.Module, onnx.ModelProto], color: str) -> None:
        contract = replace(CONTRACT, model_color=color, mean=(0.485, 0.2, 0.7), std=(0.1, 0.25, 0.5))
        network, plain = tiny
        crops = random_crops(contract, 3, seed=2)
        crops[0] = 0
        crops[1] = 255
        (expected,) = Reference(network, contract).infer(crops)
        (seen,) = run(with_crops(plain, contract), {"crops": crops})
        # (p - 255 * mean) * (1 / (255 * std)) against (p / 255 - mean) / std: the last bits of float32
        np.testing.assert_allclose(seen, expected, rtol=0, atol=2e-6 * float(np.abs(expected).max()) + 1e-6)

    def test_colour_order_matters(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        """So that the test above can fail: the two orders give different maps."""
        crops = random_crops(CONTRACT, 1)
        rgb, bgr = (
            run(with_crops(tiny[1], replace(CONTRACT, model_color=c)), {"crops": crops})[0] for c in ("RGB", "BGR")
        )
        assert np.abs(rgb - bgr).max() > 0.05

    def test_the_narrow_network(self, narrow_onnx: onnx.ModelProto, narrow_reference: Reference) -> None:
        crops = random_crops(narrow_reference.contract, 3, seed=4)
        (expected,) = narrow_reference.infer(crops)
        (seen,) = run(with_crops(narrow_onnx, narrow_reference.contract), {"crops": crops})
        np.testing.assert_allclose(seen, expected, rtol=0, atol=5e-5 * float(np.abs(expected).max()))

    def test_inputs_outputs_and_nodes(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        model = with_crops(tiny[1], CONTRACT)
        assert [(v.name, dims(v)) for v in model.graph.input] == [("crops", ["N", 32, 24, 3])]
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [(v.name, dims(v)) for v in model.graph.output] == [("heatmaps", ["N", 3, 16, 12])]
        assert [n.op_type for n in model.graph.node] == ["Cast", "Sub", "Mul", "Transpose", "Conv", "Relu", "Conv"]

    def test_the_plain_graph_is_left_alone(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        before = copy.deepcopy(tiny[1])
        with_crops(tiny[1], CONTRACT)
        assert tiny[1] == before

    def test_a_swap_that_cannot_be_folded_is_a_node(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        model = copy.deepcopy(tiny[1])
        model.graph.node.append(onnx.helper.make_node("Relu", ["images"], ["unused"], "second_reader"))
        graph = with_crops(model, CONTRACT)
        assert [n.op_type for n in graph.graph.node if n.name.startswith("normalise")][3] == "Gather"
        weights = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}["first.weight"]
        before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}["first.weight"]
        np.testing.assert_array_equal(weights, before)
        crops = random_crops(CONTRACT, 2)
        seen, folded = (run(one, {"crops": crops})[0] for one in (graph, with_crops(tiny[1], CONTRACT)))
        np.testing.assert_allclose(seen, folded, atol=1e-5)

    def test_only_the_first_convolution_is_swapped(self, tiny: tuple[nn.Module, onnx.ModelProto]) -> None:
        before = {t.name: numpy_helper.to_array(t) for t in tiny[1].graph.initializer}
        after = {t.name: numpy_helper.to_array(t) for t in with_crops(tiny[1], CONTRACT).graph.initializer}
        changed = [name for name, value in before.items() if not np.array_equal(after[name], value)]
        assert changed == ["first.weight"]
        np.testing.assert_array_equal(after["first.weight"], before["first.weight"][:, ::-1])
