"""Files that a run would write over, though it reads them or writes them otherwise."""

import filecmp
import os
import shutil
import subprocess
import unittest

import numpy as np

import program
from program import BINARY, DEMO, pictures


class TargetsTest(program.ProgramTest):
    def test_outputs_that_would_write_over_inputs(self):
        model = shutil.copy(DEMO, self.path("model"))
        picture = shutil.copy(pictures()[0], self.path("picture.png"))
        os.symlink(picture, self.path("link"))
        names = self.write("names", picture + "\n")
        labels = self.write("labels", "".join(f"L{i}\n" for i in range(10)))
        np.save(self.path("raw.npy"), np.zeros((1, 28, 28, 3), np.uint8))
        raw = self.path("raw.npy")
        new = self.path("new")
        os.symlink("new", self.path("dangling"))
        config = self.write("config.json", "{}")
        names_before = sorted(os.listdir(self.folder))
        before = {name: self.content(name) for name in names_before if name != "dangling"}
        cases = [
            [picture, "-o", model],
            [picture, "-o", picture],
            [picture, "-o", self.path("link")],
            [self.folder, "-o", picture],
            [picture, "--dump-input", picture],
            [picture, "--dump-input", model],
            [picture, "--labels", labels, "-o", labels],
            ["--files-from", names, "-o", names],
            ["--files-from", names, "-o", picture],
            ["--raw-input", raw, "--dump-input", raw],
            [picture, "-o", config],
            [picture, "-o", new, "--dump-input", new],
            [picture, "-o", new, "--dump-input", os.path.join(self.folder, ".", "new")],
            [picture, "-o", self.path("dangling"), "--dump-input", new],
            [picture, "-o", os.path.relpath(new), "--dump-input", new],
            [picture, "-o", os.path.relpath(new), "--dump-input", "./" + os.path.relpath(new)],
        ]
        for case in cases:
            with self.subTest(case=case):
                self.assertIn("name another file", self.refused(2, "-m", model, *case))
                self.assertEqual(sorted(os.listdir(self.folder)), names_before)
                self.assertEqual({name: self.content(name) for name in before}, before)
        with open(picture, "rb") as stdin:
            done = subprocess.run(
                [BINARY, "-m", DEMO, "-", "-o", picture], stdin=stdin, capture_output=True
            )
        self.assertEqual(done.returncode, 2)

    def test_an_array_does_not_take_the_name_of_a_stream(self):
        for stream in ("stdout", "stderr"):
            name = self.path("same.npy")
            with open(name, "wb") as log:
                command = [BINARY, "-m", DEMO, pictures()[0], "--dump-input", name]
                others = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: log}
                done = subprocess.run(command, check=False, **others)
            said = self.content("same.npy") if stream == "stderr" else done.stderr
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"; name another file", said)

    def test_layers_are_not_dumped_over_what_is_read(self):
        layers, picture = self.path("layers"), pictures()[0]
        os.mkdir(layers)
        read = os.path.join(layers, "fc.npy")
        cases = {
            "the model": (DEMO, ["-m", read, picture]),
            "the golden file": (DEMO, ["-m", DEMO, "--compare", read]),
            "the file of labels": (self.write("labels", "x\n" * 10), ["-m", DEMO, "--labels", read, picture]),
            "the list of names": (self.write("names", picture), ["-m", DEMO, "--files-from", read]),
            "one of the inputs": (picture, ["-m", DEMO, picture, read]),
        }
        for what, (source, arguments) in cases.items():
            with self.subTest(what):
                shutil.copy(source, read)
                message = self.refused(2, *arguments, "--dump-layers", layers)
                self.assertIn(f"is the folder of {what}, and a layer", message)
                self.assertEqual(os.listdir(layers), ["fc.npy"])
                self.assertTrue(filecmp.cmp(read, source, shallow=False))

    def test_layers_are_not_dumped_beside_arrays_of_the_run(self):
        raw = self.path("raw.npy")
        np.save(raw, np.zeros((1, 28, 28, 3), np.uint8))
        for folder in (self.folder, os.path.join(self.folder, ".")):
            arguments = ["-m", DEMO, "--raw-input", raw, "--dump-layers", folder]
            self.assertIn("name another folder", self.refused(2, *arguments))
        arguments = ["-m", os.path.abspath(DEMO), "--raw-input", "raw.npy", "--dump-layers", "."]
        self.refused(2, *arguments, cwd=self.folder)
        self.assertEqual(os.listdir(self.folder), ["raw.npy"])
        layers = self.path("layers")
        link = self.path("link.npy")
        os.symlink(os.path.join("layers", "fc.npy"), link)
        for option in ("--dump-input", "-o"):
            for path in (os.path.join(layers, "fc.npy"), link):
                arguments = ["-m", DEMO, pictures()[0], option, path, "--dump-layers", layers]
                self.assertIn("name another folder", self.refused(2, *arguments))
            arguments = ["-m", DEMO, pictures()[0], option, os.path.join(layers, "fc.npy")]
            self.refused(2, *arguments, "--dump-layers", layers + "/")
        self.run_demo("--raw-input", raw, "--dump-layers", layers, "-o", self.path("layers/text"))
        outward = os.path.join(layers, "outward.npy")
        os.symlink(raw, outward)
        arguments = ["-m", DEMO, "--raw-input", outward, "--dump-layers", layers]
        self.assertIn("name another folder", self.refused(2, *arguments))
        arguments = ["-m", DEMO, "--raw-input", link, "--dump-layers", layers]
        self.assertIn("name another folder", self.refused(2, *arguments))
        with open(raw, "rb") as array:
            self.run_demo(
                "--raw-input", "-", "--dump-layers", ".", stdin=array.read(), cwd=self.path("layers")
            )


if __name__ == "__main__":
    unittest.main()
