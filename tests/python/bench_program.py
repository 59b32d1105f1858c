"""bench as the tests of it and of the scripts around it start it."""

import json
import os
import subprocess
import sys
import unittest

# Before PyTorch reads it: with two threads that share the cores with other tests, a run that takes
# milliseconds can take a second, since OpenMP's threads wait for each other spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import support  # noqa: E402
from support import draw  # noqa: E402

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
BENCH = os.path.join(os.environ.get("XCEPTION_BUILD_DIR", ""), "tools", "bench")
sys.path.insert(0, os.path.join(ROOT, "tools"))


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


def cells(markdown, number):
    """The rows of the number-th table, each {heading: cell}."""
    tables, last = [], None
    for line in markdown.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if row and last is None:
            tables.append([row])
        elif row and not row[0].startswith("---"):
            tables[-1].append(row)
        last = row
    heading, *rows = tables[number]
    return [dict(zip(heading, row)) for row in rows]
