"""What a file is, by its first bytes."""

from __future__ import annotations

import pytest

from muskox.apps.media.errors import Reason, Refused
from muskox.apps.media.kinds import Kind, sniff

FTYP = b"\x00\x00\x00\x18ftyp"
KNOWN = [
    (b"\xff\xd8\xff\xe0", Kind.IMAGE, "jpeg"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", Kind.IMAGE, "png"),
    (b"GIF89a....", Kind.IMAGE, "gif"),
    (b"RIFF\x10\x00\x00\x00WEBPVP8 ", Kind.IMAGE, "webp"),
    (FTYP + b"avif\x00\x00\x00\x00mif1miaf", Kind.IMAGE, "avif"),
    (FTYP + b"mif1\x00\x00\x00\x00avifmiaf", Kind.IMAGE, "avif"),
    (FTYP + b"isom\x00\x00\x02\x00avc1mp41", Kind.VIDEO, "mp4"),
    (FTYP + b"qt  \x00\x00\x02\x00qt  qt  ", Kind.VIDEO, "mov"),
    (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", Kind.VIDEO, "mov"),
    (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x84webm", Kind.VIDEO, "webm"),
    (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska", Kind.VIDEO, "matroska"),
    (b"RIFF\x10\x00\x00\x00AVI LIST", Kind.VIDEO, "avi"),
    ((b"G" + bytes(187)) * 6, Kind.VIDEO, "mpegts"),
]
STRANGE = [
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%PDF-1.7\n",
    b"%!PS-Adobe-3.0 EPSF-3.0",
    b"<!doctype html><html>",
    b"#EXTM3U\nfile:///etc/hostname\n",
    b"ffconcat version 1.0\n",
    b"8BPS\x00\x01",
    b"II*\x00\x08\x00\x00\x00",
    b"MM\x00*\x00\x00\x00\x08",
    b"SIMPLE  =                    T",
    b"\x00\x00\x01\x00\x01\x00",
    b"BM\x00\x00",
    b"P6 1 1 255\n",
    b"#?RADIANCE\n",
    FTYP + b"heic\x00\x00\x00\x00mif1heic",
    b"RIFF\x10\x00\x00\x00WAVEfmt ",
    b"PK\x03\x04",
    b"G" + bytes(500),
    b"0123456789",
]


@pytest.mark.parametrize(("head", "kind", "word"), KNOWN, ids=lambda value: repr(value)[:24])
def test_what_is_let_in_is_known_by_its_bytes(head, kind, word):
    found = sniff(head)

    assert (found.kind, found.format) == (kind, word)


@pytest.mark.parametrize("head", STRANGE, ids=lambda head: repr(head)[:24])
def test_security_s36_what_is_on_no_list_is_not_let_in(head):
    with pytest.raises(Refused) as caught:
        sniff(head)

    assert caught.value.reason is Reason.UNSUPPORTED_TYPE


def test_an_empty_file_is_called_empty():
    with pytest.raises(Refused) as caught:
        sniff(b"")

    assert caught.value.reason is Reason.EMPTY
