"""The exporter: what it refuses of tensors, metadata and options."""

import contextlib
import io
import json
import os
import pathlib
import unittest

import numpy as np
import torch

import exporting
import support
from support import reference, run_export, safetensors_io


class Refused(exporting.ExportTest):
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
            ({}, ("no tensors",)),
            ({7: torch.zeros(1)}, ("whose name is of type int",)),
            ({"w": torch.nn.ReLU()}, ("'w', a pickled torch.nn.modules.activation.ReLU", "--trust")),
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
            (("--labels", labels), f"--labels '{labels}' has 2 lines, the model has 7 classes; give one line for each"),
            (("--labels", os.devnull), "has 0 lines, the model has 7 classes"),
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
            (("--mean", "a,b,c"), "expected three numbers a,b,c, got 'a,b,c'"),
            (("--keep", "a,b"), "expected MIN,MAX, got 'a,b'"),
            (("--golden", self.path("g"), "--size", "20x"), "invalid side or HEIGHTxWIDTH value: '20x'"),
            (("--golden", self.path("none/g")), "which is no folder"),
            (("--golden", self.path("g/")), "names no file"),
            (("--golden", ""), "'' names no file"),
            (("--labels", ""), "No such file"),
        ):
            self.assert_refused(self.export(self.state, *arguments), 2, text)

    def test_options_without_effect(self):
        golden = ("--golden", self.path("g"))
        for arguments, text in (
            *((option, f"{option[0]} belongs to --golden, which is not there") for option in (
                ("--size", 20), ("--input", "x.npy"), ("--batch", 1), ("--seed", 0), ("--no-layers",))),
            *(((*golden, "--input", "x.npy", *option), f"{option[0]} belongs to a drawn input") for option in (
                ("--size", 20), ("--batch", 2), ("--seed", 0))),
            (("--pool-pad", "torch"), "--pool-pad torch belongs to xception, and this is seed_depthwise"),
            (("--crop-pct", 0.5), "--crop-pct belongs to --resize-mode center, and here it is squash"),
            (("--crop-pct", 0.5, "--resize-mode", "border"), "and here it is border"),
        ):  # fmt: skip
            self.assert_refused(self.export(self.state, *arguments), 2, text)
        state = reference.build("xception", num_classes=2).state_dict()
        result = self.export(state, "--sep-relu", "false")
        self.assert_refused(result, 2, "--sep-relu false belongs to the seed networks, and this is xception")
        draw = ["-o", self.output, "--arch"]
        for arguments, text in (
            ((*draw, "seed", "--batch", "2"), "--batch belongs to --golden"),
            ((*draw, "seed", "--pool-pad", "torch"), "--pool-pad torch belongs to xception"),
            ((*draw, "xception", "--sep-relu", "true"), "--sep-relu true belongs to the seed networks"),
        ):
            said = io.StringIO()
            with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as end:
                support.draw.main(arguments)
            self.assert_refused((end.exception.code, "", said.getvalue()), 2, text)

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

    def test_labels_that_are_no_text(self):
        with open(self.path("labels"), "wb") as f:
            f.write(b"a\xff")
        self.assert_refused(self.export(self.state, "--labels", self.path("labels")), 2,
                            f"--labels '{self.path('labels')}' is no UTF-8 text")  # fmt: skip

    def test_golden_inputs_that_are_none(self):
        path = self.path("x.npy")
        for array in (np.full((1, 3, 20, 20), np.nan), np.full((1, 3, 20, 20), 1e300),
                      np.zeros((1, 3, 20, 20), complex), np.full((1, 3, 20, 20), "a")):  # fmt: skip
            np.save(path, array)
            result = self.export(self.state, "--golden", self.path("g"), "--input", path)
            self.assert_refused(result, 2, f"--input '{path}'")
        for shape, text in (("(9, 3, 20, 20)", "mmap length"), ("(9000000000000, 3, 20, 20)", ""),
                            (f"({2**62}, {2**62})", ""), (f"({2**70},)", "")):  # fmt: skip
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118) + b"\n"
            pathlib.Path(path).write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"\0" * 4800)
            result = self.export(self.state, "--golden", self.path("g"), "--input", path)
            self.assert_refused(result, 2, f"--input '{path}' is no .npy array of numbers", text)
        np.savez(self.path("x.npz"), x=np.zeros((1, 3, 20, 20)))
        with open(path, "w", encoding="utf-8") as f:
            f.write("text")
        for other in (path, self.path("x.npz")):
            result = self.export(self.state, "--golden", self.path("g"), "--input", other)
            self.assert_refused(result, 2, f"--input '{other}' is no .npy array of numbers")

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
        for lines, fits in ((0, False), (1, False), (2, True), (3, False)):
            with open(labels, "w") as f:
                f.write("x\n" * lines)
            result = self.export(state, "--labels", labels)
            if fits:
                self.assert_exported(result, state)
                os.remove(self.output)
            else:
                self.assert_refused(result, 2, f"{lines} lines, the model has 2 classes, as a head of one")

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
            ({"xception.sep_relu": "True"}, "known are true and false"),
            ({"xception.pool_pad": "tf_same"}, "which seed_depthwise does not have"),
            ({"xception.pool_pad": "same"}, "known are torch and tf_same"),
            ({"xception.labels": '"abcdefg"'}, "no JSON list of strings"),
            ({"xception.labels": "[0, 1, 2, 3, 4, 5, 6]"}, "no JSON list of strings"),
            ({"xception.labels": '["a"]'}, "it names 1 labels for 7 classes; give others with --labels"),
            ({"xception.labels": "5"}, "no JSON list of strings"),
            ({"xception.labels": '["\\ud800", "1", "2", "3", "4", "5", "6"]'}, "surrogate"),
            ({"xception.labels": "[" * 10**5}, "more than 16 levels"),
            ({"xception.bn_eps": "2"}, "from 1e-12 to 1"),
            ({"xception.width": "abc"}, "'xception.width' is 'abc'"),
            ({"xception.width": "1"}, "of width 1 has about 9778316 parameters"),
            ({"xception.width": "0.06"}, "should be"),
            ({"xception.num_classes": "8"}, "8 classes, and its head has 7"),
            ({"xception.schema": "2"}, "a later xception"),
            ({"xception.foo": ""}, "'xception.foo'; known are xception.schema,"),
        ):
            safetensors_io.write(source, arrays, metadata)
            self.assert_refused(run_export(source, "-o", self.output), 3, f"{source} is refused: ", text)

    def test_preprocessing_of_the_source(self):
        source = self.path("source.safetensors")
        arrays = {name: t.numpy() for name, t in self.state.items()}
        for key, value in (
            ("size", "32"), ("size", 299), ("size", True), ("resize_mode", "crop"), ("mean", 0.5),
            ("interpolation", None), ("crop_pct", 0), ("keep_min", 17.5), ("keep_max", 16),
        ):  # fmt: skip
            safetensors_io.write(source, arrays, {"xception.preprocess": json.dumps({key: value})})
            self.assert_refused(run_export(source, "-o", self.output), 3, "'xception.preprocess': ", key, str(value))
        safetensors_io.write(source, arrays, {"xception.preprocess": '{"crop": 1}'})
        self.assert_refused(run_export(source, "-o", self.output), 3, source, "'crop' is none of size, ")
        safetensors_io.write(source, arrays, {"xception.preprocess": '{"size": 299}'})
        self.assert_exported(run_export(source, "-o", self.output, "--image-size", 24))


if __name__ == "__main__":
    unittest.main()
