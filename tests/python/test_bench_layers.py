"""bench of layers and of kernels: what their reports say, and that it fits together."""

import csv
import io
import json
import unittest

from bench_program import Bench, cells

import numpy as np

from support import safetensors_io


class Rows(Bench):
    def check_rows(self, rows):
        """What is in a row fits together; a pool moves what it reads and writes and nothing else."""

        def elements(shape):
            return np.prod([int(extent) for extent in shape.split("x")])

        pools = 0
        for row in rows:
            ms = float(row["median_ms"])
            self.assertAlmostEqual(float(row["gflops_per_s"]) * ms, 2e-6 * int(row["macs"]))
            self.assertAlmostEqual(float(row["gb_per_s"]) * ms, 1e-6 * int(row["bytes"]))
            inputs = row["inputs"].split(" + ") if isinstance(row["inputs"], str) else row["inputs"]
            moved = 4 * (sum(elements(shape) for shape in inputs) + elements(row["output"]))
            if "pool" in row["operation"]:
                self.assertEqual(int(row["bytes"]), moved)
                pools += 1
            else:
                self.assertGreaterEqual(int(row["bytes"]), moved)
        self.assertGreater(pools, 1)

    def check_roofline(self, roofline, rows):
        """A layer is as near to it as the slower of its arithmetic and its memory allows."""
        self.assertEqual(roofline["source"], "measured")
        self.assertGreater(roofline["bytes_per_s"], 2e9)
        for row in rows:
            # Nothing multiplies faster than what does nothing else.
            self.assertLess(row["gflops_per_s"], 1.5e-9 * roofline["flops_per_s"])
            bound = max(2 * row["macs"] / roofline["flops_per_s"], row["bytes"] / roofline["bytes_per_s"])
            self.assertAlmostEqual(row["roofline_share"], 1e3 * bound / row["median_ms"])


class Layer(Rows):
    def test_every_step_has_its_time(self):
        result = self.bench("layer", "-m", self.model, "-r", 3, "-o", "json", "--warmup-ms", 0)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        rows = report["rows"]
        self.check_roofline(report["session"]["roofline"], rows)
        self.assertEqual(rows[-1]["name"], "fc")
        self.assertEqual(len({row["name"] for row in rows}), len(rows))
        self.assertAlmostEqual(sum(row["share"] for row in rows), 1)
        self.assertTrue(all(row["median_ms"] > 0 and row["gb_per_s"] > 0 for row in rows))
        # What is read does not get less because an earlier step holds the same weights.
        by_name = {row["name"]: row["bytes"] for row in rows}
        self.assertEqual(by_name["block4.feature.3#5"], by_name["block4.feature.3"])
        self.check_rows(rows)

    def test_csv(self):
        result = self.bench("layer", "-m", self.model, "-r", 2, "-o", "csv")
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        self.assertTrue(all(None not in row and None not in row.values() for row in rows))
        self.assertTrue(any(" + " in row["inputs"] for row in rows))
        self.check_rows(rows)
        for key, value in (("precision", "fp32"), ("input", "1x32x32x3"), ("runs", "2")):
            self.assertEqual({row[f"session_{key}"] for row in rows}, {value})

    def test_markdown_says_the_same(self):
        for fold in ((), ("-b", 2, "--threads", 1)):
            markdown = self.bench("layer", "-m", self.model, "-r", 3, *fold).stdout
            report = json.loads(self.bench("layer", "-m", self.model, "-r", 3, "-o", "json", *fold).stdout)
            rows, kinds = cells(markdown, 0), cells(markdown, 1)
            total = sum(float(row["ms"]) for row in rows)
            for row, other in zip(rows, report["rows"], strict=True):
                ms = float(row["ms"])
                self.assertEqual((row["layer"], row["output"]), (other["name"], other["output"]))
                self.assertAlmostEqual(float(row["%"]), 100 * ms / total, delta=0.2)
                self.assertAlmostEqual(float(row["GFLOP/s"]), 2e-6 * other["macs"] / ms,
                                       delta=0.1 + 2e-6 * other["macs"] / ms * 1e-4 / ms)  # fmt: skip
                self.assertAlmostEqual(float(row["GB/s"]), 1e-6 * other["bytes"] / ms,
                                       delta=0.1 + 1e-6 * other["bytes"] / ms * 1e-4 / ms)  # fmt: skip
            *kinds, everything = kinds
            self.assertEqual([kind["operation"] for kind in kinds],
                             ["avg_pool2x2", "conv1x1", "conv3x3", "depthwise3x3", "max_pool3x3"])  # fmt: skip
            self.assertEqual(sum(int(kind["layers"]) for kind in kinds), len(rows))
            self.assertAlmostEqual(sum(float(kind["ms"]) for kind in kinds), total, 2)
            self.assertAlmostEqual(float(everything["ms"]), total, 2)
            self.assertEqual((everything["operation"], everything["%"]), ("all", "100.0"))
            session = report["session"]
            self.assertIn(f"on cpu, fp32, {session['threads']} thread", markdown)
            self.assertIn(f"input {session['input']}; medians of 3 runs", markdown)
            self.assertAlmostEqual(session["steps_ms"], sum(row["median_ms"] for row in report["rows"]))
            self.assertGreater(session["run_ms"], 0)


class Kernel(Rows):
    def kernels(self, *arguments, status=0):
        result = self.bench("kernel", "-m", self.model, "-r", 3, "-o", "json", "--warmup-ms", 0, *arguments)
        self.assertEqual(result.returncode, status, result.stderr)
        return json.loads(result.stdout)

    def layers(self, *arguments):
        result = self.bench("layer", "-m", self.model, "-r", 3, "-o", "json", "--warmup-ms", 0, *arguments)
        return json.loads(result.stdout)["rows"]

    def test_every_kernel_once(self):
        report = self.kernels("--threads", 1)
        rows, layers = report["rows"], self.layers("--threads", 1)
        self.assertEqual(report["tool"], "bench kernel")
        self.check_rows(rows)
        self.check_roofline(report["session"]["roofline"], rows)
        same = ("operation", "implementation", "inputs", "output")
        keys = [tuple(str(row[key]) for key in same) for row in rows]
        self.assertEqual(len(set(keys)), len(rows))
        counted = {key: 0 for key in keys}
        for layer in layers:
            counted[tuple(str(layer[key]) for key in same)] += 1
        self.assertEqual([row["times"] for row in rows], list(counted.values()))
        self.assertEqual(sum(row["times"] for row in rows), len(layers))
        self.assertGreater(max(row["times"] for row in rows), 7)  # the middle flow's
        by_name = {layer["name"]: layer for layer in layers}
        for row in rows:
            self.assertEqual(row["series"], 3)
            self.assertEqual(row["bytes"], by_name[row["name"]]["bytes"])
            # Each is itself, and one run of it: a thousand times in a series, it may be.
            self.assertLess(row["median_ms"], 100 * by_name[row["name"]]["median_ms"])
        total = sum(row["times"] * row["median_ms"] for row in rows)
        self.assertAlmostEqual(report["session"]["kernels_ms"], total)
        self.assertNotIn("difference", rows[0])
        self.assertNotIn("tolerance", report["session"])

    def test_each_is_timed_itself(self):
        rows = self.kernels("-d", "reference")["rows"]  # whose loops take what their multiply-adds take
        multiplying = sorted((row for row in rows if row["macs"] > 0), key=lambda row: row["macs"])
        least, most = multiplying[0], multiplying[-1]
        self.assertGreater(most["macs"], 50 * least["macs"])
        self.assertGreater(most["median_ms"], 5 * least["median_ms"])

    def test_only_some_layers(self):
        report = self.kernels("--layer", "block4.feature")
        names = [row["name"] for row in report["rows"]]
        self.assertTrue(names and all("block4.feature" in name for name in names), names)
        self.assertNotIn("kernels_ms", report["session"])

    def test_no_roofline_where_none_is_known(self):
        report = self.kernels("-d", "reference", "--layer", "fc")
        self.assertIsNone(report["session"]["roofline"])
        self.assertIsNone(report["rows"][0]["roofline_share"])
        markdown = self.bench("kernel", "-m", self.model, "-d", "reference", "--layer", "fc", "-r", 1).stdout
        self.assertNotIn("roofline", markdown)

    def test_verify(self):
        report = self.kernels("--verify", "-b", 2)
        differences = [row["difference"] for row in report["rows"]]
        self.assertEqual(report["session"]["tolerance"], 1e-4)
        self.assertEqual(report["session"]["logits_difference"], differences[-1])
        self.assertTrue(all(0 <= difference < 1e-5 for difference in differences), differences)
        self.assertGreater(max(differences), 0)
        # Of several layers the greatest. Where both run alone they give the same bits.
        row = next(row for row in report["rows"] if row["times"] > 7)
        same = ("operation", "implementation", "inputs", "output")
        names = [layer["name"] for layer in self.layers("-b", 2) if all(layer[k] == row[k] for k in same)]
        each = []
        for name in names:
            found = self.kernels("--verify", "-b", 2, "--layer", name)["rows"]
            each += [other["difference"] for other in found if other["name"] == name]
        self.assertEqual(len(each), len(names))
        self.assertEqual(row["difference"], max(each))
        self.assertGreater(len(set(each)), 1)

    @unittest.skipUnless("avx512_bf16" in open("/proc/cpuinfo", encoding="ascii", errors="replace").read(),
                         "this CPU has no AVX512_BF16")  # fmt: skip
    def test_other_precisions_may_differ_more(self):
        session = self.kernels("--verify", "--precision", "bf16", "--layer", "fc")["session"]
        self.assertEqual(session["tolerance"], 2e-2)
        self.assertTrue(1e-4 < session["logits_difference"] < 2e-2, session)

    def test_verify_tells_of_what_is_wrong(self):
        """Values above 1e12 become NaN on the CPU, and stay numbers in the double-precision loops."""
        tensors, metadata = safetensors_io.read(self.model)
        name = next(name for name in tensors if name.endswith("fc.bias"))
        tensors[name] = np.full_like(tensors[name], 1e13)
        block = next(name for name in tensors if name == "feature.1.weight")
        tensors[block] = tensors[block] * np.float32(1e14)
        safetensors_io.write(self.model, tensors, metadata)
        report = self.kernels("--verify", status=5)
        self.assertIsNone(report["session"]["logits_difference"])
        result = self.bench("kernel", "-m", self.model, "--verify", "-r", 1)
        self.assertEqual(result.returncode, 5)
        self.assertIn("the logits differ", result.stderr)
        self.assertEqual(cells(result.stdout, 0)[-1]["difference"], "nan")

    def test_markdown_says_the_same(self):
        markdown = self.bench("kernel", "-m", self.model, "-r", 3, "--verify", "--threads", 1).stdout
        report = self.kernels("--verify", "--threads", 1)
        self.assertIn("on cpu, fp32, 1 thread, input 1x32x32x3; medians of series", markdown)
        self.assertIn("roofline, measured: ", markdown)
        self.assertIn("tolerance 1.0e-04", markdown)
        for row, other in zip(cells(markdown, 0), report["rows"], strict=True):
            self.assertEqual(row["layer"], other["name"])
            self.assertEqual(row["inputs"], " + ".join(other["inputs"]))
            self.assertEqual(row["times"], str(other["times"]))
            self.assertEqual(row["difference"], f"{other['difference']:.1e}")
            ms = float(row["ms"])
            self.assertAlmostEqual(float(row["GFLOP/s"]), 2e-6 * other["macs"] / ms,
                                   delta=0.1 + 2e-6 * other["macs"] / ms * 1e-4 / ms)  # fmt: skip

    def test_csv(self):
        result = self.bench("kernel", "-m", self.model, "-r", 1, "--verify", "-o", "csv")
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        self.assertTrue(all(None not in row and None not in row.values() for row in rows))
        self.check_rows(rows)
        self.assertEqual({row["session_roofline_source"] for row in rows}, {"measured"})


if __name__ == "__main__":
    unittest.main()
