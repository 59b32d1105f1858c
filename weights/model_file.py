"""What export.py, draw.py and train_demo.py share: the weight file and the golden file.

The weight file holds the parameters and BN statistics of a network of reference.py under their
PyTorch names, and in its metadata everything that the tensors do not tell (docs/weight-file.md).
The golden file holds an input and what every layer makes of it, as the truth for tests.
"""

import copy
import json
import os
import sys

import numpy as np
import torch

import json_text
import reference
import safetensors_io

SCHEMA = "1"
KEYS = tuple(
    f"xception.{key}"
    for key in (
        "schema", "arch", "bn_eps", "pool_pad", "sep_relu", "width", "num_classes", "labels", "preprocess", "sha256"
    )
)  # fmt: skip
SEED_PREPROCESS = {
    "size": 32,
    "resize_mode": "squash",
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "keep_min": 17,
    "keep_max": 32,
}
PREPROCESS = {
    "seed": SEED_PREPROCESS,
    "seed_depthwise": SEED_PREPROCESS,
    "xception": {
        "size": 299,
        "resize_mode": "center",
        "crop_pct": 0.8975,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "keep_min": 0,
        "keep_max": 0,
    },
}
CHOICES = {
    "resize_mode": ("center", "squash", "border"),
    "interpolation": ("bicubic", "bilinear", "nearest"),
}


BN_EPS = 1e-12, 1.0


def is_number(value, kinds=(int, float)):
    return json_text.is_number(value, kinds) and abs(value) <= sys.float_info.max


def check_preprocess(arch, preprocess):
    """Raises ValueError where the engine would refuse `preprocess`, which has every key, or would
    make an input of it that the network does not take."""
    low, high = reference.SIDES[arch]
    unknown = sorted(preprocess.keys() - PREPROCESS[arch].keys())
    if unknown:
        raise ValueError(f"'{unknown[0]}' is none of {', '.join(PREPROCESS[arch])}")

    def three(value, least):
        return (
            isinstance(value, (list, tuple))
            and len(value) == 3
            and all(is_number(v) and v >= least and abs(v) < 1e6 for v in value)
        )

    size, crop_pct = preprocess["size"], preprocess["crop_pct"]
    keep = preprocess["keep_min"], preprocess["keep_max"]
    for key, value, sound, wanted in (
        ("size", size, is_number(size, int) and low <= size <= high, f"{low} to {high} pixels"),
        (
            "keep_min and keep_max",
            list(keep),
            all(is_number(k, int) for k in keep)
            and (keep == (0, 0) or low <= keep[0] <= keep[1] <= high),
            f"the smaller and the larger of two sides of {low} to {high} pixels, or 0 and 0",
        ),
        ("crop_pct", crop_pct, is_number(crop_pct) and 0.01 <= crop_pct <= 1, "from 0.01 to 1"),
        (
            "mean",
            preprocess["mean"],
            three(preprocess["mean"], -1e6),
            "three numbers between -1e6 and 1e6",
        ),
        (
            "std",
            preprocess["std"],
            three(preprocess["std"], 1e-6),
            "three numbers from 1e-6 on and below 1e6",
        ),
        *(
            (key, preprocess[key], preprocess[key] in known, f"one of {', '.join(known)}")
            for key, known in CHOICES.items()
        ),
    ):
        if not sound:
            raise ValueError(f"{key} of {arch} should be {wanted}, not {value}")


def make_metadata(arch, config, labels=(), preprocess=None):
    """The metadata of a weight file. `config` holds build()'s keyword arguments, num_classes among
    them; `preprocess` overrides single values of the network's own preprocessing. Raises ValueError
    for labels, preprocessing or numbers that the engine would refuse."""
    outputs = config["num_classes"]
    classes = 2 if outputs == 1 else outputs
    if labels and len(labels) != classes:
        raise ValueError(
            f"there are {len(labels)} labels for {classes} classes"
            + (", as a head of one output has" if outputs == 1 else "")
        )
    for key, (low, high) in (("bn_eps", BN_EPS), ("width", reference.WIDTHS)):
        if not low <= config.get(key, low) <= high:
            raise ValueError(f"{key} should be from {low:g} to {high:g}, not {config[key]}")
    preprocess = PREPROCESS[arch] | (preprocess or {})
    check_preprocess(arch, preprocess)
    # Nothing stands inside the paper's separable convolution.
    sep_relu = config.get("sep_relu", True) and arch != "xception"
    return {
        "xception.schema": SCHEMA,
        "xception.arch": arch,
        "xception.bn_eps": repr(float(config.get("bn_eps", 1e-5))),
        "xception.pool_pad": config.get("pool_pad", "torch"),
        "xception.sep_relu": "true" if sep_relu else "false",
        "xception.width": repr(float(config.get("width", 1.0))),
        "xception.num_classes": str(config["num_classes"]),
        "xception.labels": json.dumps(list(labels), ensure_ascii=False),
        "xception.preprocess": json.dumps(preprocess),
        "xception.sha256": "",  # safetensors_io.write knows it
    }


def write_model(path, state, metadata, dtype="f32"):
    """Writes the tensors of `state` (a state_dict; num_batches_tracked is left out) as `dtype`:
    "f32", "f16" or "bf16". Raises ValueError where a value is not finite in that type, and for
    a negative variance."""
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        with np.errstate(over="ignore"):
            array = (
                tensor.detach().cpu().double().numpy().astype("<f2" if dtype == "f16" else "<f4")
            )
        finite = (
            array
            if dtype != "bf16"
            else safetensors_io.from_bfloat16(safetensors_io.to_bfloat16(array))
        )
        if not np.isfinite(finite).all():
            raise ValueError(
                f"tensor '{name}' has a value that is NaN, infinite or too large for {dtype}"
            )
        if name.endswith("running_var") and (array < 0).any():
            raise ValueError(f"tensor '{name}' has a negative value, and a variance cannot be one")
        tensors[name] = array
    bfloat16 = tensors.keys() if dtype == "bf16" else ()
    return safetensors_io.write(path, tensors, metadata, bfloat16)


def load_model(path, module):
    """Loads a weight file written by write_model into `module`, a network of the same config. Raises
    OSError, ValueError."""
    tensors, _ = safetensors_io.read(path)
    state = {name: torch.from_numpy(a.astype("<f4")) for name, a in tensors.items()}
    for name, tensor in module.state_dict().items():
        if name in state and state[name].shape != tensor.shape:
            raise ValueError(
                f"it is of another width, or another network: tensor '{name}' is {list(state[name].shape)}, where "
                f"{list(tensor.shape)} is wanted; give the width that it has"
            )
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"it does not hold this network's tensors: {missing + unexpected}")


@torch.no_grad()
def write_golden(path, module, arch, x, layers=True):
    """Writes `input`, `logits` and, if `layers`, `layer.NAME` for every call of a leaf module, all
    float32 and N x C x H x W or N x C, in the order of the calls. Returns the logits.

    PyTorch computes them in double and rounds at the end, so that what an engine is held against
    has no rounding errors of its own."""
    module = copy.deepcopy(module).double()
    outputs = reference.layer_outputs(module, x.double()) if layers else {}
    logits = outputs[next(reversed(outputs))] if layers else module(x.double())
    tensors = {"input": x} | {f"layer.{name}": t for name, t in outputs.items()}
    tensors["logits"] = logits
    arrays = {name: t.numpy().astype("<f4") for name, t in tensors.items()}
    safetensors_io.write(path, arrays, {"xception.arch": arch})
    return logits.float()


def plain(kind, text):
    """kind(text), but not of what only Python takes for a number, as 1_0. Raises ValueError."""
    if "_" in text or not text.isascii():
        raise ValueError(f"'{text}' is no number")
    return kind(text)


def parse_size(text):
    """ "HxW" or one number for both."""
    height, by, width = text.lower().partition("x")
    return plain(int, height), plain(int, width if by else height)


parse_size.__name__ = "side or HEIGHTxWIDTH"  # what argparse calls it in "invalid ... value"


def number(kind, low, high):
    """The type of an option that is a number, of int or float; both ends belong to the range."""

    def parse(text):
        if not low <= plain(kind, text) <= high:
            raise ValueError(f"no {parse.__name__}")
        return kind(text)

    # What argparse calls it in "invalid ... value".
    parse.__name__ = (
        f"whole number from {low} to {high}" if kind is int else f"number from {low:g} to {high:g}"
    )
    return parse


def check_targets(targets, sources):
    """Raises ValueError or OSError where one of `targets`, (option, path) of files to write, cannot be
    written, is another of them, or one of `sources`, (what, path) of files that are read. None as a
    path stands for no file."""
    taken = [(what, os.path.realpath(path)) for what, path in sources if path]
    for option, path in targets:
        if path is None:
            continue
        folder = os.path.dirname(safetensors_io.target_of(path))
        if not os.path.isdir(folder):
            raise ValueError(f"{option} '{path}' would lie in '{folder}', which is no folder")
        for what, other in taken:
            if os.path.realpath(path) == other:
                raise ValueError(f"{option} '{path}' is {what}; name another file")
        taken.append((f"the file of {option}", os.path.realpath(path)))


def add_golden_arguments(parser):
    """The options of draw.py and export.py that say which golden file to write."""
    parser.add_argument(
        "--golden",
        metavar="G.safetensors",
        help="also write an input and what every layer makes of it",
    )
    parser.add_argument("--input", metavar="X.npy", help="that input, float32 N x C x H x W")
    parser.add_argument(
        "--size",
        dest="golden_size",
        metavar="HxW",
        type=parse_size,
        help="size of a drawn input (default: the network's own)",
    )
    parser.add_argument(
        "--batch", type=number(int, 1, 65535), help="pictures of a drawn input (default: 1)"
    )
    parser.add_argument(
        "--seed", type=number(int, 0, 2**62), help="seed of whatever is drawn (default: 0)"
    )
    parser.add_argument("--no-layers", action="store_true", help="only the input and the logits")


def check_golden_arguments(parser, args, drawn=()):
    """Ends with wrong usage where one of the options of add_golden_arguments has no effect; `drawn` are
    those that weights are drawn by."""
    options = {"--input": "input", "--size": "golden_size", "--batch": "batch", "--seed": "seed",
               "--no-layers": "no_layers"}  # fmt: skip
    for option, name in options.items():
        value = getattr(args, name)
        if value is None or value is False or option in drawn:
            continue
        if args.golden is None:
            parser.error(f"{option} belongs to --golden, which is not there")
        if args.input is not None and option in ("--size", "--batch", "--seed"):
            parser.error(f"{option} belongs to a drawn input, and --input gives one")


def check_network_options(arch, sep_relu, pool_pad):
    """Raises ValueError where one of these options, None where it is not there, has no effect."""
    if sep_relu is not None and arch == "xception":
        raise ValueError(f"--sep-relu {sep_relu} belongs to the seed networks, and this is xception")
    if pool_pad is not None and arch != "xception":
        raise ValueError(f"--pool-pad {pool_pad} belongs to xception, and this is {arch}")


def load_input(path):
    """The array of a .npy file as float32. Raises OSError, ValueError."""
    try:
        array = np.load(path, mmap_mode="r")  # which holds the file against what its header claims
    except (ValueError, EOFError, OverflowError) as error:
        raise ValueError(f"--input '{path}' is no .npy array of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"--input '{path}' is no .npy array of numbers")
    with np.errstate(over="ignore"):
        array = array.astype("<f4")
    if not np.isfinite(array).all():
        raise ValueError(f"--input '{path}' has a value that is NaN, infinite or too large for float32")
    return array


def golden_input(args, arch):
    """The input that the options of add_golden_arguments ask for; None where they ask for no golden
    file. Raises ValueError for one that the network does not take."""
    if not args.golden:
        return None
    given = load_input(args.input) if args.input else None
    size = args.golden_size or (PREPROCESS[arch]["size"],) * 2
    batch = args.batch or 1
    shape = (batch, 3, *size) if given is None else given.shape
    low, high = reference.SIDES[arch]
    sound = len(shape) == 4 and shape[0] > 0 and shape[1] == 3
    if not sound or min(shape[2:]) < low or max(shape[2:]) > high:
        raise ValueError(
            f"the golden file's input would be {list(shape)}, but {arch} takes [N, 3, H, W] with "
            f"sides of {low} to {high} pixels; give another {'--input' if args.input else '--size'}"
        )
    if given is not None:
        return torch.from_numpy(given)
    return reference.sample_input(batch, *size, seed=(args.seed or 0) + 1000)
