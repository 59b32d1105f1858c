"""The exporter: what checkpoints are read of, and that nothing in them runs."""

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import struct
import subprocess
import tarfile
import unittest
import warnings
import zipfile

import numpy as np
import torch

import exporting
import support
from support import INFER, checkpoint, reference, run_export, safetensors_io


class Unwelcome:
    """Pickled code: leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


class Sources(exporting.ExportTest):
    def test_wrappers_and_prefixes(self):
        for content in (
            {"state_dict": self.state, "epoch": 3},
            {"model": self.state},
            {"model": {"state_dict": self.state}},
            {"module." + n: t for n, t in self.state.items()},
            {"state_dict": {"module.model." + n: t for n, t in self.state.items()}},
            *({wrapper: self.state} for wrapper in checkpoint.WRAPPERS),
            *(
                {prefix + n: t for n, t in self.state.items()}
                for prefix in ("_orig_mod.", "_orig_mod.module.", "net.", "backbone.", "a.b.c.")
            ),
        ):
            result = self.export(content)
            self.assert_exported(result)
            self.assertEqual(result[2], "")

    def test_of_several_wrappers_the_first_is_taken_and_told(self):
        other = {name: torch.zeros_like(t) for name, t in self.state.items()}
        result = self.export({"state_dict_ema": other, "epoch": 3, "state_dict": self.state})
        self.assert_exported(result)
        self.assertIn("it holds state_dict and state_dict_ema; state_dict is taken", result[2])

    def test_what_stands_outside_of_the_network_is_named(self):
        inside = {"model." + n: t for n, t in self.state.items()}
        result = self.export(inside | {"criterion.weight": torch.ones(3)})
        self.assert_refused(result, 3, "tensor 'criterion.weight' [3] has no place in the network")
        behind = {"backbone." + n: t for n, t in self.state.items()}
        for name in ("fc2.weight", "criterion.weight"):
            result = self.export(behind | {name: torch.ones(3)})
            self.assert_refused(result, 3, f"tensor '{name}' has no place", "begin with 'backbone.'")
        headless = {n: t for n, t in behind.items() if "fc." not in n}
        head = {n: t for n, t in self.state.items() if "fc." in n}
        self.assert_refused(self.export(headless | head), 3, "tensor 'fc.weight' has no place")
        self.assert_exported(self.export(behind | {"n_averaged": torch.tensor(3), "a.num_batches_tracked": torch.tensor(3)}))
        os.remove(self.output)
        twice = inside | {"teacher." + n: t for n, t in self.state.items()}
        self.assert_refused(self.export(twice), 3, "2 times, behind 'model.' and 'teacher.'")

    def test_the_engines_prefixes_may_stand_before_some_names_only(self):
        for prefixes in (("model.", ""), ("", "module."), ("module.model.", "model.")):
            mixed = {prefixes["fc." in n] + n: t for n, t in self.state.items()}
            self.assert_exported(self.export(mixed))
            if os.path.exists(INFER):
                file = self.path("mixed.safetensors")
                safetensors_io.write(file, {name: t.numpy() for name, t in mixed.items()})
                subprocess.run([INFER, "-m", file, "--info"], capture_output=True, check=True)

    def test_what_training_scripts_keep_beside_the_weights(self):
        optimizer = torch.optim.SGD(self.module.parameters(), lr=0.1, momentum=0.9)
        for beside in (
            {"best_acc": 0.93},
            {"optimizer": optimizer.state_dict()},
            {"args": argparse.Namespace(lr=0.1, data=pathlib.Path("x"))},
            {"hyper_parameters": {"lr": 0.1, "betas": (0.9, 0.99), "names": {"a", "b"}}},
            {"acc": np.float64(3), "table": np.zeros(3), "when": datetime.date(2026, 1, 1)},
            {"queue": collections.deque([1, 2]), "scheduler": object()},
        ):
            for save in ({}, {"_use_new_zipfile_serialization": False}):
                self.assert_exported(self.export({"state_dict": self.state} | beside, **save))

    def test_a_pth_named_safetensors(self):
        source = self.path("source.safetensors")
        for save in ({}, {"_use_new_zipfile_serialization": False}):
            torch.save(self.state, source, **save)
            self.assert_exported(run_export(source, "-o", self.output))

    def test_whole_module_only_with_trust(self):
        self.assert_refused(self.export(self.module), 3, "pickled code", "--trust")
        self.assert_exported(self.export(self.module, "--trust"))
        os.remove(self.output)
        self.assert_exported(self.export({"model": self.module}, "--trust"))

    def test_a_whole_module_knows_its_epsilon(self):
        module = support.small(bn_eps=1e-3)
        metadata = self.assert_exported(self.export(module, "--trust"), module.state_dict())
        self.assertEqual(metadata["xception.bn_eps"], "0.001")
        os.remove(self.output)
        next(layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)).eps = 1e-2
        self.assert_refused(self.export(module, "--trust"), 3, "different epsilons, 0.001 and 0.01")

    def test_torchscript_only_with_trust(self):
        torch.jit.trace(self.module.eval(), torch.zeros(1, 3, 32, 32)).save(self.source)
        result = run_export(self.source, "-o", self.output)
        self.assert_refused(result, 3, "TorchScript", "--trust")
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            self.assert_exported(run_export(self.source, "-o", self.output, "--trust"))

    def test_pickled_code_does_not_run(self):
        trap = self.path("trap")
        for save in ({}, {"_use_new_zipfile_serialization": False}):
            self.assert_refused(self.export({"w": Unwelcome(trap)}, **save), 3, "pickled code")
            self.assertFalse(os.path.exists(trap))
        with open(self.source, "wb") as f:
            pickle.dump(Unwelcome(trap), f)
        self.assert_refused(run_export(self.source, "-o", self.output), 3, "no PyTorch file")
        self.assertFalse(os.path.exists(trap))

    def assert_inert(self, payload, *texts):
        """An older file with a pickle of this code in it is refused, and all that it names is as before."""
        with open(self.source, "wb") as f:
            for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                f.write(pickle.dumps(value, 2))
            f.write(b"\x80\x02" + payload + b"." + pickle.dumps([], 2))
        self.assert_refused(run_export(self.source, "-o", self.output), 3, *texts)

    def test_pickles_that_are_traps(self):
        rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
        state = b"}X\x05\0\0\0stateK\x01s"
        self.assert_inert(rebuild + state + b"b", "without tensors")
        self.assertFalse(hasattr(torch._utils._rebuild_tensor_v2, "state"))
        self.assert_inert(b"ccollections\nOrderedDict\n(NtR" + state + b"b", "is damaged")
        # A place in the memo that an array of pointers would be made for.
        self.assert_inert(b"Nr" + struct.pack("<I", 4 * 10**9), "without tensors")
        # A key so deep that its hash overflows the stack, in a dict and in a set.
        deep = b"N" + b"\x85" * 10**6
        self.assert_inert(b"}" + deep + b"Ns", "no tensors")
        self.assert_inert(b"\x8f(" + deep + b"\x90", "without tensors")
        # One list, over and over.
        long = b"(" + b"N" * 10**6 + b"lq\0"
        size = b"ctorch\nSize\nh\0\x85R"
        self.assert_inert(long + size * 100, "copied over and over")
        # Arguments that would be copied with every call, of ours and of others; a call of what is none.
        for name in (b"ctorch\nSize\n", b"cm\nX\n", b"ctorch\nFloatStorage\n", b"N"):
            self.assert_inert(long.replace(b"l", b"t") + (name + b"h\0R0") * 50_000 + b"N", "export.py: ")
            self.assert_inert(name + b"h\0" if name == b"N" else name + b"N\x81", "export.py: ")
        # A length before what is not there, and a name that is 2^30 long where it is written out.
        self.assert_inert(b"\x96" + struct.pack("<Q", 6 << 30), "does not write")
        self.assert_inert(b")q\0" + b"h\0h\0\x86q\0" * 30 + b"ctorch\nFloatStorage\nX\7\0\0\0storageh\0NNtQ", "export.py: ")
        # Keys that all have one hash, and classes without end.
        keys = b"".join(b"L%dL\nN" % (i * (2**61 - 1)) for i in range(1, 20_000))
        self.assert_inert(b"}(" + keys + b"u", "no tensors")
        self.assert_inert(b"".join(b"cm\nX%d\n0" % i for i in range(20_000)) + b"N", "too many classes")
        self.assert_inert(b"X" + struct.pack("<I", 9 << 20) + b"x" * (9 << 20), "too long")
        # An escape sequence of a terminal.
        self.assert_inert(b"cm\n\x1b[31mX\n)R", "pickled m.\\x1b[31mX")

    def test_an_archive_of_links_is_none(self):
        victim = self.path("victim")
        with open(victim, "w", encoding="utf-8") as f:
            f.write("precious")
        os.chmod(victim, 0o600)
        with tarfile.open(self.source, "w") as tar:
            for kind in (tarfile.LNKTYPE, tarfile.FIFOTYPE):
                member = tarfile.TarInfo("storages")
                member.type, member.linkname, member.mode = kind, victim, 0o4777
                tar.addfile(member)
        self.assert_refused(run_export(self.source, "-o", self.output), 3, "no PyTorch file")
        self.assertEqual(os.stat(victim).st_mode & 0o7777, 0o600)

    def test_tensors_that_are_not_all_there(self):
        torch.save(self.state, self.source)
        short = self.path("short.pth")
        with zipfile.ZipFile(self.source) as whole, zipfile.ZipFile(short, "w") as archive:
            for name in whole.namelist():
                archive.writestr(name, whole.read(name)[:4] if "/data/" in name else whole.read(name))
        self.assert_refused(run_export(short, "-o", self.output), 3, "is damaged", "its storage 1")
        with zipfile.ZipFile(self.source) as whole, zipfile.ZipFile(short, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in whole.namelist():
                archive.writestr(name, whole.read(name))
        self.assert_refused(run_export(short, "-o", self.output), 3, "no PyTorch file")

    def test_expanded_tensors(self):
        one = torch.full((1,), 0.5)
        wide = torch.rand(40, 1, 1, 1).expand(self.state["conv5.weight"].shape)
        self.assertEqual(wide.stride()[1], 0)
        expanded = self.state | {"conv5.bias": one.expand(40), "conv5.weight": wide}
        xception = reference.build("xception").state_dict()
        headless = {name: t for name, t in self.state.items() if "fc." not in name}
        for save in ({}, {"_use_new_zipfile_serialization": False}):
            self.assert_exported(self.export(expanded, **save), expanded)
            os.remove(self.output)
            for content, text in (
                (self.state | {"conv5.bias": one.expand(2**30)}, "1073741824 elements, and its storage 1"),
                (self.state | {"conv5.bias": torch.zeros(41).as_strided((40, 2), (1, 1))}, "80 elements, and its storage 41"),
                (self.state | {"fc.weight": one.expand(2**24, 1)}, "parameters, and it has"),
                (self.state | {"fc.weight": one.expand(2**17, 104)}, "parameters, and it has"),
                (headless | {f"fc.{i}.weight": one.expand(4096, 4096) for i in range(60)}, "parameters, and it has"),
                ({name: one.expand(t.shape) for name, t in xception.items() if t.dim()}, "parameters, and it has"),
            ):  # fmt: skip
                self.assert_refused(self.export(content, **save), 3, text)

    def test_a_network_larger_than_its_tensors(self):
        one = torch.zeros(65536, 1)
        for change in ({"fc.0.weight": one, "fc.1.weight": one}, {"feature.0.weight": one[:512]},
                       {f"fc.{i}.weight": one[:16].reshape(4, 4) for i in range(100)}):  # fmt: skip
            state = {name: t for name, t in self.state.items() if not name.startswith("fc.")}
            self.assert_refused(self.export(state | change), 3, "export.py: ")

    def test_tensors_that_share_their_storage(self):
        flat = torch.arange(50.0)
        state = self.state | {"conv5.bias": flat[3:43], "conv5.weight": self.state["conv5.weight"].transpose(0, 1)
                              .contiguous().transpose(0, 1), "block1.0.pointwise.0.bias": flat[:16]}  # fmt: skip
        state = {name: tensor if tensor.shape == self.state[name].shape else self.state[name]
                 for name, tensor in state.items()}  # fmt: skip
        for save in ({}, {"_use_new_zipfile_serialization": False}):
            self.assert_exported(self.export(state, **save), state)

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

    def test_a_file_whose_data_are_not_what_they_were(self):
        self.assert_exported(self.export(self.state))
        with open(self.output, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            last = f.read(1)[0]
            f.seek(-1, os.SEEK_END)
            f.write(bytes([last ^ 1]))
        again = self.path("again.safetensors")
        status, _, error = run_export(self.output, "-o", again)
        self.assertEqual(status, 3)
        self.assertIn("the file is damaged", error)
        self.assertFalse(os.path.exists(again))

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


if __name__ == "__main__":
    unittest.main()
