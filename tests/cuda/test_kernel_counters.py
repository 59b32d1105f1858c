"""The bounds that tools/kernel_counters.py knows hold for seed_depthwise in fp16 at batch 8."""

import os
import subprocess
import sys
import unittest

from network import NetworkTest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GPU = os.environ["XC_EMULATOR_DEVICE"]


class KernelCountersTest(NetworkTest):
    def test_no_bound_is_missed(self):
        self.draw("seed_depthwise")
        command = [sys.executable, os.path.join(ROOT, "tools", "kernel_counters.py"), "-b", "8"]
        command += ["-m", self.path("model"), "--device", GPU]
        command += ["--build", os.environ["XCEPTION_BUILD_DIR"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr)
        self.assertIn("0 bounds are missed", done.stdout)


if __name__ == "__main__":
    unittest.main()
