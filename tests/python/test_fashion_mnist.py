"""The reader of Fashion-MNIST, the training of the demo model, and the demo model itself."""

import contextlib
import gzip
import io
import json
import os
import struct
import unittest

import numpy as np
from PIL import Image

import support
from support import checkpoint, fashion_mnist, reference, safetensors_io, train_demo

DEMO = os.path.join(support.WEIGHTS, "demo.safetensors")
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

    def test_bad_options_end_in_a_sentence(self):
        png = ["--png", self.path("png")]
        for program, arguments, text in (
            (fashion_mnist, [*png, "--data", self.path("none")], self.path("none")),
            (fashion_mnist, [*png, "--limit", "-1"], "-1 pictures"),
            (train_demo, ["--data", self.path("none"), "-o", self.path("m")], self.path("none")),
            (train_demo, ["-o", self.path("none/m")], "which is no folder"),
            (train_demo, ["--epochs", "0"], "whole number from 1"),
            (train_demo, ["--width", "0"], "number from 0.001 to 16"),
        ):
            with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as end:
                program.main(arguments)
            self.assertEqual(end.exception.code, 2)
            self.assertIn(text, said.getvalue())

    def test_help_says_where_the_demo_model_is_written(self):
        with contextlib.redirect_stdout(io.StringIO()) as said, self.assertRaises(SystemExit):
            train_demo.main(["--help"])
        self.assertRegex("".join(said.getvalue().split()), r"aftereveryepoch\([^ ]*demo\.safetensors\)")

    def test_data_that_are_cut_end_in_a_sentence(self):
        pictures, labels = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
        self.write_idx(pictures, np.random.default_rng(1).integers(0, 256, (20, 28, 28), np.uint8))
        self.write_idx(labels, np.zeros(20, np.uint8))
        with gzip.open(self.path(pictures)) as f:
            whole = f.read()
        sound = gzip.compress(whole)
        bad_block = sound[:10] + b"\xff" * 20 + sound[30:]
        for content, text in (
            (sound[:-9], "is cut short, or no gzip file"), (sound[:5], "is cut short, or"), (b"text", "or no gzip file"),
            (bad_block, "or no gzip file"), (b"", "no IDX file"), (gzip.compress(whole[:-1]), "header does not fit"),
            (gzip.compress(whole[:7]), "header does not fit"), (gzip.compress(b"\0"), "no IDX file"),
            (gzip.compress(whole[:7] + b"\x05" + whole[8 : 16 + 5 * 784]), "[5, 28, 28] and [20] values"),
        ):  # fmt: skip
            with open(self.path(pictures), "wb") as f:
                f.write(content)
            with self.subTest(text=text), contextlib.redirect_stderr(io.StringIO()) as said:
                with self.assertRaises(SystemExit) as end:
                    fashion_mnist.main(["--png", self.path("png"), "--data", self.folder])
                self.assertEqual(end.exception.code, 2)
                self.assertIn(text, said.getvalue())
                self.assertIn(self.folder, said.getvalue())

    def test_training_lowers_the_loss_and_writes_a_model(self):
        generator = np.random.default_rng(7)
        for split, count in (("train", 640), ("t10k", 20)):
            labels = generator.integers(0, 10, count).astype(np.uint8)
            pictures = np.repeat(25 * labels, 28 * 28).reshape(count, 28, 28)  # told by brightness
            self.write_idx(f"{split}-images-idx3-ubyte.gz", pictures)
            self.write_idx(f"{split}-labels-idx1-ubyte.gz", labels)
        model, log = self.path("m.safetensors"), io.StringIO()
        common = ["--data", self.folder, "--width", "0.05", "--batch", "64", "-o", model]
        with contextlib.redirect_stdout(log):
            train_demo.main([*common, "--epochs", "3"])
            train_demo.main([*common, "--epochs", "1", "--rate", "1e-4", "--start", model])
        for path, text in ((model, "it is of another width, or another network: tensor"), (self.path("train-labels-idx1-ubyte.gz"), "")):
            said = io.StringIO()
            with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as end:
                train_demo.main([*common, "--start", path, "--width", "0.1"])
            self.assertEqual(end.exception.code, 2)
            self.assertIn(f"--start '{path}' does not fit: {text}", said.getvalue())
        losses = [float(line.split()[3]) for line in log.getvalue().splitlines()]
        self.assertEqual(len(losses), 4)
        self.assertLess(losses[2], losses[0])
        self.assertLess(losses[3], losses[0])  # --start goes on where the first run ended
        self.assertEqual(safetensors_io.read(model)[1]["xception.num_classes"], "10")


class DemoModel(unittest.TestCase):
    def test_size_labels_and_preprocessing(self):
        self.assertLessEqual(os.path.getsize(DEMO), 3_000_000)
        _, metadata = safetensors_io.read(DEMO)
        self.assertEqual(json.loads(metadata["xception.labels"]), list(fashion_mnist.LABELS))
        preprocess = json.loads(metadata["xception.preprocess"])
        self.assertEqual((preprocess["keep_min"], preprocess["keep_max"]), (17, 32))
        self.assertEqual(preprocess["mean"], [train_demo.MEAN] * 3)
        self.assertEqual(preprocess["std"], [train_demo.STD] * 3)

    @unittest.skipUnless(os.path.exists(TEST_SET), "dataset-fashion-mnist is not installed")
    def test_accuracy(self):
        tensors = checkpoint.read(DEMO).tensors
        module = reference.build("seed_depthwise", 10, checkpoint.guess_width(tensors))
        module.load_state_dict(checkpoint.fit(tensors, module), strict=False)
        self.assertGreaterEqual(train_demo.accuracy(module, *fashion_mnist.load()), 91)


if __name__ == "__main__":
    unittest.main()
