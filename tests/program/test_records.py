"""What is said of a picture: text, CSV and JSON."""

import csv
import io
import json
import os
import re
import subprocess
import unittest

import numpy as np

import program
from program import BINARY, DEMO, IMAGES, pictures


class RecordsTest(program.ProgramTest):
    def test_demo_model_knows_its_pictures(self):
        for record in self.records(IMAGES, "-k1"):
            label = record["topk"][0]["label"]
            self.assertTrue(os.path.basename(record["input"]).startswith(label), record)

    def test_json_lines_and_json_say_the_same(self):
        lines = self.records(IMAGES)
        out, _ = self.run_demo(IMAGES, "-f", "json")
        self.assertEqual(program.without_times(json.loads(out)), program.without_times(lines))
        keys = "input status model arch device precision decoder size topk time_ms".split()
        for record in lines:
            self.assertEqual(list(record), keys)
            self.assertEqual(len(record["topk"]), 5)
            probs = [entry["prob"] for entry in record["topk"]]
            self.assertEqual(probs, sorted(probs, reverse=True))
            times = record["time_ms"]
            self.assertEqual(list(times), "decode preprocess copy_in compute copy_out".split())
            self.assertGreater(times["compute"], 0)
        (whole,) = self.records(pictures()[0], "-k", "1000")
        self.assertEqual(len(whole["topk"]), 10)
        self.assertAlmostEqual(sum(entry["prob"] for entry in whole["topk"]), 1, places=5)

    def test_json_of_nothing_but_failures(self):
        out, _ = self.run_demo(self.path("none"), "-f", "json", status=1)
        (record,) = json.loads(out)
        self.assertEqual(sorted(record), ["code", "input", "message", "status"])

    def test_csv(self):
        name = self.path('odd, "name"\n.png')
        os.symlink(pictures()[0], name)
        out, _ = self.run_demo(name, self.path("none"), "-f", "csv", "-k2", status=1)
        rows = list(csv.DictReader(io.StringIO(out, newline=""), strict=True))
        self.assertEqual(len(rows), 3)
        self.assertEqual([row["rank"] for row in rows], ["1", "2", ""])
        self.assertEqual(rows[0]["input"], name)
        self.assertEqual(rows[2]["code"], "not_found")
        self.assertNotIn("\n", out.replace("\r\n", "").replace(name.replace('"', '""'), ""))
        record = self.records(name, "-k1")[0]["topk"][0]
        self.assertEqual(float(rows[0]["logit"]), record["logit"])
        self.assertEqual(rows[0]["label"], record["label"])
        noise = self.noise("p.png", 20, 29)
        out, _ = self.run_demo(noise, "-f", "csv", "--threshold", "2")  # which no class reaches
        (row,) = csv.DictReader(io.StringIO(out, newline=""))
        self.assertEqual((row["input"], row["status"], row["rank"]), (noise, "ok", ""))
        self.assertEqual((row["height"], row["width"]), ("20", "29"))

    def test_text(self):
        out, err = self.run_demo(*pictures()[:2], "-k3")
        self.assertEqual(err, "")
        lines = out.splitlines()
        self.assertEqual(len(lines), 6)
        self.assertEqual([line.startswith(" ") for line in lines], [False, True, True] * 2)
        name, prob, label = lines[0].split()
        self.assertEqual(name, pictures()[0])
        record = self.records(pictures()[0])[0]["topk"][0]
        self.assertEqual((f"{record['prob']:.4f}", record["label"]), (prob, label))
        out, _ = self.run_demo(pictures()[0], "-k1", "--scores", "logit")
        self.assertEqual(float(out.split()[1]), record["logit"])
        # A name cannot break the line or paint on the terminal.
        odd = self.path("a\n\x1b[31m.png")
        os.symlink(pictures()[0], odd)
        out, _ = self.run_demo(odd, "-k1")
        self.assertEqual(out.count("\n"), 1)
        self.assertIn("a\\x0a\\x1b[31m.png", out)
        # Nor can the control characters above 0x7F, in UTF-8 or as a byte; others stay as they are.
        odd = os.fsencode(self.folder) + "/a\u009b31m\u00c0\u6c9b\U0001f41b.".encode() + b"\x9bpng"
        os.symlink(pictures()[0], odd)
        done = self.run_bare("-m", DEMO, odd.decode(errors="surrogateescape"), "-k1")
        self.assertIn("/a\\xc2\\x9b31m\u00c0\u6c9b\U0001f41b.\\x9bpng ".encode(), done.stdout)

    def test_columns_of_text_are_as_wide_as_the_names_look(self):
        names = ["\x7f.png", "ää.png", "a" * 200 + ".png"]
        for name in names:
            os.symlink(pictures()[0], self.path(name))
        out, _ = self.run_demo(*names, "-k1", cwd=self.folder)
        end = r" {3}0\.\d{4}  ankle_boot"
        for line, name in zip(out.splitlines(), [r"\x7f.png", *names[1:]], strict=True):
            self.assertRegex(line, "^" + re.escape(name.ljust(60)) + end + "$")

    def test_equal_scores_are_in_the_order_of_the_classes(self):
        def tie(tensors, _):
            for name in ("fc.weight", "fc.bias"):
                tensors[name] = tensors[name].copy()
                tensors[name][7] = tensors[name][3]

        model = self.changed_demo(tie)
        done = self.run_bare("-m", model, "-f", "jsonl", "-k10", pictures()[0])
        order = [entry["index"] for entry in json.loads(done.stdout)["topk"]]
        self.assertEqual(order.index(7), order.index(3) + 1)

    def test_classes_without_names(self):
        model = self.changed_demo(lambda _, metadata: metadata.pop("xception.labels"))
        done = self.run_bare("-m", model, "-f", "jsonl", "-k1", pictures()[0])
        (entry,) = json.loads(done.stdout)["topk"]
        self.assertIsNone(entry["label"])
        done = self.run_bare("-m", model, "-k1", pictures()[0])
        self.assertTrue(done.stdout.endswith(f"  class {entry['index']}\n".encode()), done)

    def test_name_that_is_no_utf8(self):
        name = os.fsencode(self.folder) + b"/\xff.png"
        os.symlink(pictures()[0], name)
        done = subprocess.run(
            [BINARY, "-m", DEMO, "-f", "json", name], capture_output=True, check=True
        )
        self.assertEqual(json.loads(done.stdout)[0]["status"], "ok")

    def test_threshold_and_labels(self):
        labels = self.write("labels", "".join(f"L{i}\n" for i in range(10)))
        full = self.records(pictures()[1], "-k10", "--labels", labels)[0]["topk"]
        self.assertEqual(full[0]["label"], f"L{full[0]['index']}")
        limit = full[2]["prob"]
        kept = self.records(pictures()[1], "-k10", "--threshold", limit)[0]["topk"]
        self.assertEqual([entry["prob"] for entry in kept], [e["prob"] for e in full[:3]])
        for number, entry in enumerate(full, 1):  # what is printed is the score to the last bit
            kept = self.records(pictures()[1], "-k10", "--threshold", entry["prob"])[0]["topk"]
            self.assertEqual(len(kept), number)
        out, _ = self.run_demo(pictures()[1], "--threshold", "1")
        self.assertIn("no class reaches", out)
        by_logit = self.records(pictures()[1], "-k10", "--scores", "logit", "--threshold", "0")
        self.assertEqual(len(by_logit[0]["topk"]), sum(entry["logit"] >= 0 for entry in full))

    def test_device_is_known_before_the_first_batch(self):
        array = np.zeros((2, 3, 28, 28), "f4")
        array[0] = np.nan
        np.save(self.path("x.npy"), array)
        out, err = self.run_demo(
            "-f", "csv", "-k1", "-v", "-d", "auto", "--raw-input", self.path("x.npy"), status=1
        )
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        self.assertEqual([row["device"] for row in rows], ["cpu", "cpu"])
        self.assertIn(" on cpu, fp32", err)


if __name__ == "__main__":
    unittest.main()
