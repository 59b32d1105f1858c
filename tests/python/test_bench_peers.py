"""The scripts around bench: compare_peers.py and plot_scaling.py."""

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import unittest
from unittest import mock

from bench_program import BENCH, ROOT, Bench

import compare_peers
import peer_process
import peer_report
import plot_scaling


class Peers(Bench):
    """tools/compare_peers.py with PyTorch, the peer that is always there."""

    def compare(self, *arguments):
        script = os.path.join(ROOT, "tools", "compare_peers.py")
        command = [sys.executable, script, "--bench", BENCH, "--arch", "seed_depthwise", "--peers",
                   "torch", "--threads", "1", "-o", "json", *arguments]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_runs(self):
        rows = self.compare("--size", "17", "--batch", "2", "--rounds", "3", "--runs", "1")["rows"]
        self.assertEqual([row["engine"] for row in rows], ["ours", "torch"])
        for row in rows:
            self.assertEqual((row["batch"], len(row["ms"])), (2, 3))
            self.assertLess(row["max_difference"], 1e-3)
        ratios = sorted(a / b for a, b in zip(rows[0]["ms"], rows[1]["ms"]))
        self.assertEqual(rows[1]["ratio_ms"], ratios[1])

    @unittest.skipUnless("avx512_bf16" in open("/proc/cpuinfo").read(), "no AVX512_BF16")
    def test_our_precision_beside_another(self):
        size = ("--size", "17", "--batch", "1", "--rounds", "1", "--runs", "1")
        rows = self.compare(*size, "--ours-precision", "bf16")["rows"]
        self.assertEqual([row["precision"] for row in rows], ["bf16", "fp32"])
        self.assertGreater(rows[0]["max_difference"], 1e-4)
        self.assertLess(rows[1]["max_difference"], 1e-5)

    def test_the_network_alone(self):
        rows = self.compare("--size", "17", "--batch", "2", "--rounds", "1", "--runs", "1",
                            "--peers", "", "--network-only")["rows"]  # fmt: skip
        self.assertEqual([row["engine"] for row in rows], ["ours"])
        self.assertGreater(rows[0]["ms"][0], 0)
        self.assertLess(rows[0]["max_difference"], 1e-3)

    def test_the_network_alone_of_peers_that_time_no_such_thing(self):
        script = os.path.join(ROOT, "tools", "compare_peers.py")
        for arguments, what in ((["--peers", "torch"], "peers"), (["--peers", "", "--load"], "--load")):
            command = [sys.executable, script, "--bench", BENCH, "--network-only", *arguments]
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 2)
            self.assertIn(what, result.stderr)

    def test_loads(self):
        rows = self.compare("--size", "17", "--load", "--rounds", "1")["rows"]
        for row in rows:
            self.assertLess(row["load_ms"][0], row["process_ms"][0])
            self.assertTrue(0 < row["grown_bytes"][0] < row["peak_bytes"][0])

    def test_an_engine_that_does_not_start(self):
        with self.assertRaisesRegex(peer_process.EngineFailed, "--model is required"):
            peer_process.Engine([BENCH, "model", "--step"]).wait_until_ready()
        with self.assertRaisesRegex(peer_process.EngineFailed, "No such file"):
            peer_process.Engine([self.path("nothing"), "model", "--step"])

    def test_an_engine_that_says_a_lot_and_one_that_ends(self):
        talks = "import sys; sys.stderr.write('x' * 10**6); print('ready {}', flush=True); input(); print(7)"
        engine = peer_process.Engine([sys.executable, "-c", talks])
        engine.wait_until_ready()
        self.assertEqual(engine.run(), 7)
        with self.assertRaisesRegex(peer_process.EngineFailed, "xxx"):
            engine.run()
            engine.run()

    def test_logits_that_are_others(self):
        command = ["--bench", BENCH, "--arch", "seed_depthwise", "--peers", "", "--threads", "1", "--size",
                   "17", "--batch", "1", "--rounds", "1", "--runs", "1"]  # fmt: skip
        said = io.StringIO()
        with mock.patch.object(compare_peers, "TOLERANCE", {"fp32": 0}):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                self.assertEqual(compare_peers.main(command), 5)
        self.assertIn("xception at batch 1 disagrees with PyTorch by", said.getvalue())

    def test_a_size_that_is_none(self):
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as end:
            compare_peers.main(["--bench", BENCH, "--arch", "seed_depthwise", "--size", "16", "--peers", ""])
        self.assertEqual(end.exception.code, 2)
        self.assertIn("takes 17 to 32 pixels, not 16", said.getvalue())

    def test_each_round_begins_with_another_engine(self):
        rounds = [compare_peers.rotated(["a", "b", "c"], number) for number in range(4)]
        self.assertEqual(["".join(names) for names in rounds], ["abc", "bca", "cab", "abc"])

    def test_the_table(self):
        row = {"version": "1", "precision": "fp16", "device": "cuda:0 (H100)", "batch": 4, "max_difference": 1e-3}
        rows = [row | {"engine": "ours", "ms": [1, 0.25, 0.5]}, row | {"engine": "torch", "ms": [2, 0.25, 4]}]
        report = {"arch": "seed", "size": 32, "precision": "fp16", "device": "cuda", "threads": 2, "rounds": 3,
                  "network_only": True, "machine": peer_report.describe_machine(), "rows": rows}  # fmt: skip
        peer_report.add_ratios(rows, ["ms"])
        with contextlib.redirect_stdout(io.StringIO()) as out:
            peer_report.print_markdown(report, load=False)
        self.assertIn("seed, 32 px, fp16, on cuda:0 (H100), the network alone; ", out.getvalue())
        self.assertIn("| xception 1 | 4 | 0.500 | 0.250 | 8000.0 |  | 1.0e-03 |", out.getvalue())
        self.assertIn("| PyTorch 1 | 4 | 2.00 | 0.250 | 2000.0 | 0.500 | 1.0e-03 |", out.getvalue())


class Scaling(Bench):
    def test_tables_and_plot(self):
        script = os.path.join(ROOT, "tools", "plot_scaling.py")
        command = [sys.executable, script, "-m", self.model, "--bench", BENCH, "--batches", "1,2",
                   "--sides", "17,32", "--threads", "1", "--duration", "1ms", "--no-plot", "--save",
                   self.path("s.json")]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 0, result.stderr)
        for line in ("| batch |", "| 2 |", "| side |", "| 17 |"):
            self.assertIn(line, result.stdout)
        with open(self.path("s.json"), encoding="utf-8") as f:
            data = json.load(f)
        self.assertEqual([row["height"] for row in data["sides"]], [17, 32])
        self.assertEqual(list(plot_scaling.series(data["sides"], "height")), [1])
        if importlib.util.find_spec("matplotlib"):
            for name in ("a.svg", "b.svg"):
                plot_scaling.main(["--from", self.path("s.json"), "-o", self.path(name)])
            with open(self.path("a.svg"), "rb") as a, open(self.path("b.svg"), "rb") as b:
                svg = a.read()
                self.assertEqual(svg, b.read())  # the same bytes from the same figures
            self.assertIn(b"images/s", svg)


if __name__ == "__main__":
    unittest.main()
