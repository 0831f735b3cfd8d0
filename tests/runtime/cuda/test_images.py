"""The compiled images that ship are those of this kernels.cu."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from posert.runtime.cuda import compile_kernels, kernels
from posert.runtime.errors import BackendError

FOLDER = Path(kernels.__file__).parent
MEND = "run: python -m posert.runtime.cuda.compile_kernels"


def test_images_are_of_this_source() -> None:
    index = kernels.image_index()
    assert index["source"] == hashlib.sha256((FOLDER / "kernels.cu").read_bytes()).hexdigest(), MEND
    assert index["options"] == list(compile_kernels.OPTIONS), MEND
    assert (tuple(index["cubin"]), index["ptx"]) == (compile_kernels.SHIPPED, compile_kernels.PTX), MEND
    present = {p.name for p in FOLDER.iterdir() if p.suffix in (".cubin", ".ptx")}
    assert present == set(index["files"]), MEND
    for name, digest in index["files"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, MEND


def test_no_register_spills() -> None:
    """As the assembler reported when the images were made, for all GPUs from Turing to Blackwell."""
    resources = kernels.image_index()["resources"]
    assert set(resources) == {f"sm_{c}" for c in compile_kernels.COMPILED}
    for target, used in resources.items():
        assert set(used) == {"locate", "warp", "decode"}
        assert all(kernel["spilled"] == 0 for kernel in used.values()), target
        # 48 KiB is what a kernel may have without asking
        assert all(kernel["shared"] <= 48 << 10 and kernel["registers"] <= 128 for kernel in used.values()), target


def test_images_are_what_the_compiler_makes() -> None:
    try:
        compiler = compile_kernels.Nvrtc()
    except BackendError as error:
        pytest.skip(str(error))
    index = kernels.image_index()
    if index["compiler"] != f"{compile_kernels.PACKAGE} {compiler.version}":
        pytest.skip(f"the images are of {index['compiler']}")
    files, made = compile_kernels.compile_all()
    assert {name: (FOLDER / name).read_bytes() == image for name, image in files.items()} == dict.fromkeys(
        index["files"], True
    ), MEND
    assert made["resources"] == index["resources"], MEND
    with pytest.raises(BackendError, match="refused kernels.cu for sm_90"):
        compiler.compile(b"error", "sm_90")


def test_image_of_a_gpu() -> None:
    def code(*capability: int) -> list[str]:
        seen = kernels.images((capability[0], capability[1]))
        return [n for image in seen for n in kernels.image_index()["files"] if (FOLDER / n).read_bytes() == image]

    ptx = "compute_75.ptx"
    assert code(7, 5) == ["sm_75.cubin", ptx]
    assert code(8, 6) == code(8, 9) == ["sm_80.cubin", ptx]  # not Orin's
    assert code(8, 7) == ["sm_87.cubin", ptx]
    assert code(9, 0) == ["sm_90.cubin", ptx]
    assert code(10, 3) == ["sm_100.cubin", ptx]
    assert code(12, 1) == ["sm_120.cubin", ptx]
    assert code(11, 0) == code(13, 0) == [ptx]  # Thor, and what is to come
    with pytest.raises(BackendError, match="compute capability 7.2.*Turing"):
        kernels.images((7, 2))


def test_the_log_of_the_assembler() -> None:
    log = """
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 4096 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers
"""
    assert compile_kernels.resources_of(log) == {
        "a": {"registers": 40, "stack": 16, "spilled": 12, "shared": 4096},
        "b": {"registers": 12, "stack": 0, "spilled": 0, "shared": 0},
    }
