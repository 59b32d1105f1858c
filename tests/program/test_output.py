"""Where results go: files, streams, and what is said beside them."""

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import resource
import subprocess
import time
import unittest

import program
from program import BINARY, DEMO, IMAGES, pictures


F_SETPIPE_SZ = 1031  # not in Python's fcntl before 3.10


def sleeps_in_poll(pid):
    """Whether a thread of the process waits in poll(2)."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/syscall") as f:
                if f.read().split()[0] in ("7", "271", "73"):  # poll, ppoll of x86-64 and of ARM
                    return True
        except PermissionError as error:
            raise unittest.SkipTest("what a process waits for is not to be seen here") from error
        except OSError:
            pass  # the thread has ended
    return False


class OutputTest(program.ProgramTest):
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
        for path in ("/dev/full", self.path("no/such/folder/x"), self.folder, self.path("new/")):
            with self.subTest(path=path):
                self.assertIn(path, self.refused(1, "-m", DEMO, pictures()[0], "-o", path))
        self.assertEqual(os.listdir(self.folder), [])
        message = self.refused(1, "-m", DEMO, pictures()[0], "-o", "/sys/x")
        self.assertIn("'/sys/x', for no file can be made beside it", message)
        for arguments in ([pictures()[0]], ["--info"], ["--profile=1"], ["--help"]):
            with self.subTest(arguments), open("/dev/full", "wb") as full:
                command = [BINARY, "-m", DEMO, *arguments]
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

    def test_verbose_says_where_reports_ran(self):
        for mode in ("--info", "--profile=1"):
            with self.subTest(mode=mode):
                _, err = self.run_demo(mode, "-v", "-d", "cpu", "-b", "2")
                self.assertRegex(err, r"^xception-infer: network 'seed_depthwise' on cpu, .*, batches of 2\n$")

    def test_quiet_and_verbose(self):
        _, err = self.run_demo(IMAGES, "-v")
        self.assertRegex(err, r"network 'seed\w*' on \w+, fp32")
        self.assertRegex(err, r"10 pictures in .* decode .* compute .* idle")
        _, err = self.run_demo(IMAGES, "-v", "-d", "cpu", "--threads", 1, "-j", 3)
        self.assertIn("on cpu, fp32, 1 thread,", err)
        self.assertIn("on 3 threads", err)
        _, err = self.run_demo(self.path("none"), pictures()[0], "-q", status=1)
        self.assertEqual(err.count("\n"), 1)

    def test_times_of_pictures_add_up(self):
        out, err = self.run_demo(*[IMAGES] * 20, "-f", "jsonl", "-v")
        times = [json.loads(line)["time_ms"] for line in out.splitlines()]
        self.assertEqual(len(times), 200)
        total = float(re.search(r"compute ([\d.]+) s", err)[1])
        self.assertAlmostEqual(sum(t["compute"] for t in times) / 1000, total, delta=0.006)  # rounded
        # Of a large one decoding takes far longer than what comes behind it.
        out, err = self.run_demo(self.noise("large.png", 2000, 2000), "-f", "csv", "-v", "-k1")
        row = next(csv.DictReader(io.StringIO(out)))
        for name in ("decode", "preprocess"):
            total = float(re.search(rf"{name} ([\d.]+) s", err)[1])
            self.assertAlmostEqual(float(row[f"{name}_ms"]) / 1000, total, delta=0.006)

    def test_both_streams_tell_it_in_the_same_order(self):
        good, bad = pictures()[0], self.write("bad.png", "bad")
        for options in ([], ["-b1", "--fail-fast"]):
            process = self.start("-k1", *options, good, bad, good, stderr=subprocess.STDOUT)
            out, _ = process.communicate(timeout=program.TIMEOUT)
            lines = out.decode().splitlines()
            self.assertTrue(lines[0].startswith(good), lines)
            self.assertIn("bad.png", lines[1])
            stopped = "1 of 2 inputs failed; stopped at the first (--fail-fast)"
            self.assertIn(stopped if options else "1 of 3 inputs failed", lines[-1])

    def test_input_that_is_not_dumped(self):
        x = self.path("x.npy")
        sizes = [self.noise("a.png", 20, 20), self.noise("b.png", 31, 28)]
        for names, words in ((sizes, "different sizes"), ([self.path("none")], "nothing was fed")):
            _, err = self.run_demo(*names, "--dump-input", x, status=1)
            self.assertIn(words, err)
            self.assertFalse(os.path.exists(x))

    def test_arrays_that_cannot_be_written_are_told_of_first(self):
        for path in (self.path("no/x.npy"), self.folder, "/dev/stdout", "/dev/null"):
            with self.subTest(path=path):
                message = self.refused(1, "-m", DEMO, pictures()[0], "--dump-input", path)
                self.assertIn(f"--dump-input: cannot write '{path}'", message)

    def test_streams_that_do_not_block(self):
        ends, picture = os.pipe(), pictures()[0]
        fcntl.fcntl(ends[1], F_SETPIPE_SZ, 4096)
        os.set_blocking(ends[1], False)
        names = self.write("names", (picture + "\n") * 1200)
        process = self.start("-k1", "--files-from", names, stdout=ends[1])
        os.close(ends[1])
        self.wait_until(lambda: sleeps_in_poll(process.pid))
        with open(ends[0], encoding="utf-8") as out:
            lines = out.read().splitlines()
        self.assertEqual(lines, [lines[0]] * 1200)
        self.assertEqual((process.wait(), process.stderr.read()), (0, b""))
        process.stderr.close()

        for arguments in (["-"], ["--files-from", "-"]):
            ends = os.pipe()
            os.set_blocking(ends[0], False)
            process = self.start("-k1", *arguments, stdin=ends[0])
            os.close(ends[0])
            with open(ends[1], "wb") as pipe, open(picture, "rb") as f:
                self.wait_until(lambda pid=process.pid: sleeps_in_poll(pid))
                pipe.write(f.read() if arguments == ["-"] else picture.encode())
            out, err = process.communicate(timeout=program.TIMEOUT)
            self.assertEqual((process.returncode, err), (0, b""))
            self.assertEqual(out.split(maxsplit=1)[1], lines[0].encode().split(maxsplit=1)[1] + b"\n")

    def test_progress_is_for_a_terminal(self):
        """The second picture comes when a second is over, which is when progress is first shown."""
        cases = [([], True, True), (["-q"], True, False), (["--no-progress"], True, False)]
        runs = []
        for i, (options, terminal, shown) in enumerate([*cases, ([], False, False)]):
            fifo = self.path(f"fifo{i}")
            os.mkfifo(fifo)
            read, write = pty.openpty() if terminal else os.pipe()
            with open(write, "wb") as stderr:
                process = self.start(*options, "-k1", "-b1", pictures()[0], fifo, stderr=stderr)
            runs.append((process, fifo, open(read, "rb", buffering=0), shown))
        for process, *_ in runs:
            self.assertIn(b"ankle_boot", process.stdout.readline())
        time.sleep(1.1)
        for process, fifo, stderr, shown in runs:
            with open(pictures()[1], "rb") as picture, open(fifo, "wb") as pipe:
                pipe.write(picture.read())
            self.assertEqual(process.wait(timeout=program.TIMEOUT), 0)
            text = b""
            with stderr, contextlib.suppress(OSError):  # how a terminal ends
                while more := stderr.read(4096):
                    text += more
            self.assertEqual(b"2 of 2 pictures" in text, shown, (process.args, text))
            process.stdout.close()


if __name__ == "__main__":
    unittest.main()
