"""What the tests of whole networks share: freshly drawn weights, and xception-infer as the judge.

XCEPTION_TEST_SEED=... repeats a run; the seed is part of every failure.
"""

import os
import subprocess

from support import FolderTest, reference

import model_file

INFER = os.path.join(os.environ.get("XCEPTION_BUILD_DIR", ""), "tools", "xception-infer")
SEED = int(os.environ.get("XCEPTION_TEST_SEED", 0)) or int.from_bytes(os.urandom(3), "little")
DEVICE_MISSING = 4  # exit code: the device or the precision is not to be had here


class NetworkTest(FolderTest):
    def draw(self, arch, **config):
        self.arch = arch
        self.module = reference.randomize(reference.build(arch, **config), SEED)
        classes = reference.DEFAULT_CLASSES[arch]
        metadata = model_file.make_metadata(arch, {"num_classes": classes} | config)
        model_file.write_model(self.path("model"), self.module.state_dict(), metadata)

    def golden(self, batch, height, width, layers=True):
        x = reference.sample_input(batch, height, width, SEED + 1)
        model_file.write_golden(self.path("golden"), self.module, self.arch, x, layers)
        return x

    def infer(self, *options):
        command = [INFER, "-m", self.path("model"), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def compare(self, *options):
        done = self.infer("--compare", self.path("golden"), *options)
        self.assertEqual(done.returncode, 0, f"seed {SEED}\n{done.stdout[-3000:]}{done.stderr}")
        return done.stdout
