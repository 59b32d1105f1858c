"""Every network on a CUDA device against PyTorch: freshly drawn weights, logits and layers.

xception-infer --compare is the judge: in float32 max|d| <= 1e-5 of a layer's largest value and 1e-4 of
the largest logit, in fp16 2e-2 of the largest logit.
"""

import unittest

from network import NetworkTest

LOGITS_ONLY = ("--rtol", "1e9")


class SmallNetworksTest(NetworkTest):
    def compare_on_cuda(self, *options):
        return self.compare("-d", "cuda", *options)

    def check_layers(self):
        printed = self.compare_on_cuda()
        self.assertIn("0 layers of the plan have no reference", printed)
        self.compare_on_cuda("--fusion", "off")

    def check_half(self, *options):
        printed = self.compare_on_cuda("--precision", "fp16", *LOGITS_ONLY, "--rtol-logits", "2e-2")
        self.assertIn("top-1 is equal in", printed)

    def test_seed_networks_in_miniature(self):
        for arch in ("seed", "seed_depthwise"):
            for sep_relu in (True, False):
                with self.subTest(arch=arch, sep_relu=sep_relu):
                    self.draw(arch, sep_relu=sep_relu, width=0.05)
                    self.golden_in_miniature(2, 17, 21)
                    self.check_layers()
                    self.check_half()

    def test_heads_of_several_layers(self):
        self.draw("seed_depthwise", width=0.05, num_classes=5, head=[(1, 24), (4, 16), (11, 5)])
        self.golden_in_miniature(3, 17, 17)
        self.check_layers()
        self.check_half()


if __name__ == "__main__":
    unittest.main()
