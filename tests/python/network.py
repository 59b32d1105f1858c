"""What the tests of whole networks share: freshly drawn weights, and xception-infer as the judge.

XCEPTION_TEST_SEED=... repeats a run; the seed is part of every failure.
"""

import os
import subprocess

import numpy as np
import torch

from support import INFER, FolderTest, reference, safetensors_io

import model_file

SEED = int(os.environ.get("XCEPTION_TEST_SEED", 0)) or int.from_bytes(os.urandom(3), "little")
DEVICE_MISSING = 4  # exit code: the device or the precision is not to be had here


# The most by which PyTorch's float32 may differ from its double, of a layer's largest value: a third of
# what an engine may. Once in some hundred draws a batch norm takes off nearly all of what it is given,
# and PyTorch itself misses the 1e-5.
OWN_ROUNDING = 3e-6


class NetworkTest(FolderTest):
    def draw(self, arch, **config):
        self.arch, self.config = arch, config
        self.draw_weights(SEED)

    def draw_weights(self, seed):
        self.module = reference.randomize(reference.build(self.arch, **self.config), seed)
        classes = reference.DEFAULT_CLASSES[self.arch]
        metadata = model_file.make_metadata(self.arch, {"num_classes": classes} | self.config)
        model_file.write_model(self.path("model"), self.module.state_dict(), metadata)

    def golden(self, batch, height, width, layers=True):
        x = reference.sample_input(batch, height, width, SEED + 1)
        model_file.write_golden(self.path("golden"), self.module, self.arch, x, layers)
        return x

    def golden_in_miniature(self, batch, height, width):
        """The same of a network of few channels. Weights on which PyTorch's own rounding says nothing
        of an engine's are drawn again."""
        for seed in range(SEED, SEED + 10):
            if seed != SEED:
                self.draw_weights(seed)
            if self.own_rounding(self.golden(batch, height, width)) <= OWN_ROUNDING:
                return
        self.fail(f"seed {SEED}: no weights for float32")

    @torch.no_grad()
    def own_rounding(self, x):
        exact = safetensors_io.read(self.path("golden"))[0]
        worst = 0.0
        for name, output in reference.layer_outputs(self.module, x).items():
            expected = exact[f"layer.{name}"]
            difference = np.abs(output.numpy() - expected).max()
            worst = max(worst, difference / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
        return worst

    def infer(self, *options):
        command = [INFER, "-m", self.path("model"), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def compare(self, *options):
        done = self.infer("--compare", self.path("golden"), *options)
        self.assertEqual(done.returncode, 0, f"seed {SEED}\n{done.stdout[-3000:]}{done.stderr}")
        return done.stdout
