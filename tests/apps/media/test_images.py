"""What is made of pictures, looked at by another library than the one that made it."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageFilter

from muskox.apps.media.errors import MediaError, Reason, Refused
from muskox.apps.media.images.geometry import Size, jpeg_shrink, place
from muskox.apps.media.images.stripping import strip
from tests.apps.media.conftest import Darkroom
from tests.apps.media.drawing import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    encoded,
    gif,
    lying,
    p3_profile,
    png_with_text,
    scene,
    talkative,
)

ALL = ("resize", "compress", "generate-thumbnail")


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def near(pixel: Any, colour: tuple[int, ...], most: int = 12) -> bool:
    return all(abs(one - other) <= most for one, other in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "processed"),
    [((1000, 500), (1000, 500)), ((8000, 1000), (1920, 240)), ((1, 5000), (1, 1080)), ((2400, 2000), (1296, 1080))],
)
async def test_case_f2_f3_a_picture_fits_inside_and_is_never_enlarged(darkroom: Darkroom, size, processed):
    made = await darkroom.make(encoded(Image.new("RGB", size, GREEN)), *ALL)

    assert opened(made["processed.jpg"]).size == processed
    assert opened(made["thumbnail.jpg"]).size == (300, 300)
    assert near(opened(made["thumbnail.jpg"]).getpixel((150, 150)), GREEN)


async def test_mission_d01_a_thumbnail_is_cut_from_the_middle(darkroom):
    flag = Image.new("RGB", (900, 300), GREEN)
    flag.paste(RED, (0, 0, 290, 300))
    flag.paste(BLUE, (610, 0, 900, 300))

    thumbnail = opened((await darkroom.make(encoded(flag, quality=95), "generate-thumbnail"))["thumbnail.jpg"])

    assert thumbnail.size == (300, 300)
    assert all(near(thumbnail.getpixel(at), GREEN) for at in ((4, 4), (295, 4), (4, 295), (295, 295)))


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_case_f4_a_picture_is_upright_and_says_no_more_how_it_lay(darkroom, orientation):
    data = lying(scene(240, 160), orientation)

    made = await darkroom.make(data, {"operation": "resize", "width": 120, "height": 120}, "generate-thumbnail")

    image = opened(made["processed.jpg"])
    assert image.size == (120, 80)
    assert near(image.getpixel((8, 8)), RED)
    assert not any(near(image.getpixel(at), RED, 60) for at in ((111, 8), (8, 71), (111, 71)))
    assert near(opened(made["thumbnail.jpg"]).convert("RGB").getpixel((3, 3)), RED)
    assert dict(image.getexif()) == {}


async def test_case_f4_the_limits_are_those_of_the_upright_picture(darkroom):
    made = await darkroom.make(lying(Image.new("RGB", (300, 400), RED), 6), {"operation": "resize", "height": 200})

    assert opened(made["processed.jpg"]).size == (150, 200)


async def test_case_f5_security_s38_no_output_tells_where_or_by_whom_it_was_taken(darkroom):
    data, canaries = talkative()
    assert all(canary in data for canary in canaries)

    made = await darkroom.make(data, {"operation": "resize", "width": 320}, "compress", "generate-thumbnail")
    same = await darkroom.make(data, {"operation": "compress", "quality": 100})
    others = [await darkroom.make(data, {"operation": "compress", "format": kind}) for kind in ("png", "webp", "avif")]

    outputs = [*made.values(), *same.values(), *(output for other in others for output in other.values())]
    assert len(outputs) == 6
    # What holds an AVIF together is called an Exif box or not; there is none here either.
    assert [canary for output in outputs for canary in canaries if canary in output] == []


async def test_case_f5_a_png_loses_its_texts(darkroom):
    data = png_with_text()
    assert b"CANARY" in data

    made = await darkroom.make(data, {"operation": "resize", "width": 100}, {"operation": "compress", "format": "png"})
    [output] = made.values()

    assert b"CANARY" not in output
    assert b"tEXt" not in output
    assert b"eXIf" not in output


async def test_case_f6_a_wide_red_becomes_the_nearest_that_every_screen_has(darkroom):
    data = encoded(Image.new("RGB", (64, 64), (180, 60, 40)), "PNG", icc_profile=p3_profile())
    wide = ImageCms.ImageCmsProfile(BytesIO(p3_profile()))
    wanted = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), (180, 60, 40)), wide, ImageCms.createProfile("sRGB"), renderingIntent=1
    )

    made = await darkroom.make(data, {"operation": "compress", "format": "png"})

    image = opened(made["processed.png"])
    assert "icc_profile" not in image.info
    assert near(image.getpixel((30, 30)), wanted.getpixel((0, 0)), 3)
    assert not near(image.getpixel((30, 30)), (180, 60, 40), 3)


async def test_case_f6_ink_becomes_light_and_grey_stays_grey(darkroom):
    ink = encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), quality=95)
    deep = encoded(Image.new("I;16", (64, 64), 32_768), "PNG")

    red = opened((await darkroom.make(ink, "compress"))["processed.jpg"])
    grey = opened((await darkroom.make(deep, "compress"))["processed.jpg"])

    assert red.mode == "RGB"
    assert red.getpixel((30, 30))[0] > 180
    assert max(red.getpixel((30, 30))[1:]) < 80
    assert grey.mode == "L"
    assert abs(grey.getpixel((30, 30)) - 128) <= 2


async def test_case_f7_what_is_not_there_is_white_and_has_no_dark_edge(darkroom):
    drop = Image.new("L", (600, 600), 0)
    drop.paste(255, (200, 200, 400, 400))
    image = Image.new("RGBA", (600, 600), (0, 0, 0, 0))
    image.paste((*RED, 255), (150, 150, 450, 450))
    image.putalpha(drop.filter(ImageFilter.GaussianBlur(12)))

    made = await darkroom.make(
        encoded(image, "PNG"), {"operation": "resize", "width": 300}, "compress", "generate-thumbnail"
    )

    for name in ("processed.jpg", "thumbnail.jpg"):
        flat = opened(made[name]).convert("RGB")
        assert min(flat.getpixel((2, 2))) >= 250
        assert near(flat.getpixel((150, 150)), RED, 10)
        # Between red and white nothing is darker than the red itself.
        assert min(flat.getpixel((x, 150))[0] for x in range(300)) >= RED[0] - 14


async def test_a_transparent_picture_stays_so_where_the_format_can(darkroom):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((*BLUE, 255), (16, 16, 48, 48))

    for kind in ("png", "webp"):
        [output] = (await darkroom.make(encoded(image, "PNG"), {"operation": "compress", "format": kind})).values()
        assert opened(output).convert("RGBA").getpixel((2, 2))[3] == 0


async def test_case_f11_what_is_small_already_keeps_its_pixels_and_loses_the_rest(darkroom):
    image = Image.blend(scene(500, 400), Image.effect_noise((500, 400), 90).convert("RGB"), 0.4)
    exif = Image.Exif()
    exif[0x010E] = "CANARY"
    data = encoded(image, quality=60, comment=b"CANARY", exif=exif)

    done, said = await darkroom.ask(data, "compress")

    [wrote] = [told for told in said if hasattr(told, "kept_original")]
    output = (darkroom.folder / wrote.name).read_bytes()
    assert wrote.kept_original
    assert len(output) <= len(data)
    assert b"CANARY" not in output
    assert b"Exif" not in output
    assert opened(output).tobytes() == opened(data).tobytes()
    assert (done.width, done.height) == (500, 400)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("options", [{}, {"progressive": True, "lossless": True}])
def test_stripping_leaves_the_pixels_alone(kind, options):
    exif = Image.Exif()
    exif[0x010E] = "CANARY"
    data = encoded(scene(200, 150), kind, exif=exif, xmp=b"<x>CANARY</x>", **options)

    bare = strip(data + (b"CANARY" if kind != "WEBP" else b""), kind.lower())

    assert bare is not None
    assert b"CANARY" in data
    assert b"CANARY" not in bare
    assert opened(bare).tobytes() == opened(data).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_stripping_gives_up_on_what_is_broken_and_hangs_on_nothing(kind):
    data = encoded(scene(64, 48), kind)

    for at in range(1, len(data), 7):
        for broken in (data[:at], data[:at] + b"\xff" * 9 + data[at + 9 :]):
            bare = strip(broken, kind.lower())
            assert bare is None or len(bare) <= len(broken), "it takes out and adds nothing"


def test_stripping_looks_at_each_byte_once():
    """A scan of a million escaped bytes: with a copy of the rest at each of them it would never end."""
    data = encoded(scene(64, 48), "JPEG")
    scan = data.rindex(b"\xff\xd9")

    assert strip(data[:scan] + b"\xff\x00" * 1_000_000 + data[scan:], "jpeg") is not None


async def test_case_f34_an_animation_keeps_its_frames_and_its_time(darkroom):
    data = gif(20, draw=lambda at: at * 12)

    moving = await darkroom.make(
        data, {"operation": "resize", "width": 8, "animated": True}, {"operation": "compress", "format": "webp"}
    )
    still = await darkroom.make(data, {"operation": "compress", "format": "webp"})

    image = opened(moving["processed.webp"])
    assert (image.n_frames, image.size) == (20, (8, 8))
    assert image.info.get("loop") in {3, 4}
    for at in range(20):
        image.seek(at)
        image.load()
        assert abs(image.info["duration"] - 70) <= 10
    assert opened(still["processed.webp"]).n_frames == 1


async def test_the_same_order_gives_the_same_bytes(darkroom):
    data = encoded(scene(800, 600))

    first, second = await darkroom.make(data, *ALL), await darkroom.make(data, *ALL)

    assert [hashlib.sha256(one).hexdigest() for one in first.values()] == [
        hashlib.sha256(one).hexdigest() for one in second.values()
    ]


async def test_quality_is_what_was_asked_for(darkroom):
    reference = opened(encoded(scene(64, 64), quality=85)).quantization

    made = await darkroom.make(encoded(scene(640, 480), quality=98), "compress")

    assert opened(made["processed.jpg"]).quantization == reference


async def test_a_progress_of_each_part_is_told_in_order(darkroom):
    marks = {
        ALL: [10, 30, 50, 75],
        ("resize",): [10, 30],
        ("compress",): [10, 50],
        ("generate-thumbnail",): [10, 75],
        ("resize", "generate-thumbnail"): [10, 30, 75],
    }

    for operations, percents in marks.items():
        _, said = await darkroom.ask(encoded(scene(64, 48)), *operations)
        assert [told.percent for told in said] == percents


@pytest.mark.parametrize("fit", ["inside", "cover", "contain", "fill", "outside"])
async def test_each_fit_gives_the_size_that_it_says(darkroom, fit):
    wanted = {
        "inside": (100, 50),
        "cover": (100, 100),
        "contain": (100, 100),
        "fill": (100, 100),
        "outside": (200, 100),
    }

    made = await darkroom.make(
        encoded(scene(400, 200)), {"operation": "resize", "width": 100, "height": 100, "fit": fit}
    )

    assert opened(made["processed.jpg"]).size == wanted[fit]


@pytest.mark.parametrize("position", ["entropy", "attention"])
async def test_a_thumbnail_can_look_for_what_is_worth_seeing(darkroom, position):
    image = Image.new("RGB", (900, 300), WHITE)
    image.paste(scene(200, 200), (680, 50))

    made = await darkroom.make(
        encoded(image), {"operation": "generate-thumbnail", "width": 250, "height": 250, "position": position}
    )

    assert opened(made["thumbnail.jpg"]).convert("L").getextrema()[0] < 120


async def test_fault_f3_a_file_cut_off_anywhere_is_refused_and_nothing_hangs(darkroom):
    data = encoded(scene(320, 240), quality=80)

    for percent in range(2, 100, 2):
        with pytest.raises(Refused) as caught:
            await darkroom.make(data[: len(data) * percent // 100], *ALL)
        assert caught.value.reason is Reason.CORRUPT, percent


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "AVIF"])
async def test_fault_f3_each_format_is_refused_when_it_is_cut_off(darkroom, kind):
    data = encoded(scene(320, 240), kind)

    for percent in (30, 60, 95):
        with pytest.raises(Refused) as caught:
            await darkroom.make(data[: len(data) * percent // 100], *ALL)
        assert caught.value.reason is Reason.CORRUPT


async def test_fault_f3_noise_in_a_file_is_an_error_or_a_picture_and_never_the_end(darkroom):
    data, reasons = encoded(scene(320, 240), "PNG"), []

    for at in range(40, len(data), len(data) // 25):
        spoilt = bytes(data[:at]) + bytes(byte ^ 0x5A for byte in data[at : at + 8]) + bytes(data[at + 8 :])
        reasons.append(await outcome(darkroom, spoilt))

    assert set(reasons) <= {Reason.CORRUPT, None}
    assert Reason.CORRUPT in reasons


async def outcome(darkroom: Darkroom, data: bytes) -> Reason | None:
    try:
        await darkroom.make(data, "generate-thumbnail")
    except MediaError as error:
        return error.reason
    return None


def test_a_decoder_shrinks_as_far_as_leaves_twice_what_is_needed():
    assert jpeg_shrink(Size(4000, 3000), Size(1440, 1080)) == 1
    assert jpeg_shrink(Size(4000, 3000), Size(400, 300)) == 4
    assert jpeg_shrink(Size(8660, 5773), Size(1620, 1080)) == 2
    assert jpeg_shrink(Size(100, 100), Size(100, 100)) == 1


@pytest.mark.parametrize("side", [1, 2, 3, 299, 300, 301, 16_383])
def test_no_side_ever_vanishes_and_no_thumbnail_is_too_small(side):
    for source in (Size(side, 16_384), Size(16_384, side), Size(side, side)):
        inside = place(source, Size(1920, 1080), "inside", enlarge=False)
        cover = place(source, Size(300, 300), "cover", enlarge=True)

        assert 1 <= inside.canvas.width <= 1920
        assert 1 <= inside.canvas.height <= 1080
        assert cover.canvas == Size(300, 300)
        assert cover.scaled.width >= 300
        assert cover.scaled.height >= 300
