"""Draws the pictures that tests take in: nothing of it is kept anywhere."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageDraw

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 180, 60), (30, 60, 210), (255, 255, 255)


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Something with edges, slopes and colours, and a red mark at the top left."""
    image = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.rotate(180)))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.3, height * 0.3, width * 0.8, height * 0.9), fill=GREEN)
    draw.rectangle((0, 0, width * 0.25, height * 0.25), fill=RED)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The picture as the bytes of a file."""
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def lying(image: Image.Image, orientation: int) -> bytes:
    """A JPEG stored in that orientation whose picture, held upright, is `image`."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image if turn is None else image.transpose(turn), quality=92, exif=exif)


def talkative() -> tuple[bytes, list[bytes]]:
    """A JPEG that tells where it was taken, in every way there is, and what nobody may find any more."""
    exif = Image.Exif()
    exif[0x010E] = "CANARY-DESCRIPTION"
    exif[0x0110] = "CANARY-CAMERA"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 30.0)
    exif.get_ifd(0x8825)[29] = "CANARY-GPS"
    plain = encoded(scene(640, 480), quality=90, exif=exif, comment=b"CANARY-COMMENT")
    preview = encoded(scene(64, 48))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>CANARY-XMP</x:xmpmeta>"
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 18) + b"\x1c\x02\x78\x00\x0bCANARY-IPTC\0\0"
    data = plain[:2] + _segment(0xE1, xmp) + _segment(0xED, iptc) + _segment(0xE2, b"MPF\0" + preview) + plain[2:]
    canaries = [b"Exif", b"GPS", b"http://ns.adobe.com", b"8BIM", b"CANARY", b"Photoshop", b"MPF\0", preview[20:60]]
    return data + b"CANARY-BEHIND-THE-END", canaries


def png_with_text() -> bytes:
    """A PNG with text chunks, a time and bytes behind its end."""
    plain = encoded(scene(320, 240), "PNG")
    header, rest = plain[:33], plain[33:]
    chunks = _chunk(b"tEXt", b"Comment\0CANARY-TEXT") + _chunk(b"eXIf", b"MM\0*CANARY-EXIF")
    chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0CANARY-XMP")
    return header + chunks + rest + b"CANARY-BEHIND"


def plain_png(width: int, height: int, path: Path) -> None:
    """A black PNG of any size: one block of a hundred lines, again and again, so that it costs next to nothing."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(bytes(1 + width) * 100) + squeeze.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 of so many zeros, without looking at each.
    check = ((1 + width) * height % 65_521 << 16 | 1).to_bytes(4, "big")
    stream = b"\x78\xda" + block * (height // 100) + b"\x03\x00" + check
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", stream) + _chunk(b"IEND", b""))


def lying_png(claimed: tuple[int, int], real: tuple[int, int]) -> bytes:
    """A PNG whose head claims another size than its pixels have, with sound checksums."""
    lines = zlib.compress(bytes(1 + real[0]) * real[1])
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *claimed, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


def gif(frames: int, *, size: int = 16, delay: int = 70, draw: Callable[[int], int] | None = None) -> bytes:
    """An animated GIF that loops three times."""
    shades = [Image.new("P", (size, size), draw(at) if draw else at % 256) for at in range(frames)]
    for shade in shades:
        shade.putpalette([value for level in range(256) for value in (level, 255 - level, 128)])
    return encoded(
        shades[0], "GIF", save_all=True, append_images=shades[1:], duration=delay, loop=3, optimize=False, disposal=1
    )


def long_gif(frames: int) -> bytes:
    """A GIF of so many frames of one pixel, written by hand."""
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00" + b"\x02\x02\x44\x01\x00"
    return b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" + frame * frames + b"\x3b"


def p3_profile() -> bytes:
    """A profile with the primaries of Display P3 and the curve of sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The red, green and blue of P3 as PCS values (D50), in the place of those of sRGB.
    colorants = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    data = bytearray(profile)
    count = int.from_bytes(data[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        name, offset = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "big")
        if name in colorants:
            values = [round(value * 65_536) for value in colorants[name]]
            data[offset + 8 : offset + 20] = struct.pack(">iii", *values)
    return bytes(data)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
