"""What a picture file may be: damaged, large, without an end; and what options make of it."""

import io
import json
import os
import struct
import subprocess
import unittest

import numpy as np
from PIL import Image

import program
from program import IMAGES, black_png, chunk, pictures, png


class PicturesTest(program.ProgramTest):
    def test_a_strip_too_long_to_be_fitted_is_named(self):
        strip = self.write("strip.pbm", b"P4 2 17000000\n" + bytes(17_000_000))
        (record,) = self.records(strip, status=1)
        self.assertIn("strip.pbm': the picture of 2 x 17000000 pixels is too long", record["message"])

    def test_bad_pictures_cost_their_own_record(self):
        photo = io.BytesIO()
        pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
        Image.fromarray(pixels).save(photo, "JPEG")
        half = photo.getvalue()[: len(photo.getvalue()) // 2]
        good = pictures()[0]
        cases = [
            (self.write("huge.png", png(100_000, 100_000)), "bad_image", "100000 x 100000"),
            (self.write("text.jpg", "this is no picture\n"), "bad_image", "text"),
            (self.write("half.jpg", half), "bad_image", "half.jpg"),
            (self.write("empty.png", b""), "bad_image", "empty"),
            (self.path("missing.png"), "not_found", "missing.png"),
            (os.path.join(good, "below.png"), "not_found", "below.png"),
            ("/proc/self/mem", "io", "/proc/self/mem"),
            (self.write("cut.png", png(20, 20, b"\0" * 100)), "bad_image", "cut.png"),
        ]
        for path, code, word in cases:
            with self.subTest(path=path):
                first, bad, last = self.records(good, path, good, status=1)
                self.assertEqual(first["topk"], last["topk"])
                self.assertEqual((bad["status"], bad["code"], bad["input"]), ("error", code, path))
                self.assertIn(word, bad["message"])
        out, err = self.run_demo(good, cases[1][0], good, "-k1", status=1)
        self.assertEqual(out.count("\n"), 2)
        self.assertIn("text.jpg", err)
        self.assertIn("1 of 3 inputs failed", err)

    def test_bombs_stay_below_a_gibibyte(self):
        gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x08\0;"
        claim = bytes.fromhex("28000000 ff7f0f00 ff7f0f00 0100 1800")
        bmp = b"BM" + b"\0" * 12 + claim + b"\0" * 40
        bombs = [
            self.write("a.png", png(100_000, 100_000)),
            self.write("b.png", png(13_000, 13_000, b"\0" * 4096, depth=16)),
            self.write("c.gif", gif),
            self.write("d.bmp", bmp),
            self.write("e.ppm", b"P6 90000 90000 255\n"),
            self.write("f.pgm", b"P5 13000 13000 65535\n"),
        ]
        status, lines, peak = self.run_measured("-q", "-f", "jsonl", "-j2", *bombs)
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), len(bombs))
        for line in lines:
            self.assertIn('"status":"error"', line)
        self.assertLess(peak, 1 << 20)

    def test_large_pictures_at_once_stay_below_a_gibibyte(self):
        bomb = self.write("bomb.png", black_png(13_000))
        status, lines, peak = self.run_measured("-f", "jsonl", "-j2", bomb, bomb)
        self.assertEqual((status, len(lines)), (0, 2), lines)
        self.assertLess(peak, 1 << 20)

    def test_turning_large_pictures_stays_below_a_gibibyte(self):
        for orientation, status in ((3, 0), (6, 1)):
            exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
            name = self.write("turned.png", black_png(13_377, chunk(b"eXIf", exif)))
            got, lines, peak = self.run_measured("-f", "jsonl", "--exif", "apply", name)
            self.assertEqual((got, len(lines)), (status, 1), lines)
            self.assertEqual("exif ignore" in lines[0], orientation == 6, lines)
            self.assertLess(peak, 1 << 20)

    def test_picture_that_never_ends(self):
        """A good beginning, and then no end: read up to the limit of 512 MiB."""
        process = self.start("-q", "-f", "jsonl", "-", stdin=subprocess.PIPE, stderr=None)
        process.stdin.write(b"P6 10 10 255\n")
        block = b"\0" * (1 << 20)
        with self.assertRaises(BrokenPipeError):
            for _ in range(1024):
                process.stdin.write(block)
        record = json.loads(process.stdout.readline())
        self.assertEqual(record["code"], "bad_image")
        self.assertIn("512 MiB", record["message"])
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 1
        self.assertLess(usage.ru_maxrss, 1 << 20)
        process.stdout.close()
        process.stdin.close()

    def test_max_pixels(self):
        path = self.path("big.png")
        Image.new("RGB", (200, 100)).save(path)
        self.records(path, "--max-pixels", "20000")
        (record,) = self.records(path, "--max-pixels", "19999", status=1)
        self.assertIn("19999", record["message"])
        self.assertIn("max-pixels", record["message"])

    def test_a_small_jpeg_that_asks_for_hours(self):
        """Scans of a progressive file may be repeated, at a few bytes each, and each goes over the whole picture."""
        made = self.path("made.jpg")
        Image.new("L", (3000, 3000), 77).save(made, progressive=True)
        with open(made, "rb") as file:
            data = file.read()
        last = data.rindex(b"\xff\xda")
        path = self.write("scans.jpg", data[:last] + data[last:-2] * 450 + data[-2:])
        _, err = self.run_demo(made)
        self.assertEqual(err, "")
        _, err = self.run_demo(path, status=1)
        self.assertRegex(err, r"scans\.jpg.*more than 397 scans")

    def test_a_jpeg_of_any_size_has_a_limit_of_scans(self):
        Image.new("L", (24, 24), 77).save(self.path("made.jpg"), progressive=True)
        data = self.content("made.jpg")
        last = data.rindex(b"\xff\xda")
        path = self.write("scans.jpg", data[:last] + data[last:-2] * 600 + data[-2:])
        (record,) = self.records(path, status=1)
        self.assertIn("more than 500 scans", record["message"])

    def test_warnings_name_the_picture(self):
        deep = self.write("deep.png", png(20, 20, (b"\0" + b"\1\2" * 20) * 20, depth=16, colour=0))
        Image.new("RGB", (30, 20)).save(self.path("made.jpg"))
        spoilt = self.write("spoilt.jpg", self.content("made.jpg").replace(b"\xff\xda", b"\0\xff\xda"))
        _, err = self.run_demo(deep, spoilt)
        self.assertIn(f"warning: '{deep}': 16-bit gray", err)
        self.assertRegex(err, "warning: '.*spoilt.jpg': .* some pixels may be wrong")
        _, err = self.run_demo(deep, spoilt, "-q")
        self.assertEqual(err, "")

    def test_fill_bytes_before_the_orientation(self):
        exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
        Image.new("RGB", (30, 20)).save(self.path("made.jpg"), exif=exif)
        data = self.content("made.jpg")
        at = data.index(b"\xff\xe1")
        filled = self.write("filled.jpg", data[:at] + b"\xff\xff" + data[at:])
        (record,) = self.records(filled, "--exif", "apply")
        self.assertEqual(record["size"], [30, 20])

    def test_threads_take_turns_at_large_pictures(self):
        """At one whose pixels are many, which are not kept for the next, and at one whose scans are
        collected in twice the memory of its pixels."""
        Image.new("L", (4800, 4800)).save(self.path("large.jpg"))  # 66 MiB of pixels
        Image.new("RGB", (2740, 2740)).save(self.path("scans.jpg"), progressive=True, subsampling=0)
        for name, threads, mebibytes in (("large.jpg", 6, 240), ("scans.jpg", 8, 400)):
            with self.subTest(name=name):
                names = self.write("names", (self.path(name) + "\n") * 2 * threads)
                arguments = ["-d", "cpu", "-f", "jsonl", f"-j{threads}", "--files-from", names]
                status, lines, peak = self.run_measured(*arguments)
                self.assertEqual((status, len(lines)), (0, 2 * threads), lines)
                _, _, inherited = self.run_measured("--version")  # from this process
                self.assertLess(peak, max(mebibytes << 10, 1.1 * inherited))

    def test_size_is_for_every_picture(self):
        for record in self.records(IMAGES, "--size", "24"):
            self.assertEqual(record["size"], [24, 24])

    def test_every_option_that_fits_pictures_changes_what_is_fed(self):
        name = self.noise("p.png", 60, 44)
        centre = ["--resize-mode", "center"]
        cases = [
            [],
            ["--interp", "nearest"],
            centre,
            [*centre, "--crop-pct", "0.5"],
            ["--mean", "0,0,0"],
            ["--std", "1,1,1"],
        ]
        fed = set()
        for case in cases:
            self.run_demo(name, "--dump-input", self.path("x.npy"), *case)
            fed.add(np.load(self.path("x.npy")).tobytes())
        self.assertEqual(len(fed), len(cases))

    def test_mean_and_std_are_those_of_the_dumped_input(self):
        x = self.path("x.npy")
        (file,) = self.records(
            pictures()[0], "--mean", "0.1,0.2,0.3", "--std", "1,2,3", "--dump-input", x
        )
        (array,) = self.records("--raw-input", x)
        self.assertEqual(file["topk"], array["topk"])


if __name__ == "__main__":
    unittest.main()
