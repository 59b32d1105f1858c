#!/usr/bin/env python3
"""Compares the image pipeline with Pillow's and torchvision's, byte for byte.

usage: judge.py IMAGE_DUMP [--seed N] [--jpeg]

Makes pictures of every kind that is read (pictures.py), from a fixed seed, and asks IMAGE_DUMP
(image_dump.cc) for the pixels after decoding, resizing, fitting and normalising; with --jpeg only for
JPEG files decoded. Where stb_image decodes those, they may differ by what it is known to differ by.
Exits 77 (skipped) where Pillow, NumPy or torchvision is missing.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import torch
    from PIL import Image, ImageOps
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as TF

    from pictures import make_photographs, make_pictures, mixed, noisy, smooth
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

warnings.simplefilter("ignore")  # Pillow on palettes with transparency, which is what is tested
INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
# stb_image's JPEG decoder: the largest difference, and the share of differing bytes over all pictures of
# a kind. Photographs are what it is meant for. The others are in full colour and half of them noise: there
# more coefficients and more colours are rounded otherwise.
STB_JPEG = {"444 photograph": (3, 0.014), "420 photograph": (3, 0.06), "422 photograph": (4, 0.12),
            "444": (3, 0.035), "420": (3, 0.075), "422": (4, 0.15), "gray": (1, 0.01),
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
    if kind.startswith("422"):
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
              (1, 1), (1, 50), (60, 1), (31, 17), (500, 32), (1023, 777), (334, 4000), (1, 200), (2, 200))
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
        # Within the header, in the last bytes, and at places between.
        for size in range(len(content)):
            if 100 <= size < len(content) - 20 and size % (1 + len(content) // 100) != 0:
                continue
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
    parser.add_argument("--jpeg", action="store_true", help="only the decoding of JPEG")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    torch.set_num_threads(1)
    judge = Judge(Dump(arguments.image_dump))
    with tempfile.TemporaryDirectory() as folder:
        pictures = make_pictures(rng, folder)
        if arguments.jpeg:
            pictures = [picture for picture in pictures if picture[0].endswith(".jpg")]
        decoders = judge_decode(judge, pictures + make_photographs(rng, folder))
        if not arguments.jpeg:
            judge_fit(judge, rng, folder)
            judge_resize(judge, rng, folder)
            judge_normalise(judge, folder)
        judge_truncation(judge, pictures, folder)
    print(f"{len(pictures)} pictures, decoders {sorted(d for d in decoders if d)}, seed "
          f"{arguments.seed}: {judge.cases} comparisons, {judge.failures} failures")
    return 1 if judge.failures else 0


if __name__ == "__main__":
    sys.exit(main())
