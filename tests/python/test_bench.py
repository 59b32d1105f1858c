"""bench, as a program: its reports, its protocol, its exit statuses."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import time
import unittest

from bench_program import BENCH, Bench, cells

import numpy as np
import torch

import peer_process
from support import reference, safetensors_io

ROW = (
    "device", "precision", "threads", "batch", "height", "width", "timed", "runs", "images_per_s",
    "ms_per_image", "latency_ms", "gmacs", "gflops_per_s", "arena_bytes", "parameter_bytes", "load_ms",
    "create_ms", "first_run_ms", "peak_rss_bytes",
)  # fmt: skip


class Threads(Bench):
    @unittest.skipUnless(len(os.sched_getaffinity(0)) > 1, "this process has one processor")
    def test_bound_threads_get_a_processor_each(self):
        command = [BENCH, "model", "--step", "-m", self.model, "--threads", "2"]
        engine = peer_process.Engine(command, {"OMP_PROC_BIND": "true", "OMP_NUM_THREADS": "2"})
        engine.wait_until_ready()
        engine.run()
        processors = set()
        for thread in os.listdir(f"/proc/{engine.process.pid}/task"):
            processors |= os.sched_getaffinity(int(thread))
        engine.close()
        self.assertGreater(len(processors), 1)


class Model(Bench):
    def test_a_row_for_every_configuration(self):
        report = self.report("-b", "1,3", "--size", "32,17x24", "--threads", 1, "-r", 4,
                             "--percentiles", "50,99.9")  # fmt: skip
        self.assertEqual(list(report), ["tool", "model", "machine", "build", "rows"])
        self.assertEqual(report["model"]["arch"], "seed_depthwise")
        self.assertEqual(sorted(report["machine"]), ["cores", "cpu", "load_average"])
        self.assertEqual(sorted(report["build"]), ["commit", "compiler", "type", "version"])
        shapes = [(row["batch"], row["height"], row["width"]) for row in report["rows"]]
        self.assertEqual(shapes, [(1, 32, 32), (3, 32, 32), (1, 17, 24), (3, 17, 24)])
        for row in report["rows"]:
            self.assertEqual(tuple(row), ROW)
            self.assertEqual(row["timed"], "run")
            self.assertEqual((row["device"], row["precision"], row["threads"]), ("cpu", "fp32", 1))
            self.assertEqual(row["runs"], 4)
            latency = row["latency_ms"]
            self.assertEqual(list(latency), ["min", "mean", "p50", "p99.9"])
            self.assertTrue(0 < latency["min"] <= latency["p50"] <= latency["p99.9"])
            self.assertAlmostEqual(row["images_per_s"] * row["ms_per_image"], 1000, 6)
            self.assertAlmostEqual(latency["mean"], row["ms_per_image"] * row["batch"], 6)
            self.assertAlmostEqual(row["gflops_per_s"], 2e3 * row["gmacs"] / latency["p50"], 6)
            self.assertGreater(row["peak_rss_bytes"], row["arena_bytes"] + row["parameter_bytes"])
        self.assertAlmostEqual(report["rows"][1]["gmacs"], 3 * report["rows"][0]["gmacs"])

    def test_a_path_that_is_no_utf8(self):
        path = os.fsdecode(os.fsencode(self.folder) + b"/\xff")
        os.rename(self.model, path)
        result = self.bench("model", "-m", path, "-r", 1, "-o", "json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(len(json.loads(result.stdout)["rows"]), 1)
        os.truncate(path, 100)
        result = self.bench("model", "-m", path, "-r", 1, "-o", "json", errors="replace")
        self.assertEqual(result.returncode, 3)
        self.assertIn("\ufffd", result.stderr)

    def test_the_network_alone(self):
        rows = self.report("-b", "1", "-r", 4, "--network-only")["rows"]
        self.assertEqual([(row["timed"], row["runs"]) for row in rows], [("network", 4)])
        table = self.bench("model", "-m", self.model, "-r", 1, "--network-only").stdout
        self.assertIn("the network alone", table)

    def test_multiply_adds_are_those_of_the_module(self):
        module, macs = reference.build("seed_depthwise", width=0.1), []

        def count(layer, _inputs, output):
            weights = layer.weight[0].numel()  # of one output value
            macs.append(weights * output.numel())

        for layer in module.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.register_forward_hook(count)
        with torch.no_grad():
            module(reference.sample_input(1, 32, 32))
        row = self.report("-r", 1)["rows"][0]
        self.assertEqual(round(1e9 * row["gmacs"]), sum(macs))

    def test_duration_bounds_the_runs(self):
        row = self.report("--duration", "50ms", "--warmup-ms", 0, "--percentiles", 100)["rows"][0]
        total = row["latency_ms"]["mean"] * row["runs"]
        before_the_last = total - row["latency_ms"]["p100"]
        self.assertGreater(total, 49.99)
        self.assertTrue(row["runs"] == 3 or before_the_last < 50.01)

    def test_the_median_of_two_runs_lies_between_them(self):
        latency = self.report("-r", 2, "--percentiles", "50,100")["rows"][0]["latency_ms"]
        self.assertAlmostEqual(latency["p50"], (latency["min"] + latency["p100"]) / 2, 6)

    def test_csv(self):
        result = self.bench("model", "-m", self.model, "-b", "1,2", "-r", 1, "-o", "csv")
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        self.assertEqual([row["batch"] for row in rows], ["1", "2"])
        self.assertGreater(float(rows[0]["latency_ms_p50"]), 0)
        report = self.report("-r", 1)
        for row in rows:
            for group in ("machine", "build", "model"):
                for key, value in report[group].items():
                    if key != "load_average":
                        self.assertEqual(row[f"{group}_{key}"], str(value))

    def test_markdown_says_the_same(self):
        markdown = self.bench("model", "-m", self.model, "-r", 5, "-b", "3").stdout
        report = self.report("-r", 1, "-b", "3")
        for where in (report["machine"]["cpu"], report["build"]["compiler"], report["build"]["type"]):
            self.assertIn(where, markdown)
        (row,), (other,) = cells(markdown, 0), report["rows"]
        for heading, key in (("arena MiB", "arena_bytes"), ("weights MiB", "parameter_bytes")):
            self.assertEqual(row[heading], f"{other[key] / 2**20:.1f}")
        self.assertEqual((row["size"], row["runs"], row["batch"]), ("32x32", "5", "3"))
        number = {heading: float(row[heading]) for heading in row if "s" in heading and "/" in heading}
        self.assertAlmostEqual(1000 / number["images/s"], number["ms/image"], delta=2e-3)
        self.assertAlmostEqual(float(row["mean ms"]), 3 * number["ms/image"], delta=4e-3)
        gflops = 2e3 * other["gmacs"] / float(row["p50 ms"])
        self.assertAlmostEqual(number["GFLOP/s"], gflops, delta=0.1 + gflops * 1e-3 / float(row["p50 ms"]))

    def test_nobody_measures_for_a_parent_that_has_gone(self):
        command = [BENCH, "model", "-m", self.model, "--duration", "100s"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as parent:
            children = f"/proc/{parent.pid}/task/{parent.pid}/children"
            for _ in range(1000):
                with open(children, encoding="ascii") as f:
                    child = f.read().split()
                if child:
                    break
                time.sleep(0.01)
            time.sleep(0.2)  # in which it has asked for it
            parent.kill()
        for _ in range(1000):
            try:
                with open(f"/proc/{child[0]}/stat", encoding="ascii", errors="replace") as f:
                    if f.read().rpartition(")")[2].split()[0] == "Z":
                        return
            except FileNotFoundError:
                return
            time.sleep(0.01)
        os.kill(int(child[0]), signal.SIGKILL)
        self.fail("the child goes on")

    def test_a_model_that_cannot_be_read_is_refused(self):
        for command in (["model"], ["layer"], ["kernel"], ["model", "--step"]):
            for model in (self.path("nothing.safetensors"), self.path(".")):
                with self.subTest(command=command, model=model):
                    result = self.bench(*command, "-m", model)
                    self.assertEqual(result.returncode, 3)
                    self.assertIn("bench: ", result.stderr)

    def test_memory_that_is_not_there(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

        result = self.bench("model", "-m", self.model, "-b", 65535, preexec_fn=limit)
        self.assertEqual(result.returncode, 4)
        self.assertIn("smaller batch", result.stderr)

    def test_a_configuration_that_fails_costs_its_own_row(self):
        result = self.bench("model", "-m", self.model, "--size", "16,32", "-r", 1, "-o", "json")
        self.assertEqual(result.returncode, 2)
        self.assertEqual([row["height"] for row in json.loads(result.stdout)["rows"]], [32])
        self.assertIn("batch 1, 16x16, fp32: input height 16", result.stderr)

    def test_reports_that_cannot_be_written(self):
        for command in ("model", "layer", "kernel"):
            with open("/dev/full", "w") as full:
                done = subprocess.run([BENCH, command, "-m", self.model, "-r", "1"], stdout=full,
                                      stderr=subprocess.PIPE, text=True)  # fmt: skip
            self.assertEqual(done.returncode, 1)
            self.assertIn("standard output", done.stderr)


class Step(Bench):
    def test_answers_every_line_with_milliseconds(self):
        result = self.bench("model", "-m", self.model, "--step", text="\n\nrun\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        ready, *times = result.stdout.splitlines()
        self.assertTrue(ready.startswith("ready {"))
        self.assertGreater(json.loads(ready[6:])["rss_bytes_before"], 0)
        self.assertEqual(len(times), 3)
        self.assertTrue(all(float(time) > 0 for time in times))

    def test_takes_pictures_and_gives_logits(self):
        x = reference.sample_input(2, 20, 32, seed=4)
        np.save(self.path("x.npy"), x.numpy())
        result = self.bench("model", "-m", self.model, "--step", "-b", 2, "--size", "20x32",
                            "--input", self.path("x.npy"), "--logits", self.path("y.npy"),
                            text="\n")  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stderr)
        tensors, _ = safetensors_io.read(self.model)
        module = reference.build("seed_depthwise", width=0.1)
        state = {n: torch.from_numpy(a.copy()) for n, a in tensors.items()}
        module.load_state_dict(state, strict=False)
        with torch.no_grad():
            truth = module(x).numpy()
        logits = np.load(self.path("y.npy"))
        self.assertLess(np.abs(logits - truth).max(), 1e-4 * np.abs(truth).max())

    def test_logits_go_over_nothing_that_is_read(self):
        np.save(self.path("x.npy"), np.zeros((1, 3, 32, 32), "<f4"))
        os.link(self.model, self.path("link"))
        for logits in (self.model, self.path("x.npy"), self.path("link")):
            with open(logits, "rb") as f:
                before = f.read()
            result = self.bench("model", "-m", self.model, "--step", "--input", self.path("x.npy"),
                                "--logits", logits, text="\n")  # fmt: skip
            self.assertEqual(result.returncode, 2)
            self.assertIn("a file that is read", result.stderr)
            with open(logits, "rb") as f:
                self.assertEqual(f.read(), before)

    def test_pictures_of_another_shape(self):
        np.save(self.path("x.npy"), np.zeros((1, 3, 20, 20), "<f4"))
        result = self.bench("model", "-m", self.model, "--step", "--input", self.path("x.npy"))
        self.assertEqual(result.returncode, 2)
        self.assertIn("is not a float32 array for 1x32x32x3", result.stderr)

    def test_pictures_that_are_not_there(self):
        result = self.bench("model", "-m", self.model, "--step", "--input", self.path("nothing.npy"))
        self.assertEqual(result.returncode, 2)
        self.assertIn("cannot read '", result.stderr)

    def test_one_configuration_only(self):
        result = self.bench("model", "-m", self.model, "--step", "-b", "1,2")
        self.assertEqual(result.returncode, 2)
        self.assertIn("one configuration", result.stderr)


class Usage(Bench):
    def test_bad_options_say_what_is_wrong(self):
        for arguments, message in (
            ((), "subcommand"),
            (("model",), "--model is required"),
            (("model", "-m", self.model, "--baseline", ""), "--baseline"),
            (("model", "-m", self.model, "--step", "--logits="), "--logits"),
            (("model", "-m", self.model, "--frob"), "--frob"),
            (("model", "-m", self.model, "-b", "0"), "'0' is not a whole number of 1 or more"),
            (("model", "-m", self.model, "-b", "1,x"), "--batch: 'x'"),
            (("model", "-m", self.model, "--size", "32x"), "--size: '32x'"),
            (("model", "-m", self.model, "--size", "32x0"), "--size: '32x0'"),
            (("model", "-m", self.model, "--size", "0x32"), "--size: '0x32'"),
            (("model", "-m", self.model, "--threads", "-1"), "--threads: '-1'"),
            (("model", "-m", self.model, "--precision", "int8"), "--precision: 'int8'"),
            (("model", "-m", self.model, "--duration", "3m"), "--duration: '3m'"),
            (("model", "-m", self.model, "--duration", "ms"), "--duration: 'ms'"),
            (("model", "-m", self.model, "--percentiles", "101"), "--percentiles: '101'"),
            (("model", "-m", self.model, "--max-regress", "5%"), "requires --baseline"),
            (("model", "-m", self.model, "--max-regress", "0.05", "--baseline", "x"), "'0.05' is not a share"),
            (("model", "-m", self.model, "-o", "xml"), "--output: 'xml'"),
            (("model", "-m", self.model, "-d", "tpu", "-r", "1"), "unknown device 'tpu'"),
            (("model", "-m", self.model, "--input", "x.npy"), "--step"),
            (("model", "-m", self.model, "--step", "--baseline", "x.json"), "--step"),
            (("model", "-m", self.model, "--step", "-o", "json"), "--step"),
            (("layer", "-m", self.model, "-b", "1,2"), "one configuration"),
            (("kernel", "-m", self.model, "--threads", "1,2"), "one configuration"),
            (("kernel", "-m", self.model, "--layer", ""), "--layer"),
            (("kernel", "-m", self.model, "--layer", "block99"), "no layer has 'block99' in its name"),
            (("layer", "-m", self.model, "--verify"), "--verify"),
        ):
            result = self.bench(*arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertTrue(result.stderr.startswith("bench: "), result.stderr)
            self.assertIn(message, result.stderr)

    def test_a_model_that_is_not_there_or_none(self):
        with open(self.path("bad.safetensors"), "wb") as f:
            f.write(b"not a model")
        for name in ("nothing.safetensors", "bad.safetensors"):
            result = self.bench("model", "-m", self.path(name))
            self.assertEqual((result.returncode, result.stdout), (3, ""))
            self.assertIn(name, result.stderr)

    def test_a_device_that_is_not_here(self):
        result = self.bench("model", "-m", self.model, "-d", "cuda:99", "-r", 1)
        self.assertEqual(result.returncode, 4)


if __name__ == "__main__":
    unittest.main()
