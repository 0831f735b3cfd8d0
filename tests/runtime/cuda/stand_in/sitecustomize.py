"""Python starts with the stand-in GPU (fake_cuda.cpp), the stand-in TensorRT, and frames of PyTorch on that GPU.

In the environment: POSERT_LIBCUDA, the stand-in driver. Memory of its GPU is the host's.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

CAPABILITY = 2

driver = ctypes.CDLL(os.environ["POSERT_LIBCUDA"])
driver.fake_set(CAPABILITY, 86)
spec = importlib.util.spec_from_file_location("fake_tensorrt", Path(__file__).parents[1] / "fake_tensorrt.py")
assert spec and spec.loader
fake_tensorrt = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake_tensorrt)
sys.modules["tensorrt"] = fake_tensorrt.module(driver)

if "STAND_IN_TORCH" in os.environ:
    import torch

    class Cuda:
        """What a tensor on a GPU says of itself: by DLPack, for a stream."""

        def __init__(self, tensor: Any) -> None:
            self._tensor, self.shape, self.dtype = tensor.clone(), tensor.shape, tensor.dtype

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)  # CUDA

        def __dlpack__(self, stream: int | None = None) -> Any:
            assert stream is not None, "PyTorch waits for the stream that reads"
            return self._tensor.__dlpack__()

    torch.cuda.is_available = lambda: True
    torch.Tensor.cuda = lambda self: Cuda(self)  # type: ignore[method-assign]
