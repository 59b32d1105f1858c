"""Bounds of tools/gpu_bound.py, by hand."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import gpu_bound  # noqa: E402

NOTHING = dict.fromkeys(
    ["distinct_read_bytes", "distinct_written_bytes", "mma_macs", "fma", "issued", "shared_wavefronts"], 0
)
H100 = gpu_bound.BOARDS["sm_90"]


def launch(blocks=132, threads=256, **counts):
    return {**NOTHING, "grid": [blocks, 1, 1], "block": [threads, 1, 1], **counts}


def bound(limit, board=H100, precision="fp16", **counts):
    return gpu_bound.microseconds(launch(**counts), board, precision)[limit]


class GpuBoundTest(unittest.TestCase):
    def test_the_rates_of_a_multiprocessor_are_whole(self):
        """Multiply-adds a clock: the CUDA C++ Programming Guide and the architectures' white papers."""
        expected = {
            "sm_75": (512, 64), "sm_80": (1024, 64), "sm_86": (256, 128), "sm_89": (256, 128),
            "sm_90": (2048, 128), "sm_120": (256, 128),
        }  # fmt: skip
        for device, board in gpu_bound.BOARDS.items():
            with self.subTest(device):
                each = 2 * board.multiprocessors * board.clock
                half, single = expected[device]
                self.assertAlmostEqual(board.half / each / half, 1, delta=0.01)
                self.assertAlmostEqual(board.single / each / single, 1, delta=0.01)

    def test_each_limit_is_by_its_own_counts(self):
        self.assertAlmostEqual(
            bound("DRAM", distinct_read_bytes=3350e3, distinct_written_bytes=6700e3), 3
        )
        self.assertAlmostEqual(bound("tensor cores", mma_macs=989e6 / 2), 1)
        self.assertAlmostEqual(bound("tensor cores", mma_macs=989e6 / 2, precision="tf32"), 2)
        self.assertAlmostEqual(bound("float32", fma=61.9e6 / 64), 1)
        self.assertAlmostEqual(bound("issue", issued=4 * 132 * 1830), 1)
        self.assertAlmostEqual(bound("shared memory", shared_wavefronts=132 * 1830), 1)
        self.assertEqual(list(gpu_bound.microseconds(launch(), H100, "fp16")), gpu_bound.LIMITS)
        self.assertEqual(set(gpu_bound.microseconds(launch(), H100, "fp16").values()), {0})

    def test_the_multiprocessor_with_the_most_blocks_decides(self):
        """But for DRAM, which serves all of them."""
        for limit, counts in {
            "tensor cores": {"mma_macs": 1e9}, "float32": {"fma": 1e6}, "issue": {"issued": 1e6},
            "shared memory": {"shared_wavefronts": 1e6},
        }.items():  # fmt: skip
            with self.subTest(limit):
                even = bound(limit, blocks=132, **counts)
                self.assertAlmostEqual(bound(limit, blocks=264, **counts), even)
                self.assertAlmostEqual(bound(limit, blocks=133, **counts), even * 132 * 2 / 133)
                self.assertAlmostEqual(bound(limit, blocks=33, **counts), even * 4)
        self.assertEqual(
            bound("DRAM", blocks=1, distinct_read_bytes=1e6),
            bound("DRAM", blocks=132, distinct_read_bytes=1e6),
        )

    def test_a_warp_has_one_scheduler(self):
        for limit, counts in {"tensor cores": {"mma_macs": 1e9}, "issue": {"issued": 1e6}}.items():
            with self.subTest(limit):
                full = bound(limit, threads=128, **counts)
                self.assertAlmostEqual(bound(limit, threads=64, **counts), 2 * full)
                self.assertAlmostEqual(bound(limit, threads=33, **counts), 2 * full)
                # Two such blocks have two schedulers each.
                self.assertAlmostEqual(bound(limit, blocks=264, threads=64, **counts), full)
        wavefronts = {"shared_wavefronts": 1e6}
        self.assertEqual(
            bound("shared memory", threads=32, **wavefronts), bound("shared memory", **wavefronts)
        )


if __name__ == "__main__":
    unittest.main()
