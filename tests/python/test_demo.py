"""The demo model on all 10,000 test pictures of Fashion-MNIST: xception-infer against PyTorch."""

import json
import os
import subprocess
import unittest

import numpy as np
import torch

from support import INFER, WEIGHTS, FolderTest, fashion_mnist, reference, safetensors_io, train_demo

import model_file

DEMO = os.path.join(WEIGHTS, "demo.safetensors")


@torch.no_grad()
def pytorch_guesses(pictures):
    tensors, metadata = safetensors_io.read(DEMO)
    width = float(metadata["xception.width"])
    module = reference.build("seed_depthwise", num_classes=10, width=width)
    model_file.load_model(DEMO, module)
    batches = [pictures[i : i + 500] for i in range(0, len(pictures), 500)]
    return np.concatenate(
        [module(train_demo.to_input(batch)).argmax(1).numpy() for batch in batches]
    )


@unittest.skipUnless(os.path.exists(INFER), f"no {INFER}: set XCEPTION_BUILD_DIR")
@unittest.skipUnless(os.path.isdir(fashion_mnist.DATA), "dataset-fashion-mnist is not installed")
class DemoTest(FolderTest):
    def test_every_picture_gets_the_class_that_pytorch_gives_it(self):
        pictures, labels = fashion_mnist.load()
        self.assertEqual(len(pictures), 10000)
        fashion_mnist.write_png(self.folder, pictures, labels)
        command = [INFER, "-m", DEMO, "-f", "jsonl", "-k", "1", "-b", "32", self.folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        names = [os.path.basename(record["input"]) for record in records]
        self.assertEqual([int(name.split("_")[0]) for name in names], list(range(10000)))

        guesses = np.array([record["topk"][0]["index"] for record in records])
        np.testing.assert_array_equal(guesses, pytorch_guesses(pictures))
        accuracy = 100 * float((guesses == labels).mean())
        print(f"accuracy {accuracy:.2f} %")
        self.assertGreaterEqual(accuracy, 91.0)


if __name__ == "__main__":
    unittest.main()
