"""What the Python tests share: paths, and small models to export."""

import contextlib
import io
import os
import sys
import tempfile
import unittest

# The program of the build that is tested; where there is none, what needs it is left out.
INFER = os.path.join(os.environ.get("XCEPTION_BUILD_DIR", ""), "tools", "xception-infer")
WEIGHTS = os.path.join(os.path.dirname(__file__), "..", "..", "weights")
sys.path.insert(0, WEIGHTS)

# Only now is weights/ on the path. The tests import these from here.
import checkpoint  # noqa: E402, F401
import draw  # noqa: E402, F401
import export  # noqa: E402
import fashion_mnist  # noqa: E402, F401
import reference  # noqa: E402
import safetensors_io  # noqa: E402, F401
import train_demo  # noqa: E402, F401


class FolderTest(unittest.TestCase):
    """A test with a folder of its own, self.path(name) in it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)


def small(arch="seed_depthwise", seed=1, **config):
    """Freshly drawn weights of a seed network at the width 0.05, or of xception."""
    if arch != "xception":
        config = {"width": 0.05, "num_classes": 7} | config
    return reference.randomize(reference.build(arch, **config), seed)


def run_export(*arguments):
    """(exit status, stdout, stderr) of export.py."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = export.main([str(a) for a in arguments])
        except SystemExit as exit_:  # argparse
            status = exit_.code
    return status, out.getvalue(), err.getvalue()
