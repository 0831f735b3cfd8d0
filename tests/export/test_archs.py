"""The reference networks against the published sources (see conftest.py): names, shapes, parameters and outputs.

How the exported graphs compare with the same sources is in test_published_models.py.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from posert.export import archs, catalog
from posert.export.archs import Architecture, architecture, build_arch
from posert.export.graph import macs
from posert.export.weights.checkpoint import fit, load, recognise
from posert.runtime.cli.main import main
from posert.runtime.errors import CatalogError, CheckpointError

GOLDENS = Path(__file__).parents[1] / "goldens" / "models"
MANIFESTS = json.loads(lzma.decompress((GOLDENS / "manifests.json.xz").read_bytes()))

# The sources' models that no row of the catalog uses.
OTHERS = {
    "mm_res50_coco_256x192": "pose_resnet_50",
    "mg_mspn_2xstg_coco_256x192": "mspn_50_2",
    "pu_hg2_mpii_256x256": "hourglass_2",
    "hr_pose_hrnet_w48_mpii_256x256": "hrnet_w48",
}


def arch_of(name: str) -> str:
    return OTHERS[name] if name in OTHERS else catalog.row(name).arch


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
    with torch.device("meta"):
        network = build_arch(arch_of(name), manifest["num_keypoints"])
        output = network(torch.empty(manifest["input"]))
    assert list(output.shape) == manifest["output"]
    # Megvii's own count includes the heads of the stages before; its network has the same test path as MMPose's.
    expected = MANIFESTS["mm_2xmspn50_coco_256x192"] if name.startswith("mg_") else manifest
    assert macs.of_network(network, *manifest["input"][2:]) == expected["macs_test_path"]


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDENS.glob("*.npz")))
def test_output_equals_the_source(name: str, source_file, golden_input, check_golden):
    """Through the source's keys in the source's container, read, mapped, loaded and run by PyTorch."""
    manifest, golden = MANIFESTS[name], np.load(GOLDENS / f"{name}.npz")
    network = build_arch(arch_of(name), manifest["num_keypoints"])
    checkpoint = load(source_file(name), network)
    network.load_state_dict(checkpoint.state_dict)
    assert checkpoint.layout == {"mm": "mmpose-0.x", "mg": "megvii"}.get(name[:2], "original")
    dead = recognise({key: torch.empty(0) for key in manifest["keys_never_reached_by_forward"]})[0]
    with torch.inference_mode():
        for key in dead:  # never read, so they may hold anything
            if network.state_dict()[key].is_floating_point():
                network.state_dict()[key].fill_(float("nan"))
        check_golden(name, network(golden_input(name))[0].numpy())

        # Stopped after its first stage, a network gives the map that the source gave there.
        stages = architecture(arch_of(name)).stages
        if stages is not None and stages > 1:
            network.run_stages = 1
            y = network(golden_input(name)).double()
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
def test_megvii_biases_fold_into_the_batch_norm(theirs: str, ours: str, stride: int, make_tensor, tmp_path: Path):
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


@pytest.mark.parametrize(
    ("arch", "stages", "message"),
    [
        ("mspn_50_1", 2, "mspn_50_1 has 1 stage, it cannot stop after 2: say 1 to 1"),
        ("hourglass_2", 0, "hourglass_2 has 2 stages, it cannot stop after 0: say 1 to 2"),
        ("hrnet_w32", 1, "hrnet_w32 is not made of stages"),
        ("hourglass_52", 1, "hourglass_52 is not made of stages"),
    ],
)
def test_stages_that_are_not_there_are_refused(arch: str, stages: int, message: str):
    with pytest.raises(CatalogError, match=message), torch.device("meta"):
        build_arch(arch, 2, stages=stages)


def test_a_network_stopped_early_costs_what_the_one_with_fewer_stages_does():
    counts = macs.of_stages(catalog.row("mm_4xmspn50_coco_256x192"))
    names = [f"mm_{n}mspn50_coco_256x192" for n in ("", "2x", "3x", "4x")]
    assert counts == [MANIFESTS[name]["macs_test_path"] for name in names]
    assert macs.of_stages(catalog.find("hrnet_w32")) == []


def test_caffe_style_loads_and_differs():
    """Same names and shapes, other maps: the reason why the style is part of the architecture's name."""
    torch.manual_seed(0)
    plain, caffe = build_arch("pose_resnet_50", 1), build_arch("pose_resnet_50_caffe", 1)
    caffe.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        a, b = plain(x), caffe(x)
    assert a.shape == b.shape and (a - b).abs().max() > 0.1 * a.std()


class TestInstalledPackages:
    @pytest.fixture
    def install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
        """Make modules from their source, and an entry point to ARCHITECTURES in each."""

        def install(**modules: str) -> None:
            for name, source in modules.items():
                (tmp_path / f"{name}.py").write_text(
                    f"from torch import nn\nfrom posert.export.archs import Architecture\n{source}\n"
                )
            points = [metadata.EntryPoint(name, f"{name}:ARCHITECTURES", archs.GROUP) for name in modules]
            monkeypatch.setattr(archs, "plugins", lambda group: points)
            archs._load.cache_clear()
            catalog._load.cache_clear()

        monkeypatch.syspath_prepend(tmp_path)
        before = set(sys.modules)
        yield install
        for name in set(sys.modules) - before:
            del sys.modules[name]
        archs._load.cache_clear()
        catalog._load.cache_clear()

    def test_one_or_several(self, install: Callable[..., None]) -> None:
        install(
            posert_test_one="ARCHITECTURES = Architecture('one', nn.Identity, stride=2)",
            posert_test_two="ARCHITECTURES = (Architecture('two', nn.Identity), Architecture('three', nn.Identity))",
        )
        assert list(archs.architectures())[-3:] == ["one", "two", "three"]
        assert architecture("one") == Architecture("one", torch.nn.Identity, 2) and not archs.plugin_failures()

    def test_those_that_do_not_load_are_named_and_stop_nothing(self, install: Callable[..., None]) -> None:
        install(
            posert_test_broken="import a_library_that_nobody_has",
            posert_test_empty="",
            posert_test_wrong="ARCHITECTURES = {'wrong': nn.Identity}",
            posert_test_right="ARCHITECTURES = (Architecture('right', nn.Identity),)",
        )
        assert {"right", "hrnet_w32"} <= archs.architectures().keys()
        failures = archs.plugin_failures()
        assert len(failures) == 3
        broken = failures["posert.archs: posert_test_broken (unknown package)"]
        assert broken == "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"
        assert "expected ARCHITECTURES, a tuple of posert.export.archs.Architecture" in str(failures)
        with pytest.raises(CatalogError, match="(?s)unknown architecture 'broken'.*posert_test_broken.* was skipped"):
            catalog.find("broken")

    def test_bad_ones_are_named_and_stop_no_other(
        self, install: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Networks that refuse their row's size, take grey images or cannot be made, and rows that are wrong."""
        row = "dict(dataset='coco', input=[256, 192])"
        install(
            posert_test_bad=f"""
from posert.export.archs.hrnet import HRNet
def fails(keypoints):
    raise ValueError('no such thing')
size = dict(odd_size=dict(dataset='coco', input=[200, 200]))
ARCHITECTURES = (
    Architecture('odd', lambda k: HRNet(k, (4, 8, 16, 32), (1, 1, 1), 1, 8, 1, 4), rows=size),
    Architecture('grey', lambda k: nn.Conv2d(1, k, 4, 4), rows=dict(grey_row={row})),
    Architecture('unmade', fails, rows=dict(unmade_row={row})),
    Architecture('nowhere', nn.Identity, rows=dict(nowhere_row=dict(dataset='nosuch', input=[256, 192]))),
    Architecture('misspelt', nn.Identity, rows=dict(misspelt_row=dict(dataset='coco', input=[8, 8], colour='RGB'))),
)"""
        )
        assert main(["models"]) == 0
        out = capsys.readouterr().out
        assert "mm_hrnet_w32_coco_256x192" in out
        assert re.search(r"^odd_size does not run on images \(1, 3, 200, 200\): RuntimeError", out, re.MULTILINE)
        assert re.search(r"^grey_row does not run .*: its first convolution takes 1 channels", out, re.MULTILINE)
        assert "unmade_row does not run on images (1, 3, 256, 192): ValueError: no such thing" in out
        assert out.count("nowhere_row") == 1 and "nowhere_row of the architecture nowhere was skipped" in out
        assert out.count("misspelt_row of the architecture misspelt was skipped") == 1 and "'colour'" in out
        assert main(["models", "--json"]) == 0
        capsys.readouterr()
        assert catalog.find("hrnet_demo").dataset == "coco"
        with pytest.raises(CheckpointError, match="does not fit"):
            fit({"x": torch.zeros(1)}, build_arch("hrnet_demo", 17), "w.pth")
        for arch, message in (
            ("odd", r"does not take images \(1, 3, 200, 200\).*multiples of 32"),
            ("grey", "takes images of 1 channels .* networks of three, BGR or RGB"),
        ):
            assert main(["build", "--arch", arch, "--weights", "random", "--output", str(tmp_path / "x.pose")]) == 2
            assert re.search(message, capsys.readouterr().err, re.DOTALL), arch

    def test_a_name_that_is_taken_is_refused(self, install: Callable[..., None]) -> None:
        install(posert_test_same="ARCHITECTURES = Architecture('hrnet_w32', nn.Identity)")
        with pytest.raises(CatalogError, match=r"'hrnet_w32': in export/archs/hrnet.py and in .*posert_test_same"):
            archs.architectures()
