"""How the scripts of weights/ end where they are not left to finish, or to say that they have."""

import os
import signal
import subprocess
import sys
import unittest

import torch

import support
from support import WEIGHTS, safetensors_io

# Runs the script argv[1] as a program, which ends itself by the signal argv[2] when it renames a file.
RENAMING = """
import os, runpy, sys
number = int(sys.argv.pop(2))
sys.argv.pop(0)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
os.replace = lambda *names: os.kill(os.getpid(), number)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def heed_signals():
    """Whatever was ignored where the tests were started, as under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Ending(support.FolderTest):
    def setUp(self):
        super().setUp()
        self.source, self.output = self.path("m.pth"), self.path("m.safetensors")
        torch.save(support.small().state_dict(), self.source)
        self.export = [os.path.join(WEIGHTS, "export.py"), self.source, "-o", self.output]
        self.draw = [os.path.join(WEIGHTS, "draw.py"), "--arch", "seed", "--width", "0.05", "-o", self.output]

    def run_python(self, *arguments, **options):
        options = {"stdout": subprocess.PIPE, "preexec_fn": heed_signals} | options
        command = [sys.executable, *arguments]
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)

    def test_signals_leave_nothing_behind(self):
        for command in (self.export, self.draw):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                script = os.path.basename(command[0])
                with self.subTest(script=script, number=number):
                    done = self.run_python("-c", RENAMING, command[0], str(int(number)), *command[1:])
                    self.assertEqual(done.returncode, 128 + number, done)
                    self.assertRegex(done.stderr, rf"^{script}: ended by {number.name}\n$")
                    self.assertEqual(os.listdir(self.folder), ["m.pth"])

    def test_a_signal_while_modules_are_imported(self):
        os.mkdir(self.path("fake"))
        for name in ("numpy", "torch"):
            with open(self.path(f"fake/{name}.py"), "w", encoding="utf-8") as f:
                f.write("import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException as error:\n"
                        "    raise ImportError('as C++ has it') from error\n")  # fmt: skip
        environment = os.environ | {"PYTHONPATH": self.path("fake")}
        for script in ("export.py", "draw.py", "train_demo.py", "fashion_mnist.py"):
            done = self.run_python(os.path.join(WEIGHTS, script), env=environment)
            self.assertEqual(done.returncode, 130, done)
            self.assertRegex(done.stderr, f"^{script}: ended by SIGINT\n$")

    def test_a_signal_that_is_ignored_stays_so(self):
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
        hangup = str(int(signal.SIGHUP))
        done = self.run_python("-c", RENAMING, self.draw[0], hangup, *self.draw[1:], preexec_fn=ignore)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_signal_right_after_the_file_was_renamed(self):
        renamed = RENAMING.replace("lambda *names: ", "lambda *names, replace=os.replace: replace(*names) or ")
        done = self.run_python("-c", renamed, self.draw[0], "15", *self.draw[1:])
        self.assertEqual(done.returncode, 143, done)
        self.assertEqual(sorted(os.listdir(self.folder)), ["m.pth", "m.safetensors"])

    def test_standard_output_of_fewer_letters(self):
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        done = self.run_python(*self.export[:3], self.path("\u00fc.safetensors"), env=environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("\\xfc.safetensors", done.stdout)

    def test_standard_output_that_takes_nothing(self):
        with open("/dev/full", "w") as full:
            done = self.run_python(*self.export, stdout=full)
        self.assertEqual(done.returncode, 2)
        said = "is written, but standard output takes nothing (No space left on device)"
        self.assertEqual(done.stderr, f"export.py: {self.output} {said}\n")
        self.assertIn("fc.weight", safetensors_io.read(self.output)[0])
        done = self.run_python(*self.export, stdout=None, preexec_fn=lambda: os.close(1))
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr, f"export.py: {self.output} is written, but standard output is closed\n")
        reader, writer = os.pipe()
        os.close(reader)
        done = self.run_python(*self.export, stdout=writer)
        os.close(writer)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
