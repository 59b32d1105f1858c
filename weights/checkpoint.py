"""Checkpoints as PyTorch users have them, turned into the names and shapes of reference.py.

Nothing in a checkpoint is executed unless the caller says that it trusts the file (pickled.py).
"""

import re
import struct
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import pickled
import reference
import safetensors_io
import timm_config
from refused import Refused

# Keys under which training scripts keep a state_dict, the first one before the others.
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "state_dict_ema", "ema_state_dict", "model_ema", "ema"
)  # fmt: skip
MOST_LAYERS = 64  # of a head
WRAPPED = r"(module\.)?(model\.)?"  # what the engine takes off names
# A tensor that stands in a network under this name, whatever stands before it.
MARKERS = ("block4.feature.1.depthwise.0.weight", "block12.rep.1.conv1.weight")


class Source(NamedTuple):
    """What a checkpoint holds."""

    tensors: dict  # its names untouched
    metadata: dict
    beside: dict  # what timm's config.json beside it says
    module: nn.Module  # the whole module that the tensors are of, or None


def read(path, trust=False, say=lambda text: None, arch=None):
    """The Source that a .safetensors, .pth or .pt file is; the metadata are those of a safetensors file,
    and the epsilon of a whole module. Such a module is read only with `trust`, since reading it runs its
    code. `say` is called with what the user should know. `arch` is the network that the user names, if
    any. Raises OSError, Refused."""
    with open(path, "rb") as f:
        start = f.read(9)
        size = f.seek(0, 2)
    if start.startswith(b"\x89HDF"):
        raise Refused("a Keras (HDF5) file; only .pth, .pt and .safetensors can be read")
    header_length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
    named_so = str(path).endswith(".safetensors") and not start.startswith((b"PK", b"\x80"))
    if named_so or (start.endswith(b"{") and header_length < size):
        try:
            arrays, metadata = safetensors_io.read(path)
        except ValueError as error:
            raise Refused(str(error)) from error
        tensors = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
        source = Source(tensors, metadata, config_beside(path, metadata, arch), None)
    else:
        source = unwrap(pickled.load(path, trust), say)
    if not source.tensors:
        raise Refused("it holds no tensors")
    return source


def config_beside(path, metadata, arch):
    """What config.json says of a file with these metadata that is to be the network `arch`; {} where they
    name a network themselves, or it tells of another one. Raises Refused."""
    if "xception.arch" in metadata:
        return {}
    try:
        config = timm_config.beside(path)
    except Refused:
        if arch and {"xception.preprocess", "xception.labels"} <= metadata.keys():
            return {}  # nothing is left for it to say
        raise
    return config if arch in (None, config.get("arch")) else {}


def unwrap(content, say):
    """The Source that is the state_dict, or the module, inside what torch.load gave."""
    metadata, module = {}, None
    for _ in range(3):
        if isinstance(content, torch.jit.ScriptModule):
            say("TorchScript does not tell the epsilon of batch norms; see --bn-eps")
        if isinstance(content, nn.Module):
            metadata, module = epsilon_of(content), content
            content = content.state_dict()
        held = [
            key
            for key in WRAPPERS
            if isinstance(content, dict) and isinstance(content.get(key), (dict, nn.Module))
        ]
        if not held:
            break
        if len(held) > 1:
            say(f"it holds {' and '.join(held)}; {held[0]} is taken")
        content = content[held[0]]
    if not isinstance(content, dict):
        raise Refused(
            f"it holds a {pickled.name_of(content)} without tensors, not a state_dict{advice(content)}"
        )
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise Refused(
                f"it holds an entry whose name is of type {type(name).__name__}, where a state_dict has strings"
            )
        if not isinstance(value, (torch.Tensor, pickled.Pending)):
            raise Refused(
                f"it holds '{name}', a {pickled.name_of(value)}, where a state_dict has a tensor; "
                f"wrappers that are known are {', '.join(WRAPPERS)}{advice(value)}"
            )
        try:
            tensors[name] = value.tensor() if isinstance(value, pickled.Pending) else value
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise Refused(f"it is damaged: tensor '{name}': {error}") from error
    return Source(tensors, metadata, {}, module)


def advice(value):
    return f"; pickled code is not run: {pickled.ADVICE}" if isinstance(value, pickled.Inert) else ""


def epsilon_of(module):
    """As metadata, the epsilon that all batch norms of a module have."""
    found = {layer.eps for layer in module.modules() if isinstance(layer, _BatchNorm)}
    if len(found) > 1:
        raise Refused(f"its batch norms have different epsilons, {' and '.join(map(str, sorted(found)))}")
    return {"xception.bn_eps": repr(float(eps)) for eps in found}


def without_prefix(names):
    """{name: name in the network} for names of which the network's may stand behind a prefix, as
    wrappers and larger modules give them. Raises Refused."""
    endings = tuple("." + marker for marker in MARKERS)
    prefixes = [name[: name.index(ending) + 1] for name in names for ending in endings if name.endswith(ending)]
    if any(marker in names for marker in MARKERS):
        prefixes.append("")
    if len(prefixes) > 1:
        raise Refused(
            f"it holds the network {len(prefixes)} times, behind "
            f"{' and '.join(repr(prefix) for prefix in prefixes)}; save one of them"
        )
    prefix = prefixes[0] if prefixes else ""
    if re.fullmatch(WRAPPED, prefix):  # with or without it, as the engine reads them
        return {name: re.sub(f"^{WRAPPED}", "", name) for name in names}
    outside = [name for name in names if not name.startswith(prefix) and not is_unused(name)]
    if outside:
        raise Refused(
            f"tensor '{outside[0]}' has no place in the network, whose names begin with '{prefix}'; leave it out, or take that off"
        )
    return {name: name.removeprefix(prefix) for name in names}


def is_unused(name):
    """Whether inference has no use for it; n_averaged is of AveragedModel."""
    return name.endswith("num_batches_tracked") or name == "n_averaged"


def canonical_names(tensors):
    """The same tensors under our names: no wrapper's prefix, the head named fc, with numbers where
    it has several Linear layers, and no num_batches_tracked, which inference does not use."""
    names = without_prefix(list(tensors))
    names = {source: re.sub(r"^(last_linear|head\.fc)\.", "fc.", n) for source, n in names.items()}
    numbered = r"^fc\.\d+\."
    one_layer = len({m[0] for m in (re.match(numbered, n) for n in names.values()) if m}) == 1
    result = {}
    for source, name in names.items():
        name = re.sub(numbered, "fc.", name) if one_layer else name
        if is_unused(name):
            continue
        if name in result:
            raise Refused(f"tensor '{source}' and another one are both '{name}' of the network")
        result[name] = tensors[source]
    return result


def guess_arch(tensors):
    """The network that has tensors of these names (canonical) and shapes."""
    middle = tensors.get("block4.feature.1.depthwise.0.weight")
    if middle is not None:
        return "seed_depthwise" if middle.dim() == 4 and middle.shape[1] == 1 else "seed"
    if "block12.rep.1.conv1.weight" in tensors:
        return "xception"
    raise Refused(
        f"the tensors belong to none of the known networks ({', '.join(reference.ARCHS)}); "
        f"the first are {', '.join(map(repr, list(tensors)[:4]))}"
    )


def guess_width(tensors):
    """The simplest width whose channel counts are those of a seed network's tensors; where no
    width fits all of them, that of the last one."""
    found = {}
    for base, name in (
        (32, "feature.0"),
        (64, "feature.3"),
        (128, "conv3"),
        (256, "conv4"),
        (728, "conv5"),
        (1024, "conv7"),
        (1536, "block6.1.pointwise.0"),
        (2048, "block6.4.pointwise.0"),
    ):
        tensor = tensors.get(f"{name}.weight")
        if tensor is not None and tensor.dim() > 0:
            found[base] = tensor.shape[0]
    if not found:
        return 1.0
    low = max(0 if count == 8 else (count - 4) / base for base, count in found.items())
    high = min((count + 4) / base for base, count in found.items())
    for digits in range(7):
        width = round((low + high) / 2, digits)
        fits = (reference.scale_channels(base, width) == count for base, count in found.items())
        if width >= reference.WIDTHS[0] and all(fits):
            return width
    base, count = list(found.items())[-1]
    return count / base


def guess_head(tensors):
    """(num_classes, head) of build(): `head` is None where one Linear layer is all of it."""

    def outputs(name):
        weight = tensors.get(name)
        if weight is None or weight.dim() != 2 or not 0 < weight.shape[0] <= reference.MOST_CLASSES:
            there = f"it is {list(weight.shape)}" if weight is not None else (
                "it is not there (--no-head exports a network that ends in features)"
            )
            raise Refused(f"tensor '{name}' should be [classes, channels]; {there}")
        return weight.shape[0]

    matches = (re.match(r"fc\.(\d{1,4})\.weight$", name) for name in tensors)
    numbers = sorted(int(m[1]) for m in matches if m)
    if not numbers or "fc.weight" in tensors:
        return outputs("fc.weight"), None
    if len(numbers) > MOST_LAYERS:
        raise Refused(f"its head has {len(numbers)} Linear layers, and more than {MOST_LAYERS} are none of ours")
    head = [(number, outputs(f"fc.{number}.weight")) for number in numbers]
    for (_, channels), (number, count) in zip(head, head[1:]):
        shape = list(tensors[f"fc.{number}.weight"].shape)
        if shape[1] != channels:
            raise Refused(f"tensor 'fc.{number}.weight' should be {[count, channels]}, but is {shape}")
    return head[-1][1], head


def check_size(tensors, arch, width, head):
    """Raises Refused where `tensors` hold far fewer parameters than the network, the layers of whose head
    have the outputs `head`: before it is built, and gigabytes are asked for a small file."""
    held = sum(
        pickled.stored_elements(t.shape, t.stride()) for t in tensors.values() if t.layout == torch.strided
    )
    inputs = 2048 if arch == "xception" else reference.scale_channels(2048, width)
    needed = int(reference.PARAMETERS[arch] * width**2)
    for outputs in head:
        needed, inputs = needed + inputs * outputs, outputs
    if needed > 4 * held + 10**6:
        raise Refused(f"{arch} of width {width:g} has about {needed} parameters, and it has {held}")


def layers_without_bias(tensors, head):
    """The names of the Linear layers of a head, as guess_head gives it, that have weights alone."""
    names = ["fc"] if head is None else [f"fc.{number}" for number, _ in head]
    return [name for name in names if f"{name}.bias" not in tensors]


def fit(tensors, module):
    """The tensors (canonical) in the order and shape of `module`'s; every one must be used and none
    be missing. 2-D weights of 1x1 convolutions, as older files have them, get their four sides."""
    problems, state = [], {}
    expected = {
        name: tuple(t.shape)
        for name, t in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None:
            problems.append(f"tensor '{name}' {list(shape)} is missing")
            continue
        if tensor.layout != torch.strided:
            problems.append(f"tensor '{name}' is sparse, and a network's parameters are dense")
            continue
        if tensor.dim() == 2 and shape == (*tensor.shape, 1, 1):
            tensor = tensor.reshape(shape)
        if tuple(tensor.shape) != shape:
            problems.append(f"tensor '{name}' should be {list(shape)}, but is {list(tensor.shape)}")
        elif not tensor.is_floating_point():
            problems.append(
                f"tensor '{name}' should be of a floating-point type, but is {tensor.dtype}"
            )
        state[name] = tensor
    for name in tensors:
        if name not in expected:
            problems.append(
                f"tensor '{name}' {list(tensors[name].shape)} has no place in the network"
            )
    if problems:
        rest = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise Refused("; ".join(problems[:3]) + rest)
    return state
