"""What comes out: formats, files, closed pipes, signals."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import time
import unittest

import numpy as np

import program
from program import BINARY, DEMO, IMAGES, black_png, pictures


class OutputTest(program.ProgramTest):
    def test_demo_model_knows_its_pictures(self):
        for record in self.records(IMAGES, "-k1"):
            label = record["topk"][0]["label"]
            self.assertTrue(os.path.basename(record["input"]).startswith(label), record)

    def test_json_lines_and_json_say_the_same(self):
        lines = self.records(IMAGES)
        out, _ = self.run_demo(IMAGES, "-f", "json")
        self.assertEqual(program.without_times(json.loads(out)), program.without_times(lines))
        keys = "input status model arch device precision decoder size topk time_ms".split()
        for record in lines:
            self.assertEqual(list(record), keys)
            self.assertEqual(len(record["topk"]), 5)
            probs = [entry["prob"] for entry in record["topk"]]
            self.assertEqual(probs, sorted(probs, reverse=True))
            times = record["time_ms"]
            self.assertEqual(list(times), "decode preprocess copy_in compute copy_out".split())
            self.assertGreater(times["compute"], 0)
        (whole,) = self.records(pictures()[0], "-k", "1000")
        self.assertEqual(len(whole["topk"]), 10)
        self.assertAlmostEqual(sum(entry["prob"] for entry in whole["topk"]), 1, places=5)

    def test_json_of_nothing_but_failures(self):
        out, _ = self.run_demo(self.path("none"), "-f", "json", status=1)
        (record,) = json.loads(out)
        self.assertEqual(sorted(record), ["code", "input", "message", "status"])

    def test_csv(self):
        name = self.path('odd, "name"\n.png')
        os.symlink(pictures()[0], name)
        out, _ = self.run_demo(name, self.path("none"), "-f", "csv", "-k2", status=1)
        rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
        self.assertEqual(len(rows), 3)
        self.assertEqual([row["rank"] for row in rows], ["1", "2", ""])
        self.assertEqual(rows[0]["input"], name)
        self.assertEqual(rows[2]["code"], "not_found")
        self.assertNotIn("\n", out.replace("\r\n", "").replace(name.replace('"', '""'), ""))
        record = self.records(name, "-k1")[0]["topk"][0]
        self.assertEqual(float(rows[0]["logit"]), record["logit"])
        self.assertEqual(rows[0]["label"], record["label"])

    def test_text(self):
        out, err = self.run_demo(*pictures()[:2], "-k3")
        self.assertEqual(err, "")
        lines = out.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertEqual([line.startswith(" ") for line in lines], [False, True, True] * 2)
        name, prob, label = lines[0].split()
        self.assertEqual(name, pictures()[0])
        record = self.records(pictures()[0])[0]["topk"][0]
        self.assertEqual((f"{record['prob']:.4f}", record["label"]), (prob, label))
        # A name cannot break the line or paint on the terminal.
        odd = self.path("a\n\x1b[31m.png")
        os.symlink(pictures()[0], odd)
        out, _ = self.run_demo(odd, "-k1")
        self.assertEqual(out.count("\n"), 1)
        self.assertIn("a\\x0a\\x1b[31m.png", out)

    def test_name_that_is_no_utf8(self):
        name = os.fsencode(self.folder) + b"/\xff.png"
        os.symlink(pictures()[0], name)
        done = subprocess.run(
            [BINARY, "-m", DEMO, "-f", "json", name], capture_output=True, check=True
        )
        self.assertEqual(json.loads(done.stdout)[0]["status"], "ok")

    def test_threshold_and_labels(self):
        labels = self.write("labels", "".join(f"L{i}\n" for i in range(10)))
        full = self.records(pictures()[1], "-k10", "--labels", labels)[0]["topk"]
        self.assertEqual(full[0]["label"], f"L{full[0]['index']}")
        limit = full[2]["prob"]
        kept = self.records(pictures()[1], "-k10", "--threshold", limit)[0]["topk"]
        self.assertEqual([entry["prob"] for entry in kept], [e["prob"] for e in full[:3]])
        out, _ = self.run_demo(pictures()[1], "--threshold", "1")
        self.assertIn("no class reaches", out)
        by_logit = self.records(pictures()[1], "-k10", "--scores", "logit", "--threshold", "0")
        self.assertEqual(len(by_logit[0]["topk"]), sum(entry["logit"] >= 0 for entry in full))

    def test_output_file(self):
        out, _ = self.run_demo(IMAGES)
        target = self.write("results.txt", "older")
        os.symlink(target, self.path("link"))
        printed, _ = self.run_demo(IMAGES, "-o", self.path("link"))
        self.assertEqual(printed, "")
        self.assertTrue(os.path.islink(self.path("link")))
        with open(target) as f:
            self.assertEqual(f.read(), out)
        self.assertEqual(sorted(os.listdir(self.folder)), ["link", "results.txt"])
        # A link whose file is still to come, and one to that link by a path of its own.
        os.mkdir(self.path("below"))
        os.symlink(os.path.join("below", "new"), self.path("first"))
        os.symlink(self.path("first"), self.path("second"))
        self.run_demo(pictures()[0], "-o", self.path("second"))
        self.assertEqual(os.listdir(self.path("below")), ["new"])
        self.assertTrue(os.path.islink(self.path("first")) and os.path.islink(self.path("second")))
        self.run_demo(pictures()[0], "-q", "--dump-input", self.path("second"))
        self.assertEqual(self.content(os.path.join("below", "new"))[:6], b"\x93NUMPY")
        self.assertTrue(os.path.islink(self.path("second")))
        os.symlink("round", self.path("trip"))
        os.symlink("trip", self.path("round"))
        _, err = self.run_demo(pictures()[0], "-o", self.path("round"), status=1)
        self.assertIn("symbolic links", err)
        self.assertTrue(os.path.islink(self.path("round")))

    def test_output_keeps_the_permissions_of_an_older_file(self):
        for mode in (0o600, 0o664, 0o755):
            target = self.write("results.txt", "older")
            os.chmod(target, mode)
            self.run_demo(pictures()[0], "-o", target)
            self.assertEqual(os.stat(target).st_mode & 0o777, mode)
            self.assertNotEqual(self.content("results.txt"), b"older")
            self.run_demo(pictures()[0], "-q", "--dump-input", target)
            self.assertEqual(os.stat(target).st_mode & 0o777, mode)
            self.assertEqual(self.content("results.txt")[:6], b"\x93NUMPY")

    def test_output_to_a_stream_of_its_own(self):
        name = self.write("log", "begun\n")
        for stream, path in ("stdout", "/dev/stdout"), ("stderr", "/dev/stderr"):
            with open(name, "ab") as log:
                command = [BINARY, "-m", DEMO, "-q", "-k1", pictures()[0], "-o", path]
                subprocess.run(command, check=True, **{stream: log})
        with open(name, encoding="utf-8") as log:
            lines = log.read().splitlines()
        self.assertEqual(lines[0], "begun")
        self.assertEqual(lines[1:].count(lines[1]), 2, lines)

    def test_output_that_cannot_be_written(self):
        for path in ("/dev/full", self.path("no/such/folder/x"), self.folder):
            with self.subTest(path=path):
                self.assertIn(path, self.refused(1, "-m", DEMO, pictures()[0], "-o", path))
        with open("/dev/full", "wb") as full:
            command = [BINARY, "-m", DEMO, pictures()[0]]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"standard output", done.stderr)

    def test_full_disk_leaves_the_older_file(self):
        target = self.write("results.jsonl", "older")

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        message = self.refused(
            1, "-m", DEMO, IMAGES, "-f", "jsonl", "-o", target, preexec_fn=limit
        )
        self.assertIn(target, message)
        with open(target) as f:
            self.assertEqual(f.read(), "older")
        self.assertEqual(os.listdir(self.folder), ["results.jsonl"])

    def start_long(self, *arguments):
        """A run on 20,000 pictures, far longer than a pipe holds."""
        names = self.write("names", (pictures()[0] + "\n") * 20_000)
        process = subprocess.Popen(
            [BINARY, "-m", DEMO, "-k1", "--files-from", names, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # communicate() knows nothing of what readline() has buffered
        )
        self.addCleanup(process.kill)
        return process

    def test_signals_write_what_is_done(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_long("-f", "json")
            first = process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=program.TIMEOUT)
            self.assertEqual(process.returncode, 128 + number)
            records = json.loads(first + out)
            self.assertTrue(0 < len(records) < 20_000)
            self.assertIn(f"interrupted after {len(records)} inputs", err.decode())

    def test_signal_leaves_the_older_file(self):
        target = self.write("results.txt", "older")
        process = self.start_long("-o", target)
        while not any(name.endswith(".part") for name in os.listdir(self.folder)):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=program.TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        with open(target) as f:
            self.assertEqual(f.read(), "older")
        (part,) = [name for name in os.listdir(self.folder) if name.endswith(".part")]
        self.assertIn(part, err.decode())

    def test_signal_does_not_wait_for_a_large_picture(self):
        picture = self.write("large.png", black_png(13_000))
        for options in ([], ["-j1"]):
            target = "results" + "".join(options)
            process = subprocess.Popen(
                [BINARY, "-m", DEMO, *options, "-o", self.path(target), picture],
                stderr=subprocess.PIPE,
            )
            self.addCleanup(process.kill)
            while not any(name.startswith(target + ".") for name in os.listdir(self.folder)):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=program.TIMEOUT)
            self.assertEqual(process.returncode, 130, err)
            self.assertIn(b"interrupted after 0 inputs", err)

    def test_signal_while_a_pipe_stays_silent(self):
        path = self.path("pipe")
        os.mkfifo(path)
        keep_open = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, keep_open)
        process = subprocess.Popen(
            [BINARY, "-m", DEMO, "-k1", "-j2", "-b1", pictures()[0], path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.addCleanup(process.kill)
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=program.TIMEOUT)
        self.assertEqual(process.returncode, 130)
        self.assertTrue(first.startswith(pictures()[0].encode()))

    def test_signal_ends_whatever_waits_for_input(self):
        """One signal is enough, whether the program dies of it or ends as a shell would say it."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        keep_open = os.open(fifo, os.O_RDWR)
        self.addCleanup(os.close, keep_open)
        cases = [
            ["-"],
            [fifo],
            [fifo, "-j1"],
            ["--raw-input", fifo],
            ["--raw-input", "-"],
            ["--files-from", fifo],
            ["--files-from", "-"],
            ["--labels", fifo, pictures()[0]],
            ["--compare", DEMO, "-"],
            ["--profile", fifo],
            ["--profile=1000000"],
        ]
        for number in (signal.SIGINT, signal.SIGTERM):
            for case in cases:
                with self.subTest(case=case, number=number):
                    process = subprocess.Popen(
                        [BINARY, "-m", DEMO, *case],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                    )
                    self.addCleanup(process.kill)
                    time.sleep(0.4)
                    self.assertIsNone(process.poll())
                    process.send_signal(number)
                    # Not communicate(): it would close standard input, and that ends a wait too.
                    status = process.wait(timeout=10)
                    self.assertIn(status, (-number, 128 + number))
                    self.assertEqual(process.stdout.read(), b"")
                    for stream in (process.stdin, process.stdout, process.stderr):
                        stream.close()

    def test_signal_while_reading_names_leaves_the_older_file(self):
        target = self.write("results.txt", "older")
        process = subprocess.Popen(
            [BINARY, "-m", DEMO, "--files-from", "-", "-o", target], stdin=subprocess.PIPE
        )
        self.addCleanup(process.kill)
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=10), -signal.SIGINT)
        process.stdin.close()
        self.assertEqual(os.listdir(self.folder), ["results.txt"])
        with open(target) as f:
            self.assertEqual(f.read(), "older")

    def test_closed_pipe_ends_quietly(self):
        process = self.start_long("-f", "jsonl")
        json.loads(process.stdout.readline())
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(timeout=program.TIMEOUT), 0)

    def test_closed_pipe_and_a_file_that_is_lost(self):
        older = self.write("x.npy", "older")
        process = self.start_long("-f", "jsonl", "--dump-input", older)
        json.loads(process.stdout.readline())
        process.stdout.close()
        self.assertIn(b"x.npy' is not written: nobody reads", process.stderr.read())
        process.stderr.close()
        self.assertEqual(process.wait(timeout=program.TIMEOUT), 1)
        self.assertEqual(self.content("x.npy"), b"older")
        process = self.start_long("-f", "jsonl", "--dump-input", older, self.path("none"))
        process.stdout.readline()
        process.stdout.close()
        self.assertIn(b"x.npy' is not written: nobody reads", process.stderr.read())
        process.stderr.close()
        self.assertEqual(process.wait(timeout=program.TIMEOUT), 1)

    def test_closed_standard_streams(self):
        """No file that is opened takes their place."""
        target = self.path("out.jsonl")
        missing = self.path("none")
        script = 'exec "$0" "$@" <&- 2>&-'
        run = ["sh", "-c", script, BINARY, "-m", DEMO, "-o", target]
        done = subprocess.run([*run, missing, pictures()[0]], stdout=subprocess.PIPE, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        with open(target) as f:
            text = f.read()
        self.assertNotIn("xception-infer:", text)
        self.assertIn(pictures()[0], text)
        done = subprocess.run([*run, "-f", "jsonl", "-"], stdout=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        with open(target) as f:
            self.assertEqual(json.loads(f.readline())["code"], "io")
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" "$@" >&-', BINARY, "-m", DEMO, pictures()[0]],
            stderr=subprocess.PIPE,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"standard output", done.stderr)

    def test_device_is_known_before_the_first_batch(self):
        array = np.zeros((2, 3, 28, 28), "f4")
        array[0] = np.nan
        np.save(self.path("x.npy"), array)
        out, err = self.run_demo(
            "-f", "csv", "-k1", "-v", "-d", "auto", "--raw-input", self.path("x.npy"), status=1
        )
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        self.assertEqual([row["device"] for row in rows], ["cpu", "cpu"])
        self.assertIn(" on cpu, fp32", err)

    def test_verbose_says_where_reports_ran(self):
        for mode in ("--info", "--profile=1"):
            with self.subTest(mode=mode):
                _, err = self.run_demo(mode, "-v", "-d", "cpu", "-b", "2")
                self.assertRegex(err, r"^xception-infer: network 'seed_depthwise' on cpu, .*, batches of 2\n$")

    def test_quiet_and_verbose(self):
        _, err = self.run_demo(IMAGES, "-v")
        self.assertRegex(err, r"network 'seed\w*' on \w+, fp32")
        self.assertRegex(err, r"10 pictures in .* decode .* compute .* idle")
        _, err = self.run_demo(self.path("none"), pictures()[0], "-q", status=1)
        self.assertEqual(err.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
