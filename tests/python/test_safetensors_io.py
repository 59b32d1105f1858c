"""The reader and writer of safetensors files."""

import hashlib
import json
import os
import stat
import struct
import unittest
from unittest import mock

import numpy as np

import support
from support import safetensors_io

try:
    import safetensors.numpy as published
except ImportError:
    published = None

TENSORS = {
    "b": np.arange(6, dtype="<f4").reshape(2, 3),
    "a": np.array(2.5, dtype="<f8"),
    "empty": np.zeros((0, 4), dtype="<f2"),
    "count": np.array([7], dtype="<i8"),
}


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def write_bytes(path, *parts):
    with open(path, "wb") as f:
        f.writelines(parts)


def with_header(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class SafetensorsIo(support.FolderTest):
    def test_round_trip_keeps_values_order_and_metadata(self):
        path = self.path("m.safetensors")
        safetensors_io.write(path, TENSORS, {"who": "Łukasz", "xception.sha256": ""})
        tensors, metadata = safetensors_io.read(path)
        self.assertEqual(list(tensors), list(TENSORS))
        for name, array in TENSORS.items():
            self.assertEqual(tensors[name].dtype, array.dtype)
            np.testing.assert_array_equal(tensors[name], array)
        self.assertEqual(metadata["who"], "Łukasz")
        self.assertEqual(os.listdir(self.folder), ["m.safetensors"])

    def test_data_is_aligned_and_hashed(self):
        path = self.path("m.safetensors")
        sha256 = safetensors_io.write(path, TENSORS, {"xception.sha256": ""})
        data = read_bytes(path)
        (length,) = struct.unpack_from("<Q", data)
        self.assertEqual(length % 8, 0)
        self.assertEqual(hashlib.sha256(data[8 + length :]).hexdigest(), sha256)
        self.assertEqual(safetensors_io.read(path)[1]["xception.sha256"], sha256)

    def test_bfloat16_rounds_to_nearest_even(self):
        bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xBF80FFFF], dtype="<u4")
        halves = safetensors_io.to_bfloat16(bits.view("<f4"))
        self.assertEqual([hex(h) for h in halves], ["0x3f80", "0x3f82", "0x3f81", "0xbf81"])
        special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype="<f4")
        back = safetensors_io.from_bfloat16(safetensors_io.to_bfloat16(special))
        np.testing.assert_array_equal(back, special)
        self.assertTrue(np.signbit(back[4]))

    def test_bfloat16_in_files(self):
        path = self.path("m.safetensors")
        values = np.array([[1.0, -2.5], [3.140625, 0.0]], dtype="<f4")
        safetensors_io.write(path, {"w": values}, bfloat16={"w"})
        np.testing.assert_array_equal(safetensors_io.read(path)[0]["w"], values)
        self.assertIn(b'"BF16"', read_bytes(path))

    def test_a_failed_write_leaves_nothing(self):
        with self.assertRaises(KeyError):
            safetensors_io.write(self.path("m.safetensors"), {"c": np.zeros(1, dtype="<c8")})
        with self.assertRaises(OSError):
            safetensors_io.write(self.path("no/m.safetensors"), TENSORS)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_link_stays_one(self):
        os.mkdir(self.path("far"))
        for name, content in (("there", b"old"), ("new", None)):
            link, target = self.path(name), self.path(f"far/{name}.safetensors")
            os.symlink(target, link)
            if content:
                write_bytes(target, content)
            safetensors_io.write(link, TENSORS)
            self.assertTrue(os.path.islink(link))
            self.assertFalse(os.path.islink(target))
            self.assertEqual(list(safetensors_io.read(target)[0]), list(TENSORS))
        self.assertEqual(sorted(os.listdir(self.path("far"))), ["new.safetensors", "there.safetensors"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["far", "new", "there"])

    def test_the_new_file_has_the_permissions_of_the_old_one(self):
        path = self.path("m.safetensors")
        write_bytes(path, b"old")
        os.chmod(path, 0o600)
        safetensors_io.write(path, TENSORS)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_what_has_its_temporary_name_is_left_alone(self):
        path, other = self.path("m.safetensors"), self.path("other")
        write_bytes(other, b"other")
        os.symlink(other, f"{path}.{os.getpid()}.part")
        safetensors_io.write(path, TENSORS)
        self.assertEqual(read_bytes(other), b"other")
        self.assertFalse(os.path.islink(path))
        self.assertEqual(list(safetensors_io.read(path)[0]), list(TENSORS))

    def test_a_failed_rename_leaves_nothing(self):
        path = self.path("m.safetensors")
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
            with self.assertRaisesRegex(OSError, f"cannot write '{path}': No space left on device"):
                safetensors_io.write(path, TENSORS)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_name_may_be_as_long_as_the_system_lets_it(self):
        path = self.path("x" * 255)
        safetensors_io.write(path, TENSORS)
        self.assertEqual(os.listdir(self.folder), ["x" * 255])

    def test_what_is_no_regular_file_is_left_alone(self):
        pipe, link, loop = self.path("pipe"), self.path("link"), self.path("loop")
        os.mkfifo(pipe)
        os.symlink(pipe, link)
        os.symlink(loop, loop)
        for path in (pipe, link, self.folder):
            with self.assertRaisesRegex(OSError, "no regular file"):
                safetensors_io.write(path, TENSORS)
        with self.assertRaises(OSError):
            safetensors_io.write(loop, TENSORS)
        self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode) and os.path.islink(link))
        self.assertEqual(sorted(os.listdir(self.folder)), ["link", "loop", "pipe"])

    def test_damaged_files_are_refused(self):
        path = self.path("m.safetensors")

        def entry(shape, begin, end, dtype="F32"):
            return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

        cases = {
            "only 2 bytes": b"ab",
            "header would have": struct.pack("<Q", 1 << 40) + b"{}",
            "header is wrong": struct.pack("<Q", 7) + b"no json",
            "not supported": with_header({"w": entry([1], 0, 1, "F8_E4M3")}, b"x"),
            "does not fit": with_header({"w": entry([3], 0, 8)}, b"0" * 8),
            "'hole'": with_header({"w": entry([1], 0, 4), "hole": entry([1], 8, 12)}, b"0" * 12),
            "'over'": with_header({"w": entry([2], 0, 8), "over": entry([2], 4, 12)}, b"0" * 12),
            "take 4 bytes of data, but the file has 6$": with_header({"w": entry([1], 0, 4)}, b"0" * 6),
            "take 4 bytes of data, but the file has 3; it was cut short": with_header({"w": entry([1], 0, 4)}, b"0" * 3),
            "take 12 bytes of data, but the file has 4; it was cut short":
                with_header({"w": entry([1], 0, 4), "x": entry([2], 4, 12)}, b"0" * 4),
            "more than 32 dimensions": with_header({"w": entry([1] * 40, 0, 4)}, b"0" * 4),
            "'w' overflows 64 bits": with_header({"w": entry([2**62, 4], 0, 4)}, b"0" * 4),
            "'v' overflows 64 bits": with_header({"v": entry([0, 2**63], 0, 0)}, b""),
            "'u' overflows 64 bits": with_header({"u": entry([0, 2**40, 2**40], 0, 0)}, b""),
            "__metadata__ is no object": with_header({"__metadata__": 5}, b""),
            "it is no object": with_header([], b""),
            "no UTF-8": struct.pack("<Q", 10**4) + b"\xff" * 10**4,
            "is there twice": struct.pack("<Q", 13) + b'{"a":1,"a":1}',
            "recursion": struct.pack("<Q", 10**5) + b"[" * 10**5,
            "is damaged": with_header({"__metadata__": {"xception.sha256": "0"}}, b""),
            "no string": with_header({"__metadata__": {"a": 5}}, b""),
            "whole one": with_header({"w": entry([1], 0, None)}, b""),
            "type of 'w'": with_header({"w": entry([1], 0, 4, ["F32"])}, b"0" * 4),
        }
        for text, content in cases.items():
            write_bytes(path, content)
            with self.assertRaisesRegex(ValueError, text) as caught:
                safetensors_io.read(path)
            self.assertLess(len(str(caught.exception)), 400)

    @unittest.skipUnless(published, "the safetensors package is not installed")
    def test_the_published_package_agrees(self):
        ours, theirs = self.path("ours.safetensors"), self.path("theirs.safetensors")
        safetensors_io.write(ours, TENSORS, {"k": "v"})
        published.save_file(TENSORS, theirs, {"k": "v"})
        for tensors in (published.load_file(ours), safetensors_io.read(theirs)[0]):
            self.assertEqual(set(tensors), set(TENSORS))
            for name, array in TENSORS.items():
                np.testing.assert_array_equal(tensors[name], array)


if __name__ == "__main__":
    unittest.main()
