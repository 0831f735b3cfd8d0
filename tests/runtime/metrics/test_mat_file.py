"""MATLAB files against scipy, which writes them; damaged ones are refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import loadmat, savemat

from posert.runtime.metrics.mat_file import read_mat

TYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]
NAMES = st.text("abcdefghijk_", min_size=1, max_size=31).filter(lambda name: name[0] != "_")


def saved(values: dict[str, Any], compressed: bool) -> bytes:
    stream = io.BytesIO()
    savemat(stream, values, do_compression=compressed)
    return stream.getvalue()


@given(
    st.dictionaries(
        NAMES,
        st.sampled_from(TYPES).flatmap(lambda kind: arrays(kind, array_shapes(max_dims=4, max_side=4))),
        max_size=4,
    ),
    st.booleans(),
)
def test_arrays_are_those_of_scipy(values: dict[str, Any], compressed: bool) -> None:
    data = saved(values, compressed)
    theirs = {name: v for name, v in loadmat(io.BytesIO(data)).items() if not name.startswith("__")}
    ours = read_mat(data, 1 << 20)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array.astype(np.float64))


def test_what_is_no_array_of_numbers_is_passed_over() -> None:
    values = {"text": "abc", "cell": np.array([[1, "a"]], object), "z": np.array([1j]), "s": {"a": 1}, "x": [1.0, 2.0]}
    assert list(read_mat(saved(values, True), 1 << 20)) == ["x"]


def test_big_endian() -> None:
    """As MATLAB wrote on other processors; made by hand, because scipy writes the machine's order."""

    def element(kind: int, data: bytes) -> bytes:
        return np.array([kind, len(data)], ">u4").tobytes() + data + bytes(-len(data) % 8)

    shape, name = element(5, np.array([1, 3], ">i4").tobytes()), element(1, b"abcde")
    values = element(3, np.array([-1, 2, 300], ">i2").tobytes())
    body = element(6, np.array([6, 0], ">u4").tobytes()) + shape + name + values
    data = b"MATLAB 5.0".ljust(124) + b"\1\0MI" + element(14, body)
    np.testing.assert_array_equal(loadmat(io.BytesIO(data))["abcde"], [[-1, 2, 300]])
    np.testing.assert_array_equal(read_mat(data, 1 << 20)["abcde"], [[-1, 2, 300]])


@pytest.mark.parametrize("compressed", [False, True])
def test_limit(compressed: bool) -> None:
    data = saved({"x": np.zeros(1000), "y": np.zeros(1000)}, compressed)
    assert len(read_mat(data, 20_000)) == 2
    with pytest.raises(ValueError, match="more than 10000 bytes|beyond what holds it"):
        read_mat(data, 10_000)


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=4), st.integers(0, 400))
def test_damage(compressed: bool, flips: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(saved({"a": np.arange(12.0).reshape(3, 4), "b": np.zeros((2, 2, 2), np.uint8)}, compressed))
    for at, value in flips:
        data[at % len(data)] = value
    try:
        read_mat(bytes(data[: len(data) - cut]), 1 << 20)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n" + bytes(200), bytes(128), b"x" * 128])
def test_another_format(data: bytes) -> None:
    with pytest.raises(ValueError, match="no MATLAB file of version 5"):
        read_mat(data, 1 << 20)
