"""The bounds that tools/kernel_counters.py knows hold for seed_depthwise in fp16 at batch 8."""

import os
import re
import subprocess
import sys
import unittest

from network import NetworkTest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GPU = os.environ["XC_EMULATOR_DEVICE"]


class KernelCountersTest(NetworkTest):
    def count(self, *options):
        command = [sys.executable, os.path.join(ROOT, "tools", "kernel_counters.py"), *options]
        command += ["-m", self.path("model"), "--build", os.environ["XCEPTION_BUILD_DIR"]]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_no_bound_is_missed(self):
        self.draw("seed_depthwise")
        done = self.count("-b", "8", "--device", GPU)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr)
        self.assertIn("0 bounds are missed", done.stdout)

    def test_what_a_launch_takes_at_least(self):
        """Of one picture the head alone is as much as it is on any GPU: its weights come from DRAM."""
        self.draw("seed_depthwise")
        done = self.count("--device", GPU, "--bound")
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr)
        rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()]
        heads = [row for row in rows if len(row) > 6 and row[1] == "fc"]
        self.assertEqual(len(heads), 1, done.stdout)
        least = (2048 * 100 + 2048) * 2 + 200 * 4  # weights, source, shift and logits
        gigabytes = {"sm_80": 1555, "sm_90": 3350}[GPU]
        self.assertAlmostEqual(float(heads[0][6]), least / gigabytes / 1e3, delta=0.01)
        total = sum(int(row[2]) * max(map(float, row[6:11])) for row in rows[4:] if len(row) > 6)
        found = re.search(r"all 80 launches, one after the other: (\d+) us,", done.stdout)
        self.assertIsNotNone(found, done.stdout)
        stated = int(found[1])
        self.assertAlmostEqual(stated, total, delta=1)

    def test_boards_without_figures_are_refused(self):
        done = self.count("--device", "sm_100", "--bound")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--bound knows no board of sm_100: sm_75,", done.stderr)


if __name__ == "__main__":
    unittest.main()
