"""The reader of Fashion-MNIST, and the demo model on its test pictures."""

import gzip
import os
import struct
import unittest

import numpy as np
from PIL import Image

import support
from support import fashion_mnist

TEST_SET = os.path.join(fashion_mnist.DATA, "t10k-images-idx3-ubyte.gz")


class FashionMnist(support.FolderTest):
    def write_idx(self, name, array, kind=8):
        header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
        with gzip.open(self.path(name), "wb") as f:
            f.write(header + array.tobytes())

    def test_reads_pictures_and_labels(self):
        pictures = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
        self.write_idx("t10k-images-idx3-ubyte.gz", pictures)
        self.write_idx("t10k-labels-idx1-ubyte.gz", np.array([9, 0], dtype=np.uint8))
        found, labels = fashion_mnist.load(self.folder)
        np.testing.assert_array_equal(found, pictures)
        self.assertEqual(labels.tolist(), [9, 0])

    def test_refuses_other_types(self):
        self.write_idx("x.gz", np.zeros(4, dtype=np.uint8), kind=13)
        with self.assertRaisesRegex(ValueError, "no IDX file"):
            fashion_mnist.read_idx(self.path("x.gz"))

    def test_writes_png_with_labels(self):
        pictures = np.stack([np.full((28, 28), value, np.uint8) for value in (10, 200)])
        fashion_mnist.write_png(self.path("png"), pictures, np.array([9, 1]))
        names = ["00000_ankle_boot.png", "00001_trouser.png"]
        self.assertEqual(sorted(os.listdir(self.path("png"))), [*names, "labels.csv"])
        with Image.open(self.path("png/" + names[1])) as image:
            self.assertEqual((image.mode, image.size), ("L", (28, 28)))
            np.testing.assert_array_equal(np.asarray(image), pictures[1])
        with open(self.path("png/labels.csv")) as f:
            self.assertEqual(f.read(), f"{names[0]},9\n{names[1]},1\n")


if __name__ == "__main__":
    unittest.main()
