"""What bytes look like that are no picture of ours, so that the refusal can say it."""

from __future__ import annotations

import codecs

_UNSUPPORTED = "which is not supported"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "it looks like a PDF"),
    (b"PK\x03\x04", "it looks like a ZIP archive or an office document"),
    (b"\x1f\x8b", "it looks like a gzip archive"),
    (b"\x00\x00\x00\x0cJXL ", f"it looks like JPEG XL, {_UNSUPPORTED}"),
    (b"\xff\x0a", f"it looks like JPEG XL, {_UNSUPPORTED}"),
    (b"\x00\x00\x00\x0cjP  ", f"it looks like JPEG 2000, {_UNSUPPORTED}"),
    (b"8BPS", f"it looks like a Photoshop document, {_UNSUPPORTED}"),
    (b"\x00\x00\x01\x00", f"it looks like a Windows icon, {_UNSUPPORTED}"),
    (b"\x1aE\xdf\xa3", "it looks like a video"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WebP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)


def looks_like(data: bytes) -> str:
    """Say in half a sentence what ``data`` seems to be, from its first kilobyte.

    The file signatures are those of each format's specification; HEIC and AVIF name themselves in the ``ftyp`` box
    with which ISO base media files begin (ISO/IEC 14496-12).
    """
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            return what
    if data[4:8] == b"ftyp":
        return _media(data[8:12])
    for start, name in _STARTS:
        if data.startswith(start):
            return f"it starts like a {name} file, but its header is damaged or cut off"
    text = _as_text(data[:1024])
    return "its format is not known" if text is None else _kind_of_text(text)


def _media(brand: bytes) -> str:
    if brand in _HEIC_BRANDS:
        return f"it looks like HEIC, {_UNSUPPORTED}"
    if brand in _AVIF_BRANDS:
        return f"it looks like AVIF, {_UNSUPPORTED}"
    return "it looks like a video"


def _as_text(start: bytes) -> str | None:
    """``start`` as text, or None where it holds control characters or is neither UTF-8 nor UTF-16 with its mark."""
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start)  # whose last character may be cut in two
    except UnicodeDecodeError:
        return None
    return None if any(ord(c) < 32 and c not in "\t\n\r\f" for c in text) else text


def _kind_of_text(text: str) -> str:
    low = text.lstrip().lower()
    if low.startswith("<") and "<svg" in low:
        return f"it looks like SVG, {_UNSUPPORTED}"
    if low.startswith(("<!doctype html", "<html")):
        return "it looks like HTML"
    if low.startswith("data:image/"):
        return "it looks like a data: URL; send the picture's own bytes"
    return "it looks like text"
