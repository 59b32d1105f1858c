"""The networks at full size on a CUDA device against PyTorch.

What is dear and much the same on every GPU runs on one of the emulator's alone.
"""

import os
import unittest

from network import NetworkTest

# Logits alone, to 2e-2 of the largest one.
LOGITS = ("-d", "cuda", "--rtol", "1e9", "--rtol-logits", "2e-2", "--precision")
HALF = (*LOGITS, "fp16")


on_one_gpu = unittest.skipUnless(
    os.environ.get("XC_EMULATOR_DEVICE", "sm_80") == "sm_80", "one GPU of the emulator is enough"
)


class FullNetworksTest(NetworkTest):
    @on_one_gpu
    def test_seed_depthwise(self):
        self.draw("seed_depthwise")
        self.golden(1, 32, 32)
        self.assertIn("0 layers of the plan have no reference", self.compare("-d", "cuda"))
        self.golden(3, 17, 28, layers=False)
        self.compare(*HALF)

    def test_seed(self):
        self.draw("seed")
        self.golden(1, 32, 32, layers=False)
        self.compare(*HALF)

    @on_one_gpu
    def test_xception_of_small_pictures(self):
        self.draw("xception", pool_pad="tf_same", bn_eps=1e-3)
        self.golden(1, 71, 75)
        self.assertIn("0 layers of the plan have no reference", self.compare("-d", "cuda"))
        self.compare(*LOGITS, "bf16")
        self.compare(*LOGITS, "tf32")

    def test_xception(self):
        self.draw("xception")
        self.golden(1, 299, 299, layers=False)
        self.compare(*HALF)


if __name__ == "__main__":
    unittest.main()
