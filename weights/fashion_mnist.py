#!/usr/bin/env python3
"""Reads Fashion-MNIST (Debian package dataset-fashion-mnist) and writes its test pictures as PNG.

fashion_mnist.py --png DIR --limit 100     writes 00000_ankle_boot.png ... and labels.csv
"""

import argparse
import gzip
import math
import os
import struct
import zlib

import ending
import missing_package

if __name__ == "__main__":
    ending.end_by_signals()

try:
    import numpy as np
except ModuleNotFoundError as error:
    missing_package.explain(error)

DATA = "/usr/share/datasets/fashion-mnist"
LABELS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
)


def read_idx(path):
    """The uint8 array in a gzipped IDX file (http://yann.lecun.com/exdb/mnist, "file formats"). Raises
    OSError, ValueError."""
    try:
        with gzip.open(path) as f:
            data = f.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is cut short, or no gzip file ({error}); fetch it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    begin = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:begin]) if len(data) >= begin else ()
    if len(data) != begin + math.prod(shape):
        raise ValueError(f"{path} is cut short: its header does not fit its {len(data)} bytes; fetch it again")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def load(directory=DATA, split="t10k"):
    """(pictures N x 28 x 28, labels N), uint8, of "train" (60,000) or "t10k" (10,000, the test). Raises
    OSError, ValueError."""
    pictures = read_idx(os.path.join(directory, f"{split}-images-idx3-ubyte.gz"))
    labels = read_idx(os.path.join(directory, f"{split}-labels-idx1-ubyte.gz"))
    if pictures.shape[1:] != (28, 28) or labels.shape != pictures.shape[:1]:
        raise ValueError(
            f"{directory}: the files of {split} have {list(pictures.shape)} and {list(labels.shape)} values, which "
            "are no pictures of 28 x 28 and as many labels"
        )
    return pictures, labels


def write_png(directory, pictures, labels):
    """Writes gray 28 x 28 PNGs named INDEX_LABEL.png, and labels.csv with a line "name,class
    index" for each."""
    from PIL import Image

    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "labels.csv"), "w") as listing:
        for i, (picture, label) in enumerate(zip(pictures, labels)):
            name = f"{i:05}_{LABELS[label]}.png"
            Image.fromarray(picture).save(os.path.join(directory, name))
            listing.write(f"{name},{label}\n")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=DATA, help="folder of the .gz files (%(default)s)")
    parser.add_argument("--png", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--limit", type=int, default=10000, help="how many (%(default)s)")
    args = parser.parse_args(argv)
    if args.limit < 0:
        parser.error(f"argument --limit: {args.limit} pictures cannot be written")
    try:
        pictures, labels = load(args.data)
        write_png(args.png, pictures[: args.limit], labels[: args.limit])
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
