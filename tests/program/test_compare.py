"""--compare and --dump-layers against golden files that PyTorch writes."""

import contextlib
import io
import json
import os
import unittest

import numpy as np

import program
from program import IMAGES, pictures, safetensors_io

import draw


class CompareTest(program.ProgramTest):
    @classmethod
    def setUpClass(cls):
        folder = program.tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.model = os.path.join(folder.name, "model.safetensors")
        cls.golden = os.path.join(folder.name, "golden.safetensors")
        arguments = ["--arch", "seed_depthwise", "--width", "0.1", "--num-classes", "10"]
        arguments += ["-o", cls.model, "--golden", cls.golden, "--size", "20x29", "--batch", "3"]
        with contextlib.redirect_stdout(io.StringIO()):
            draw.main(arguments)

    def compare(self, status, golden, *arguments):
        done = self.run_bare("-m", self.model, "--compare", golden, *arguments)
        self.assertEqual(done.returncode, status, (done.stdout, done.stderr))
        return done.stdout.decode(), done.stderr.decode()

    def changed(self, change):
        tensors, metadata = safetensors_io.read(self.golden)
        change(tensors)
        path = self.path("changed.safetensors")
        safetensors_io.write(path, tensors, metadata)
        return path

    def test_every_layer_agrees(self):
        tensors, _ = safetensors_io.read(self.golden)
        layers = sum(name.startswith("layer.") for name in tensors)
        out, _ = self.compare(0, self.golden, "--fusion", "off")
        self.assertIn(f"PASS: {layers} layers and the logits compared, 0 outside", out)
        self.assertIn("0 of the reference are not in the plan", out)
        extra = self.changed(lambda t: t.update({"layer.zzz": np.zeros((1, 1), "f4")}))
        out, _ = self.compare(0, extra, "--fusion", "off")
        self.assertIn("1 of the reference are not in the plan", out)
        images = len(tensors["logits"])
        self.assertIn(f"\ntop-1 is equal in {images} of {images} images\n", out)
        self.assertNotIn("--fusion", out)
        fused, _ = self.compare(0, self.golden)
        rows = len(fused.split("\n\n")[0].splitlines()) - 2  # without titles and logits
        self.assertLess(rows, layers)
        self.assertIn(f"PASS: {rows} layers and the logits", fused)
        self.assertIn(f"{layers - rows} of the reference are not in the plan (--fusion off", fused)

    def test_verbose_says_where_it_ran(self):
        _, err = self.compare(0, self.golden, "-v", "-d", "cpu")
        self.assertRegex(err, r"^xception-infer: network 'seed_depthwise' on cpu, .*, batches of 3\n$")

    def test_one_output_is_compared_with_the_second_of_two_logits(self):
        model, golden = self.path("m.safetensors"), self.path("g.safetensors")
        arguments = ["--arch", "seed_depthwise", "--width", "0.1", "--num-classes", "1"]
        with contextlib.redirect_stdout(io.StringIO()):
            draw.main([*arguments, "-o", model, "--golden", golden, "--batch", "2"])
        tensors, metadata = safetensors_io.read(golden)
        self.assertEqual(tensors["logits"].shape, (2, 1))
        for change, status in ((0, 0), (1e-2, 5)):
            tensors["logits"] = tensors["logits"] + np.float32(change)
            safetensors_io.write(golden, tensors, metadata)
            done = self.run_bare("-m", model, "--compare", golden)
            self.assertEqual(done.returncode, status, done.stderr)
            verdict = "FAIL" if change else "ok"
            self.assertRegex(done.stdout.decode(), rf"(?m)^logits .* {verdict}$")

    def test_a_layer_without_a_reference_is_counted(self):
        out, _ = self.compare(0, self.changed(lambda tensors: tensors.pop("layer.conv3")))
        self.assertIn("1 layers of the plan have no reference", out)

    def test_another_top1_is_counted(self):
        def spoil(tensors):
            logits = tensors["logits"] = tensors["logits"].copy()
            logits[0, logits[0].argmin()] = logits[0].max() + 1

        out, _ = self.compare(5, self.changed(spoil))
        images = len(safetensors_io.read(self.golden)[0]["logits"])
        self.assertIn(f"top-1 is equal in {images - 1} of {images} images", out)

    def test_one_wrong_value_is_found(self):
        def spoil(tensors):
            layer = tensors["layer.conv3"] = tensors["layer.conv3"].copy()
            layer.flat[17] += 1e-3 * abs(layer).max()

        out, _ = self.compare(5, self.changed(spoil))
        failed = [line.split()[0] for line in out.splitlines() if line.endswith("FAIL")]
        self.assertEqual(failed, ["conv3"])
        self.assertIn("FAIL: ", out)
        self.compare(0, self.changed(spoil), "--rtol", "2e-3")
        self.compare(0, self.changed(spoil), "--atol", "1e9")

    def test_logits_have_their_own_tolerance(self):
        def spoil(tensors):
            tensors["logits"] = tensors["logits"] * np.float32(1.001)

        out, _ = self.compare(5, self.changed(spoil))
        self.assertRegex(out, r"(?m)^logits .*FAIL$")
        self.compare(0, self.changed(spoil), "--rtol-logits", "2e-3")

    def test_what_cannot_be_compared(self):
        def strip(tensors):
            for name in [name for name in tensors if name != "input"]:
                del tensors[name]

        def shorten(tensors):
            tensors["logits"] = tensors["logits"][:, :4]

        def drop_input(tensors):
            del tensors["input"]

        def flatten(tensors):
            tensors["input"] = tensors["input"][:, :1]

        for change, word in (
            (strip, "nothing to compare"),
            (shorten, "logits"),
            (drop_input, "input"),
            (flatten, "expected [N, 3, H, W]"),
        ):
            _, err = self.compare(2, self.changed(change))
            self.assertIn(word, err)
        self.compare(2, self.path("none"))
        _, err = self.compare(2, self.golden, pictures()[0])  # one picture for three
        self.assertIn("feed the input", err)

    def test_what_is_no_number_fails(self):
        tensors, metadata = safetensors_io.read(self.model)
        tensors["fc.weight"] = tensors["fc.weight"] / abs(tensors["fc.weight"]).max() * 3e38
        model = self.path("overflow.safetensors")
        safetensors_io.write(model, {k: t.astype("<f4") for k, t in tensors.items()}, metadata)
        done = self.run_bare("-m", model, "--compare", self.golden, "--rtol-logits", "1e30")
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertRegex(done.stdout.decode(), r"(?m)^logits +(-?nan|inf) .*FAIL$")
        # The same logits are no classes either.
        done = self.run_bare("-m", model, pictures()[0], "-f", "json")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("no finite number", json.loads(done.stdout)[0]["message"])

    def test_given_inputs_replace_the_golden_one(self):
        tensors, _ = safetensors_io.read(self.golden)
        np.save(self.path("x.npy"), tensors["input"])
        self.compare(0, self.golden, "--raw-input", self.path("x.npy"))
        np.save(self.path("y.npy"), tensors["input"] * np.float32(1.1))
        self.compare(5, self.golden, "--raw-input", self.path("y.npy"))

    def test_dumped_layers_are_those_of_pytorch(self):
        tensors, _ = safetensors_io.read(self.golden)
        np.save(self.path("x.npy"), tensors["input"])
        arguments = ["-m", self.model, "--raw-input", self.path("x.npy")]
        folder = self.path("layers")
        done = self.run_bare(*arguments, "--dump-layers", folder, "--fusion", "off")
        self.assertEqual(done.returncode, 0, done.stderr)
        dumped = {name[: -len(".npy")] for name in os.listdir(folder)}
        golden = {name[len("layer.") :] for name in tensors if name.startswith("layer.")}
        self.assertEqual(dumped, golden)
        for name in golden:
            expected = tensors["layer." + name]
            got = np.load(os.path.join(folder, name + ".npy"))
            self.assertEqual(got.shape[: expected.ndim], expected.shape)
            limit = 1e-5 * abs(expected).max()
            self.assertLessEqual(abs(got.reshape(expected.shape) - expected).max(), limit, name)

    def test_dump_takes_one_batch(self):
        layers = self.path("layers")
        message = self.refused(2, "-m", self.model, IMAGES, "-b3", "--dump-layers", layers)
        self.assertIn("one batch", message)
        self.run_demo(IMAGES, "--dump-layers", layers)  # more than are a batch otherwise
        self.assertEqual(len(np.load(os.path.join(layers, "fc.npy"))), len(pictures()))

    def test_layers_that_are_compared_can_be_dumped(self):
        layers = self.path("layers")
        self.compare(0, self.golden, "--dump-layers", layers)
        images = len(safetensors_io.read(self.golden)[0]["logits"])
        self.assertEqual(len(np.load(os.path.join(layers, "fc.npy"))), images)


if __name__ == "__main__":
    unittest.main()
