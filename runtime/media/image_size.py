"""The size that an image file declares, read from its header: a few bytes may declare gigabytes."""

from __future__ import annotations

import re
import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 1_000_000  # of a PNG file; an image of 1 GB has a tenth
_MAX_SEGMENTS = 1_000_000  # of a JPEG file before its size
_MAX_SCANS = 200  # of a JPEG file, with its previews; libjpeg makes ten of a progressive one
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the three are other segments
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_KINDS = {3: "H", 4: "I", 16: "Q"}
_MAX_TAGS = 65_535  # of a TIFF file; a BigTIFF may declare 2^64
_J2K = b"\xff\x4f\xff\x51"  # a codestream begins, with its size
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[1-6]" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})\b")
_BOXED = 1 << 20  # bytes of an AVIF file in which its boxes lie

Size = tuple[int, int]


def declared_size(data: bytes) -> Size | None:
    """Width and height, px, of a file in AVIF, BMP, GIF, JPEG, JPEG 2000, PBM, PGM, PNG, PPM, TIFF or WebP.

    None of other formats and of damaged headers.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return struct.unpack_from(">II", data, 16)
        if data.startswith(b"BM"):
            wide = struct.unpack_from("<I", data, 14)[0] > 12  # OS/2's first header has 16 bits for each
            width, height = struct.unpack_from("<ii" if wide else "<HH", data, 18)
            return abs(width), abs(height)  # a negative height counts rows from the top
        if data.startswith((b"GIF87a", b"GIF89a")):
            return struct.unpack_from("<HH", data, 6)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
            return _tiff(data)
        if data[4:8] == b"jP  " or data.startswith(_J2K):
            return _jpeg2000(data)
        if data[4:8] == b"ftyp":
            return _avif(data)
        if found := _PNM.match(data[: 1 << 16]):
            return int(found[1]), int(found[2])
    except (struct.error, IndexError, OverflowError):  # the last: of an offset above 2^63 in a BigTIFF
        return None
    return None


def is_bounded(data: bytes) -> bool:
    """Whether decoding takes what the declared size needs, and not far more.

    A chunk of a PNG file may lie outside of it, and OpenCV 4.14 takes memory for what the chunk declares. Each scan of
    a JPEG file is a pass over all pixels, and may have 20 bytes.
    """
    if data.startswith(b"\xff\xd8"):
        return data.count(b"\xff\xda") <= _MAX_SCANS
    return not data.startswith(_PNG) or _chunks_fit(data)


def _chunks_fit(data: bytes) -> bool:
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return at == len(data)
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _jpeg(data: bytes) -> Size | None:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        at = data.find(b"\xff", at)  # decoders skip what is between segments
        if at < 0 or at + 9 > len(data):
            return None
        marker = data[at + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # without a length
            at += 1
        elif marker == 0xD9:
            return None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> Size | None:
    """Of the first image in the file; BigTIFF has longer offsets and counts. Of a tag that comes twice, the largest."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry, value = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    at = struct.unpack_from(order + offset, data, 8 if big else 4)[0]
    entries = min(struct.unpack_from(order + count, data, at)[0], _MAX_TAGS)
    first = at + struct.calcsize(order + count)
    found: dict[int, int] = {}
    for start in range(first, min(first + entry * entries, len(data)), entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, start)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and kind in _TIFF_KINDS:
            side = struct.unpack_from(order + _TIFF_KINDS[kind], data, start + value)[0]
            found[tag] = max(side, found.get(tag, 0))
    return (found[_TIFF_WIDTH], found[_TIFF_HEIGHT]) if len(found) == 2 else None


def _jpeg2000(data: bytes) -> Size | None:
    """Of the codestream: a decoder takes memory for that, whatever the box `ihdr` before it says."""
    at = data.find(_J2K)
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return (right - left, bottom - top) if right > left and bottom > top else None


def _avif(data: bytes) -> Size | None:
    """The largest of the images in the file, such as a picture and its alpha channel."""
    sizes = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[:_BOXED])]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
