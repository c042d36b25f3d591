"""The recognition of files by their signatures, as each format's specification has them."""

from __future__ import annotations

import struct

import pytest

from app.errors import InvalidImage
from app.settings import PictureLimits
from app.vision.decode import decode
from app.vision.sniff import sniff

from .pictures import quarters, saved


def media(*brands: bytes) -> bytes:
    """Return the box ``ftyp`` (ISO/IEC 14496-12, section 4.3): the major brand, its version, the compatible brands."""
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


FILES = {
    "HEIF": [media(b"mif1", b"miaf")],
    "a camera's raw file (Canon CR3)": [media(b"crx ", b"crx ", b"isom")],
    "a sound file (MPEG-4)": [media(b"M4A ", b"M4A ", b"mp42", b"isom")],
    "a video (MPEG-4 or QuickTime)": [media(b"isom"), media(b"qt  "), media(b"mp42"), media(b"3gp4")],
    "a video (AVI)": [b"RIFF\x10\0\0\0AVI LIST"],
    "a sound file (WAV)": [b"RIFF\x10\0\0\0WAVEfmt "],
    "a video (Matroska or WebM)": [b"\x1aE\xdf\xa3\x01"],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x29"],
    "JPEG XL": [b"\xff\x0a\x01", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "JPEG-LS": [b"\xff\xd8\xff\xf7\0\x0b"],
    "PostScript (EPS)": [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + bytes(28)],
    "FITS": [b"SIMPLE  =                    T"],
    "DICOM": [bytes(128) + b"DICM\x02\0"],
    "OpenEXR": [b"\x76\x2f\x31\x01\x02\0\0\0"],
    "a portable anymap (PNM)": [b"P6\n2 2\n255\n", b"P1 2 2 0 1 1 0", b"P5\n# by hand\n", b"P7\nWIDTH 2\n"],
    "a Photoshop document": [b"8BPS\0\x01"],
    "a Windows icon": [b"\0\0\x01\0\x01\0"],
    "Radiance HDR": [b"#?RADIANCE\n"],
    "QOI": [b"qoif\0\0\0\x02"],
    "DjVu": [b"AT&TFORM"],
    "HDF5": [b"\x89HDF\r\n\x1a\n"],
    "a PDF": [b"%PDF-1.7"],
    "a gzip archive": [b"\x1f\x8b\x08"],
    "a tar archive": [b"a.txt" + bytes(252) + b"ustar\0"],
    "a big-endian BigTIFF": [b"MM\0+\0\x08\0\0"],
    "SVG": [b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'],
}


@pytest.mark.parametrize("name", FILES)
def test_an_unsupported_file_type_is_refused_by_name(name: str) -> None:
    for data in FILES[name]:
        with pytest.raises(InvalidImage) as refused:
            decode(data, PictureLimits())
        assert f"it looks like {name}" in str(refused.value)
        assert "not supported" in str(refused.value)


HEIF = {
    "AVIF": [media(b"avif", b"mif1"), media(b"mif1", b"miaf", b"avif"), media(b"miaf", b"mif1", b"avis", b"MA1B")],
    "HEIC": [media(b"heic"), media(b"mif1", b"heic"), media(b"msf1", b"hevc")],
}


@pytest.mark.parametrize("name", HEIF)
def test_the_brands_determine_the_coding_of_an_image(name: str) -> None:
    assert [sniff(data) for data in HEIF[name]] == [name] * 3


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"])
def test_decoded_formats_are_recognised_by_name(format: str) -> None:
    assert sniff(saved(quarters(), format)) == format


@pytest.mark.parametrize(
    ("start", "format"),
    [(b"\xff\xd8", "JPEG"), (b"\x89PNG\r\n", "PNG"), (b"GIF88a\1", "GIF"), (b"BM\0\1\2\3", "BMP"),
     (b"II*\1\xff", "TIFF"), (b"MM*\0\xff", "TIFF"), (b"RIFF\xff\0\0\0", "WebP"), (b"RIFF\xff\0\0\0ABCD", "WebP")],
)  # fmt: skip
def test_a_damaged_header_is_reported_as_damaged(start: bytes, format: str) -> None:
    with pytest.raises(InvalidImage, match=f"starts like a {format} file, but its header is damaged or cut off"):
        decode(start + bytes(40), PictureLimits())


@pytest.mark.parametrize("data", [b"\0" * 100, bytes(range(256)), b"BM", b"P", b"\xff", b"abcdftyp"])
def test_unknown_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        decode(data, PictureLimits())


def test_a_png_of_xcode_is_named() -> None:
    data = saved(quarters(), "PNG")
    rewritten = data[:8] + struct.pack(">I", 4) + b"CgBIP\0 \6,\xb8wf" + data[8:]
    with pytest.raises(InvalidImage, match="iOS"):
        decode(rewritten, PictureLimits())
