"""bf16 on the CPU and on the reference loops against PyTorch in double.

XCEPTION_TEST_SEED=... repeats a run; the seed is part of every failure.
"""

import copy
import json
import os
import unittest

import numpy as np
import torch

from network import DEVICE_MISSING, INFER, SEED, NetworkTest
from support import reference

LOGITS = 2e-2  # max|d| over the largest logit


@unittest.skipUnless(os.path.exists(INFER), f"no {INFER}: set XCEPTION_BUILD_DIR")
class Bfloat16Test(NetworkTest):
    def need_bfloat16(self):
        self.draw("seed_depthwise", width=0.125)
        if self.infer("--info", "--precision", "bf16").returncode == DEVICE_MISSING:
            self.skipTest("this CPU has no AVX512_BF16")

    def logits(self, x, *options):
        np.save(self.path("x.npy"), x.numpy())
        done = self.infer("--raw-input", self.path("x.npy"), "-f", "json", "--scores", "logit",
                          "-k", "1000", "--precision", "bf16", *options)  # fmt: skip
        self.assertEqual(done.returncode, 0, f"seed {SEED}\n{done.stderr}")
        rows = [sorted((c["index"], c["logit"]) for c in r["topk"]) for r in json.loads(done.stdout)]
        return torch.tensor([[logit for _, logit in row] for row in rows], dtype=torch.float64)

    @torch.no_grad()
    def exact(self, x):
        return copy.deepcopy(self.module).double()(x.double())

    def check_logits(self, batch, height, width, seed, *options):
        """Of each picture; and its top-1, where the second is further away than the tolerance."""
        x = reference.sample_input(batch, height, width, seed + 1)
        where = f"{self.arch}, {batch} x {height} x {width}, seed {seed}"
        for exact, logits in zip(self.exact(x), self.logits(x, *options)):
            tolerance = LOGITS * float(exact.abs().max())
            self.assertLessEqual(float((logits - exact).abs().max()), tolerance, where)
            first, second = exact.topk(2).values
            if float(first - second) > tolerance:
                self.assertEqual(int(logits.argmax()), int(exact.argmax()), where)

    def check_rounding(self, *options):
        """The paper's network averages over positions: 7e-3 is the most that was seen. The seed networks end
        in a single one, where a draw in hundreds costs 2e-2; freshly drawn ones are held
        against PyTorch in bfloat16, which rounds oftener: over 25 seeds the root mean square of
        our errors was 0.38 of its on average, with a standard deviation of 0.04."""
        self.draw("xception")
        self.check_logits(2, 71, 71, SEED, *options)
        self.draw("seed_depthwise")
        x = reference.sample_input(2, 28, 28, SEED + 1)
        exact = self.exact(x)
        with torch.no_grad():
            theirs = copy.deepcopy(self.module).bfloat16()(x.bfloat16()).double()
        rms = [float((y - exact).square().mean().sqrt()) for y in (self.logits(x, *options), theirs)]
        self.assertLessEqual(rms[0], 0.6 * rms[1], f"seed {SEED}")

    def test_rounding_of_the_reference_loops(self):
        self.check_rounding("-d", "reference")

    def test_rounding(self):
        self.need_bfloat16()
        self.check_rounding()

    def test_logits_of_xception(self):
        """Of twelve draws the worst came to 6.9e-3 of the largest logit."""
        self.need_bfloat16()
        self.draw("xception")
        for height, width in ((299, 299), (320, 256), (71, 71)):
            for batch in (1, 3):
                self.check_logits(batch, height, width, SEED)

    def test_logits_of_the_seed_networks(self):
        """Of weights that do not change from run to run."""
        self.need_bfloat16()
        for arch, seed, config in (
            ("seed_depthwise", 1, {}),
            ("seed_depthwise", 2, {}),
            ("seed_depthwise", 3, {"sep_relu": False}),
            ("seed", 4, {}),
        ):
            self.arch, self.config = arch, config
            self.draw_weights(seed)
            for height, width in ((32, 32), (17, 32), (28, 28)):
                self.check_logits(3, height, width, seed)


if __name__ == "__main__":
    unittest.main()
