"""The reference networks: parameter names, counts, layers, padding."""

import hashlib
import unittest

import torch

import support
from support import reference


def key_list(module):
    return [f"{name} {tuple(t.shape)}" for name, t in module.state_dict().items()]


class Parameters(unittest.TestCase):
    # Of the lines "name (shape)" of the published state_dicts, joined by newlines.
    PUBLISHED = {
        "seed": (261, "d903876f884a810cd056cec740cbc2bdc393965e55df48033ec964372a3502e7"),
        "xception": (276, "5e0baa5fbac25e877f202f699341323dff5d54d69538734c5fae3031505b2f50"),
    }
    COUNTS = {"seed": 70_495_548, "seed_depthwise": 9_763_980, "xception": 22_855_952}

    def test_names_shapes_and_order_are_the_published_ones(self):
        for arch, (count, sha256) in self.PUBLISHED.items():
            keys = key_list(reference.build(arch))
            self.assertEqual(len(keys), count, arch)
            self.assertEqual(hashlib.sha256("\n".join(keys).encode()).hexdigest(), sha256, arch)

    def test_depthwise_differs_from_dense_in_the_3x3_only(self):
        dense = reference.build("seed", width=0.05).state_dict()
        depthwise = reference.build("seed_depthwise", width=0.05).state_dict()
        self.assertEqual(list(dense), list(depthwise))
        for name, tensor in dense.items():
            shape = list(tensor.shape)
            if name.endswith("depthwise.0.weight"):
                shape[1] = 1
            self.assertEqual(list(depthwise[name].shape), shape, name)

    def test_parameter_counts(self):
        for arch, count in self.COUNTS.items():
            module = reference.build(arch)
            self.assertEqual(sum(p.numel() for p in module.parameters()), count, arch)

    def test_width_scales_to_multiples_of_8_with_halves_up(self):
        cases = {(728, 0.25): 184, (32, 0.25): 8, (32, 0.01): 8, (2048, 0.125): 256,
                 (32, 0.375): 16, (728, 1.0): 728}  # fmt: skip
        for (base, width), channels in cases.items():
            self.assertEqual(reference.scale_channels(base, width), channels)

    def test_unknown_configurations_are_refused(self):
        for arch, config in (
            ("vgg", {}),
            ("seed", {"pool_pad": "tf_same"}),
            ("xception", {"pool_pad": "same"}),
            ("xception", {"width": 0.5}),
            ("seed", {"width": 0}),
            ("seed", {"head": [(0, 12), (3, 9)], "num_classes": 10}),
            ("xception", {"head": []}),
        ):
            with self.assertRaises(ValueError, msg=f"{arch} {config}"):
                reference.build(arch, **config)


class Layers(unittest.TestCase):
    def test_seed_layers_in_the_order_of_the_calls(self):
        module = support.small()
        x = reference.sample_input(1, 32, 32)
        outputs = reference.layer_outputs(module, x)
        names = list(outputs)
        self.assertEqual(names[0], "feature.0")
        self.assertEqual(names[-1], "fc")
        self.assertEqual(len(names), 297)
        for before, after in (
            ("block1.3", "conv3"),
            ("conv3", "add1"),
            ("block4.feature.8", "block4.add"),
            ("block4.add", "block4.feature.0#1"),
            ("block4.feature.8#7", "block4.add#7"),
            ("conv7", "add5"),
            ("block6.6", "fc"),
        ):
            self.assertEqual(names.index(before) + 1, names.index(after))
        self.assertNotIn("block4.add#8", names)
        total = outputs["block3.6"] + outputs["conv5"]
        self.assertTrue(torch.equal(outputs["add3"], total))
        self.assertTrue(torch.equal(outputs["block4.feature.0"], total.relu()))
        with torch.no_grad():
            self.assertTrue(torch.equal(outputs["fc"], module(x)))

    def test_hooks_are_gone_afterwards(self):
        module = support.small()
        reference.layer_outputs(module, reference.sample_input(1, 17, 17))
        self.assertFalse(any(m._forward_hooks for m in module.modules()))

    def test_sep_relu_false_has_no_relu_inside(self):
        x = reference.sample_input(1, 17, 17)
        names = reference.layer_outputs(support.small(sep_relu=False), x)
        self.assertNotIn("block1.0.depthwise.2", names)
        self.assertNotIn("block4.feature.1.pointwise.2#3", names)
        self.assertIn("block1.1", names)

    def test_seed_sizes_17_to_32(self):
        module = support.small()
        for size in ((17, 17), (17, 32), (32, 25)):
            self.assertEqual(module(reference.sample_input(1, *size)).shape, (1, 7))
        for size in ((16, 32), (32, 16), (33, 32)):
            with self.assertRaises(RuntimeError):
                module(reference.sample_input(1, *size))

    def test_xception_sizes_of_the_paper(self):
        module = reference.build("xception")
        outputs = reference.layer_outputs(module, reference.sample_input(1, 299, 299))
        for name, shape in (
            ("conv1", (32, 149, 149)),
            ("conv2", (64, 147, 147)),
            ("block1.add", (128, 74, 74)),
            ("block2.add", (256, 37, 37)),
            ("block3.add", (728, 19, 19)),
            ("block12.add", (1024, 10, 10)),
            ("act4", (2048, 10, 10)),
            ("global_pool", (2048, 1, 1)),
        ):
            self.assertEqual(tuple(outputs[name].shape[1:]), shape, name)


class SamePooling(unittest.TestCase):
    def test_the_larger_padding_stands_behind(self):
        x = torch.arange(4.0).reshape(1, 1, 1, 4)  # even: pads (0, 1)
        self.assertEqual(reference.MaxPoolSame(3, stride=2)(x).tolist(), [[[[2.0, 3.0]]]])
        x = torch.arange(5.0).reshape(1, 1, 1, 5)  # odd: pads (1, 1) as PyTorch does
        self.assertEqual(reference.MaxPoolSame(3, stride=2)(x).tolist(), [[[[1.0, 3.0, 4.0]]]])

    def test_padding_is_minus_infinity(self):
        x = torch.full((1, 1, 4, 4), -5.0)
        self.assertEqual(reference.MaxPoolSame(3, stride=2)(x).tolist(), [[[[-5.0] * 2] * 2]])

    def test_equals_the_plain_pooling_on_odd_sizes_only(self):
        same, plain = reference.MaxPoolSame(3, stride=2), torch.nn.MaxPool2d(3, 2, 1)
        for height, width, equal in ((37, 37, True), (74, 74, False), (37, 38, False)):
            x = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(3))
            self.assertEqual(torch.equal(same(x), plain(x)), equal)

    def test_changes_the_network(self):
        torch_, same = (reference.build("xception", pool_pad=p) for p in ("torch", "tf_same"))
        reference.randomize(torch_, 4)
        same.load_state_dict(torch_.state_dict())
        x = reference.sample_input(1, 101, 101)  # block1 pools 48, an even size
        with torch.no_grad():
            self.assertGreater(float((torch_(x) - same(x)).abs().max()), 1e-3)


class Randomize(unittest.TestCase):
    CONFIGS = (
        ("seed", {"width": 0.25}),
        ("seed_depthwise", {}),
        ("seed_depthwise", {"width": 0.25, "sep_relu": False}),
        ("xception", {}),
    )

    def test_activations_live_and_logits_vary(self):
        for arch, config in self.CONFIGS:
            module = reference.randomize(reference.build(arch, **config), 11)
            size = 96 if arch == "xception" else 32
            outputs = reference.layer_outputs(module, reference.sample_input(4, size, size, seed=5))
            for name, t in outputs.items():
                self.assertTrue(0.1 < float(t.std()) < 50, f"{arch} {config} {name} {t.std()}")
            logits = outputs["fc"]
            self.assertGreater(float(logits.std(dim=1).mean()), 0.3, arch)  # across classes
            self.assertGreater(float(logits.std(dim=0).mean()), 0.1, arch)  # across pictures

    def test_statistics_are_not_trivial(self):
        state = support.small().state_dict()
        gamma = torch.cat([t for n, t in state.items() if n.endswith("1.weight") and t.dim() == 1])
        mean = torch.cat([t for n, t in state.items() if n.endswith("running_mean")])
        var = torch.cat([t for n, t in state.items() if n.endswith("running_var")])
        self.assertTrue((gamma < 0).any() and (gamma > 0).any())
        self.assertGreater(float(mean.abs().mean()), 0.05)
        self.assertTrue((var > 0).all() and float(var.std()) > 0.1)

    def test_the_seed_decides(self):
        a, b, c = (support.small(seed=s).state_dict() for s in (1, 1, 2))
        self.assertTrue(all(torch.equal(a[n], b[n]) for n in a))
        self.assertFalse(torch.equal(a["feature.0.weight"], c["feature.0.weight"]))


if __name__ == "__main__":
    unittest.main()
