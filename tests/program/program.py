"""What the tests of the command line share: how to run it, and files to run it on."""

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "weights"))

import safetensors_io  # noqa: E402, F401  (now that weights/ is on the path)

BINARY = os.path.join(os.environ["XCEPTION_BUILD_DIR"], "tools", "xception-infer")
DEMO = os.path.join(ROOT, "weights", "demo.safetensors")
IMAGES = os.path.join(ROOT, "docs", "images")
TIMEOUT = 120


def pictures():
    """The ten pictures of docs/images in the order in which a folder is listed."""
    names = sorted(name for name in os.listdir(IMAGES) if name.endswith(".png"))
    return [os.path.join(IMAGES, name) for name in names]


class ProgramTest(unittest.TestCase):
    """A test with a folder of its own, and the program at hand."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        """The path of a new file; `data` is text or bytes."""
        with open(self.path(name), "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        return self.path(name)

    def content(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def noise(self, name, height, width):
        """The path of a new PNG file of random pixels."""
        generator = random.Random(height * width)
        rows = [b"\0" + generator.randbytes(3 * width) for _ in range(height)]
        return self.write(name, png(width, height, b"".join(rows)))

    def changed_demo(self, change):
        """The path of the demo model after change(tensors, metadata)."""
        tensors, metadata = safetensors_io.read(DEMO)
        change(tensors, metadata)
        path = self.path("changed.safetensors")
        safetensors_io.write(path, tensors, metadata)
        return path

    def run_bare(self, *arguments, stdin=b"", **options):
        """The finished process, its streams as bytes."""
        command = [BINARY, *map(str, arguments)]
        return subprocess.run(
            command, input=stdin, capture_output=True, timeout=TIMEOUT, check=False, **options
        )

    def run_demo(self, *arguments, status=0, **options):
        """(stdout, stderr) as text of a run with the demo model that must end with `status`."""
        done = self.run_bare("-m", DEMO, *arguments, **options)
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{arguments}\n{out}\n{err}")
        return out, err

    def start(self, *arguments, **options):
        """A run with the demo model, under way: it dies of SIGINT, and at the end of the test."""
        process = subprocess.Popen(
            [BINARY, "-m", DEMO, *map(str, arguments)],
            bufsize=0,  # communicate() knows nothing of what readline() has buffered
            preexec_fn=heed_interrupts,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )
        self.addCleanup(process.kill)
        return process

    def start_long(self, *arguments):
        """A run on 20,000 pictures, far longer than a pipe holds."""
        names = self.write("names", (pictures()[0] + "\n") * 20_000)
        return self.start("-k1", "--files-from", names, *arguments)

    def run_measured(self, *arguments, **options):
        """(exit status, lines of output, peak memory in KiB) of a run with the demo model."""
        with open(self.path("out"), "wb") as out:
            command = [BINARY, "-m", DEMO, *arguments]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, **options)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        with open(self.path("out")) as f:
            return process.returncode, f.readlines(), usage.ru_maxrss

    def wait_until(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.assertLess(time.monotonic(), deadline, "what was waited for does not come")
            time.sleep(0.01)

    def records(self, *arguments, status=0, **options):
        """What a run with the demo model prints as JSON lines."""
        out, _ = self.run_demo("-f", "jsonl", *arguments, status=status, **options)
        return [json.loads(line) for line in out.splitlines()]

    def refused(self, status, *arguments, **options):
        """The message of a run that must fail with `status` and print no result."""
        done = self.run_bare(*arguments, **options)
        err = done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{arguments}\n{err}")
        self.assertEqual(done.stdout, b"", arguments)
        self.assertTrue(err.startswith("xception-infer: "), err)
        self.assertEqual(err.count("\n"), 1, err)
        return err


def heed_interrupts():
    """For preexec_fn: a shell starts what it puts in the background with SIGINT ignored, nohup what it
    starts with SIGHUP, and every process inherits that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def unread(pipe):
    """The bytes that a pipe holds."""
    count = struct.pack("i", 0)
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, count))[0]


def without_times(records):
    return [{key: value for key, value in r.items() if key != "time_ms"} for r in records]


def chunk(kind, body):
    """A chunk of a PNG file."""
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(width, height, data=b"", depth=8, colour=2):
    """A PNG file whose header claims this size; `data` is what IDAT holds, compressed."""
    return png_of_chunks(width, height, chunk(b"IDAT", zlib.compress(data)), depth, colour)


def black_png(side, *more):
    """A square picture, made without holding its pixels, which would count as what a process that
    is started takes; `more` are chunks before them."""
    deflate = zlib.compressobj()
    row = b"\1" + b"\0" * (3 * side)
    data = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
    return png_of_chunks(side, side, b"".join(more) + chunk(b"IDAT", data))


def png_of_chunks(width, height, chunks, depth=8, colour=2):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunks + chunk(b"IEND", b"")
