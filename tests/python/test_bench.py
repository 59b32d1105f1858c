"""bench, as a program: its reports, its protocol, its exit statuses."""

import csv
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import unittest

# Before PyTorch reads it: with two threads that share the cores with other tests, a run that takes
# milliseconds can take a second, since OpenMP's threads wait for each other spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import support  # noqa: E402
from support import draw, reference, safetensors_io  # noqa: E402

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
BENCH = os.path.join(os.environ.get("XCEPTION_BUILD_DIR", ""), "tools", "bench")
sys.path.insert(0, os.path.join(ROOT, "tools"))

import peer_process  # noqa: E402
import plot_scaling  # noqa: E402

ROW = (
    "device", "precision", "threads", "batch", "height", "width", "timed", "runs", "images_per_s",
    "ms_per_image", "latency_ms", "gmacs", "gflops_per_s", "arena_bytes", "parameter_bytes", "load_ms",
    "create_ms", "first_run_ms", "peak_rss_bytes",
)  # fmt: skip


@unittest.skipUnless(os.access(BENCH, os.X_OK), "bench is not built")
class Bench(support.FolderTest):
    def setUp(self):
        super().setUp()
        self.model = self.path("m.safetensors")
        draw.main(["--arch", "seed_depthwise", "--width", "0.1", "-o", self.model])

    def bench(self, *arguments, text="", **options):
        command = [BENCH, *(str(a) for a in arguments)]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=300, **options
        )

    def report(self, *arguments):
        result = self.bench("model", "-m", self.model, "-o", "json", *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return json.loads(result.stdout)


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

    def test_markdown_says_where_it_was_taken(self):
        result = self.bench("model", "-m", self.model, "-r", 1)
        cpu = self.report("-r", 1)["machine"]["cpu"]
        self.assertIn(cpu, result.stdout)
        self.assertIn("| images/s |", result.stdout)

    def test_a_model_that_cannot_be_read_is_refused(self):
        for command in (["model"], ["layer"], ["model", "--step"]):
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
        for command in ("model", "layer"):
            with open("/dev/full", "w") as full:
                done = subprocess.run([BENCH, command, "-m", self.model, "-r", "1"], stdout=full,
                                      stderr=subprocess.PIPE, text=True)  # fmt: skip
            self.assertEqual(done.returncode, 1)
            self.assertIn("standard output", done.stderr)


class Baseline(Bench):
    def compare(self, factor, *arguments):
        """bench against its own figures, the old medians times `factor`."""
        report = self.report("-r", 1, *arguments)
        for row in report["rows"]:
            row["latency_ms"]["p50"] *= factor
        with open(self.path("old.json"), "w", encoding="utf-8") as f:
            json.dump(report, f)
        return self.bench("model", "-m", self.model, "-r", 1, "--baseline", self.path("old.json"),
                          "--max-regress", "10%")  # fmt: skip

    def test_much_slower_than_the_baseline(self):
        result = self.compare(1e-4)
        self.assertEqual(result.returncode, 5)
        self.assertIn("slower than allowed", result.stderr)

    def test_faster_than_the_baseline(self):
        result = self.compare(1e4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("median", result.stderr)

    def test_a_baseline_without_the_configuration(self):
        result = self.compare(1, "-b", 2)
        self.assertEqual(result.returncode, 2)
        self.assertIn("has none of the configurations", result.stderr)

    def test_a_baseline_that_is_no_report(self):
        for content in ("", "[]", "{}", '{"rows": [{}]}'):
            with open(self.path("old.json"), "w", encoding="utf-8") as f:
                f.write(content)
            result = self.bench("model", "-m", self.model, "-r", 1, "--baseline",
                                self.path("old.json"))  # fmt: skip
            self.assertEqual(result.returncode, 2, content)
            self.assertIn("is not a report", result.stderr)

    def test_a_baseline_that_is_not_there_is_told_before_anything_is_timed(self):
        for path in (self.path("none"), self.folder):
            result = self.bench("model", "-m", self.model, "--baseline", path)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(f"'{path}' cannot be read", result.stderr)


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


class Layer(Bench):
    def test_every_step_has_its_time(self):
        result = self.bench("layer", "-m", self.model, "-r", 3, "-o", "json", "--warmup-ms", 0)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)["rows"]
        self.assertEqual(rows[-1]["name"], "fc")
        self.assertEqual(len({row["name"] for row in rows}), len(rows))
        self.assertAlmostEqual(sum(row["share"] for row in rows), 1)
        self.assertTrue(all(row["median_ms"] > 0 and row["gb_per_s"] > 0 for row in rows))
        # What is read does not get less because an earlier step holds the same weights.
        by_name = {row["name"]: row["gb_per_s"] * row["median_ms"] for row in rows}
        self.assertAlmostEqual(by_name["block4.feature.3#5"], by_name["block4.feature.3"])

    def test_markdown_sums_up(self):
        result = self.bench("layer", "-m", self.model, "-r", 1)
        self.assertIn("| all |", result.stdout)


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
            (("model", "-m", self.model, "--threads", "-1"), "--threads: '-1'"),
            (("model", "-m", self.model, "--precision", "int8"), "--precision: 'int8'"),
            (("model", "-m", self.model, "--duration", "3m"), "--duration: '3m'"),
            (("model", "-m", self.model, "--duration", "ms"), "--duration: 'ms'"),
            (("model", "-m", self.model, "--percentiles", "101"), "--percentiles: '101'"),
            (("model", "-m", self.model, "--max-regress", "some"), "--max-regress: 'some'"),
            (("model", "-m", self.model, "-o", "xml"), "--output: 'xml'"),
            (("model", "-m", self.model, "-d", "tpu", "-r", "1"), "unknown device 'tpu'"),
            (("model", "-m", self.model, "--input", "x.npy"), "--step"),
            (("model", "-m", self.model, "--step", "--baseline", "x.json"), "--step"),
            (("model", "-m", self.model, "--step", "-o", "json"), "--step"),
            (("layer", "-m", self.model, "-b", "1,2"), "one configuration"),
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
