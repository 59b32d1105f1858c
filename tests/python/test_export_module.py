"""The exporter: whole modules are compared with what is written in their place."""

import os
import unittest
import warnings

import torch
from torch import nn

import exporting
import support
from support import run_export


class Behind(nn.Module):
    """A module, and a function that its output goes through."""

    def __init__(self, model, function):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x):
        return self.function(self.model(x))


def fails(x):
    raise RuntimeError("no such picture\nat all")


class WholeModule(exporting.ExportTest):
    def assert_needs(self, module, state, text, *arguments):
        """The module is refused, with `text`, unless these arguments are given."""
        self.assert_refused(self.export(module, "--trust"), 3, "gives other logits", text)
        result = self.export(module, "--trust", *arguments)
        self.assertEqual(result[2], "")
        return self.assert_exported(result, state)

    def test_what_tensors_do_not_tell_of_a_seed_network(self):
        for arch in ("seed", "seed_depthwise"):
            with self.subTest(arch=arch):
                module = support.small(arch, sep_relu=False)
                metadata = self.assert_needs(module, module.state_dict(), "--sep-relu", "--sep-relu", "false")
                self.assertEqual(metadata["xception.sep_relu"], "false")
                os.remove(self.output)

    def test_what_tensors_do_not_tell_of_xception(self):
        module = support.small("xception", pool_pad="tf_same", num_classes=3)
        metadata = self.assert_needs(module, module.state_dict(), "--pool-pad", "--pool-pad", "tf_same")
        self.assertEqual(metadata["xception.pool_pad"], "tf_same")

    def test_an_epsilon_that_is_not_the_modules(self):
        result = self.export(support.small(bn_eps=1e-2), "--trust", "--bn-eps", "1e-5")
        self.assert_refused(result, 3, "gives other logits", "--bn-eps")

    def test_torchscript_of_another_epsilon(self):
        module = support.small(bn_eps=1e-2)
        torch.jit.trace(module, torch.zeros(1, 3, 32, 32)).save(self.source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run_export(self.source, "-o", self.output, "--trust")
            self.assert_refused(result, 3, "gives other logits", "--bn-eps")
            result = run_export(self.source, "-o", self.output, "--trust", "--bn-eps", "1e-2")
        self.assert_exported(result, module.state_dict())

    def test_other_layers_than_relu_between_those_of_a_head(self):
        module = support.small(num_classes=3, head=[(0, 12), (2, 3)])
        module.fc[1] = nn.Tanh()
        self.assert_refused(self.export(module, "--trust"), 3, "gives other logits", "ReLU between")

    def test_modules_that_compute_the_same(self):
        for module in (nn.DataParallel(self.module), Behind(self.module, torch.clone), self.module.double()):
            result = self.export(module, "--trust")
            self.assertEqual(result[2], "")
            self.assert_exported(result)

    def test_a_module_that_cannot_be_run_is_exported_with_a_note(self):
        for function, text in (
            (fails, "RuntimeError: no such picture)"),
            (torch.unbind, "its output is a tuple"),
            (torch.sum, "its output is [], not [1, 7]"),
        ):
            result = self.export(Behind(self.module, function), "--trust")
            self.assert_exported(result)
            self.assertRegex(result[2], "^export.py: the module cannot be compared with seed_depthwise, .*\n$")
            self.assertIn(text, result[2])


if __name__ == "__main__":
    unittest.main()
