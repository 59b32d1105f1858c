"""The exporter: every form of network and of what is written."""

import collections
import json
import os
import subprocess
import sys
import unittest

import numpy as np
import torch

import exporting
import support
from support import INFER, checkpoint, reference, run_export, safetensors_io


class Alone(unittest.TestCase):
    def test_a_python_without_pytorch_is_told_in_a_sentence(self):
        folder = os.path.dirname(reference.__file__)
        for script in ("export.py", "draw.py", "train_demo.py", "fashion_mnist.py"):
            # -S: without the folders in which packages are installed.
            done = subprocess.run([sys.executable, "-S", "-E", os.path.join(folder, script)],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, rf"^{script}: \S+ has no (torch|numpy), .*\n$")


class Export(exporting.ExportTest):
    def test_state_dict_and_all_metadata(self):
        metadata = self.assert_exported(self.export(self.state))
        sha256 = metadata.pop("xception.sha256")
        self.assertRegex(sha256, "^[0-9a-f]{64}$")
        self.assertEqual(
            json.loads(metadata.pop("xception.preprocess")),
            {"size": 32, "resize_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear",
             "mean": [0.5] * 3, "std": [0.5] * 3, "keep_min": 17, "keep_max": 32},
        )  # fmt: skip
        self.assertEqual(
            metadata,
            {"xception.schema": "1", "xception.arch": "seed_depthwise", "xception.bn_eps": "1e-05",
             "xception.pool_pad": "torch", "xception.sep_relu": "true", "xception.width": "0.05",
             "xception.num_classes": "7", "xception.labels": "[]"},
        )  # fmt: skip

    def test_options_reach_the_metadata(self):
        labels = self.path("labels.txt")
        with open(labels, "w", encoding="utf-8") as f:
            f.write("\n".join(["cat", "개", "c", "d", "e", "f", "g"]) + "\n")
        result = self.export(
            self.state, "--labels", labels, "--bn-eps", "1e-3", "--sep-relu", "false",
            "--image-size", 24, "--resize-mode", "center", "--crop-pct", 0.9, "--interpolation",
            "nearest", "--mean", "0.1,0.2,0.3", "--std", "1,1,2", "--keep", "0,0",
        )  # fmt: skip
        metadata = self.assert_exported(result)
        self.assertEqual(json.loads(metadata["xception.labels"])[:2], ["cat", "개"])
        self.assertEqual(metadata["xception.bn_eps"], "0.001")
        self.assertEqual(metadata["xception.sep_relu"], "false")
        self.assertEqual(
            json.loads(metadata["xception.preprocess"]),
            {"size": 24, "resize_mode": "center", "crop_pct": 0.9, "interpolation": "nearest",
             "mean": [0.1, 0.2, 0.3], "std": [1, 1, 2], "keep_min": 0, "keep_max": 0},
        )  # fmt: skip

    def test_the_size_of_the_golden_input_is_none_of_the_preprocessing(self):
        golden = self.path("g.safetensors")
        for arguments, size, shape in (
            (("--size", "28x20"), 32, (1, 3, 28, 20)),
            (("--image-size", 24), 24, (1, 3, 32, 32)),
            (("--image-size", 24, "--size", 20), 24, (1, 3, 20, 20)),
        ):
            result = self.export(self.state, "--golden", golden, *arguments)
            preprocess = json.loads(self.assert_exported(result)["xception.preprocess"])
            self.assertEqual(preprocess["size"], size, arguments)
            self.assertEqual(safetensors_io.read(golden)[0]["input"].shape, shape, arguments)

    def test_the_sides_that_xception_takes(self):
        state = reference.build("xception", num_classes=2).state_dict()
        for arguments in (("--image-size", 70), ("--keep", "70,80"), ("--keep", "0,80")):
            self.assert_refused(self.export(state, *arguments), 2, "71 to 16384 pixels")
        result = self.export(state, "--image-size", 71, "--keep", "71,16384")
        preprocess = json.loads(self.assert_exported(result, state)["xception.preprocess"])
        keep = [preprocess[key] for key in ("size", "keep_min", "keep_max")]
        self.assertEqual(keep, [71, 71, 16384])

    def test_older_pth(self):
        self.assert_exported(self.export(self.state, _use_new_zipfile_serialization=False))

    def test_safetensors(self):
        source = self.path("source.safetensors")
        arrays = {name: t.numpy() for name, t in self.state.items()}
        safetensors_io.write(source, arrays)
        self.assert_exported(run_export(source, "-o", self.output))

    def test_an_exported_file_keeps_its_metadata_when_exported_again(self):
        first = self.assert_exported(
            self.export(self.state, "--bn-eps", "1e-4", "--mean", "0,0,0", "--sep-relu", "false")
        )
        again = self.path("again.safetensors")
        self.assertEqual(run_export(self.output, "-o", again)[0], 0)
        self.assertEqual(safetensors_io.read(again)[1], first)

    def test_an_option_goes_before_the_metadata(self):
        self.assert_exported(self.export(self.state, "--bn-eps", "1e-4"))
        again = self.path("again.safetensors")
        self.assertEqual(run_export(self.output, "-o", again, "--bn-eps", "1e-3")[0], 0)
        self.assertEqual(safetensors_io.read(again)[1]["xception.bn_eps"], "0.001")

    def test_golden_values_are_those_of_the_weights_as_stored(self):
        golden = self.path("g.safetensors")
        self.assert_exported(self.export(self.state))
        self.export(self.state, "--dtype", "bf16", "--golden", golden, "--no-layers")
        values = safetensors_io.read(golden)[0]
        stored = {n: torch.from_numpy(a.copy()) for n, a in safetensors_io.read(self.output)[0].items()}
        for state, same in ((self.state, False), (stored, True)):
            self.module.load_state_dict(state, strict=False)
            with torch.no_grad():
                logits = self.module.double()(torch.from_numpy(values["input"].copy()).double())
            self.assertEqual(np.allclose(logits.numpy(), values["logits"], 1e-6, 1e-7), same)

    def test_other_names_of_the_head(self):
        for head in ("last_linear", "last_linear.1", "fc.1", "head.fc", "head.fc.0"):
            renamed = {n.replace("fc.", head + "."): t for n, t in self.state.items()}
            self.assert_exported(self.export(renamed))

    def test_heads_of_several_layers(self):
        module = support.small(num_classes=3, head=[(2, 12), (5, 9), (10, 3)])
        state, golden = module.state_dict(), self.path("g.safetensors")
        self.assertEqual(state["fc.10.weight"].shape, (3, 9))
        for head in ("fc", "last_linear", "head.fc"):
            renamed = {n.replace("fc.", head + "."): t for n, t in reversed(state.items())}
            result = self.export(renamed, "--golden", golden)
            metadata = self.assert_exported(result, state)
            self.assertEqual(metadata["xception.num_classes"], "3")
        tensors, _ = safetensors_io.read(golden)
        self.assertEqual(
            [n for n in tensors if "fc" in n],
            [f"layer.fc.{n}" for n in ("2", "relu5", "5", "relu10", "10")],
        )
        x = torch.from_numpy(tensors["input"].copy()).double()
        with torch.no_grad():
            logits = module.double()(x).float().numpy()
        np.testing.assert_array_equal(tensors["logits"], logits)

    def test_heads_without_bias(self):
        golden = self.path("g.safetensors")
        for config in (
            {"without_bias": ["fc"]},
            {"num_classes": 1, "without_bias": ["fc"]},
            {"num_classes": 3, "head": [(0, 12), (2, 9), (4, 3)], "without_bias": ["fc.0", "fc.4"]},
        ):
            with self.subTest(config=config):
                module = support.small(**config)
                self.assertNotIn(f"{config['without_bias'][0]}.bias", module.state_dict())
                result = self.export(module.state_dict(), "--golden", golden)
                self.assert_exported(result, module.state_dict())
                values = safetensors_io.read(golden)[0]
                with torch.no_grad():
                    logits = module.double()(torch.from_numpy(values["input"].copy()).double())
                np.testing.assert_array_equal(values["logits"], logits.float().numpy())
                if os.path.exists(INFER):
                    command = [INFER, "-m", self.output, "--compare", golden]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    self.assertEqual(done.returncode, 0, done)
                os.remove(self.output)

    def test_heads_that_are_refused(self):
        state = support.small(num_classes=3, head=[(0, 12), (3, 3)]).state_dict()
        for change, text in (
            ({"fc.1.weight": torch.ones(12)}, "'fc.1.weight' should be [classes, channels]"),
            ({"fc.3.weight": torch.ones(3, 8)}, "'fc.3.weight' should be [3, 12]"),
            ({"fc.1.running_mean": torch.ones(12)}, "'fc.1.running_mean' [12] has no place"),
            ({"fc.weight": torch.ones(3, 8)}, "'fc.0.weight' [12, 104] has no place"),
            ({"head.fc.0.bias": torch.ones(12)}, "'fc.0.bias'"),
        ):
            self.assert_refused(self.export(state | change), 3, text)

    def test_a_network_without_a_head_where_it_is_asked_for(self):
        module = support.small(num_classes=0, head=[])
        golden = self.path("golden.safetensors")
        arguments = ("--no-head", "--golden", golden, "--batch", "2")
        metadata = self.assert_exported(
            self.export(module.state_dict(), *arguments), module.state_dict()
        )
        self.assertEqual(metadata["xception.num_classes"], "0")
        self.assertEqual(metadata["xception.labels"], "[]")
        tensors, _ = safetensors_io.read(golden)
        self.assertEqual(tensors["logits"].shape, (2, 104))
        os.remove(self.output)
        self.assert_refused(self.export(module.state_dict()), 3, "'fc.weight'", "--no-head")
        self.assert_refused(self.export(self.state, "--no-head"), 3, "'fc.weight'", "no place")

    def test_pointwise_weights_with_two_sides(self):
        flat = {n: t.flatten(1) if t.shape[2:] == (1, 1) else t for n, t in self.state.items()}
        self.assertEqual(flat["conv3.weight"].dim(), 2)
        self.assert_exported(self.export(flat))

    def test_missing_num_batches_tracked_and_another_order(self):
        names = [n for n in reversed(self.state) if "num_batches" not in n]
        self.assert_exported(
            self.export(collections.OrderedDict((n, self.state[n]) for n in names))
        )

    def test_half_and_double_checkpoints(self):
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in self.state.items()}
            self.assert_exported(self.export(state), {n: t.float() for n, t in state.items()})

    def test_stored_types(self):
        for dtype, torch_type in (("f16", torch.float16), ("bf16", torch.bfloat16)):
            self.assertEqual(self.export(self.state, "--dtype", dtype)[0], 0)
            tensors, _ = safetensors_io.read(self.output)
            for name, array in tensors.items():
                expected = self.state[name].to(torch_type).float().numpy()
                np.testing.assert_array_equal(array.astype("<f4"), expected)

    def test_arch_width_and_classes_are_found(self):
        for arch, config in (
            ("seed", {"width": 0.05}),
            ("seed_depthwise", {"width": 0.125}),
            ("seed_depthwise", {"width": 0.3, "num_classes": 3}),
        ):
            module = support.small(arch, **config)
            metadata = self.assert_exported(self.export(module.state_dict()), module.state_dict())
            self.assertEqual(metadata["xception.arch"], arch)
            self.assertEqual(float(metadata["xception.width"]), config["width"])
            self.assertEqual(metadata["xception.num_classes"], str(config.get("num_classes", 7)))

    def test_full_widths(self):
        for arch in reference.ARCHS:
            state = reference.build(arch).state_dict()
            self.assertEqual(checkpoint.guess_arch(state), arch)
            if arch != "xception":
                self.assertEqual(checkpoint.guess_width(state), 1.0)

    def test_xception(self):
        state = reference.build("xception", num_classes=2).state_dict()
        faces = {
            "model." + n.replace("fc.", "last_linear.1."): t
            for n, t in state.items()
            if "num_batches" not in n
        }
        result = self.export(faces, "--bn-eps", "1e-3", "--pool-pad", "tf_same")
        metadata = self.assert_exported(result, state)
        self.assertEqual(metadata["xception.pool_pad"], "tf_same")
        self.assertEqual(metadata["xception.sep_relu"], "false")
        preprocess = json.loads(metadata["xception.preprocess"])
        self.assertEqual((preprocess["size"], preprocess["crop_pct"]), (299, 0.8975))


if __name__ == "__main__":
    unittest.main()
