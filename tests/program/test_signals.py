"""Runs that end early: by a signal, or because nobody reads any more."""

import json
import os
import signal
import subprocess
import time
import unittest

import program
from program import DEMO, black_png, pictures, unread


def sleeps(pid):
    """Whether every thread of the process has been found asleep for a third of a second."""
    for _ in range(10):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as f:
                if f.read().rsplit(")", 1)[1].split()[0] != "S":
                    return False
        time.sleep(0.03)
    return True


def catches(pid, number):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        caught = next(line.split()[1] for line in f if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


class SignalsTest(program.ProgramTest):
    def has_file(self, condition):
        return any(condition(name) for name in os.listdir(self.folder))

    def test_signals_write_what_is_done(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.start_long("-f", "json", "--dump-input", self.path("x.npy"))
            first = process.stdout.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=program.TIMEOUT)
            self.assertEqual(process.returncode, 128 + number)
            records = json.loads(first + out)
            self.assertTrue(0 < len(records) < 20_000)
            self.assertIn(f"interrupted after {len(records)} inputs", err.decode())
            self.assertIn(b"x.npy' is not written: the run was interrupted", err)

    def test_what_was_ignored_stays_so(self):
        """As nohup does."""
        names = self.write("names", (pictures()[0] + "\n") * 2000)
        with open(names, encoding="utf-8") as listed, open(self.path("out"), "wb") as out:
            process = subprocess.Popen(
                [program.BINARY, "-m", program.DEMO, "-k1", "--files-from", "-"],
                stdin=listed, stdout=out,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
            )  # fmt: skip
            self.wait_until(lambda: os.path.getsize(self.path("out")) > 0)
            process.send_signal(signal.SIGHUP)
            self.assertEqual(process.wait(timeout=program.TIMEOUT), 0)
        self.assertEqual(self.content("out").count(b"\n"), 2000)

    def test_a_failure_leaves_what_was_done(self):
        """Layers of a second batch, which a picture of another size makes, are refused."""
        inputs = [pictures()[0], self.noise("other.png", 20, 20), "-f", "json"]
        for target in ([], ["-o", self.path("out")]):
            layers = self.path(f"layers{len(target)}")
            done = self.run_bare("-m", DEMO, *inputs, "--dump-layers", layers, *target)
            out, err = done.stdout, done.stderr.decode()
            self.assertEqual(done.returncode, 2, err)
            self.assertIn("takes one batch", err)
            self.assertIn("stopped after 1 input", err)
            if target:
                (part,) = [name for name in os.listdir(self.folder) if name.endswith(".part")]
                self.assertIn(f"; their results are in '{self.path(part)}'", err)
                self.assertEqual(out, b"")
                out = self.content(part)
            self.assertEqual([record["status"] for record in json.loads(out)], ["ok"])

    def start_blocked(self):
        """A run that waits because nobody reads, and has then seen a signal."""
        process = self.start_long("-f", "json")
        self.wait_until(lambda: unread(process.stdout) > 0 and sleeps(process.pid))
        process.send_signal(signal.SIGINT)
        self.wait_until(lambda: not catches(process.pid, signal.SIGINT))  # the second one
        return process

    def test_signal_while_nobody_reads(self):
        process = self.start_blocked()
        out, err = process.communicate(timeout=program.TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        json.loads(out)

    def test_second_signal_ends_what_nobody_reads(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.start_blocked()
            self.assertIsNone(process.poll())
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=program.TIMEOUT), -number)
            process.stdout.close()
            process.stderr.close()

    def test_signal_leaves_the_older_file(self):
        target = self.write("results.txt", "older")
        process = self.start_long("-o", target)
        self.wait_until(lambda: self.has_file(lambda name: name.endswith(".part")))
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
            process = self.start(*options, "-o", self.path(target), picture)
            self.wait_until(lambda: self.has_file(lambda name: name.startswith(target + ".")))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=program.TIMEOUT)
            self.assertEqual(process.returncode, 130, err)
            self.assertIn(b"interrupted after 0 inputs", err)

    def test_signal_while_a_pipe_stays_silent(self):
        path = self.path("pipe")
        os.mkfifo(path)
        keep_open = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, keep_open)
        process = self.start("-k1", "-j2", "-b1", pictures()[0], path)
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
                    process = self.start(*case, stdin=subprocess.PIPE)
                    if case == ["--profile=1000000"]:  # which waits for nothing
                        time.sleep(0.4)
                    else:
                        self.wait_until(lambda: process.poll() is not None or sleeps(process.pid))
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
        process = self.start("--files-from", "-", "-o", target, stdin=subprocess.PIPE)
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=10), -signal.SIGINT)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        self.assertEqual(os.listdir(self.folder), ["results.txt"])
        with open(target) as f:
            self.assertEqual(f.read(), "older")

    def test_closed_pipe_ends_quietly(self):
        for failing, status in (([], 0), ([self.path("none")], 1)):
            process = self.start_long("-f", "jsonl", *failing)
            json.loads(process.stdout.readline())
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            process.stderr.close()
            self.assertEqual(process.wait(timeout=program.TIMEOUT), status)
        process = self.start("--help")
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


if __name__ == "__main__":
    unittest.main()
