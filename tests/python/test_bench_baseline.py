"""bench against a report that was kept."""

import json
import unittest

from bench_program import Bench


class Baseline(Bench):
    def compare(self, factor, *arguments):
        """bench against its own figures, the old medians times `factor`."""
        report = self.report("-r", 1, *arguments)
        for row in report["rows"]:
            row["latency_ms"]["p50"] *= factor
        with open(self.path("old.json"), "w", encoding="utf-8") as f:
            json.dump(report, f)
        return self.bench("model", "-m", self.model, "-r", 1, "--baseline", self.path("old.json"),
                          "--max-regress", "10%")  # fmt: skip

    def test_much_slower_than_the_baseline(self):
        result = self.compare(1e-4)
        self.assertEqual(result.returncode, 5)
        self.assertIn("slower than allowed", result.stderr)

    def test_faster_than_the_baseline(self):
        result = self.compare(1e4)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("median", result.stderr)

    def test_how_much_slower_may_be(self):
        self.compare(1e-4)
        for share, status in (("100%", 5), ("20000%", 5), ("1000000000000%", 0)):
            result = self.bench("model", "-m", self.model, "-r", 1, "--baseline",
                                self.path("old.json"), "--max-regress", share)  # fmt: skip
            self.assertEqual(result.returncode, status)

    def test_a_baseline_without_the_configuration(self):
        result = self.compare(1, "-b", 2)
        self.assertEqual(result.returncode, 2)
        self.assertIn("has none of the configurations", result.stderr)

    def test_what_two_rows_have_in_common(self):
        report = self.report("-r", 1)
        for key, other in (("device", "cuda:0"), ("precision", "bf16"), ("threads", 99), ("batch", 2),
                           ("height", 31), ("width", 31), ("timed", "network")):  # fmt: skip
            with open(self.path("old.json"), "w", encoding="utf-8") as f:
                json.dump(report | {"rows": [report["rows"][0] | {key: other}]}, f)
            result = self.bench("model", "-m", self.model, "-r", 1, "--baseline", self.path("old.json"))
            self.assertEqual(result.returncode, 2, key)
            self.assertIn("not in the baseline", result.stderr)

    def test_a_baseline_of_another_network(self):
        report = self.report("-r", 1)
        for key, other in (("arch", "xception"), ("classes", 7), ("parameters", 1)):
            with open(self.path("old.json"), "w", encoding="utf-8") as f:
                json.dump(report | {"model": report["model"] | {key: other}}, f)
            result = self.bench("model", "-m", self.model, "--baseline", self.path("old.json"))
            self.assertEqual((result.returncode, result.stdout), (2, ""), key)
            self.assertIn(f"another network: its {key} ", result.stderr)

    def test_a_baseline_of_another_machine(self):
        report = self.report("-r", 1)
        report["machine"] |= {"cpu": "Z80", "cores": 1000}
        with open(self.path("old.json"), "w", encoding="utf-8") as f:
            json.dump(report, f)
        result = self.bench("model", "-m", self.model, "-r", 1, "--max-regress", "100000%",
                            "--baseline", self.path("old.json"))  # fmt: skip
        self.assertEqual(result.returncode, 0)
        for what in ('whose cpu is "Z80"', "whose cores is 1000"):
            self.assertIn(what, result.stderr)

    def test_a_baseline_that_is_no_report(self):
        for content in ("", "[]", "{}", '{"rows": [{}]}'):
            with open(self.path("old.json"), "w", encoding="utf-8") as f:
                f.write(content)
            result = self.bench("model", "-m", self.model, "-r", 1, "--baseline",
                                self.path("old.json"))  # fmt: skip
            self.assertEqual(result.returncode, 2, content)
            self.assertIn("is not a report", result.stderr)

    def test_a_baseline_that_is_not_there_is_told_before_anything_is_timed(self):
        for path in (self.path("none"), self.folder):
            result = self.bench("model", "-m", self.model, "--baseline", path)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(f"'{path}' cannot be read", result.stderr)


if __name__ == "__main__":
    unittest.main()
