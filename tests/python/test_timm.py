"""The paper's network against timm's own module, whose saved file the engine reads untouched."""

import json
import os
import subprocess
import unittest

import torch

from support import INFER, FolderTest, reference, safetensors_io

try:
    import timm
    from safetensors.torch import save_file
except ImportError:
    timm = None

SEED = int(os.environ.get("XCEPTION_TEST_SEED", 0)) or int.from_bytes(os.urandom(3), "little")


@unittest.skipIf(timm is None, "timm and safetensors are not installed: tools/run-tests does it")
@unittest.skipUnless(os.path.exists(INFER), f"no {INFER}: set XCEPTION_BUILD_DIR")
class TimmTest(FolderTest):
    @torch.no_grad()
    def setUp(self):
        super().setUp()
        self.module = timm.create_model("legacy_xception", pretrained=False).eval()
        drawn = reference.randomize(reference.build("xception"), SEED)
        self.module.load_state_dict(drawn.state_dict())
        save_file(self.module.state_dict(), self.path("model.safetensors"))
        self.module.double()

    @torch.no_grad()
    def compare(self, height, width):
        x = reference.sample_input(1, height, width, SEED + 1)
        golden = {"input": x.numpy(), "logits": self.module(x.double()).numpy().astype("<f4")}
        safetensors_io.write(self.path("golden"), golden, {})
        files = ["-m", self.path("model.safetensors"), "--compare", self.path("golden")]
        done = subprocess.run([INFER, *files], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, f"seed {SEED}\n{done.stdout}{done.stderr}")

    def test_logits(self):
        for height, width in ((299, 299), (333, 250), (73, 91)):
            with self.subTest(height=height, width=width, seed=SEED):
                self.compare(height, width)

    def test_with_its_config_beside_it(self):
        config = {
            "architecture": "legacy_xception",
            "num_classes": 1000,
            "pretrained_cfg": {"input_size": [3, 299, 299], "crop_pct": 0.9, "mean": [0.4] * 3},
        }
        with open(self.path("config.json"), "w") as f:
            json.dump(config, f)
        self.compare(73, 91)
        command = [INFER, "-m", self.path("model.safetensors"), "--info"]
        info = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.assertIn("0.4000, 0.4000, 0.4000", info)


if __name__ == "__main__":
    unittest.main()
