"""What the tests of the exporter share."""

import os

import numpy as np
import torch

import support
from support import run_export, safetensors_io


class ExportTest(support.FolderTest):
    """A small network's state_dict, and the file that it is exported to."""

    def setUp(self):
        super().setUp()
        self.source, self.output = self.path("m.pth"), self.path("m.safetensors")
        self.module = support.small()
        self.state = self.module.state_dict()

    def export(self, content, *arguments, **save):
        """Saves `content` as a checkpoint and exports it."""
        torch.save(content, self.source, **save)
        return run_export(self.source, "-o", self.output, *arguments)

    def assert_exported(self, result, state=None):
        """`result` is a success, and the output holds `state` in its order."""
        self.assertEqual(result[0], 0, result)
        tensors, metadata = safetensors_io.read(self.output)
        expected = {n: t for n, t in (state or self.state).items() if "num_batches" not in n}
        self.assertEqual(list(tensors), list(expected))
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tensors[name], tensor.numpy(), name)
        return metadata

    def assert_refused(self, result, status, *texts):
        self.assertEqual(result[0], status, result)
        for text in texts:
            self.assertIn(text, result[2])
        self.assertFalse(os.path.exists(self.output))
