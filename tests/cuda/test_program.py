"""The command line on CUDA devices, as the emulator of the tests has them."""

import json
import math
import os
import re
import subprocess
import unittest

import numpy as np

import program
from program import DEMO, pictures, without_times

GPU = os.environ["XC_EMULATOR_DEVICE"]  # "sm_80"
CAPABILITY = f"{GPU[3:-1]}.{GPU[-1]}"

once = unittest.skipUnless(GPU == "sm_80", "another GPU would make it no other")


def environment(**variables):
    return {"env": os.environ | variables}


class CudaProgramTest(program.ProgramTest):
    def test_list_devices(self):
        out, err = self.run_demo("--list-devices")
        self.assertEqual(err, "")
        self.assertRegex(out, r"(?m)^cpu ")
        self.assertRegex(
            out, rf"(?m)^cuda:0 .*compute capability {CAPABILITY}, \d+ multiprocessors, [\d.]+ GiB$"
        )
        out, _ = self.run_demo("--list-devices", **environment(XC_EMULATOR_DEVICE="sm_90,sm_75"))
        self.assertRegex(out, r"(?m)^cuda:0 .*capability 9\.0")
        self.assertRegex(out, r"(?m)^cuda:1 .*capability 7\.5")

    def test_auto_takes_the_gpu_and_says_so(self):
        for device in ("auto", "cuda", "cuda:0"):
            with self.subTest(device=device):
                out, err = self.run_demo("-v", "-f", "jsonl", "-d", device, pictures()[0])
                self.assertIn("on cuda:0 (", err)
                self.assertIn(f"compute capability {CAPABILITY}", err)
                self.assertNotIn("no GPU", err)
                self.assertEqual(json.loads(out)["device"], "cuda:0")
        version = self.run_bare("--version").stdout.decode()
        self.assertRegex(version, r"(?m)^backends .*, cuda \(CUDA \d+\.\d+\)$")

    @once
    def test_a_device_that_is_not_there(self):
        two = environment(XC_EMULATOR_DEVICE="sm_90,sm_75")
        none = environment(XC_EMULATOR_DEVICE="none")
        no_driver = environment(XC_EMULATOR_DEVICE="no-driver")
        cases = [
            ("cuda:7", {}, ["'cuda:7'", "the only GPU is cuda:0"]),
            ("cuda:2", two, ["'cuda:2'", "cuda:0 to cuda:1"]),
            ("cuda", none, ["'cuda'", "finds no GPU"]),
            ("cuda:0", none, ["'cuda:0'", "finds no GPU"]),
            ("cuda", no_driver, ["'cuda'", "driver"]),
        ]
        for device, env, words in cases:
            with self.subTest(device=device, env=bool(env)):
                message = self.refused(4, "-m", DEMO, pictures()[0], "-d", device, **env)
                for word in words:
                    self.assertIn(word, message)

    @once
    def test_cudnn_wants_more_than_the_emulator(self):
        message = self.refused(4, "-m", DEMO, pictures()[0], "-d", "cudnn")
        self.assertRegex(message, "'cudnn:0'.*cuDNN needs a real GPU|this build has no cuDNN")
        self.assertRegex(message, "another device|device cuda")

    @once
    def test_sessions_that_are_kept_give_way_where_memory_is_short(self):
        # Enough for a session of eight pictures, and not for the one of the last two beside it.
        short = environment(XC_EMULATOR_MEMORY="2600000")
        for size in ([], ["--size", "32"]):
            with self.subTest(size=size):
                options = ["-k", "1", *size, *pictures()]
                out, _ = self.run_demo("-d", "cuda", "-b", "8", *options, **short)
                self.assertEqual(out, self.run_demo("-d", "cuda", "-b", "1", *options)[0])
        message = self.refused(
            4, "-m", DEMO, pictures()[0], "-d", "cuda", **environment(XC_EMULATOR_MEMORY="100000")
        )
        self.assertIn("cannot allocate", message)

    @once
    def test_auto_falls_back_to_the_cpu_and_says_so(self):
        reasons = {
            "none": "no CUDA device: the driver finds no GPU",
            "no-driver": "no CUDA device: no NVIDIA driver is installed",
            "sm_70": "cuda:0 is Emulated V100 .* compute capability 7.0, .* no code for",
        }
        for absent, reason in reasons.items():
            with self.subTest(absent=absent):
                env = environment(XC_EMULATOR_DEVICE=absent)
                _, err = self.run_demo("-v", pictures()[0], **env)
                self.assertIn("on cpu", err)
                self.assertRegex(err, f"(?m)^xception-infer: no GPU is used: {reason}")
                _, err = self.run_demo("-v", "-d", "cpu", pictures()[0], **env)
                self.assertNotIn("no GPU", err)
                (record,) = self.records(pictures()[0], **env)
                self.assertEqual(record["device"], "cpu")
                out, _ = self.run_demo("--list-devices", **env)
                self.assertIn("no code for" if absent == "sm_70" else "no CUDA device: ", out)

    @once
    def test_too_old_a_gpu_is_refused_with_both_capabilities(self):
        env = environment(XC_EMULATOR_DEVICE="sm_70")
        message = self.refused(4, "-m", DEMO, pictures()[0], "-d", "cuda", **env)
        self.assertRegex(message, r"'cuda' is Emulated V100 .*, compute capability 7\.0")
        self.assertRegex(message, r"this build holds code for [^;]*7\.5")
        self.assertNotRegex(message, r"(\d+\.\d), \1\b")
        self.assertLessEqual(message.count(" and later"), 1)
        self.assertIn("the kernels need 7.5 or later; use device cpu", message)

    @once
    def test_auto_skips_a_gpu_that_is_too_old(self):
        env = environment(XC_EMULATOR_DEVICE="sm_70,sm_80")
        (record,) = self.records(pictures()[0], **env)
        self.assertEqual(record["device"], "cuda:1")

    def test_tf32_needs_a_gpu_that_has_it(self):
        arguments = ["-m", DEMO, pictures()[0], "-d", "cuda", "--precision", "tf32"]
        if GPU == "sm_75":
            message = self.refused(4, *arguments)
            for word in ("tf32", "8.0", "7.5"):
                self.assertIn(word, message)
        else:
            self.assertEqual(self.run_bare(*arguments).returncode, 0)

    def logits(self, *arguments):
        records = self.records(*arguments, "-k", "10", *pictures())
        return np.array([[c["logit"] for c in sorted(r["topk"], key=lambda c: c["index"])]
                         for r in records])  # fmt: skip

    def test_the_demo_model_agrees_with_the_cpu(self):
        cpu = self.logits("-d", "cpu")
        largest = np.abs(cpu).max()
        for precision, bound in (("fp32", 1e-4), ("fp16", 2e-2)):
            cuda = self.logits("-d", "cuda", "--precision", precision)
            with self.subTest(precision=precision):
                self.assertLessEqual(np.abs(cuda - cpu).max(), bound * largest)
                clear = np.sort(cpu)[:, -1] - np.sort(cpu)[:, -2] > 2 * bound * largest
                self.assertTrue(clear.any())
                self.assertTrue((cuda.argmax(1) == cpu.argmax(1))[clear].all())

    def test_results_are_the_same_however_they_are_run(self):
        """The same command twice; other batches, decoding threads, orders of work; no graph."""
        for precision in ("fp32", "fp16"):
            common = ("-d", "cuda", "--precision", precision, "-k", "10", *pictures())
            expected = without_times(self.records(*common))
            variants = [
                ([], {}),
                (["-b", "1"], {}),
                (["-b", "3", "-j", "4"], {}),
                (["--cuda-graph", "off"], {}),
                (["-b", "3"], environment(XC_EMULATOR_SEED="1")),
                (["-b", "3"], environment(XC_EMULATOR_SEED="5")),
            ]
            for options, env in variants:
                with self.subTest(precision=precision, options=options, env=bool(env)):
                    self.assertEqual(without_times(self.records(*options, *common, **env)), expected)

    @once
    def test_failed_pictures_keep_their_place(self):
        bad = self.write("bad.png", "no picture")
        names = [bad, *pictures()[:3], bad, bad, *pictures()[3:], bad]
        got = self.records("-d", "cuda", "-b", "3", *names, status=1)
        self.assertEqual([r["input"] for r in got], names)
        self.assertEqual([r["status"] == "error" for r in got], [n == bad for n in names])

    @once
    def test_layers_profile_and_plan(self):
        os.mkdir(self.path("layers"))
        plain = self.records("-d", "cuda", pictures()[0])
        dumped = self.records("-d", "cuda", "--dump-layers", self.path("layers"), pictures()[0])
        self.assertEqual(without_times(dumped), without_times(plain))
        self.assertEqual(np.load(self.path("layers/fc.npy")).shape[:2], (1, 10))
        profile, _ = self.run_demo("--profile=2", "-d", "cuda")
        self.assertRegex(profile, r"runs on +cuda:0 \(.*\), fp32")
        info, _ = self.run_demo("--info", "-d", "cuda", "--precision", "fp16")
        for kernel in ("pointwise", "depthwise", "conv3x3", "max_pool", "linear"):
            self.assertRegex(info, rf"(?m)^ *\d+ .* {kernel}")

    def test_every_kernel_has_the_blocks_that_the_plan_names(self):
        bench = os.path.join(os.environ["XCEPTION_BUILD_DIR"], "tools", "bench")
        for precision in ("fp32", "fp16"):
            counters = self.path(f"{precision}.jsonl")
            command = [bench, "layer", "-m", DEMO, "-d", "cuda", "--precision", precision]
            command += ["-r", "1", "--warmup-ms", "0", "-o", "json"]
            options = environment(XC_EMULATOR_COUNTERS=counters)
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, **options)
            layers = json.loads(done.stdout)["rows"]
            with open(counters, encoding="utf-8") as f:
                launches = [json.loads(line) for line in f][-len(layers) :]
            compared = set()
            for layer, launch in zip(layers, launches):
                if named := re.search(r"([\d x]+) blocks", layer["implementation"]):
                    blocks = math.prod(int(count) for count in named[1].split(" x "))
                    self.assertEqual(math.prod(launch["grid"]), blocks, layer)
                    compared.add(layer["implementation"].split()[0])
            self.assertLessEqual({"depthwise", "pointwise"}, compared)

    @once
    def test_out_of_memory(self):
        asked = r"cannot allocate \d+ bytes for "
        cases = [
            ("200000", "layer '[^']+': " + asked + "weights", "weights take the same for every batch"),
            ("900000", asked + "activations", "use a smaller batch or picture"),
        ]
        for memory, *words in cases:
            with self.subTest(memory=memory):
                env = environment(XC_EMULATOR_MEMORY=memory)
                message = self.refused(4, "-m", DEMO, *pictures(), "-d", "cuda", **env)
                for part in (*words, rf"of the device's {memory} bytes \d+ are free"):
                    self.assertRegex(message, part)

    @once
    def test_a_device_that_does_not_start_is_named(self):
        failed = 0
        for call in range(1, 20):
            env = environment(XC_EMULATOR_FAIL_CALL=str(call))
            message = self.run_bare("-m", DEMO, "--info", "-d", "cuda", **env).stderr.decode()
            if "create a CUDA stream" in message:
                failed += 1
                self.assertIn("device 'cuda:0' does not start: ", message)
                self.assertIn("use another device or device cpu", message)
        self.assertEqual(failed, 2)

    @once
    def test_a_call_that_fails_ends_the_program_with_its_name(self):
        statuses = set()
        for call in (1, 5, 40, 200, 400):
            with self.subTest(call=call):
                done = self.run_bare("-m", DEMO, pictures()[0], "-d", "cuda",
                                     **environment(XC_EMULATOR_FAIL_CALL=str(call)))  # fmt: skip
                statuses.add(done.returncode)
                if done.returncode != 0:
                    self.assertEqual(done.returncode, 4)
                    self.assertTrue(re.match(b"xception-infer: .*\n$", done.stderr), done.stderr)
        self.assertIn(4, statuses)


if __name__ == "__main__":
    unittest.main()
