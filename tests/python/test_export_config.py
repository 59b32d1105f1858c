"""The exporter: metadata and timm's config.json are read by the rules of the engine."""

import json
import os
import subprocess
import unittest

import exporting
from support import INFER, reference, run_export, safetensors_io


class Config(exporting.ExportTest):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("from"))
        self.source = self.path("from/m.safetensors")

    def write(self, config=None, metadata=None):
        """The network as a weight file with this metadata, and config.json beside it: a text, bytes, or an
        object that says as much as a network of ours needs."""
        arrays = {name: t.numpy() for name, t in self.state.items() if "num_batches" not in name}
        safetensors_io.write(self.source, arrays, metadata)
        if config is None:
            return
        if isinstance(config, dict):
            config = json.dumps({"architecture": "seed_depthwise"} | config)
        with open(self.path("from/config.json"), "wb") as f:
            f.write(config if isinstance(config, bytes) else config.encode())

    def written(self, *arguments):
        """(metadata, preprocessing) of what the file is exported to."""
        metadata = self.assert_exported(run_export(self.source, "-o", self.output, *arguments))
        os.remove(self.output)
        return metadata, json.loads(metadata["xception.preprocess"])

    def assert_engine(self, runs, *arguments):
        """Whether the engine takes the file too."""
        if os.path.exists(INFER):
            done = subprocess.run([INFER, "-m", self.source, "--info", *arguments], capture_output=True, check=False)
            self.assertEqual(done.returncode, 0 if runs else 3, done)

    def assert_bad(self, *texts):
        self.assert_refused(run_export(self.source, "-o", self.output), 3, f"{self.source} is refused: ", *texts)
        self.assert_engine(False)

    def test_timms_config_beside_the_file(self):
        state = reference.build("xception", num_classes=3).state_dict()
        source = self.path("model.safetensors")
        safetensors_io.write(source, {name: t.numpy() for name, t in state.items()
                                      if "num_batches" not in name})  # fmt: skip
        output = self.path("out.safetensors")
        pretrained = {"input_size": [3, 224, 224], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1],
                      "crop_pct": 1.0, "crop_mode": "border", "interpolation": "bilinear", "url": ""}  # fmt: skip
        config = {"architecture": "legacy_xception", "num_classes": 3, "pretrained_cfg": pretrained,
                  "label_names": ["a", "b", "c"], "label_descriptions": {"b": "a bee"}}  # fmt: skip

        def run(config, *arguments):
            with open(self.path("config.json"), "w", encoding="utf-8") as f:
                f.write(config if isinstance(config, str) else json.dumps(config))
            return run_export(source, "-o", output, *arguments)

        status, _, error = run(config, "--interpolation", "nearest")
        self.assertEqual((status, error), (0, ""))
        metadata = safetensors_io.read(output)[1]
        self.assertEqual(json.loads(metadata["xception.labels"]), ["a", "a bee", "c"])
        self.assertEqual(metadata["xception.arch"], "xception")
        self.assertEqual(
            json.loads(metadata["xception.preprocess"]),
            {"size": 224, "resize_mode": "border", "crop_pct": 1.0, "interpolation": "nearest",
             "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "keep_min": 0, "keep_max": 0},
        )  # fmt: skip
        again = self.path("again.safetensors")  # which says all of it itself
        self.assertEqual(run_export(output, "-o", again)[0], 0)
        self.assertEqual(safetensors_io.read(again)[1], metadata)
        os.remove(output)
        self.assertEqual(run(config | {"architecture": "resnet50"})[0], 0)  # is not this file's
        metadata = safetensors_io.read(output)[1]
        self.assertEqual((metadata["xception.labels"], json.loads(metadata["xception.preprocess"])["size"]),
                         ("[]", 299))  # fmt: skip
        os.remove(output)
        for change, status, text in (
            ("[", 3, "config.json beside it is no JSON"),
            ("[1]", 3, "no JSON object"),
            (config | {"num_classes": 4}, 3, "4 classes, and its head has 3"),
            (config | {"pretrained_cfg": pretrained | {"input_size": [3, 9, 8]}}, 3, "[3, side, side]"),
            (config | {"pretrained_cfg": pretrained | {"crop_pct": 2}}, 3, "config.json beside it: crop_pct"),
        ):
            result = run(change)
            self.assertEqual(result[0], status, result)
            self.assertIn(text, result[2])
            self.assertFalse(os.path.exists(output))

    def test_timms_names_in_our_metadata(self):
        source = self.path("source.safetensors")
        arrays = {name: t.numpy() for name, t in self.state.items()}
        given = {"input_size": [3, 20, 20], "crop_mode": "center", "keep_max": 0}
        safetensors_io.write(source, arrays, {"xception.preprocess": json.dumps(given)})
        written = self.assert_exported(run_export(source, "-o", self.output))
        preprocess = json.loads(written["xception.preprocess"])
        self.assertEqual([preprocess[key] for key in ("size", "resize_mode", "keep_min", "keep_max")],
                         [20, "center", 0, 0])  # fmt: skip

    def test_json_is_that_of_the_engine(self):
        for text, refused in (
            ("7", None), ("7.0", None), (" 7 ", None), ("\ufeff7", None), ("7_", "num_classes"), ("0_7", "Extra"),
            ("+7", "num_classes"), ("7.5", "whole number"), ("true", "whole number"), ("1e999", "too large"), ("7" * 400, "too large"), ("7" * 9000, "too large"),
            ("NaN", "no number of JSON"), ("16777217", "from 0 to 16777216"),
        ):  # fmt: skip
            with self.subTest(text=text):
                self.write(metadata={"xception.num_classes": text})
                if refused:
                    self.assert_bad("xception.num_classes", refused)
                else:
                    self.assertEqual(self.written()[0]["xception.num_classes"], "7")
                    self.assert_engine(True)
        self.write(metadata={"xception.bn_eps": "1_0e-5"})
        self.assert_bad("'xception.bn_eps' is '1_0e-5'")
        self.write(metadata={"xception.labels": "[" * 17 + "]" * 17})
        self.assert_bad("more than 16 levels")
        self.write(metadata={"xception.preprocess": '{"size": 20}' + " " * (4 << 20)})
        self.assert_bad("more than 4 MiB")

    def test_numbers_of_options_are_none_of_python_alone(self):
        for arguments in (("--bn-eps", "1_0e-5"), ("--mean", "0_1,0,0"), ("--keep", "1_7,32"), ("--image-size", "2_0"),
                          ("--size", "2_0"), ("--seed", "\uff11")):  # fmt: skip
            self.write()
            self.assert_refused(run_export(self.source, "-o", self.output, *arguments), 2, arguments[0])

    def test_what_a_config_may_be(self):
        whole = {"architecture": "seed_depthwise", "pretrained_cfg": {"crop_pct": 0.5}}
        for config, crop_pct in (
            (json.dumps(whole), 0.5),
            ("\ufeff" + json.dumps(whole), 0.5),
            (json.dumps(whole | {"num_classes": 7.0}), 0.5),
            (json.dumps(whole | {"num_classes": True}), 0.5),
            (json.dumps(whole | {"architecture": "resnet50", "num_classes": 4}), 1.0),
        ):
            with self.subTest(config=config):
                self.write(config)
                self.assertEqual(self.written()[1]["crop_pct"], crop_pct)
                self.assert_engine(True)
        for config, text in (
            (b"\xff", "no JSON"), (json.dumps(whole)[:-1], "no JSON"), ("NaN", "no JSON"), ("[]", "no JSON object"),
            (json.dumps(whole) + " " * (4 << 20), "more than 4 MiB"), ("[" * 17 + "]" * 17, "more than 16 levels"),
        ):  # fmt: skip
            with self.subTest(config=config[:40]):
                self.write(config)
                self.assert_bad("config.json beside it", text)

    def test_what_is_no_file_is_no_config(self):
        name = self.path("from/config.json")
        self.write()
        os.mkdir(name)
        self.assertEqual(self.written()[1]["crop_pct"], 1.0)
        self.assert_engine(True)
        os.rmdir(name)
        os.mkfifo(name)
        self.assertEqual(self.written()[1]["crop_pct"], 1.0)
        self.assert_engine(True)

    def test_a_config_of_another_network_says_nothing(self):
        config = {"pretrained_cfg": {"crop_pct": 0.5, "input_size": [3, 300, 20]}, "num_classes": 1000,
                  "label_names": ["a"], "architecture": "legacy_xception"}  # fmt: skip
        self.write(config)
        self.assert_bad("1000 classes")
        self.assertEqual(self.written("--arch", "seed_depthwise")[1]["crop_pct"], 1.0)
        self.assert_engine(True, "--arch", "seed_depthwise")
        self.write(config, {"xception.arch": "seed_depthwise"})
        self.assertEqual(self.written()[1]["crop_pct"], 1.0)
        self.assert_engine(True)

    def test_a_broken_config_that_nothing_is_left_to_say_for(self):
        for metadata, arch, runs in (
            ({"xception.preprocess": "{}", "xception.labels": "[]"}, ("--arch", "seed_depthwise"), True),
            ({"xception.preprocess": "{}", "xception.labels": "[]"}, (), False),
            ({"xception.preprocess": "{}"}, ("--arch", "seed_depthwise"), False),
            ({"xception.arch": "seed_depthwise"}, (), True),
        ):
            self.write("[", metadata)
            status = run_export(self.source, "-o", self.path("any"), *arch)[0]
            self.assertEqual(status, 0 if runs else 3, metadata)
            self.assert_engine(runs, *arch)

    def test_metadata_go_before_a_config_key_by_key(self):
        self.write(
            {"pretrained_cfg": {"crop_pct": 0.5, "crop_mode": "center", "input_size": [3, 24, 24], "keep_max": 20},
             "num_classes": 7, "label_names": list("abcdefg")},
            {"xception.preprocess": '{"crop_pct": 0.75, "resize_mode": "border", "crop_mode": "squash"}',
             "xception.labels": "[]"},
        )  # fmt: skip
        metadata, preprocess = self.written("--interpolation", "nearest")
        wanted = {"size": 24, "crop_pct": 0.75, "resize_mode": "border", "interpolation": "nearest",
                  "keep_min": 17, "keep_max": 20}  # fmt: skip
        self.assertEqual({key: preprocess[key] for key in wanted}, wanted)
        self.assertEqual(json.loads(metadata["xception.labels"]), list("abcdefg"))
        if os.path.exists(INFER):
            command = [INFER, "--info", "-m", self.source]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            self.assertRegex(said, "network .* with names")
            self.assertRegex(said, "input +24 x 24, bilinear, .*border.*; sides of 17 to 20 are taken as they are")

    def test_labels_that_are_too_few(self):
        self.write({"label_names": ["a", "b"]})
        self.assert_bad("config.json beside it names 2 labels for 7 classes")
        self.write({"label_names": ["a", "b"]}, {"xception.labels": '["a"]'})
        self.assert_bad("it names 1 labels for 7 classes")

    def test_both_say_how_many_classes_there_are(self):
        for config, metadata, text in (
            ({"num_classes": 8}, {"xception.num_classes": "7"}, "config.json beside it says that it has 8 classes"),
            ({"num_classes": 7}, {"xception.num_classes": "8"}, "it says that it has 8 classes"),
        ):
            self.write(config, metadata)
            self.assert_bad(text)


if __name__ == "__main__":
    unittest.main()
