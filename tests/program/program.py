"""What the tests of the command line share: how to run it, and files to run it on."""

import json
import os
import struct
import subprocess
import sys
import tempfile
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
