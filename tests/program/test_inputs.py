"""Pictures that come in: files, folders, lists, pipes, arrays."""

import json
import os
import resource
import shutil
import threading
import unittest

import numpy as np
from PIL import Image

import program
from program import DEMO, pictures, safetensors_io, unread, without_times


class InputsTest(program.ProgramTest):
    def tree(self):
        """A folder with pictures at two levels, things that are none, and a loop."""
        root = self.path("tree")
        os.makedirs(os.path.join(root, "b"))
        source = pictures()
        for name, picture in (("c.PNG", 0), ("a.png", 1), ("b/z.png", 2), ("b/y.png", 3)):
            shutil.copy(source[picture], os.path.join(root, name))
        shutil.copy(source[0], os.path.join(root, ".hidden.png"))
        self.write("tree/notes.txt", "no picture")
        os.mkfifo(os.path.join(root, "pipe.png"))
        os.symlink("..", os.path.join(root, "b", "loop"))
        return root

    def names(self, *arguments, **options):
        records = self.records(*arguments, **options)
        return [os.path.relpath(r["input"], self.folder) for r in records]

    def test_folders(self):
        root = self.tree()
        self.assertEqual(self.names(root), ["tree/a.png", "tree/c.PNG"])
        every = ["tree/a.png", "tree/b/y.png", "tree/b/z.png", "tree/c.PNG"]
        self.assertEqual(self.names("-r", root), every)
        # A folder that is named is visited, and inputs stay in the order of the command line.
        last = os.path.join(root, "c.PNG")
        self.assertEqual(self.names(last, os.path.join(root, "b")), ["tree/c.PNG", *every[1:3]])

    def test_a_link_to_nothing_in_a_folder_is_a_record(self):
        os.mkdir(self.path("d"))
        shutil.copy(pictures()[0], self.path("d/a.jfif"))
        os.symlink("nothing", self.path("d/b.png"))
        good, bad = self.records(self.path("d") + "/", status=1)
        self.assertEqual((good["input"], good["status"]), (self.path("d/a.jfif"), "ok"))
        self.assertEqual((bad["input"], bad["code"]), (self.path("d/b.png"), "not_found"))

    def test_empty_folder_beside_pictures_is_a_warning(self):
        os.mkdir(self.path("empty"))
        _, err = self.run_demo(self.path("empty"), pictures()[0])
        self.assertIn("warning: no images in", err)
        _, err = self.run_demo(self.path("empty"), pictures()[0], "--profile=1")
        self.assertIn("warning: no images in", err)

    def test_unreadable_folder_is_a_record(self):
        root = self.tree()
        if os.geteuid() == 0:
            self.skipTest("root reads everything")
        os.chmod(os.path.join(root, "b"), 0)
        self.addCleanup(os.chmod, os.path.join(root, "b"), 0o700)
        records = self.records("-r", root, status=1)
        self.assertEqual([r["status"] for r in records], ["ok", "error", "ok"])

    def test_lists(self):
        names = pictures()[:3]
        lines = self.write("lines", "\r\n".join(names) + "\n\n")
        self.assertEqual([r["input"] for r in self.records("--files-from", lines)], names)
        zero = ("\0".join(names) + "\0").encode()
        got = self.records("--files-from", "-", "-0", stdin=zero)
        self.assertEqual([r["input"] for r in got], names)
        _, err = self.run_demo("--files-from", "-", status=2)
        self.assertIn("no names on standard input", err)
        odd = self.path("a.png\r")  # which is no end of a line here
        shutil.copy(names[0], odd)
        self.records("--files-from", "-", "-0", stdin=odd.encode() + b"\0")

    def test_a_name_in_brackets_is_one_name(self):
        names = ["[a]", "[]", "[b,c]", "[d"]
        for name, picture in zip(names, pictures()):
            shutil.copy(picture, self.path(name))
        os.mkdir(self.path("[2]"))
        shutil.copy(pictures()[4], self.path("[2]/x.png"))
        expected = self.records(*pictures()[:5])
        for arguments in ([*names, "[2]"], ["--", *names, "[2]"]):
            records = self.records(*arguments, cwd=self.folder)
            self.assertEqual([record["input"] for record in records], [*names, "[2]/x.png"])
            for record, same in zip(records, expected):
                self.assertEqual(record["topk"], same["topk"])
        shutil.copy(DEMO, self.path("[m]"))
        done = self.run_bare("-m", "[m]", "[a]", "-o", "[o]", cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(self.content("[o]")[:3], b"[a]")

    def test_files_are_closed_again(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

        self.assertEqual(len(self.records("-d", "cpu", *pictures() * 6, preexec_fn=limit)), 60)

    def test_a_list_that_repeats_a_folder_is_bounded(self):
        folder = os.path.join(self.folder, *["d" * 250] * 14)
        os.makedirs(folder)
        for i in range(1000):
            open(os.path.join(folder, f"{i}.png"), "w").close()
        names = self.write("names", f"{folder}\n" * 80)  # 270 MiB of names of 3.5 KiB
        status, lines, peak = self.run_measured("--files-from", names)
        self.assertEqual((status, lines), (2, []))
        self.assertLess(peak, 1 << 20)
        self.assertIn("more than 2097152 inputs", self.refused(2, "-m", DEMO, "--files-from", names))

    def test_a_folder_too_deep_to_look_into_is_a_record(self):
        top = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, top)
        here = top
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            here = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            self.addCleanup(os.close, here)
        good, bad = self.records("-r", pictures()[0], self.folder, status=1)
        self.assertEqual((good["status"], bad["status"], bad["code"]), ("ok", "error", "io"))
        self.assertIn("File name too long", bad["message"])

    def test_list_with_a_byte_order_mark(self):
        names = self.write("names", b"\xef\xbb\xbf" + os.fsencode(pictures()[0]) + b"\n")
        self.assertEqual(self.records("--files-from", names)[0]["input"], pictures()[0])

    def test_empty_name_is_not_standard_input(self):
        with open(pictures()[4], "rb") as f:
            data = f.read()
        first, empty = self.records(pictures()[0], "", stdin=data, status=1)
        self.assertEqual((first["status"], empty["code"]), ("ok", "not_found"))
        self.assertIn("empty name", empty["message"])

    def test_standard_input(self):
        with open(pictures()[4], "rb") as f:
            data = f.read()
        (from_stdin,) = self.records("-", stdin=data)
        (from_file,) = self.records(pictures()[4])
        self.assertEqual(from_stdin["input"], "-")
        self.assertEqual(from_stdin["topk"], from_file["topk"])
        os.mkdir(self.path("d"))
        self.write("d/-", data)  # a file of that name is a file in a list
        done = self.run_bare(
            "-m", DEMO, "-k1", "--files-from", self.write("list", "-\n"), cwd=self.path("d")
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_fail_fast_stops(self):
        bad = self.write("bad.png", "bad")
        for jobs in (1, 4):
            many = [pictures()[0], bad] + pictures() * 3
            got = self.records("--fail-fast", "-j", jobs, *many, status=1)
            self.assertEqual([r["status"] for r in got], ["ok", "error"])

    def test_fail_fast_stops_within_a_batch(self):
        array = np.zeros((4, 3, 28, 28), "f4")
        array[1] = 3e38  # which the network makes an infinity of
        np.save(self.path("x.npy"), array)
        got = self.records("--fail-fast", "-b4", "--raw-input", self.path("x.npy"), status=1)
        self.assertEqual([r["status"] for r in got], ["ok", "error"])

    def test_fail_fast_does_not_wait_for_what_comes_behind(self):
        bad = self.write("bad.png", "bad")
        fifo = self.path("fifo")  # nobody writes to it
        os.mkfifo(fifo)
        dump = self.path("x.npy")
        arguments = ["--fail-fast", "-b", 3, "--dump-input", dump]
        got = self.records(*arguments, pictures()[0], pictures()[1], bad, fifo, status=1)
        self.assertEqual([r["status"] for r in got], ["ok", "ok", "error"])
        self.assertEqual(len(np.load(dump)), 2)

    def test_endless_input_is_refused_early(self):
        """Each in its own way, but none by reading until memory ends."""
        for arguments, expected in (
            (["/dev/zero"], 1),
            (["--raw-input", "/dev/zero"], 2),
            (["--files-from", "/dev/zero"], 2),
            (["--files-from", "/dev/zero", "-0"], 2),
            (["--files-from", "/dev/urandom", "-0"], 2),
        ):
            with self.subTest(arguments=arguments):
                status, lines, peak = self.run_measured(*arguments)
                self.assertEqual((status, lines), (expected, []))
                self.assertLess(peak, 1 << 19)
        with open("/dev/zero", "rb") as zero:
            status, lines, peak = self.run_measured("-", stdin=zero)
        self.assertEqual((status, lines), (1, []))
        self.assertLess(peak, 1 << 18)

    def test_fifo_that_closes(self):
        path = self.path("pipe.png")
        os.mkfifo(path)
        writer = threading.Thread(target=lambda: open(path, "wb").close())
        writer.start()
        first, piped, last = self.records(pictures()[0], path, pictures()[1], "-j2", status=1)
        writer.join()
        self.assertEqual([first["status"], piped["status"], last["status"]], ["ok", "error", "ok"])

    def test_pipe_whose_first_bytes_come_alone(self):
        path = self.path("pipe.png")
        os.mkfifo(path)
        process = self.start("-f", "jsonl", path, stderr=None)
        with open(pictures()[0], "rb") as f, open(path, "wb", buffering=0) as pipe:
            pipe.write(f.read(3))
            self.wait_until(lambda: unread(pipe) == 0)
            pipe.write(f.read())
        out, _ = process.communicate(timeout=program.TIMEOUT)
        self.assertEqual(json.loads(out)["status"], "ok")

    def test_arrays_give_what_files_give(self):
        from_files = self.records(*pictures(), "--dump-input", self.path("fed.npy"))
        stack = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in pictures()])
        np.save(self.path("bytes.npy"), stack)
        fed = np.load(self.path("fed.npy"))
        _, metadata = safetensors_io.read(DEMO)
        preprocess = json.loads(metadata["xception.preprocess"])
        mean, std = (np.array(preprocess[key], "f4") for key in ("mean", "std"))
        expected = (stack.astype("f4") / np.float32(255) - mean) / std
        np.testing.assert_array_equal(fed, expected.transpose(0, 3, 1, 2))
        for name in ("bytes.npy", "fed.npy"):
            got = self.records("--raw-input", self.path(name))
            self.assertEqual([r["topk"] for r in got], [r["topk"] for r in from_files])
        self.assertEqual(got[3]["input"], self.path("fed.npy") + "[3]")

    def test_height_comes_before_width_in_an_array(self):
        name = self.noise("p.png", 20, 29)
        np.save(self.path("x.npy"), np.asarray(Image.open(name))[None])
        (file,), (array,) = self.records(name), self.records("--raw-input", self.path("x.npy"))
        self.assertEqual((array["size"], array["topk"]), ([20, 29], file["topk"]))

    def test_arrays_that_cannot_be_fed(self):
        def message(array, *options):
            np.save(self.path("x.npy"), array)
            return self.refused(2, "-m", DEMO, "--raw-input", self.path("x.npy"), *options)

        self.assertIn("2x3", message(np.zeros((2, 3), "f4")))
        self.assertIn("1x28x28x3", message(np.zeros((1, 28, 28, 3), "f4")))
        self.assertIn("1x3x28x28", message(np.zeros((1, 3, 28, 28), "u1")))
        self.assertIn("type", message(np.zeros((1, 3, 28, 28), "f8")))
        self.assertIn("--mean", message(np.zeros((1, 3, 28, 28), "f4"), "--mean", "0,0,0"))
        self.assertIn("--std", message(np.zeros((1, 3, 28, 28), "f4"), "--std", "1,1,1"))
        for mode in ([], ["--profile"], ["--compare", DEMO]):
            said = message(np.zeros((1, 3, 40, 40), "f4"), *mode)
            self.assertIn("17 to 32", said)
            self.assertIn("x.npy': ", said)
        self.assertIn("0x28x28x3", message(np.zeros((0, 28, 28, 3), "u1")))
        self.assertIn("sides of 1", message(np.zeros((1, 3, 0, 28), "f4")))

    def test_nan_in_an_array_is_a_failed_input(self):
        array = np.zeros((3, 3, 28, 28), "f4")
        for value in (np.nan, np.inf, 3e38, -1e6):
            array[1, 2, 3, 4] = value
            np.save(self.path("x.npy"), array)
            got = self.records("--raw-input", self.path("x.npy"), status=1)
            self.assertEqual([r["status"] for r in got], ["ok", "error", "ok"])
            self.assertIn("x.npy[1]", got[1]["message"])

    def test_order_and_values_for_all_jobs_and_batches(self):
        sizes = [(28, 28), (20, 31), (28, 28), (17, 17), (32, 32), (300, 200), (28, 28), (28, 28)]
        sizes += [(28, 20), (28, 31), (20, 31)]  # of one height, and of one width
        names = []
        rng = np.random.default_rng(2)
        for i, (height, width) in enumerate(sizes):
            names.append(self.path(f"{i}.png"))
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(names[-1])
        names += [self.write("bad.png", "bad"), *pictures()]
        arguments = ["--scores", "logit", "-k", "10", *names]
        expected = without_times(self.records("-b1", "-j1", *arguments, status=1))
        self.assertEqual([r["input"] for r in expected], names)
        self.assertEqual(expected[1]["size"], [20, 31])
        self.assertEqual(expected[5]["size"], [32, 32])
        self.assertGreater(len({r["topk"][0]["logit"] for r in expected if "topk" in r}), 10)
        for batch, jobs in ((1, 4), (2, 1), (3, 4), (8, 3), (19, 2)):
            with self.subTest(batch=batch, jobs=jobs):
                got = self.records("-b", batch, "-j", jobs, *arguments, status=1)
                self.assertEqual(without_times(got), expected)


if __name__ == "__main__":
    unittest.main()
