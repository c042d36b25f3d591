"""Detection of file formats by their first bytes."""

from __future__ import annotations

import codecs

SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "HEIC": ".heic",
    "BMP": ".bmp",
    "TIFF": ".tif",
}
"""The suffixes of files in the formats that are decoded, by Pillow's names; HEIC only with the package ``pi_heif``."""
FORMATS = tuple(SUFFIXES)

_BMP_HEADER_AT = 14
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    # offset, bytes, format; the first match counts
    (0, b"\xff\xd8\xff\xf7", "JPEG-LS"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "a big-endian BigTIFF"),
    (0, b"%PDF-", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\xfd7zXZ\0", "an XZ archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000 (a bare codestream)"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP image"),
    (0, b"\0\0\x01\0", "a Windows icon"),
    (0, b"\0\0\x02\0", "a Windows cursor"),
    (0, b"icns", "an Apple icon"),
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"FLIF", "FLIF"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"DDS ", "a DirectDraw surface (DDS)"),
    (0, b"\x01\xda", "a Silicon Graphics image (SGI)"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image"),
    (0, b"\x0a\x05\x01\x08", "PCX"),
    (0, b"id=ImageMagick", "MIFF"),
    (0, b"/* XPM */", "XPM"),
    (0, b"#define ", "XBM or C source text"),
    (0, b"AT&TFORM", "DjVu"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (40, b" EMF", "a Windows metafile"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file (Fujifilm RAF)"),
    (0, b"IIRO", "a camera's raw file (Olympus ORF)"),
    (0, b"IIRS", "a camera's raw file (Olympus ORF)"),
    (0, b"IIU\0", "a camera's raw file (Panasonic RW2)"),
    (0, b"FOVb", "a camera's raw file (Sigma X3F)"),
    (0, b"BA", "an OS/2 bitmap array"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (0, b"FLV\x01", "a video (FLV)"),
    (0, b"\0\0\x01\xba", "a video (MPEG)"),
    (0, b"\0\0\x01\xb3", "a video (MPEG)"),
    (4, b"moov", "a video (QuickTime)"),
    (4, b"mdat", "a video (QuickTime)"),
    (0, b"ID3", "a sound file (MP3)"),
    (0, b"OggS", "a sound or video file (Ogg)"),
    (0, b"fLaC", "a sound file (FLAC)"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x7fELF", "a program"),
)  # fmt: skip
# The type of a RIFF or IFF file follows its length.
_CHUNKED = {
    b"WEBP": "WEBP",
    b"AVI ": "a video (AVI)",
    b"WAVE": "a sound file (WAV)",
    b"ILBM": "an Amiga picture (IFF)",
    b"AIFF": "a sound file (AIFF)",
}
# ISO base media files (ISO/IEC 14496-12) list their brands in the box ``ftyp``. The first row with one of them counts:
# HEIF's own brands, mif1 and miaf, do not tell how the image is coded.
_BRANDS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    ((b"crx ",), "a camera's raw file (Canon CR3)"),
    ((b"jxl ",), "JPEG XL"),
    ((b"jp2 ", b"jpx ", b"jph "), "JPEG 2000"),
    ((b"M4A ", b"M4B ", b"M4P "), "a sound file (MPEG-4)"),
    ((b"mif1", b"msf1", b"miaf", b"mif2"), "HEIF"),
)
_MAX_BRANDS = 64


def sniff(data: bytes) -> str:
    """Return the format of a file: one of ``FORMATS``, or another format's name; empty if unknown.

    The signatures come from each format's specification.
    """
    if data[4:8] == b"ftyp":
        return _media(data)
    if data[:4] in (b"RIFF", b"FORM") and data[8:12] in _CHUNKED:
        return _CHUNKED[data[8:12]]
    if data[:2] == b"BM" and int.from_bytes(data[_BMP_HEADER_AT : _BMP_HEADER_AT + 4], "little") in _BMP_HEADERS:
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"1234567fF" and data[2:3] in (b"\n", b" ", b"\r", b"\t", b"#"):
        return "a portable anymap (PNM)"
    for offset, signature, name in _SIGNATURES:
        if data.startswith(signature, offset):
            return name
    text = _as_text(data[:1024])
    return "" if text is None else _kind_of_text(text)


def reason_unknown(data: bytes) -> str:
    """Return half a sentence about why ``data`` is refused, for data in none of ``FORMATS``."""
    name = sniff(data)
    if name == "a data: URL":
        return "it looks like a data: URL; send the picture's own bytes"
    if name == "HEIC":
        return "it looks like HEIC, which is not supported without the packages of requirements-heic.txt"
    if name:
        return f"it looks like {name}, which is not supported"
    return reason_damaged(data)


def reason_damaged(data: bytes) -> str:
    """Return half a sentence about why ``data`` is refused if only its start matches one of ``FORMATS``."""
    for start, accepted in ((b"\xff\xd8", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
                            (b"II", "TIFF"), (b"MM", "TIFF"), (b"RIFF", "WebP")):  # fmt: skip
        if data.startswith(start):
            return f"it starts like a {accepted} file, but its header is damaged or cut off"
    return "its format is not known"


def _media(data: bytes) -> str:
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    for known, name in _BRANDS:
        if brands.intersection(known):
            return name
    return "a video (MPEG-4 or QuickTime)"


def _as_text(start: bytes) -> str | None:
    """Return ``start`` as text; None if it has control characters, or is neither UTF-8 nor UTF-16 with a byte order
    mark."""
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start)  # its last character may be incomplete
    except UnicodeDecodeError:
        return None
    return None if not text or any(ord(c) < 32 and c not in "\t\n\r\f" for c in text) else text


def _kind_of_text(text: str) -> str:
    low = text.lstrip().lower()
    if low.startswith("<") and "<svg" in low:
        return "SVG"
    if low.startswith(("<!doctype html", "<html")):
        return "HTML"
    if low.startswith("data:image/"):
        return "a data: URL"
    return "text"
