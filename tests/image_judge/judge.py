#!/usr/bin/env python3
"""Compares the image pipeline with Pillow's and torchvision's, byte for byte.

usage: judge.py IMAGE_DUMP [--seed N]

Makes pictures of every kind that is read, from a fixed seed, and asks IMAGE_DUMP (image_dump.cc) for the pixels after decoding, resizing, fitting and normalising. Where JPEG is
decoded by stb_image, those pictures may differ by what stb_image is known to differ by.
Exits 77 (skipped) where Pillow, NumPy or torchvision is missing.
"""

import argparse
import math
import os
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

try:
    import numpy as np
    import torch
    from PIL import Image, ImageFile, ImageOps
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

warnings.simplefilter("ignore")  # Pillow on palettes with transparency, which is what is tested
# Pillow writes progressive files into one buffer of this size.
ImageFile.MAXBLOCK = 1 << 22
INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
# stb_image's JPEG decoder: the largest difference, and the share of differing bytes over this
# script's pictures, half of which are noise (1.4, 8.4 and 13 % on the smooth ones).
STB_JPEG = {"444": (3, 0.035), "420": (3, 0.075), "422": (4, 0.15), "gray": (1, 0.01),
            "cmyk": (1, 0.02)}
EXACT = (0, 0.0)


class Dump:
    """The helper program, kept running."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *fields):
        """(array of bytes h x w x 3 or float32, decoder), or the error message."""
        self.process.stdin.write(("\t".join(map(str, fields)) + "\n").encode())
        self.process.stdin.flush()
        head = self.process.stdout.readline().decode().rstrip("\n")
        if not head.startswith("ok "):
            return head, None
        _, width, height, size, decoder = head.split(" ")
        data = self.process.stdout.read(int(size))
        dtype = np.float32 if fields[0] == "normalise" else np.uint8
        return np.frombuffer(data, dtype).reshape(int(height), int(width), 3), decoder


# --- pictures -----------------------------------------------------------------------------------

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


def exif_bytes(orientation, big_endian):
    order = ">" if big_endian else "<"
    return (b"Exif\0\0" + (b"MM\0*" if big_endian else b"II*\0")
            + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0))


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
    for depth in (1, 2, 4):
        values = rng.integers(0, 1 << depth, (19, 27))
        add(f"gray{depth}.png", write_png(27, 19, depth, 0, packed_rows(values, depth)))
        # Half of the indices have no palette entry.
        entries = rng.integers(0, 256, max((1 << depth) // 2, 1) * 3, dtype=np.uint8).tobytes()
        add(f"palette_short{depth}.png",
            write_png(27, 19, depth, 3, packed_rows(values, depth), extra=png_chunk(b"PLTE", entries)))
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
    save("palette.gif", rgb(60, 50).quantize(60), format="GIF")
    save("interlaced.gif", rgb(61, 47).quantize(256), format="GIF", interlace=1)
    save("transparent.gif", rgb(40, 30).quantize(16), format="GIF", transparency=3)
    frames = [rgb(40, 30).quantize(16) for _ in range(3)]
    save("animated.gif", frames[0], format="GIF", save_all=True, append_images=frames[1:])
    save("rgb.ppm", rgb(44, 22), format="PPM")
    save("l.pgm", rgb(44, 22).convert("L"), format="PPM")
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
    for channels in (3, 4):
        for packed in (False, True):
            planes = noisy(rng, 26, 18) if channels == 3 else np.concatenate(
                [noisy(rng, 26, 18), noisy(rng, 26, 18)[..., :1]], -1)
            add(f"{channels}_{packed}.psd", write_psd(planes, packed))
    return pictures


def write_psd(pixels, packed):
    height, width, channels = pixels.shape
    rows = [pixels[y, :, c].tobytes() for c in range(channels) for y in range(height)]
    if packed:  # literal runs only
        rows = [bytes([width - 1]) + row for row in rows]
    counts = b"".join(struct.pack(">H", len(row)) for row in rows) if packed else b""
    return (b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, 3)
            + struct.pack(">III", 0, 0, 0) + struct.pack(">H", int(packed)) + counts
            + b"".join(rows))


# --- what Pillow, torchvision and timm make of them -------------------------------------------

def reference_fit(image, mode, interpolation, size, crop_pct, mean):
    method = INTERPOLATIONS[interpolation]
    if mode == "squash":
        return transforms.Resize((size, size), interpolation=method)(image)
    if mode == "center":
        return transforms.Compose([
            transforms.Resize(math.floor(size / crop_pct), interpolation=method),
            transforms.CenterCrop(size)])(image)
    # timm's ResizeKeepRatio(size, longest=1) and CenterCropOrPad(size, fill)
    ratio = max(image.height / size, image.width / size)
    sides = [max(round(side / ratio), 1) for side in (image.height, image.width)]
    image = TF.resize(image, sides, method)
    left, top = (size - image.width) // 2, (size - image.height) // 2
    padding = [left, top, size - image.width - left, size - image.height - top]
    return TF.pad(image, padding, fill=tuple(round(255 * m) for m in mean))


def comparable(kind, *pixels):
    """Without what stb_image is known to get wrong: its upsampling weighs the last chroma column
    of 4:2:2 the wrong way round, and has a formula of its own for pictures one pixel wide."""
    if kind == "422":
        return [p[:, :-2] for p in pixels]
    if kind == "420" and pixels[0].shape[1] == 1:
        return [p[:, :0] for p in pixels]
    return pixels


class Judge:
    def __init__(self, dump):
        self.dump = dump
        self.cases = 0
        self.failures = 0
        self.worst = {}  # tolerance class -> [largest difference, differing bytes, bytes]

    def compare(self, what, got, expected, kind=None, tolerance=EXACT):
        self.cases += 1
        if isinstance(got, str):
            return self.fail(what, got)
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return self.fail(what, f"{got.shape} {got.dtype} instead of {expected.shape}")
        if got.dtype == np.float32:
            different = int((got.view(np.uint32) != expected.view(np.uint32)).sum())
            return self.fail(what, f"{different} floats differ") if different else None
        if tolerance != EXACT:
            got, expected = comparable(kind, got, expected)
        distance = np.abs(got.astype(np.int32) - expected.astype(np.int32))
        if distance.size == 0:
            return None
        if kind is not None:
            worst = self.worst.setdefault(kind, [0, 0, 0])
            worst[0] = max(worst[0], int(distance.max()))
            worst[1] += int((distance > 0).sum())
            worst[2] += distance.size
        if distance.max() > tolerance[0]:
            self.fail(what, f"differs by up to {distance.max()} on {(distance > 0).mean():.2%}")
        return None

    def fail(self, what, why):
        self.failures += 1
        print(f"FAIL {what}: {why}")


def judge_decode(judge, pictures):
    decoders = set()
    for path, kind, expected in pictures:
        image = Image.open(path)
        for apply in (0, 1):
            got, decoder = judge.dump.ask("decode", path, apply)
            decoders.add(decoder)
            tolerance = STB_JPEG[kind] if kind and decoder == "stb_image" else EXACT
            upright = ImageOps.exif_transpose(image) if apply else image
            pillow = np.asarray(upright.convert("RGB"))
            judge.compare(f"decode {os.path.basename(path)} exif={apply}", got,
                          pillow if expected is None else expected, kind, tolerance)
    if "stb_image" in decoders and "libjpeg-turbo" not in decoders:
        for kind, (largest, differing, total) in sorted(judge.worst.items()):
            share = differing / total
            print(f"stb_image {kind}: differs by up to {largest} on {share:.2%} of bytes")
            if share > STB_JPEG[kind][1]:
                judge.fail(f"stb_image {kind}", f"more than {STB_JPEG[kind][1]:.1%} of bytes")
    return decoders


def judge_fit(judge, rng, folder):
    shapes = ((640, 480), (481, 640), (300, 333), (299, 299), (333, 333), (150, 100), (77, 211),
              (1, 1), (1, 50), (60, 1), (31, 17), (500, 32), (1023, 777), (334, 4000))
    mean = (0.485, 0.456, 0.3)
    for index, (width, height) in enumerate(shapes):
        pixels = (noisy, smooth, mixed)[index % 3](rng, width, height)
        path = os.path.join(folder, f"fit{index}.png")
        Image.fromarray(pixels).save(path)
        image = Image.open(path).convert("RGB")
        for mode in ("center", "squash", "border"):
            for interpolation in INTERPOLATIONS:
                for size, crop_pct in ((299, 0.8975), (224, 0.875), (64, 1.0), (33, 1.3), (331, 0.9)):
                    got, _ = judge.dump.ask("fit", path, mode, interpolation, size, crop_pct, 0, 0,
                                            ",".join(map(str, mean)))
                    expected = reference_fit(image, mode, interpolation, size, crop_pct, mean)
                    judge.compare(f"fit {width}x{height} {mode} {interpolation} {size} {crop_pct}",
                                  got, np.asarray(expected))
        got, _ = judge.dump.ask("fit", path, "squash", "bilinear", 32, 1, 17, 32, "0,0,0")
        keep = 17 <= min(width, height) and max(width, height) <= 32
        expected = image if keep else reference_fit(image, "squash", "bilinear", 32, 1, mean)
        judge.compare(f"fit {width}x{height} keep 17..32", got, np.asarray(expected))


def judge_resize(judge, rng, folder):
    for index in range(60):
        width, height, new_width, new_height = (int(v) for v in rng.integers(1, 200, 4))
        if index % 5 == 0:
            new_width = width
        if index % 7 == 0:
            new_height = height
        path = os.path.join(folder, f"resize{index}.png")
        pixels = (noisy, mixed)[index % 2](rng, width, height)
        Image.fromarray(pixels).save(path)
        for name, method in (("nearest", 0), ("bilinear", 2), ("bicubic", 3)):
            got, _ = judge.dump.ask("resize", path, name, new_width, new_height)
            expected = Image.open(path).convert("RGB").resize((new_width, new_height), method)
            judge.compare(f"resize {width}x{height} to {new_width}x{new_height} {name}", got,
                          np.asarray(expected))


def judge_normalise(judge, folder):
    path = os.path.join(folder, "all_values.png")
    Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, -1)).save(path)
    tensor = transforms.ToTensor()(Image.open(path))
    for mean, std in (((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                      ((0, 0, 0), (1, 1, 1)), ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))):
        expected = transforms.Normalize(mean, std)(tensor).permute(1, 2, 0).contiguous().numpy()
        got, _ = judge.dump.ask("normalise", path, ",".join(map(str, mean)),
                                ",".join(map(str, std)))
        judge.compare(f"normalise {mean} {std}", got, expected)


def judge_truncation(judge, pictures, folder):
    """A file cut short is an error, or Pillow reads the same pixels from it."""
    cut_path = os.path.join(folder, "cut")
    accepted = 0
    for path, kind, _ in pictures:
        with open(path, "rb") as source:
            content = source.read()
        # Every beginning of small files, a share of the others, the last bytes of all.
        step = 1 + len(content) // 600
        sizes = set(range(0, len(content), step)) | set(range(max(len(content) - 20, 0), len(content)))
        for size in sorted(sizes):
            with open(cut_path, "wb") as out:
                out.write(content[:size])
            got, decoder = judge.dump.ask("decode", cut_path, 0)
            judge.cases += 1
            if isinstance(got, str):
                if not got.startswith("error bad_image "):
                    judge.fail(f"{os.path.basename(path)} cut to {size}", got)
                continue
            accepted += 1
            try:
                expected = np.asarray(Image.open(cut_path).convert("RGB"))
            except Exception as error:  # Pillow raises whatever its plugin ran into
                judge.fail(f"{os.path.basename(path)} cut to {size} of {len(content)}",
                           f"accepted, where Pillow says {error}")
                continue
            tolerance = STB_JPEG[kind] if kind and decoder == "stb_image" else EXACT
            judge.compare(f"{os.path.basename(path)} cut to {size}", got, expected, kind, tolerance)
    print(f"{accepted} cut files were still whole pictures")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("image_dump")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    torch.set_num_threads(1)
    judge = Judge(Dump(arguments.image_dump))
    with tempfile.TemporaryDirectory() as folder:
        pictures = make_pictures(rng, folder)
        decoders = judge_decode(judge, pictures)
        judge_fit(judge, rng, folder)
        judge_resize(judge, rng, folder)
        judge_normalise(judge, folder)
        judge_truncation(judge, pictures, folder)
    print(f"{len(pictures)} pictures, decoders {sorted(d for d in decoders if d)}, seed "
          f"{arguments.seed}: {judge.cases} comparisons, {judge.failures} failures")
    return 1 if judge.failures else 0


if __name__ == "__main__":
    sys.exit(main())
