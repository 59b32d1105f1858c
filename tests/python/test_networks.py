"""Every network against PyTorch: freshly drawn weights, logits and every layer, fused and not.

xception-infer --compare is the judge: max|d| <= 1e-5 of a layer's largest value, 1e-4 of the largest
logit in float32. XCEPTION_TEST_SEED=... repeats a run; the seed is part of every failure.
"""

import copy
import os
import unittest

import torch

from network import INFER, SEED, NetworkTest
from support import reference, run_export, safetensors_io


@unittest.skipUnless(os.path.exists(INFER), f"no {INFER}: set XCEPTION_BUILD_DIR")
class NetworksTest(NetworkTest):
    def check(self, batch, height, width):
        """All layers, of the plan as it runs and of the one in which nothing is fused."""
        with self.subTest(arch=self.arch, batch=batch, height=height, width=width, seed=SEED):
            self.golden(batch, height, width)
            self.assertIn("0 layers of the plan have no reference", self.compare())
            self.assertIn("0 of the reference are not in the plan", self.compare("--fusion", "off"))

    @torch.no_grad()
    def check_logits(self, height, width, batches=(1, 3)):
        """The logits alone, of as many of the same pictures."""
        x = reference.sample_input(max(batches), height, width, SEED + 1)
        logits = copy.deepcopy(self.module).double()(x.double()).float()
        for batch in batches:
            with self.subTest(arch=self.arch, batch=batch, height=height, width=width, seed=SEED):
                golden = {"input": x[:batch].numpy(), "logits": logits[:batch].numpy()}
                safetensors_io.write(self.path("golden"), golden)
                self.compare()

    def test_logits_vary(self):
        for arch in reference.ARCHS:
            module = reference.randomize(reference.build(arch), SEED)
            size = 71 if arch == "xception" else 32
            with torch.no_grad():
                logits = module(reference.sample_input(4, size, size, SEED + 1))
            self.assertGreater(float(logits.std(0).mean()), 0.05, f"{arch}: pictures, seed {SEED}")
            self.assertGreater(float(logits.std(1).mean()), 0.05, f"{arch}: classes, seed {SEED}")

    def test_seed(self):
        self.draw("seed")
        self.check(1, 32, 32)
        self.check(3, 17, 32)
        self.check(1, 28, 28)
        for height, width, batch in ((32, 32, 3), (17, 32, 1), (28, 28, 3)):
            self.check_logits(height, width, [batch])

    def test_seed_depthwise(self):
        self.draw("seed_depthwise")
        self.check(3, 32, 32)
        self.check(1, 17, 32)
        self.check(3, 28, 28)
        for height, width, batch in ((32, 32, 1), (17, 32, 3), (28, 28, 1)):
            self.check_logits(height, width, [batch])

    def test_without_relu_in_separable(self):
        for arch in ("seed", "seed_depthwise"):
            self.draw(arch, sep_relu=False, width=0.25)
            self.check(1, 32, 32)
            self.check(3, 28, 28)
        for arch in ("seed", "seed_depthwise"):
            self.draw(arch, sep_relu=False)
            for height, width in ((32, 32), (17, 32), (28, 28)):
                self.check_logits(height, width)

    def test_exported_heads(self):
        """Of several layers, under the names that fine-tuning gives them."""
        for arch, width, name in (("seed_depthwise", 0.125, "fc"), ("xception", 1, "last_linear")):
            head = [(1, 24), (4, 16), (11, 5)]
            module = reference.build(arch, num_classes=5, width=width, head=head)
            state = reference.randomize(module, SEED).state_dict()
            torch.save({n.replace("fc.", name + "."): t for n, t in state.items()}, self.path("pth"))
            size = ("--size", 71) if arch == "xception" else ("--size", "20x31")
            golden = ("--golden", self.path("golden"), "--seed", SEED, "--batch", 2, *size)
            self.assertEqual(run_export(self.path("pth"), "-o", self.path("model"), *golden)[0], 0)
            self.assertIn("0 layers of the plan have no reference", self.compare())
            self.assertIn("0 of the reference are not in the plan", self.compare("--fusion", "off"))

    def test_xception(self):
        self.draw("xception")
        self.check(1, 299, 299)
        self.check(3, 71, 71)
        self.check_logits(320, 256)
        self.check_logits(299, 299, [3])
        self.check_logits(71, 71, [1])

    def test_tensorflow_padding_and_epsilon(self):
        self.draw("xception", pool_pad="tf_same", bn_eps=1e-3)
        self.check(1, 100, 75)


if __name__ == "__main__":
    unittest.main()
