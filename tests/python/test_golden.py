"""Golden files, as draw.py and export.py write them for the C++ tests."""

import contextlib
import io
import unittest

import numpy as np
import torch

import support
from support import draw, reference, run_export, safetensors_io


class Golden(support.FolderTest):
    def setUp(self):
        super().setUp()
        self.model, self.golden = self.path("m.safetensors"), self.path("g.safetensors")

    def draw(self, *arguments):
        """Runs draw.py; (the golden file's tensors, its metadata)."""
        draw.main([str(a) for a in (*arguments, "-o", self.model, "--golden", self.golden)])
        return safetensors_io.read(self.golden)

    def forward(self, x, **config):
        """What the drawn model makes of `x` in double, by loading the file into a fresh network."""
        tensors, metadata = safetensors_io.read(self.model)
        module = reference.build(metadata["xception.arch"], **config)
        state = {n: torch.from_numpy(a.astype("<f4")) for n, a in tensors.items()}
        module.load_state_dict(state, strict=False)
        with torch.no_grad():
            return module.double()(torch.from_numpy(x).double()).float().numpy()

    def test_holds_input_every_layer_and_logits(self):
        tensors, metadata = self.draw(
            "--arch", "seed_depthwise", "--width", 0.1, "--num-classes", 9, "--size", "17x32",
            "--batch", 3, "--seed", 5,
        )  # fmt: skip
        self.assertEqual(metadata, {"xception.arch": "seed_depthwise"})
        names = list(tensors)
        self.assertEqual((names[0], names[1], names[-1]), ("input", "layer.feature.0", "logits"))
        self.assertEqual(len(names), 299)
        self.assertEqual(tensors["input"].shape, (3, 3, 17, 32))
        self.assertEqual(tensors["layer.block1.3"].shape, (3, 16, 9, 16))
        self.assertEqual(tensors["layer.block4.feature.1.depthwise.0#3"].shape, (3, 72, 3, 4))
        self.assertEqual(tensors["logits"].shape, (3, 9))
        np.testing.assert_array_equal(tensors["logits"], tensors["layer.fc"])
        logits = self.forward(tensors["input"], width=0.1, num_classes=9)
        np.testing.assert_array_equal(tensors["logits"], logits)

    def test_logits_vary(self):
        for arch in reference.ARCHS:
            width = () if arch == "xception" else ("--width", 0.25)
            size = "96" if arch == "xception" else "32"
            tensors, _ = self.draw("--arch", arch, *width, "--size", size, "--batch", 4)
            logits = tensors["logits"]
            self.assertTrue(np.isfinite(logits).all())
            self.assertGreater(logits.std(axis=1).mean(), 0.3, arch)
            self.assertGreater(logits.std(axis=0).mean(), 0.1, arch)

    def test_drawn_weights_do_not_magnify_rounding(self):
        for arch in ("seed", "seed_depthwise"):
            tensors, _ = self.draw("--arch", arch, "--width", 0.25, "--batch", 4)
            module = reference.randomize(reference.build(arch, width=0.25), 0)
            for name, t in reference.layer_outputs(
                module, torch.from_numpy(tensors["input"])
            ).items():
                exact = tensors["layer." + name]
                error = np.abs(t.numpy() - exact).max()
                self.assertLessEqual(error, 1e-5 * np.abs(exact).max(), name)

    def test_repetitions_of_the_middle_block_differ(self):
        tensors, _ = self.draw("--arch", "seed", "--width", 0.1)
        for k in range(1, 8):
            before = tensors["layer.block4.add" + (f"#{k - 1}" if k > 1 else "")]
            difference = np.abs(tensors[f"layer.block4.add#{k}"] - before).max()
            self.assertGreater(difference, 0.01 * np.abs(before).max())

    def test_without_layers(self):
        tensors, _ = self.draw("--arch", "seed", "--width", 0.05, "--no-layers")
        self.assertEqual(list(tensors), ["input", "logits"])

    def test_golden_values_are_those_of_the_stored_weights(self):
        tensors, _ = self.draw("--arch", "seed_depthwise", "--width", 0.1, "--dtype", "bf16")
        logits = self.forward(tensors["input"], width=0.1)
        np.testing.assert_array_equal(tensors["logits"], logits)

    def test_the_metadata_has_the_configuration(self):
        self.draw("--arch", "seed", "--width", 0.05, "--sep-relu", "false", "--bn-eps", "1e-3")
        _, metadata = safetensors_io.read(self.model)
        self.assertEqual(metadata["xception.sep_relu"], "false")
        self.assertEqual(metadata["xception.bn_eps"], "0.001")
        self.assertEqual(metadata["xception.width"], "0.05")

    def test_export_writes_one_for_a_given_input(self):
        draw.main(["--arch", "seed_depthwise", "--width", "0.05", "-o", self.model])
        x = np.random.default_rng(3).standard_normal((2, 3, 20, 24)).astype("<f4")
        np.save(self.path("x.npy"), x)
        output = self.path("e.safetensors")
        status, _, err = run_export(
            self.model, "-o", output, "--golden", self.golden, "--input", self.path("x.npy")
        )
        self.assertEqual(status, 0, err)
        tensors, _ = safetensors_io.read(self.golden)
        np.testing.assert_array_equal(tensors["input"], x)
        np.testing.assert_array_equal(tensors["logits"], self.forward(x, width=0.05))

    def test_a_size_that_the_network_cannot_take(self):
        err = io.StringIO()
        with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as caught:
            self.draw("--arch", "seed", "--width", 0.05, "--size", "16")
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("[1, 3, 16, 16]", err.getvalue())


if __name__ == "__main__":
    unittest.main()
