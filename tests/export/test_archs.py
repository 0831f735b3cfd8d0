"""The reference networks against the published sources: names, shapes, parameters, multiply-adds and outputs.

tests/goldens/models holds what the source repositories' own code gave: `manifests.json.xz` the state dicts' keys and
shapes and the counted work, one .npz per model the output for weights that `make_tensor` makes from the keys.
"""

from __future__ import annotations

import json
import lzma
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from posert.export import catalog
from posert.export.archs import archs, build_arch
from posert.export.checkpoint import load, recognise
from posert.runtime.errors import CatalogError

GOLDENS = Path(__file__).parents[1] / "goldens" / "models"
MANIFESTS = json.loads(lzma.decompress((GOLDENS / "manifests.json.xz").read_bytes()))

# The sources' models that no row of the catalog uses.
OTHERS = {
    "mm_res50_coco_256x192": "pose_resnet_50",
    "mg_mspn_2xstg_coco_256x192": "mspn_50_2",
    "pu_hg2_mpii_256x256": "hourglass_2",
    "hr_pose_hrnet_w48_mpii_256x256": "hrnet_w48",
}

# Factors on the weight and bias of some modules, without which random weights grow from layer to layer.
GAINS = {
    "hrnet": [
        (r"layer1\.\d+\.bn3$", 0.3),
        (r"branches\.\d+\.\d+\.bn2$", 0.3),
        (r"fuse_layers(\.\d+){2,3}\.1$", 0.3),
    ],
    "pose_resnet": [(r"layer[1-4]\.\d+\.bn3$", 0.3)],
    "mm_hourglass": [(r"\.bn2$", 0.3)],
    "mm_mspn": [(r"\.bn3$", 0.3), (r"\.(out_skip1|out_skip2|up_conv)\.bn$", 0.3)],
    "mg_mspn": [(r"\.conv_bn_relu3\.bn$", 0.3), (r"\.(skip1|skip2|up_conv)\.bn$", 0.3)],
    "yx_hourglass": [(r"\.conv3$", 0.3), (r"^fc\.\d+\.1$", 0.1), (r"^(fc_|score_)\.\d+$", 0.3)],
    "pu_hourglass": [
        (r"\.conv3\.conv$", 0.3),
        (r"^features\.\d+\.1\.bn$", 0.1),
        (r"^merge_(preds|features)\.\d+\.conv\.conv$", 0.3),
    ],
}


def make_tensor(key: str, shape: list[int], family: str) -> torch.Tensor:
    """The weights with which the goldens were made: each from its key in the source repository."""
    module, leaf = key.rsplit(".", 1)
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if leaf == "running_mean":
        return torch.from_numpy(0.05 * z).float()
    if leaf == "running_var":
        return torch.from_numpy(1 + 0.1 * np.abs(z)).float()
    if leaf == "bias":
        value = 0.05 * z
    elif len(shape) == 1:
        value = 1 + 0.1 * z
    else:
        deconv = len(shape) == 4 and "deconv_layers." in key
        value = z * np.sqrt(2 / (shape[0] * shape[2] * shape[3] / 4 if deconv else np.prod(shape[1:])))
    gain = next((gain for pattern, gain in GAINS[family] if re.search(pattern, module)), 1)
    return torch.from_numpy(value * gain).float()


def make_input(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32))


def arch_of(name: str) -> str:
    return OTHERS[name] if name in OTHERS else catalog.row(name).arch


def test_every_catalog_row_has_a_network_and_a_manifest():
    assert {row.arch for row in catalog.rows().values()} <= set(archs())
    published = {id.removesuffix("__mmdet_boxes") for id in catalog.rows()} - {"demo_hrnet_coco_256x192"}
    assert published <= set(MANIFESTS)


def test_unknown_architecture_offers_the_nearest():
    with pytest.raises(CatalogError, match="Did you mean hrnet_w32"):
        build_arch("hrnet_w23", 17)


@pytest.mark.parametrize("name", MANIFESTS)
def test_keys_shapes_and_parameters_equal_the_source(name: str):
    manifest = MANIFESTS[name]
    with torch.device("meta"):
        network = build_arch(arch_of(name), manifest["num_keypoints"])
        source = {key: torch.empty(shape) for key, shape in manifest["state_dict"]}
    mapped, layout = recognise(source)
    assert {k: v.shape for k, v in mapped.items()} == {k: v.shape for k, v in network.state_dict().items()}
    folded = sum(v.numel() for v in source.values()) - sum(v.numel() for v in mapped.values())
    assert (folded > 0) == (layout.name == "megvii")
    assert sum(p.numel() for p in network.parameters()) == manifest["param_count"] - folded


@pytest.mark.parametrize("name", MANIFESTS)
def test_output_and_multiply_adds_of_the_test_path(name: str):
    """Counted on what `forward` executes: heads and branches that the output does not need must not run."""
    manifest = MANIFESTS[name]
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        # each deconvolution's weight meets every input value once, each convolution's makes every output value
        places = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        counted += module.weight.numel() * places.shape[2] * places.shape[3]

    with torch.device("meta"):
        network = build_arch(arch_of(name), manifest["num_keypoints"])
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.register_forward_hook(count)
        output = network(torch.empty(manifest["input"]))
    assert list(output.shape) == manifest["output"]
    # Megvii's own count includes the heads of the stages before; its network has the same test path as MMPose's.
    expected = MANIFESTS["mm_2xmspn50_coco_256x192"] if name.startswith("mg_") else manifest
    # The sources enlarge before the 1x1 up_conv of three levels per stage, this MSPN after it.
    saved = getattr(network, "stages", 0) * 256 * 256 * (16 * 12 + 32 * 24 + 64 * 48) * 3 // 4 if "mspn" in name else 0
    assert counted == expected["macs_test_path"] - saved


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDENS.glob("*.npz")))
def test_output_equals_the_source(name: str, tmp_path: Path):
    """Through the whole road: the source's keys in the source's container, read, mapped, loaded, run."""
    manifest, golden = MANIFESTS[name], np.load(GOLDENS / f"{name}.npz")
    state = {key: make_tensor(key, shape, manifest["family"]) for key, shape in manifest["state_dict"]}
    prefix = "model.module." if name.startswith("pu_") else ""
    content = {prefix + key: value for key, value in state.items()}
    torch.save(
        {"state_dict": content, "meta": {"epoch": 210}} if name[:2] in ("mm", "pu") else content, tmp_path / "w.pth"
    )

    network = build_arch(arch_of(name), manifest["num_keypoints"])
    checkpoint = load(tmp_path / "w.pth", network)
    network.load_state_dict(checkpoint.state_dict)
    dead = recognise({key: state[key] for key in manifest["keys_never_reached_by_forward"]})[0]
    assert checkpoint.layout == {"mm": "mmpose-0.x", "mg": "megvii"}.get(name[:2], "original")
    with torch.inference_mode():
        for key in dead:  # never read, so they may hold anything
            if network.state_dict()[key].is_floating_point():
                network.state_dict()[key].fill_(float("nan"))
        output = network(make_input(*golden["input_hw"].tolist()))[0].numpy()

    # float32 sums in another order: 20 times the source's own distance from its float64 run, or 1e-4 of the spread.
    # The smallest mistake that was tried on the sources (eps of batch-norm 1e-3) moves a map by 8e-3 of the spread.
    atol = 1e-4 * golden["stats"][1] + 20 * golden["fp64_maxabs"]
    step = int(golden["sub_stride"])
    assert output.shape == tuple(golden["out_shape"][1:])
    np.testing.assert_allclose(output[:, ::step, ::step], golden["sub"], rtol=1e-4, atol=atol)
    flat = output.reshape(len(output), -1)
    np.testing.assert_allclose(flat.max(1), golden["maxval"], rtol=1e-4, atol=atol)
    clear = golden["gap"] > 2 * atol
    assert clear.any() and (flat.argmax(1) == golden["argmax"])[clear].all()

    # Stopped after its first stage, a network gives the map that the source gave there.
    stages = getattr(network, "stages", 1)
    if stages > 1:
        network.run_stages = 1
        with torch.inference_mode():
            y = network(make_input(*golden["input_hw"].tolist())).double()
        seen = [y.mean(), y.std(correction=0), y.min(), y.max(), y.abs().mean()]
        first = golden["stage_stats"][len(golden["stage_stats"]) // stages - 1]
        np.testing.assert_allclose(seen, first, rtol=1e-4, atol=1e-4 * first[1] + 20 * golden["fp64_maxabs"])


@pytest.mark.parametrize(
    ("theirs", "ours", "stride"),
    [
        ("top.conv", "top.top.0", 2),
        ("stage0.downsample.layer2.0.conv_bn_relu2", "multi_stage_mspn.0.downsample.layer2.0.{}2", 2),
        ("stage1.downsample.layer3.0.downsample", "multi_stage_mspn.1.downsample.layer3.0.downsample", 2),
        ("stage0.upsample.up2.u_skip", "multi_stage_mspn.0.upsample.up2.in_skip", 1),
        ("stage0.upsample.up3.skip2", "multi_stage_mspn.0.upsample.up3.out_skip2", 1),
        ("stage0.upsample.up4.cross_conv", "multi_stage_mspn.0.upsample.up4.cross_conv", 1),
        ("stage1.upsample.up3.res_conv2", "predict_layers.6.conv_layers.1", 1),
    ],
)
def test_megvii_biases_fold_into_the_batch_norm(theirs: str, ours: str, stride: int, tmp_path: Path):
    """A convolution with bias and its batch-norm, computed by torch from Megvii's entries and by the loaded network."""
    state = {
        key: make_tensor(key, shape, "mg_mspn") if key.startswith(f"{theirs}.") else torch.zeros(()).expand(shape)
        for key, shape in MANIFESTS["mg_mspn_2xstg_coco_256x192"]["state_dict"]
    }
    torch.save({"state_dict": state}, tmp_path / "megvii.pth")
    network = build_arch("mspn_50_2", 17)
    checkpoint = load(tmp_path / "megvii.pth", network)
    assert checkpoint.layout == "megvii"
    network.load_state_dict(checkpoint.state_dict)
    conv, bn = (network.get_submodule(ours.format(x) if "{}" in ours else f"{ours}.{x}") for x in ("conv", "bn"))

    unit = {key.removeprefix(f"{theirs}."): value for key, value in state.items() if key.startswith(f"{theirs}.")}
    weight = unit["conv.weight"]
    x = torch.randn(1, weight.shape[1], 9, 7, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.conv2d(x, weight, unit["conv.bias"], stride, weight.shape[-1] // 2)
    y = torch.nn.functional.batch_norm(
        y, unit["bn.running_mean"], unit["bn.running_var"], unit["bn.weight"], unit["bn.bias"]
    )
    with torch.inference_mode():
        torch.testing.assert_close(bn(conv(x)), y, rtol=1e-5, atol=1e-5)


def test_stages_that_are_not_there_are_refused():
    with pytest.raises(CatalogError, match="mspn_50_1 has 1 stage, it cannot stop after 2"):
        build_arch("mspn_50_1", 2, stages=2)
    with pytest.raises(CatalogError, match="has 2 stages, it cannot stop after 0"):
        build_arch("hourglass_2", 2, stages=0)
    assert build_arch("hrnet_w32", 2, stages=1) is not None


def test_caffe_style_loads_and_differs():
    """Same names and shapes, other maps: the reason why the style is part of the architecture's name."""
    torch.manual_seed(0)
    plain, caffe = build_arch("pose_resnet_50", 1), build_arch("pose_resnet_50_caffe", 1)
    caffe.load_state_dict(plain.state_dict())
    x = make_input(64, 64)
    with torch.inference_mode():
        a, b = plain(x), caffe(x)
    assert a.shape == b.shape and (a - b).abs().max() > 0.1 * a.std()
