"""The pictures that judge.py compares: every kind that is read, drawn from a fixed seed."""

import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageFile, ImageFilter

# Pillow writes progressive files into one buffer of this size.
ImageFile.MAXBLOCK = 1 << 22


def smooth(rng, width, height):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(3):
        a, b, c = rng.uniform(0.5, 3, 2).tolist() + [rng.uniform(0, 6)]
        planes.append(127.5 + 127 * np.sin(a * x / max(width, 8) * 6 + b * y / max(height, 8) * 5 + c))
    return np.stack(planes, -1).round().astype(np.uint8)


def noisy(rng, width, height):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mixed(rng, width, height):
    half = smooth(rng, width, height).astype(np.int32) + rng.integers(-40, 41, (height, width, 3))
    return half.clip(0, 255).astype(np.uint8)


def leaves(rng, width, height):
    """As much like a photograph as drawing allows: discs in muted colours that change from one side to
    the other and hide one another, their radii distributed as r^-3 (the dead-leaves model of natural
    images), then blurred as by a lens and with a sensor's noise."""
    ycc = np.full((height, width, 3), 128.0)
    for _ in range(3000):
        radius = 12 / np.sqrt(rng.uniform(0.2**2, 1))
        x0, y0 = rng.uniform(-60, width + 60), rng.uniform(-60, height + 60)
        left, top = max(int(x0 - radius), 0), max(int(y0 - radius), 0)
        part = ycc[top : max(int(y0 + radius) + 1, 0), left : max(int(x0 + radius) + 1, 0)]
        dy, dx = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]].astype(float)
        dy, dx = dy - y0, dx - x0
        inside = dx * dx + dy * dy < radius * radius
        colour = rng.normal((120, 128, 128), (55, 12, 12))
        slope = rng.normal(0, (15, 4, 4), (2, 3)) / radius
        part[inside] = (colour + dx[..., None] * slope[0] + dy[..., None] * slope[1])[inside]
    picture = Image.fromarray(ycc.round().clip(0, 255).astype(np.uint8), "YCbCr").convert("RGB")
    picture = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))
    return (picture + rng.normal(0, 2, picture.shape)).round().clip(0, 255).astype(np.uint8)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(width, height, depth, colour, rows, interlace=0, extra=b""):
    """A PNG of unfiltered rows, for the kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = b"".join(b"\0" + row for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra
            + png_chunk(b"IDAT", zlib.compress(data)) + png_chunk(b"IEND", b""))


def interlaced_png(pixels):
    """Adam7, 8 bits, RGB."""
    rows = []
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                           (1, 0, 2, 2), (0, 1, 1, 2)):
        part = pixels[y0::dy, x0::dx]
        if part.size:
            rows += [row.tobytes() for row in part]
    return write_png(pixels.shape[1], pixels.shape[0], 8, 2, rows, interlace=1)


def packed_rows(values, depth):
    """Rows of a gray or palette PNG of 1, 2 or 4 bits."""
    bits = ((values[..., None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def write_bmp(rows, width, bits, header=40, gap=b"", masks=(), colours=0, pixels_at=None, planes=1,
              top_down=False):
    """A BMP of rows that are not padded yet; `gap` is what follows the headers and the masks, a palette
    included, and `pixels_at` what the header says of the place behind it, where that is not true."""
    info = struct.pack("<IiiHHIIiiII", header, width, -len(rows) if top_down else len(rows), planes, bits,
                       3 if masks else 0, 0, 0, 0, colours, 0)
    info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0") + gap
    data = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    offset = 14 + len(info) if pixels_at is None else pixels_at
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(data), 0, 0, offset) + info + data


def exif_bytes(orientation, big_endian, kind="short"):
    """`kind`: the TIFF type that the orientation is written as."""
    order = ">" if big_endian else "<"
    number, code = {"byte": (1, "B3x"), "short": (3, "H2x"), "long": (4, "I"), "signed byte": (6, "b3x"),
                    "signed short": (8, "h2x"), "signed long": (9, "i")}[kind]
    return (b"Exif\0\0" + (b"MM\0*" if big_endian else b"II*\0")
            + struct.pack(order + "IHHHI" + code + "I", 8, 1, 0x0112, number, 1, orientation, 0))


def make_pictures(rng, folder):
    """[(path, tolerance class or None, expected pixels or None for Pillow's)]"""
    pictures = []

    def add(name, content, kind=None, expected=None):
        path = os.path.join(folder, name)
        with open(path, "wb") as out:
            out.write(content)
        pictures.append((path, kind, expected))

    def save(name, image, kind=None, **options):
        path = os.path.join(folder, name)
        image.save(path, **options)
        pictures.append((path, kind, None))

    def rgb(width, height, make=mixed):
        return Image.fromarray(make(rng, width, height))

    # JPEG
    for sampling, label in ((0, "444"), (1, "422"), (2, "420")):
        for progressive in (False, True):
            for make in (smooth, noisy):
                for width, height in ((321, 243), (37, 61)):
                    save(f"{label}{'p' if progressive else 'b'}_{make.__name__}_{width}.jpg",
                         rgb(width, height, make), label, format="JPEG", quality=90,
                         subsampling=sampling, progressive=progressive)
    for width, height in ((1, 1), (1, 97), (203, 1), (17, 16), (640, 480)):
        save(f"side_{width}x{height}.jpg", rgb(width, height), "420", format="JPEG", quality=75)
    save("gray.jpg", rgb(150, 99).convert("L"), "gray", format="JPEG")
    save("optimised.jpg", rgb(180, 90), "420", format="JPEG", quality=30, optimize=True)
    save("cmyk.jpg", Image.fromarray(rng.integers(0, 256, (40, 60, 4), dtype=np.uint8), "CMYK"),
         "cmyk", format="JPEG", quality=95)
    cmyk = np.concatenate([smooth(rng, 90, 70), smooth(rng, 90, 70)[..., :1]], -1)
    save("cmyk_smooth.jpg", Image.fromarray(cmyk, "CMYK"), "cmyk", format="JPEG", quality=95)
    save("icc.jpg", rgb(50, 50), "420", format="JPEG", icc_profile=b"x" * 200)
    for orientation in range(1, 9):
        save(f"exif{orientation}.jpg", rgb(70, 45), "420", format="JPEG",
             exif=exif_bytes(orientation, orientation % 2 == 0))
    upright = Image.fromarray(mixed(np.random.default_rng(6), 20, 30))
    for kind in ("byte", "long", "signed byte", "signed short", "signed long"):
        for big_endian in (False, True):
            save(f"exif_{kind.replace(' ', '_')}{int(big_endian)}.jpg", upright, "420", format="JPEG",
                 exif=exif_bytes(6, big_endian, kind))

    # PNG
    save("rgb.png", rgb(123, 87), format="PNG")
    save("noise.png", rgb(64, 65, noisy), format="PNG", compress_level=1)
    rgba = np.concatenate([mixed(rng, 57, 43), noisy(rng, 57, 43)[..., :1]], -1)
    save("rgba.png", Image.fromarray(rgba, "RGBA"), format="PNG")
    save("l.png", rgb(77, 31).convert("L"), format="PNG")
    save("la.png", Image.fromarray(noisy(rng, 33, 44)[..., :2], "LA"), format="PNG")
    save("one_bit.png", rgb(45, 37).convert("1"), format="PNG")
    palette = rgb(80, 60).quantize(200)
    save("palette.png", palette, format="PNG")
    save("palette_trns.png", palette, format="PNG", transparency=bytes(range(200)))
    save("palette_4bit.png", rgb(41, 29).quantize(13), format="PNG", bits=4)
    save("rgb_trns.png", rgb(30, 30), format="PNG", transparency=(1, 2, 3))
    save("l_trns.png", rgb(30, 30).convert("L"), format="PNG", transparency=7)
    save("exif.png", rgb(31, 20), format="PNG", exif=exif_bytes(6, True))
    rows = [row.tobytes() for row in mixed(rng, 31, 20)]
    for orientation in (3, 6):
        exif = exif_bytes(orientation, False).hex()
        text = f"\nexif\n{len(exif) // 2:8}\n{exif[:72]}\n{exif[72:]}\n".encode()
        name = b"Raw profile type exif\0"
        for kind, data in ((b"tEXt", name + text), (b"zTXt", name + b"\0" + zlib.compress(text))):
            add(f"exif_{kind.decode()}{orientation}.png",
                write_png(31, 20, 8, 2, rows, extra=png_chunk(kind, data)))
    for depth in (1, 2, 4):
        values = rng.integers(0, 1 << depth, (19, 27))
        add(f"gray{depth}.png", write_png(27, 19, depth, 0, packed_rows(values, depth)))
        # Half of the indices have no palette entry: black, from Pillow 10.1 on.
        entries = rng.integers(0, 256, (max((1 << depth) // 2, 1), 3), dtype=np.uint8)
        chunk = png_chunk(b"PLTE", entries.tobytes())
        add(f"palette_short{depth}.png",
            write_png(27, 19, depth, 3, packed_rows(values, depth), extra=chunk),
            expected=np.concatenate([entries, np.zeros((256, 3), np.uint8)])[values])
    for width, height in ((1, 1), (2, 5), (8, 8), (33, 21)):
        add(f"interlaced_{width}x{height}.png", interlaced_png(mixed(rng, width, height)))
    gray16 = rng.integers(0, 65536, (25, 35), dtype=np.uint16)
    add("gray16.png", write_png(35, 25, 16, 0, [row.astype(">u2").tobytes() for row in gray16]),
        expected=np.repeat((gray16 >> 8).astype(np.uint8)[..., None], 3, -1))
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        deep = rng.integers(0, 65536, (15, 22, channels), dtype=np.uint16)
        rows = [row.astype(">u2").tobytes() for row in deep]
        high = (deep >> 8).astype(np.uint8)
        expected = high[..., :3] if channels > 2 else np.repeat(high[..., :1], 3, -1)
        add(f"deep{colour}.png", write_png(22, 15, 16, colour, rows), expected=expected)

    # The rest
    for mode in ("RGB", "L", "1", "P"):
        image = rgb(53, 39).quantize(100) if mode == "P" else rgb(53, 39).convert(mode)
        save(f"{mode}.bmp", image, format="BMP")
    save("rgba.bmp", Image.fromarray(rgba, "RGBA"), format="BMP")
    add_bitmaps(rng, add)
    save("palette.gif", rgb(60, 50).quantize(60), format="GIF")
    save("interlaced.gif", rgb(61, 47).quantize(256), format="GIF", interlace=1)
    save("transparent.gif", rgb(40, 30).quantize(16), format="GIF", transparency=3)
    save("full_table.gif", Image.fromarray(noisy(rng, 150, 97)).convert("L"), format="GIF")
    for height in range(1, 10):
        save(f"interlaced_{height}.gif", rgb(7, height).quantize(8), format="GIF", interlace=1)
    add_odd_gifs(rng, folder, add)
    frames = [rgb(40, 30).quantize(16) for _ in range(3)]
    save("animated.gif", frames[0], format="GIF", save_all=True, append_images=frames[1:])
    save("rgb.ppm", rgb(44, 22), format="PPM")
    save("l.pgm", rgb(44, 22).convert("L"), format="PPM")
    save("bits.pbm", rgb(45, 22).convert("1"), format="PPM")
    samples = rng.integers(0, 101, (9, 14, 3), dtype=np.uint8)
    add("max100.ppm", b"P6 # comment\n14 9\n# another\n100\n" + samples.tobytes())
    samples = rng.integers(0, 1001, (9, 14, 3), dtype=np.uint16)
    add("max1000.ppm", b"P6\n14 9\n1000\n" + samples.astype(">u2").tobytes())
    add("gray16.pgm", b"P5\n35 25\n65535\n" + gray16.astype(">u2").tobytes(),
        expected=np.repeat((gray16 >> 8).astype(np.uint8)[..., None], 3, -1))
    for compression in (None, "tga_rle"):
        for mode, image in (("rgb", rgb(48, 37)), ("rgba", Image.fromarray(rgba, "RGBA")),
                            ("l", rgb(48, 37).convert("L")), ("p", rgb(48, 37).quantize(256))):
            save(f"{mode}_{compression}.tga", image, format="TGA", compression=compression)
    add_targas(rng, add)
    for channels in (3, 4):
        for packed in (False, True):
            planes = noisy(rng, 26, 18) if channels == 3 else np.concatenate(
                [noisy(rng, 26, 18), noisy(rng, 26, 18)[..., :1]], -1)
            add(f"{channels}_{packed}.psd", write_psd(planes, packed))
    return pictures


def add_bitmaps(rng, add):
    """BMP as Pillow does not write it. Headers of 52 and 56 bytes are left out: Pillow 9.4 knows none."""
    pixels = noisy(rng, 13, 9)
    bgr = [row.tobytes() for row in pixels[..., ::-1]]
    bgrx = [row.tobytes() for row in np.concatenate([pixels[..., ::-1], pixels[..., :1]], -1)]
    deep = [row.tobytes() for row in rng.integers(0, 65536, (9, 13), dtype=np.uint16)]
    m565 = (0xF800, 0x7E0, 0x1F)
    for header in (40, 64, 108, 124):
        for gap in (b"", b"\0\0", bytes(range(256)) * 4):
            add(f"bgr_{header}_{len(gap)}.bmp", write_bmp(bgr, 13, 24, header, gap))
            add(f"bgrx_{header}_{len(gap)}.bmp", write_bmp(bgrx, 13, 32, header, gap))
    for masks in (m565, (*m565, 0), (0x7C00, 0x3E0, 0x1F)):
        for header in (40, 64, 108, 124):
            add(f"masks_{masks[0]}_{len(masks)}_{header}.bmp", write_bmp(deep, 13, 16, header, masks=masks))
    add("bgr555.bmp", write_bmp(deep, 13, 16, gap=b"\0\0"))
    add("masks_24.bmp", write_bmp(bgr, 13, 24, masks=(0xFF0000, 0xFF00, 0xFF)))
    for masks in ((0, 0, 0), (0xFF0000, 0xFF00, 0xFF), (0xFF000000, 0xFF0000, 0xFF00)):
        add(f"masks_32_{masks[0]}.bmp", write_bmp(bgrx, 13, 32, masks=masks))
    add("top_down.bmp", write_bmp(bgr, 13, 24, top_down=True))
    add("planes.bmp", write_bmp(bgr, 13, 24, planes=7))
    palette = rng.integers(0, 256, (256, 4), dtype=np.uint8).tobytes()
    indices = [row.tobytes() for row in rng.integers(0, 256, (9, 13), dtype=np.uint8)]
    for pixels_at in (None, 54, 0):
        add(f"palette_at_{pixels_at}.bmp", write_bmp(indices, 13, 8, gap=palette, pixels_at=pixels_at))
    indices = [row.tobytes() for row in rng.integers(0, 16, (9, 13), dtype=np.uint8)]
    for colours in (0, 16):
        add(f"palette_{colours}.bmp", write_bmp(indices, 13, 8, gap=palette[:64], colours=colours))
        add(f"palette_gap_{colours}.bmp", write_bmp(indices, 13, 8, gap=palette[:66], colours=colours))


def add_odd_gifs(rng, folder, add):
    """GIF as Pillow does not write it: screens smaller than the frame, stray bytes between blocks, codes
    that begin without one that clears them."""
    path = os.path.join(folder, "whole.gif")
    Image.fromarray(mixed(rng, 21, 17)).quantize(64).save(path, format="GIF", transparency=5)
    with open(path, "rb") as source:
        content = source.read()
    for width, height in ((0, 0), (5, 40), (40, 5)):
        add(f"screen_{width}x{height}.gif", content[:6] + struct.pack("<HH", width, height) + content[10:])
    behind = 13 + 3 * (2 << (content[10] & 7))
    add("stray.gif", content[:behind] + b"\0\0\7" + content[behind:])
    at = content.index(b",", behind)
    add("moved.gif", content[: at + 1] + struct.pack("<HH", 3, 9) + content[at + 5 :])
    add("no_clear.gif", b"GIF89a" + struct.pack("<HHBBB", 6, 1, 0x81, 0, 0) + bytes(range(12)) + b","
        + struct.pack("<HHHHB", 0, 0, 6, 1, 0) + b"\2\2\xf1\x0b\0;")


def write_tga(data, width, height, kind, bits, palette=(0, 0, 0), entries=b"", place=0x20):
    """`palette`: its first index, how many entries, bits of one."""
    return struct.pack("<BBBHHBHHHHBB", 0, int(bool(entries)), kind, *palette, 0, 0, width, height, bits,
                       place) + entries + data


def add_targas(rng, add):
    """TGA as Pillow does not write it."""
    data = rng.integers(0, 256, 4 * 11 * 7, dtype=np.uint8).tobytes()
    for place in (0, 0x10, 0x20, 0x30):
        add(f"place_{place}.tga", write_tga(data[: 3 * 77], 11, 7, 2, 24, place=place))
    add("five_bits.tga", write_tga(data[: 2 * 77], 11, 7, 2, 16))
    add("gray_alpha.tga", write_tga(data[: 2 * 77], 11, 7, 3, 16))
    add("palette_bits.tga", write_tga(data[: 3 * 77], 11, 7, 2, 24, (0, 0, 24)))
    # Pillow 9.4 reads palettes of 24 bits alone.
    entries = rng.integers(0, 256, 64 * 3, dtype=np.uint8).tobytes()
    for first in (0, 10):
        indices = bytes(first + index % 64 for index in data[:77])
        add(f"palette_from_{first}.tga", write_tga(indices, 11, 7, 1, 8, (first, 64, 24), entries))


def write_psd(pixels, packed):
    height, width, channels = pixels.shape
    rows = [pixels[y, :, c].tobytes() for c in range(channels) for y in range(height)]
    if packed:  # literal runs only
        rows = [bytes([width - 1]) + row for row in rows]
    counts = b"".join(struct.pack(">H", len(row)) for row in rows) if packed else b""
    return (b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 3)
            + struct.pack(">III", 0, 0, 0) + struct.pack(">H", int(packed)) + counts
            + b"".join(rows))


def make_photographs(rng, folder):
    """The same for JPEG files of pictures like photographs."""
    pictures = []
    for width, height in ((400, 300), (321, 243)):
        image = Image.fromarray(leaves(rng, width, height))
        for sampling, label in ((0, "444"), (1, "422"), (2, "420")):
            for quality in (75, 90):
                path = os.path.join(folder, f"photograph_{label}_{width}_{quality}.jpg")
                image.save(path, format="JPEG", quality=quality, subsampling=sampling)
                pictures.append((path, label + " photograph", None))
    return pictures
