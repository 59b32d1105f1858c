#!/usr/bin/env python3
"""Writes the seeds of the image fuzzers: corpus_image and corpus_npy beside this file.

One tiny file of every kind that is read. Needs Pillow and NumPy.
"""

import os
import struct

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))


def images(folder):
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    rgba = Image.fromarray(rng.integers(0, 256, (5, 4, 4), dtype=np.uint8))
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    rgb.save(f"{folder}/rgb.jpg", quality=50, exif=exif)
    rgb.save(f"{folder}/progressive.jpg", quality=50, progressive=True, subsampling=0)
    rgb.convert("L").save(f"{folder}/gray.jpg", quality=50)
    rgb.convert("CMYK").save(f"{folder}/cmyk.jpg", quality=50)
    rgb.save(f"{folder}/rgb.png")
    rgba.save(f"{folder}/rgba.png")
    rgb.quantize(7).save(f"{folder}/palette.png", transparency=2)
    rgb.convert("1").save(f"{folder}/bit.png")
    rgb.save(f"{folder}/rgb.bmp")
    rgb.quantize(4).save(f"{folder}/palette.bmp")
    rgba.save(f"{folder}/rgba.bmp")
    rgb.quantize(7).save(f"{folder}/palette.gif", transparency=1)
    rgb.save(f"{folder}/rgb.ppm")
    rgb.convert("L").save(f"{folder}/gray.pgm")
    rgb.save(f"{folder}/rgb.tga")
    rgba.save(f"{folder}/rle.tga", compression="tga_rle")
    rgb.quantize(7).save(f"{folder}/palette.tga")
    for packed in (0, 1):
        row = bytes([3] * packed) + b"abcd"
        counts = struct.pack(">8H", *[5] * 8) * packed
        with open(f"{folder}/rgba{packed}.psd", "wb") as out:
            out.write(b"8BPS" + struct.pack(">H6xHIIHH", 1, 4, 2, 4, 8, 3)
                      + struct.pack(">IIIH", 0, 0, 0, packed) + counts + row * 8)


def arrays(folder):
    np.save(f"{folder}/f4.npy", np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    np.save(f"{folder}/u1.npy", np.arange(4, dtype=np.uint8))
    np.save(f"{folder}/scalar.npy", np.float32(1))
    np.save(f"{folder}/fortran.npy", np.asfortranarray(np.ones((2, 3), np.float32)))
    with open(f"{folder}/version2.npy", "wb") as out:
        np.lib.format.write_array(out, np.ones((2, 2), np.float32), version=(2, 0))


if __name__ == "__main__":
    for name, make in (("image", images), ("npy", arrays)):
        target = os.path.join(HERE, f"corpus_{name}")
        os.makedirs(target, exist_ok=True)
        make(target)
