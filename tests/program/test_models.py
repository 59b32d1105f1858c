"""Weight files that are refused: exit status 3, and a message that says which tensor or what."""

import json
import os
import struct
import unittest

import numpy as np

import program
from program import DEMO, pictures, safetensors_io


class ModelsTest(program.ProgramTest):
    def refused_model(self, path, *words):
        message = self.refused(3, "-m", path, pictures()[0])
        for word in words:
            self.assertIn(word, message)

    def raw(self, header, data=b"", length=None):
        """The path of a file with this header, which may lie about its length."""
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = len(text) if length is None else length
        return self.write("raw.safetensors", struct.pack("<Q", length) + text + data)

    def test_rewritten_demo_model_is_accepted(self):
        done = self.run_bare("-m", self.changed_demo(lambda tensors, metadata: None), pictures()[0])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_parameters_are_counted_as_pytorch_counts_them(self):
        out, _ = self.run_demo("--info")
        self.assertRegex(out, r"parameters +164202\n")

    def test_pipe_beside_the_model_is_not_waited_for(self):
        model = self.changed_demo(lambda tensors, metadata: metadata.clear())
        os.mkfifo(self.path("config.json"))
        done = self.run_bare("-m", model, pictures()[0])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_network_that_is_named(self):
        message = self.refused(3, "-m", DEMO, "--arch", "xception", pictures()[0])
        self.assertIn("as network 'xception'", message)

    def test_config_beside_the_model_fills_no_gaps_of_our_own_files(self):
        names = list("abcdefghij")
        self.write("config.json", json.dumps({"architecture": "seed_depthwise", "label_names": names}))
        for key, label in (("xception.labels", b"class 9"), ("xception.arch", b"ankle_boot")):
            model = self.changed_demo(lambda _, metadata, key=key: metadata.pop(key))
            done = self.run_bare("-m", model, "-k1", pictures()[0])
            self.assertTrue(done.stdout.endswith(b"  " + label + b"\n"), done)

    def test_number_of_classes_that_is_none_is_passed_over(self):
        self.write("config.json", '{"architecture": "seed_depthwise", "num_classes": "ten"}')
        model = self.changed_demo(lambda _, metadata: metadata.clear())
        done = self.run_bare("-m", model, pictures()[0])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_missing_empty_and_directory(self):
        self.refused_model(self.path("none"), "there is no such file")
        self.refused_model(os.path.join(DEMO, "below"), "there is no such file")
        self.refused_model(self.write("empty", b""), "empty")
        self.refused_model(self.folder, "directory")
        self.refused_model(self.write("text.safetensors", "no model at all"), "text.safetensors")

    def test_cut_short(self):
        with open(DEMO, "rb") as f:
            data = f.read()
        for size in (1, 7, 8, 9, 1000, len(data) // 2, len(data) - 1):
            with self.subTest(size=size):
                self.refused_model(self.write("cut", data[:size]), "cut")
        self.refused_model(self.write("long", data + b"\0"), "long")

    def test_lying_headers(self):
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        eight = b"\0" * 8
        cases = {
            "longer than the file": ({"x": entry}, 1 << 20),
            "huge": ({"x": entry}, (1 << 64) - 1),
            "not JSON": (b"{]", None),
            "offsets beyond the end": ({"x": entry | {"data_offsets": [0, 8000]}}, None),
            "shape of another size": ({"x": entry | {"shape": [3]}}, None),
            "overflowing shape": ({"x": entry | {"shape": [1 << 33] * 3}}, None),
            "unknown dtype": ({"x": entry | {"dtype": "X9"}}, None),
            "no network": ({"x": entry}, None),
        }
        for name, (header, length) in cases.items():
            with self.subTest(case=name):
                self.refused_model(self.raw(header, eight, length), "raw.safetensors")

    def test_tensors_missing_added_misshaped(self):
        def remove(tensors, _):
            del tensors["conv3.weight"]

        def add(tensors, _):
            tensors["stray.weight"] = np.zeros(3, "<f4")

        def reshape(tensors, _):
            tensors["feature.0.weight"] = tensors["feature.0.weight"].reshape(-1)

        self.refused_model(self.changed_demo(remove), "conv3.weight")
        self.refused_model(self.changed_demo(add), "stray.weight")
        self.refused_model(self.changed_demo(reshape), "feature.0.weight")

    def test_unknown_metadata_are_named(self):
        for key in ("xception.bn_epsilon", "xception.sep_order"):
            path = self.changed_demo(lambda tensors, metadata, key=key: metadata.update({key: "1"}))
            self.refused_model(path, key, "xception.bn_eps,")

    def test_preprocessing_that_the_network_does_not_take(self):
        for values, words in (
            ({"keep_min": 8, "keep_max": 64}, ("xception.preprocess.keep_max", "17 to 32")),
            ({"size": 299}, ("xception.preprocess.size", "17 to 32")),
            ({"keep_min": 30, "keep_max": 20}, ("xception.preprocess.keep_min", "20")),
        ):
            with self.subTest(values=values):

                def prescribe(_, metadata, values=values):
                    preprocess = json.loads(metadata["xception.preprocess"]) | values
                    metadata["xception.preprocess"] = json.dumps(preprocess)

                self.refused_model(self.changed_demo(prescribe), *words)

    def test_without_a_head_there_are_no_classes(self):
        def behead(tensors, metadata):
            del tensors["fc.weight"], tensors["fc.bias"]
            metadata.pop("xception.num_classes")
            metadata.pop("xception.labels")

        def behead_and_say_so(tensors, metadata):
            behead(tensors, metadata)
            metadata["xception.num_classes"] = "0"

        for change in (behead, behead_and_say_so):
            path = self.changed_demo(change)
            self.refused_model(path, "has no head", "fc.weight", "features")
            done = self.run_bare("-m", path, "--info")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(b"256 features and no classes", done.stdout)

    def test_head_of_one_output_is_a_sigmoid(self):
        def narrow(tensors, metadata):
            for name in ("fc.weight", "fc.bias"):
                tensors[name] = tensors[name][4:5] - tensors[name][2:3]
            metadata["xception.num_classes"] = "1"
            metadata["xception.labels"] = '["no coat", "coat"]'

        path = self.changed_demo(narrow)
        for picture in pictures():
            done = self.run_bare("-m", path, "-f", "jsonl", "-k", "2", picture)
            self.assertEqual(done.returncode, 0, done.stderr)
            got = {entry["index"]: entry["prob"] for entry in json.loads(done.stdout)["topk"]}
            (record,) = self.records("-k", "10", picture)
            prob = {entry["index"]: entry["prob"] for entry in record["topk"]}
            self.assertAlmostEqual(got[1], prob[4] / (prob[4] + prob[2]), delta=1e-4)
            self.assertAlmostEqual(got[0], 1 - got[1], delta=1e-6)

    def test_nan_weight_is_named(self):
        def spoil(tensors, _):
            tensors["conv3.weight"] = tensors["conv3.weight"].copy()
            tensors["conv3.weight"].flat[5] = np.nan

        self.refused_model(self.changed_demo(spoil), "conv3.weight", "5")

    def test_damaged_data_are_found_by_their_sum(self):
        with open(DEMO, "rb") as f:
            data = bytearray(f.read())
        data[-1] ^= 1
        self.refused_model(self.write("flipped", data), "SHA-256")

    def test_verify_needs_a_sum(self):
        path = self.changed_demo(lambda tensors, metadata: metadata.pop("xception.sha256"))
        self.assertEqual(self.run_bare("-m", path, pictures()[0]).returncode, 0)
        self.assertIn("sha256", self.refused(3, "-m", path, "--verify", pictures()[0]))

    def test_fifo_as_model(self):
        path = self.path("pipe")
        os.mkfifo(path)
        self.refused_model(path, "pipe")


if __name__ == "__main__":
    unittest.main()
