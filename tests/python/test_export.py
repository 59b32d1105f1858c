"""The exporter: every form of checkpoint, every refusal."""

import collections
import json
import os
import pathlib
import pickle
import subprocess
import sys
import unittest

import numpy as np
import torch

import support
from support import checkpoint, reference, run_export, safetensors_io


class Unwelcome:
    """Pickled code: leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class Alone(unittest.TestCase):
    def test_a_python_without_pytorch_is_told_in_a_sentence(self):
        folder = os.path.dirname(reference.__file__)
        for script in ("export.py", "draw.py", "train_demo.py"):
            # -S: without the folders in which packages are installed.
            done = subprocess.run([sys.executable, "-S", "-E", os.path.join(folder, script)],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, rf"^{script}: \S+ has no (torch|numpy), .*\n$")


class Export(support.FolderTest):
    def setUp(self):
        super().setUp()
        self.source, self.output = self.path("m.pth"), self.path("m.safetensors")
        self.module = support.small()
        self.state = self.module.state_dict()

    def export(self, content, *arguments, **save):
        """Saves `content` as a checkpoint and exports it."""
        torch.save(content, self.source, **save)
        return run_export(self.source, "-o", self.output, *arguments)

    def assert_exported(self, result, state=None):
        """`result` is a success, and the output holds `state` in its order."""
        self.assertEqual(result[0], 0, result)
        tensors, metadata = safetensors_io.read(self.output)
        expected = {n: t for n, t in (state or self.state).items() if "num_batches" not in n}
        self.assertEqual(list(tensors), list(expected))
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tensors[name], tensor.numpy(), name)
        return metadata

    def assert_refused(self, result, status, *texts):
        self.assertEqual(result[0], status, result)
        for text in texts:
            self.assertIn(text, result[2])
        self.assertFalse(os.path.exists(self.output))

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

    def test_wrappers_and_prefixes(self):
        for content in (
            {"state_dict": self.state, "epoch": 3},
            {"model": self.state},
            {"model": {"state_dict": self.state}},
            {"module." + n: t for n, t in self.state.items()},
            {"state_dict": {"module.model." + n: t for n, t in self.state.items()}},
        ):
            self.assert_exported(self.export(content))

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

    def test_whole_module_only_with_trust(self):
        self.assert_refused(self.export(self.module), 3, "pickled code", "--trust")
        self.assert_exported(self.export(self.module, "--trust"))
        os.remove(self.output)
        self.assert_exported(self.export({"model": self.module}, "--trust"))

    def test_pickled_code_does_not_run(self):
        trap = self.path("trap")
        for save in ({}, {"_use_new_zipfile_serialization": False}):
            self.assert_refused(self.export({"w": Unwelcome(trap)}, **save), 3, "pickled code")
            self.assertFalse(os.path.exists(trap))
        with open(self.source, "wb") as f:
            pickle.dump(Unwelcome(trap), f)
        self.assert_refused(run_export(self.source, "-o", self.output), 3, "no PyTorch file")
        self.assertFalse(os.path.exists(trap))

    def test_damaged_files(self):
        torch.save(self.state, self.source)
        with open(self.source, "rb") as f:
            sound = f.read()
        for content in (b"", b"x", b"PK\3\4", os.urandom(4096), sound[: len(sound) // 2]):
            with open(self.source, "wb") as f:
                f.write(content)
            self.assert_refused(run_export(self.source, "-o", self.output), 3, "no PyTorch file")
        with open(self.source, "wb") as f:
            f.write(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
        self.assert_refused(run_export(self.source, "-o", self.output), 3, "Keras")
        broken = self.path("broken.safetensors")
        with open(broken, "wb") as f:
            f.write(b"\x10\0\0\0\0\0\0\0{}")
        self.assert_refused(run_export(broken, "-o", self.output), 3, "cut short")

    def test_files_that_are_not_there(self):
        missing = self.path("none.pth")
        self.assert_refused(run_export(missing, "-o", self.output), 2, missing)
        self.assert_refused(run_export(self.folder, "-o", self.output), 2, self.folder)
        torch.save(self.state, self.source)
        result = run_export(self.source, "-o", self.path("no/m.safetensors"))
        self.assert_refused(result, 2, "no/m.safetensors")
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        self.assert_refused(run_export(self.source, "-o", pipe), 2, pipe, "no regular file")

    def test_tensors_that_do_not_fit(self):
        def without(name):
            return {n: t for n, t in self.state.items() if n != name}

        for change, texts in (
            (without("conv5.bias"), ("'conv5.bias' [40]", "missing")),
            (
                self.state | {"extra.weight": torch.zeros(2, 3)},
                ("'extra.weight' [2, 3]", "no place"),
            ),
            (self.state | {"conv5.bias": torch.zeros(9)}, ("'conv5.bias'", "[40]", "is [9]")),
            (self.state | {"block2.2.weight": torch.ones(16, dtype=torch.int32)}, ("int32",)),
            (self.state | {"conv5.bias": torch.full((40,), float("nan"))}, ("conv5.bias", "NaN")),
            (self.state | {"last_linear.bias": torch.zeros(7)}, ("'fc.bias'",)),
            (self.state | {"fc.weight": torch.zeros(7)}, ("'fc.weight'", "[classes, channels]")),
            (without("fc.weight"), ("'fc.weight'", "not there")),
            (
                {"layer1.0.conv1.weight": torch.zeros(1)},
                ("known networks", "layer1.0.conv1.weight"),
            ),
            (self.state | {"note": "hello"}, ("'note'", "str")),
            ([1, 2], ("list",)),
            ({}, ("dict",)),
        ):
            self.assert_refused(self.export(change), 3, *texts)

    def test_values_too_large_for_the_stored_type(self):
        state = self.state | {"conv5.bias": torch.full((40,), 1e5)}
        self.assert_refused(self.export(state, "--dtype", "f16"), 3, "conv5.bias", "f16")
        self.assert_exported(self.export(state), state)

    def test_a_wrong_arch_is_refused(self):
        result = self.export(self.state, "--arch", "seed")
        self.assert_refused(
            result, 3, "block1.0.depthwise.0.weight", "[8, 8, 3, 3]", "[8, 1, 3, 3]"
        )
        self.assert_refused(self.export(self.state, "--arch", "xception"), 3, "conv1.weight")

    def test_wrong_usage(self):
        labels = self.path("labels.txt")
        with open(labels, "w") as f:
            f.write("one\ntwo\n")
        for arguments, text in (
            (("--labels", labels), "2 labels for 7 classes"),
            (("--labels", self.path("none")), "none"),
            (("--arch", "vgg"), "vgg"),
            (("--mean", "1,2"), "three numbers"),
            (("--std", "1,0,1"), "above 0"),
            (("--crop-pct", "1.5"), "from 0.01 to 1"),
            (("--keep", "5,3"), "MIN,MAX"),
            (("--bn-eps", "0"), "from 1e-12 to 1"),
            (("--bn-eps", "2"), "from 1e-12 to 1"),
            (("--bn-eps", "nan"), "from 1e-12 to 1"),
            (("--pool-pad", "tf_same"), "tf_same"),
            (("--image-size", "16"), "size of seed_depthwise should be 17 to 32 pixels, not 16"),
            (("--image-size", "64"), "17 to 32 pixels, not 64"),
            (("--keep", "0,32"), "keep_min and keep_max of seed_depthwise"),
            (("--keep", "17,33"), "not [17, 33]"),
            (("--mean", "0,0,1e7"), "mean of seed_depthwise should be three numbers"),
            (("--std", "1,1,nan"), "std of seed_depthwise"),
            (("--golden", self.path("g"), "--size", "28x33"), "[1, 3, 28, 33]"),
            (("--golden", self.path("g"), "--size", "0"), "[1, 3, 0, 0]"),
            (("--golden", self.path("g"), "--batch", "0"), "whole number from 1"),
            (("--seed", "-1"), "whole number from 0"),
            (("--seed", "x"), "invalid whole number from 0"),
            (("--bn-eps", "x"), "invalid number from 1e-12 to 1 value: 'x'"),
            (("--mean=-1e6,0,0",), "three numbers between -1e6 and 1e6"),
        ):
            self.assert_refused(self.export(self.state, *arguments), 2, text)

    def test_a_target_that_is_another_file_of_the_run(self):
        labels = self.path("labels")
        with open(labels, "w") as f:
            f.write("1\n2\n3\n4\n5\n6\n7\n")
        torch.save(self.state, self.source)
        linked = self.path("linked")
        os.symlink(self.source, linked)
        for output, arguments, text in (
            (self.output, ("--golden", self.output), f"--golden '{self.output}' is the file of -o"),
            (self.output, ("--golden", linked), "is the checkpoint"),
            (linked, (), "is the checkpoint"),
            (labels, ("--labels", labels), "is the file of --labels"),
        ):
            before = [pathlib.Path(path).read_bytes() for path in (self.source, labels)]
            result = run_export(self.source, "-o", output, *arguments)
            self.assert_refused(result, 2, text, "name another file")
            after = [pathlib.Path(path).read_bytes() for path in (self.source, labels)]
            self.assertEqual(before, after)

    def test_labels_are_lines_as_the_engine_reads_them(self):
        labels = self.path("labels")
        names = ["a", "b\u2028c", "d\x0be", "", "f ", "g", "h"]
        with open(labels, "wb") as f:
            f.write(b"\xef\xbb\xbf" + "\r\n".join(names).encode() + b"\n")
        metadata = self.assert_exported(self.export(self.state, "--labels", labels))
        self.assertEqual(json.loads(metadata["xception.labels"]), names)

    def test_labels_of_one_output_are_two(self):
        state = support.small(num_classes=1).state_dict()
        labels = self.path("labels")
        for lines, fits in ((1, False), (2, True), (3, False)):
            with open(labels, "w") as f:
                f.write("x\n" * lines)
            result = self.export(state, "--labels", labels)
            if fits:
                self.assert_exported(result, state)
                os.remove(self.output)
            else:
                self.assert_refused(result, 2, f"{lines} labels for 2 classes, as a head of one")

    def test_tensors_that_the_engine_would_refuse(self):
        name = "feature.1.running_var"
        negative = dict(self.state)
        negative[name] = self.state[name].clone()
        negative[name][0] = -1e-6
        self.assert_refused(self.export(negative), 3, name, "a variance cannot be")
        sparse = dict(self.state)
        sparse[name] = self.state[name].to_sparse()
        self.assert_refused(self.export(sparse), 3, name, "sparse")

    def test_metadata_of_another_network(self):
        source = self.path("source.safetensors")
        arrays = {name: t.numpy() for name, t in self.state.items()}
        for metadata, text in (
            ({"xception.arch": "xception99"}, "xception99"),
            ({"xception.bn_eps": "small"}, "small"),
            ({"xception.preprocess": "[1"}, "preprocess"),
            ({"xception.preprocess": "[1]"}, "no JSON object"),
        ):
            safetensors_io.write(source, arrays, metadata)
            self.assert_refused(run_export(source, "-o", self.output), 3, text)

    def test_preprocessing_of_the_source(self):
        source = self.path("source.safetensors")
        arrays = {name: t.numpy() for name, t in self.state.items()}
        for key, value in (
            ("size", "32"), ("size", 299), ("size", True), ("resize_mode", "crop"), ("mean", 0.5),
            ("interpolation", None), ("crop_pct", 0), ("keep_min", 17.5), ("keep_max", 16),
        ):  # fmt: skip
            safetensors_io.write(source, arrays, {"xception.preprocess": json.dumps({key: value})})
            self.assert_refused(run_export(source, "-o", self.output), 2, key, str(value))
        safetensors_io.write(source, arrays, {"xception.preprocess": '{"crop": 1}'})
        self.assert_refused(run_export(source, "-o", self.output), 2, "'crop' is none of size, ")
        safetensors_io.write(source, arrays, {"xception.preprocess": '{"size": 299}'})
        self.assert_exported(run_export(source, "-o", self.output, "--image-size", 24))


if __name__ == "__main__":
    unittest.main()
