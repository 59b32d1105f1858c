"""The networks in PyTorch, as the engine is held against them.

Three networks, named by `arch`:

  seed            the network of the post "Xception pytorch code" (Subin Yang, 2020), its second,
                  complete listing: the 3x3 of a separable convolution has no `groups`,
                  so it is dense, and the middle flow is one block applied eight times.
  seed_depthwise  the same with groups = channels, which is what the post's text describes.
  xception        the network of the paper (F. Chollet, "Xception: Deep Learning with Depthwise
                  Separable Convolutions", CVPR 2017), named as in timm's `legacy_xception`.

Parameter names and their order are those of the published state_dicts. Every sum is a module
without parameters (`Add`), so that a forward hook sees it, and no ReLU works in place, so that
what a hook sees stays as it was. Tensors are float32, N x C x H x W.
"""

import math
import re
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

ARCHS = ("seed", "seed_depthwise", "xception")
DEFAULT_CLASSES = {"seed": 100, "seed_depthwise": 100, "xception": 1000}
# The sides that an input may have. Above 71 the engine sets a limit, the network has none.
SIDES = {"seed": (17, 32), "seed_depthwise": (17, 32), "xception": (71, 16384)}
WIDTHS = 1e-3, 16.0  # from, to
MIDDLE_REPEATS = 8
MOST_CLASSES = 2**24
# At width 1, with the classes of the published networks.
PARAMETERS = {"seed": 70_495_548, "seed_depthwise": 9_763_980, "xception": 22_855_952}


def scale_channels(base, width):
    """`base * width` rounded to a multiple of 8 (a half goes up), but at least 8."""
    return max(8, 8 * math.floor(base * width / 8 + 0.5))


class Add(nn.Module):
    """a + b, both N x C x H x W."""

    def forward(self, a, b):
        return a + b


class MaxPoolSame(nn.MaxPool2d):
    """Max pooling padded as TensorFlow's 'same' does: to ceil(n / stride) outputs, and where the
    padding is odd, the larger part stands behind."""

    def forward(self, x):
        pads = []
        for n in (x.shape[3], x.shape[2]):  # F.pad wants the last dimension first
            total = max((-(-n // self.stride) - 1) * self.stride + self.kernel_size - n, 0)
            pads += [total // 2, total - total // 2]
        return F.max_pool2d(F.pad(x, pads, value=-math.inf), self.kernel_size, self.stride)


def make_head(channels, num_classes, head):
    """What stands behind the global pooling: one Linear layer, or those of `head` (see build) with
    ReLUs between, named as the engine names them so that a golden file holds them."""
    if head is None:
        return nn.Linear(channels, num_classes)
    if not head:
        return nn.Identity()
    layers = OrderedDict()
    for number, outputs in head:
        if layers:
            layers[f"relu{number}"] = nn.ReLU()
        layers[str(number)] = nn.Linear(channels, outputs)
        channels = outputs
    return nn.Sequential(layers)


class SeedSeparable(nn.Module):
    """The post's SeparableConv2d: conv 3x3, BN, ReLU, conv 1x1, BN, ReLU; the spatial size stays.
    Without `sep_relu` (the post's first listing) the two ReLUs are not there."""

    def __init__(self, in_channels, out_channels, groups, bn_eps, sep_relu):
        super().__init__()
        relu = [nn.ReLU()] if sep_relu else []
        self.depthwise = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=groups),
            nn.BatchNorm2d(in_channels, eps=bn_eps),
            *relu,
        )
        relu = [nn.ReLU()] if sep_relu else []
        self.pointwise = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels, eps=bn_eps),
            *relu,
        )

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class SeedMiddle(nn.Module):
    """The post's Block: x = feature(x) + x, eight times with the same weights."""

    def __init__(self, feature):
        super().__init__()
        self.feature = feature
        self.add = Add()

    def forward(self, x):
        for _ in range(MIDDLE_REPEATS):
            x = self.add(self.feature(x), x)
        return x


class Seed(nn.Module):
    """The post's Xception. N x 3 x H x W, H and W each 17..32 (the last pooling has to leave one
    value), to N x num_classes logits. At width 1 and 32 x 32: stem 64 x 32 x 32, block1
    128 x 16 x 16, block2 256 x 8 x 8, block3 and block4 728 x 4 x 4, block5 1024 x 2 x 2, block6
    2048 x 1 x 1."""

    def __init__(self, num_classes, width, bn_eps, depthwise, sep_relu, head):
        super().__init__()
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            scale_channels(c, width) for c in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )

        def sep(cin, cout):
            return SeedSeparable(cin, cout, cin if depthwise else 1, bn_eps, sep_relu)

        def bn(channels):
            return nn.BatchNorm2d(channels, eps=bn_eps)

        def relu_sep_bn(cin, cout):
            return [nn.ReLU(), sep(cin, cout), bn(cout)]

        def pool():
            return nn.MaxPool2d(3, stride=2, padding=1)

        self.feature = nn.Sequential(
            nn.Conv2d(3, c32, 3, padding=1),
            bn(c32),
            nn.ReLU(),
            nn.Conv2d(c32, c64, 3, padding=1),
            bn(c64),
            nn.ReLU(),
        )
        self.conv3 = nn.Conv2d(c64, c128, 1, stride=2)
        self.block1 = nn.Sequential(sep(c64, c128), nn.ReLU(), sep(c128, c128), pool())
        self.add1 = Add()
        self.conv4 = nn.Conv2d(c128, c256, 1, stride=2)
        self.block2 = nn.Sequential(*relu_sep_bn(c128, c256), *relu_sep_bn(c256, c256), pool())
        self.add2 = Add()
        self.conv5 = nn.Conv2d(c256, c728, 1, stride=2)
        self.block3 = nn.Sequential(*relu_sep_bn(c256, c728), *relu_sep_bn(c728, c728), pool())
        self.add3 = Add()
        self.block4 = SeedMiddle(
            nn.Sequential(*(layer for _ in range(3) for layer in relu_sep_bn(c728, c728)))
        )
        self.conv7 = nn.Conv2d(c728, c1024, 1, stride=2)
        self.block5 = nn.Sequential(*relu_sep_bn(c728, c728), *relu_sep_bn(c728, c1024), pool())
        self.add5 = Add()
        self.block6 = nn.Sequential(
            *relu_sep_bn(c1024, c1536), *relu_sep_bn(c1536, c2048), nn.AvgPool2d(2, stride=1)
        )
        self.fc = make_head(c2048, num_classes, head)

    def forward(self, x):
        x = self.feature(x)
        x = self.add1(self.block1(x), self.conv3(x))
        x = self.add2(self.block2(x), self.conv4(x))
        x = self.add3(self.block3(x), self.conv5(x))
        x = self.block4(x)
        x = self.add5(self.block5(x), self.conv7(x))
        x = self.block6(x)
        return self.fc(x.flatten(1))


class PaperSeparable(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 with nothing between and no bias; the size stays."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class PaperBlock(nn.Module):
    """`rep`: [ReLU,] Sep, BN for each step from channels[i] to channels[i + 1], then `pool` where
    there is one; added to the un-ReLU'd input, which passes a strided 1x1 and a BN where the block
    pools."""

    def __init__(self, channels, bn_eps, pool=None, start_with_relu=True):
        super().__init__()
        if pool is not None:
            self.skip = nn.Conv2d(channels[0], channels[-1], 1, stride=2, bias=False)
            self.skipbn = nn.BatchNorm2d(channels[-1], eps=bn_eps)
        else:
            self.skip = None
        rep = []
        for cin, cout in zip(channels, channels[1:]):
            rep += [nn.ReLU(), PaperSeparable(cin, cout), nn.BatchNorm2d(cout, eps=bn_eps)]
        if not start_with_relu:
            rep = rep[1:]
        if pool is not None:
            rep.append(pool)
        self.rep = nn.Sequential(*rep)
        self.add = Add()

    def forward(self, x):
        branch = self.rep(x)
        return self.add(branch, x if self.skip is None else self.skipbn(self.skip(x)))


class Xception(nn.Module):
    """The paper's network. N x 3 x H x W, H and W at least 71, 299 in the paper, to
    N x num_classes logits. At 299 x 299: conv1 32 x 149 x 149, conv2 64 x 147 x 147,
    block1 128 x 74 x 74, block2 256 x 37 x 37, block3..11 728 x 19 x 19, block12 1024 x 10 x 10,
    conv4 2048 x 10 x 10."""

    def __init__(self, num_classes, bn_eps, pool_pad, head):
        super().__init__()

        def pool():
            if pool_pad == "tf_same":
                return MaxPoolSame(3, stride=2)
            return nn.MaxPool2d(3, stride=2, padding=1)

        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps=bn_eps)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64, eps=bn_eps)
        self.act2 = nn.ReLU()
        self.block1 = PaperBlock((64, 128, 128), bn_eps, pool(), start_with_relu=False)
        self.block2 = PaperBlock((128, 256, 256), bn_eps, pool())
        self.block3 = PaperBlock((256, 728, 728), bn_eps, pool())
        for i in range(4, 12):
            self.add_module(f"block{i}", PaperBlock((728, 728, 728, 728), bn_eps))
        self.block12 = PaperBlock((728, 728, 1024), bn_eps, pool())
        self.conv3 = PaperSeparable(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536, eps=bn_eps)
        self.act3 = nn.ReLU()
        self.conv4 = PaperSeparable(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048, eps=bn_eps)
        self.act4 = nn.ReLU()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = make_head(2048, num_classes, head)

    def forward(self, x):
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        for i in range(1, 13):
            x = getattr(self, f"block{i}")(x)
        x = self.act3(self.bn3(self.conv3(x)))
        x = self.act4(self.bn4(self.conv4(x)))
        return self.fc(self.global_pool(x).flatten(1))


def build(
    arch, num_classes=None, width=1.0, bn_eps=1e-5, sep_relu=True, pool_pad="torch", head=None,
    without_bias=(),
):  # fmt: skip
    """The network `arch` in eval mode, with PyTorch's own initial weights.

    `width` scales every channel count but the input's and the classes (scale_channels); it and
    `sep_relu` concern the seed networks only, `pool_pad` ("torch" or "tf_same") xception only.
    `head` describes a head of several Linear layers, as an nn.Sequential numbers them: a pair
    (number, outputs) for each, the last one with num_classes outputs. An empty list: there is no
    head, num_classes is 0, and the network ends in features. `without_bias` are the names of Linear
    layers of the head that have no bias.
    Raises ValueError for a name or value it does not know."""
    if arch not in ARCHS:
        raise ValueError(f"unknown arch '{arch}': known are {', '.join(ARCHS)}")
    if pool_pad not in ("torch", "tf_same") or (pool_pad != "torch" and arch != "xception"):
        raise ValueError(f"pool_pad '{pool_pad}' does not exist for arch '{arch}'")
    if not WIDTHS[0] <= width <= WIDTHS[1] or (width != 1 and arch == "xception"):
        raise ValueError(f"width {width} does not exist for arch '{arch}'")
    num_classes = DEFAULT_CLASSES[arch] if num_classes is None else num_classes
    if head is not None and (head[-1][1] if head else 0) != num_classes:
        raise ValueError(f"head {head} does not end in {num_classes} classes")
    if arch == "xception":
        module = Xception(num_classes, bn_eps, pool_pad, head)
    else:
        module = Seed(num_classes, width, bn_eps, arch == "seed_depthwise", sep_relu, head)
    for name in without_bias:
        module.get_submodule(name).bias = None
    return module.eval()


def sample_input(batch, height, width, seed=0):
    """Pictures to test with, N x 3 x H x W: noise on a coarse pattern, and each picture with its
    own brightness, so that two pictures differ after a global average too."""
    g = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(
        torch.randn(batch, 3, 4, 4, generator=g), (height, width), mode="bilinear"
    )
    offset = 0.5 * torch.randn(batch, 3, 1, 1, generator=g)
    return coarse + offset + 0.5 * torch.randn(batch, 3, height, width, generator=g)


@torch.no_grad()
def randomize(module, seed=0):
    """Fresh weights that keep activations alive through all layers. Returns `module`, in eval mode.

    Convolutions are drawn at He scale, with small biases; BN gets gammas of both signs and drawn
    betas, and as its statistics those of the activations of a few sample pictures, moved at
    random: a mean to about a tenth of what it was, a variance by a factor in [0.75, 1.75]. Statistics
    drawn without looking would leave a constant in every channel that after forty layers drowns
    the picture; means taken off in full, and small variances divided by, would magnify rounding so
    much that PyTorch in float32 differs from itself in double by 3e-5 of a layer's largest value.
    As they are drawn it is 1e-5 once in hundreds of draws."""
    g = torch.Generator().manual_seed(seed)

    def normal(like, std):
        return std * torch.randn(like.shape, generator=g)

    def uniform(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=g)

    def draw_statistics(bn, inputs):
        if bn in seen:  # the seed's middle block runs eight times: the first time decides
            return
        seen.add(bn)
        var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), unbiased=False)
        var = var.clamp(min=float(var.mean()))  # also of a channel that no sample wakes
        bn.running_mean.copy_(0.1 * mean + normal(mean, 0.2) * var.sqrt())
        bn.running_var.copy_(var * uniform(var, 0.75, 1.75))

    seen, hooks = set(), []
    for name, m in module.named_modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.weight.copy_(normal(m.weight, math.sqrt(2 / m.weight[0].numel())))
            if m.bias is not None:
                m.bias.copy_(normal(m.bias, 0.1))
        elif isinstance(m, nn.BatchNorm2d):
            sign = torch.where(uniform(m.weight, 0, 1) < 0.3, -1.0, 1.0)
            # The branches of the middle flow add to their own input eight times.
            branch_end = re.fullmatch(r"block\d+\.(feature|rep)\.8", name)
            m.weight.copy_(sign * uniform(m.weight, 0.5, 1.5) * (0.1 if branch_end else 1.0))
            m.bias.copy_(normal(m.bias, 0.2))
            hooks.append(m.register_forward_pre_hook(draw_statistics))
    size = 96 if isinstance(module, Xception) else 32
    module.eval()(sample_input(8, size, size, seed=seed + 1))
    for hook in hooks:
        hook.remove()
    return module


@torch.no_grad()
def layer_outputs(module, x):
    """The output of every leaf module for the input `x`, in the order of the calls: an ordered dict
    from the module's path to a copy of the tensor. The k-th repetition (k >= 1) of a call has the
    suffix "#k"."""
    outputs, calls, hooks = OrderedDict(), {}, []

    def record(name):
        def hook(_module, _inputs, output):
            k = calls[name] = calls.get(name, -1) + 1
            outputs[f"{name}#{k}" if k else name] = output.clone()

        return hook

    for name, m in module.named_modules():
        if not any(True for _ in m.children()):
            hooks.append(m.register_forward_hook(record(name)))
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
