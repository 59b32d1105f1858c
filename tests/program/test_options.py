"""The command line itself: usage errors, devices, and what it prints without pictures."""

import os
import re
import resource
import unittest

import numpy as np

import program
from program import DEMO, pictures


class OptionsTest(program.ProgramTest):
    def test_usage_errors(self):
        picture = pictures()[0]
        small, other = self.noise("small.png", 20, 20), self.noise("other.png", 31, 28)
        cases = [
            ([], "no model"),
            (["-m", DEMO], "no inputs"),
            ([picture], "no model"),
            (["-m"], "--model"),
            (["-m", DEMO, picture, "--frobnicate"], "--frobnicate"),
            (["-m", DEMO, "-lead.png"], "-lead.png; a file whose name begins with - is given as ./-NAME"),
            (["-m", DEMO, picture, "-f", "xml"], "'xml'"),
            (["-m", DEMO, "-", "--labels", "-"], "standard input is read once"),
            (["-m", DEMO, picture, "-d", "cuda:1000"], "'cuda:1000' is none of"),
            (["-m", DEMO, picture, "-k", "0"], "--top"),
            (["-m", DEMO, picture, "-b", "0"], "--batch"),
            (["-m", DEMO, picture, "-j", "x"], "--jobs"),
            (["-m", DEMO, picture, "-j", "1e0"], "'1e0' is not a whole number from 1 to 256"),
            (["-m", DEMO, picture, "--size", "0x20"], "'0x20' is not a whole number"),
            (["-m", DEMO, picture, "-b", "9999999999999999999"], "from 1 to 65535"),
            (["-m", DEMO, picture, "--max-pixels", "-1"], "--max-pixels: '-1'"),
            (["-m", DEMO, "--profile=0b1"], "'0b1' is not a whole number"),
            (["-m", DEMO, picture, "--threshold", "nan"], "nan"),
            (["-m", DEMO, picture, "--mean", "1,2"], "1,2"),
            (["-m", DEMO, picture, "--std", "0,1,1"], "0,1,1"),
            (["-m", DEMO, picture, "--std", "1e-40,1,1"], "1e-6"),
            (["-m", DEMO, picture, "--std", "1,1,1e6"], "from 1e-6 on and below 1e6"),
            (["-m", DEMO, picture, "--mean", "0,0,0,"], "three numbers"),
            (["-m", DEMO, picture, "--mean", "1e38,0,0"], "1e6"),
            (["-m", DEMO, picture, "--resize-mode", "center", "--crop-pct", "1e-7"], "0.01"),
            (["-m", DEMO, picture, "--resize-mode", "center", "--crop-pct", "1e-300"], "0.01"),
            (["-m", DEMO, picture, "--size", "500"], "17 to 32"),
            (["-m", DEMO, picture, "--crop-pct", "0.9"], "--crop-pct"),
            (["-m", DEMO, picture, "--resize-mode", "border", "--crop-pct", "0.9"], "--crop-pct"),
            (["-m", DEMO, picture, "--arch", "vgg"], "vgg"),
            (["-m", DEMO, picture, "-d", "gpu"], "'gpu'"),
            (["-m", DEMO, picture, "-d", "cuda:12345"], "'cuda:12345' is none of auto"),
            (["-m", DEMO, picture, "-d", "cpu:0"], "'cpu:0' is none of auto"),
            (["-m", DEMO, picture, "--labels", self.path("none")], "none"),
            (["-m", DEMO, picture, "--labels", self.write("two", "a\nb\n")], "10"),
            (["-m", DEMO, picture, "--labels", DEMO], "no text"),
            (["-m", DEMO, "--files-from", self.write("zero", "a\0b\0")], "-0"),
            (["-m", ""], "--model"),
            (["-m", DEMO, picture, "--labels", ""], "--labels"),
            (["-m", DEMO, picture, "-o", ""], "--output"),
            (["-m", DEMO, picture, "--dump-input="], "--dump-input"),
            (["-m", DEMO, picture, "--dump-layers", ""], "--dump-layers"),
            (["-m", DEMO, picture, "--compare", ""], "--compare"),
            (["-m", DEMO, picture, "-q", "-v"], "--verbose"),
            (["-m", DEMO, picture, "--info"], "--info"),
            (["-m", DEMO, "--info", "--profile"], "--profile"),
            (["-m", DEMO, "--info", "--compare", DEMO], "excludes"),
            (["-m", DEMO, "--info", "--dump-layers", "d"], "excludes"),
            (["-m", DEMO, "--info", "-f", "json"], "--format"),
            (["-m", DEMO, "--profile", "--compare", DEMO], "excludes"),
            (["-m", DEMO, "--profile", "--dump-layers", "d"], "excludes"),
            (["-m", DEMO, "--profile", "-f", "json"], "excludes"),
            (["-m", DEMO, "--profile=1", small, other], "other.png' has another size"),
            (["-m", DEMO, "--profile=1", small, small, "-b", "3"], "--batch 3 contradicts"),
            (["-m", DEMO, "--compare", DEMO, "-k", "3"], "excludes"),
            (["-m", DEMO, "--compare", DEMO, "-b", "2"], "excludes"),
            (["-m", DEMO, picture, "--rtol", "1"], "--compare"),
            (["-m", DEMO, picture, "-0"], "--files-from"),
            (["-m", DEMO, picture, "--raw-input", "x.npy"], "--raw-input"),
            (["-m", DEMO, "--raw-input", "x.npy", "--size", "20"], "--size"),
            (["-m", DEMO, "--raw-input", "x.npy", "--files-from", "names"], "excludes"),
            (["-m", DEMO, "--raw-input", "x.npy", "-r"], "excludes"),
            (["-m", DEMO, "-", "-"], "standard input"),
            (["-m", DEMO, "-", "--files-from", "-"], "standard input"),
            (["-m", DEMO, "-", "--labels", "-"], "standard input"),
            (["-m", DEMO, "--raw-input", "-", "--labels", "-"], "standard input"),
            (["-m", DEMO, "--files-from", self.path("none")], "No such file"),
            (["-m", DEMO, "--files-from", self.folder], "Is a directory"),
            (["-m", DEMO, "--files-from", self.write("zero", picture + "\0" + picture)], "-0"),
            (["-m", DEMO, "--files-from", self.write("long", "a" * (2 << 20))], "1 MiB"),
            (["-m", DEMO, "--compare", self.path("none")], "golden file"),
            (["-m", DEMO, "--compare", picture], "golden file"),
            (["-m", DEMO, "--compare", DEMO, "--mean", "0,0,0"], "--mean is about pictures"),
            (["-m", DEMO, "--compare", DEMO, "--size", "20"], "--size is about pictures"),
            (["-m", DEMO, "--compare", DEMO, "--exif", "apply"], "--exif is about pictures"),
            (["-m", DEMO, "--files-from", self.write("empty", "")], "no names"),
            (["-m", DEMO, self.folder + "/sub"], "no images"),
        ]
        os.mkdir(self.path("sub"))
        for arguments, word in cases:
            with self.subTest(arguments=arguments):
                self.assertIn(word, self.refused(2, *arguments))

    def test_numbers_are_decimal(self):
        record = self.records("--size", "032", "-k", "010", "-b", "08", pictures()[0])[0]
        self.assertEqual(record["size"], [32, 32])
        self.assertEqual(len(record["topk"]), 10)

    def test_flags_take_no_value(self):
        for flag in ("--verify=0", "--fail-fast=false", "--recursive=2", "--no-progress=maybe"):
            message = self.refused(2, "-m", DEMO, pictures()[0], flag)
            self.assertIn(flag.split("=")[0] + ": takes no value", message)

    def test_devices_and_precisions_that_are_not_here(self):
        out, _ = self.run_demo("--list-devices")
        self.assertRegex(out, r"(?m)^cpu ")
        if "no CUDA" in out:
            self.assertIn("cuda", self.refused(4, "-m", DEMO, pictures()[0], "-d", "cuda"))
        tf32 = ["--precision", "tf32", "-d", "cpu"]
        self.assertIn("tf32", self.refused(4, "-m", DEMO, pictures()[0], *tf32))

    def test_too_little_memory_on_the_host(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

        message = self.refused(4, "-m", DEMO, "--info", "-d", "cpu", "-b", "50000", preexec_fn=limit)
        self.assertRegex(message, r"cannot allocate \d+ bytes for activations; .* smaller batch")

    def test_limits_of_memory_end_in_a_sentence(self):
        """oneDNN 2.6 dies where it finds no room for code. OpenMP does where it can start no thread, so
        there are two, however many cores there are."""
        statuses = set()
        for mebibytes in range(80, 480, 16):

            def limit(most=mebibytes << 20):
                resource.setrlimit(resource.RLIMIT_AS, (most, most))

            arguments = ["-m", DEMO, "-d", "cpu", "--threads", 2, "-j", 1]
            done = self.run_bare(*arguments, pictures()[0], preexec_fn=limit)
            if done.returncode != 127:  # the libraries themselves found room
                self.assertIn(done.returncode, (0, 4), (mebibytes, done.stderr))
                statuses.add(done.returncode)
        self.assertIn(0, statuses)

    def test_help_and_version(self):
        out, err = self.run_demo("--help")
        self.assertEqual(err, "")
        for option in ("--files-from", "--raw-input", "--dump-layers", "--fail-fast"):
            self.assertIn(option, out)
        version = self.run_bare("--version").stdout.decode()
        self.assertRegex(version, r"^xception-infer \d+\.\d+\.\d+")
        self.assertIn("seed_depthwise", version)

    def test_info_adds_up(self):
        out, err = self.run_demo("--info", "-d", "cpu", "-b", "2")
        self.assertEqual(err, "")
        numbers = r"(\d+x\d+x\d+x\d+) +([\d.]+) +([\d.]+) +(\d+) +(\d+)"
        rows = re.findall(r"(?m)^ *\d+  \S+ .*? " + numbers + "$", out)
        count, gmac, packed, arena = re.search(
            r"layers (\d+), ([\d.]+) GMAC, packed weights (\d+) .*arena (\d+) bytes", out
        ).groups()
        self.assertEqual(len(rows), int(count))
        self.assertAlmostEqual(sum(float(row[1]) for row in rows) / 1e3, float(gmac), places=3)
        kibibytes = sum(float(row[2]) for row in rows)
        self.assertAlmostEqual(kibibytes, int(packed) / 1024, delta=0.05 * len(rows))
        for shape, _, _, offset, size in rows:
            self.assertEqual(int(np.prod([int(x) for x in shape.split("x")])) * 4, int(size))
            self.assertLessEqual(int(offset) + int(size), int(arena))

    def test_info_says_what_is_fed_to_the_network(self):
        out, _ = self.run_demo("--info", "--mean", "0.1,0.2,0.3", "--std", "1,2,3")
        fitting = "32 x 32, bilinear, squashed; sides of 17 to 32 are taken as they are"
        for name, value in (
            ("network", "seed_depthwise, 10 classes, with names"),
            ("input", fitting),
            ("mean", "0.1000, 0.2000, 0.3000"),
            ("std", "1.0000, 2.0000, 3.0000"),
        ):
            self.assertRegex(out, rf"(?m)^{name} +{value}$")

    def test_profile_has_a_row_a_layer(self):
        out, _ = self.run_demo("--profile=3", "-d", "cpu", "-b", "4")
        shares = [float(x) for x in re.findall(r"(?m)^ *\d+  \S+ .* ([\d.]+) +(?:[\d.]+|-)$", out)]
        self.assertGreater(len(shares), 50)
        self.assertAlmostEqual(sum(shares), 100, delta=0.05 * len(shares))
        self.assertIn("median of 3", out)
        # Rates follow from times and from what --info counts, as far as they are printed.
        info, _ = self.run_demo("--info", "-d", "cpu", "-b", "4")
        mmacs = re.findall(r"(?m)^ *\d+  \S+ .* \d+x\d+x\d+x\d+ +([\d.]+) ", info)
        rows = re.findall(r"(?m)^ *\d+  \S+ .* ([\d.]+) +[\d.]+ +([\d.]+|-)$", out)
        self.assertEqual(len(rows), len(mmacs))
        for mmac, (ms, rate) in zip(map(float, mmacs), rows):
            if rate != "-" and float(ms) > 0.001:
                self.check_rate(float(rate), mmac, 5e-4, float(ms), 5e-5)
        numbers = r"all steps ([\d.]+) ms .*, ([\d.]+) ms a picture, ([\d.]+) GFLOP/s"
        whole, each, rate = map(float, re.search(numbers, out).groups())
        self.assertAlmostEqual(each, whole / 4, delta=7e-4)
        self.check_rate(rate, sum(map(float, mmacs)), 5e-4 * len(mmacs), whole, 5e-4)

    def check_rate(self, rate, mmac, mmac_error, ms, ms_error):
        """That `rate`, which has one decimal, may be 2 * mmac / ms."""
        least = 2 * (mmac - mmac_error) / (ms + ms_error)
        most = 2 * (mmac + mmac_error) / (ms - ms_error)
        self.assertTrue(least - 0.051 < rate < most + 0.051, (least, rate, most))


if __name__ == "__main__":
    unittest.main()
