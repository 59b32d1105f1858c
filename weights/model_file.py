"""What export.py, draw.py and train_demo.py share: the weight file and the golden file.

The weight file holds the parameters and BN statistics of a network of reference.py under their
PyTorch names, and in its metadata everything that the tensors do not tell (docs/weight-file.md).
The golden file holds an input and what every layer makes of it, as the truth for tests.
"""

import copy
import json

import numpy as np
import torch

import reference
import safetensors_io

SCHEMA = "1"
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


def make_metadata(arch, config, labels=(), preprocess=None):
    """The metadata of a weight file. `config` holds build()'s keyword arguments, num_classes among
    them; `preprocess` overrides single values of the network's own preprocessing."""
    if labels and len(labels) != config["num_classes"]:
        raise ValueError(f"there are {len(labels)} labels for {config['num_classes']} classes")
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
        "xception.preprocess": json.dumps(PREPROCESS[arch] | (preprocess or {})),
        "xception.sha256": "",  # safetensors_io.write knows it
    }


def write_model(path, state, metadata, dtype="f32"):
    """Writes the tensors of `state` (a state_dict; num_batches_tracked is left out) as `dtype`:
    "f32", "f16" or "bf16". Raises ValueError where a value is not finite in that type."""
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
                f"tensor '{name}' has a value that is NaN, infinite or too large for " f"{dtype}"
            )
        tensors[name] = array
    bfloat16 = tensors.keys() if dtype == "bf16" else ()
    return safetensors_io.write(path, tensors, metadata, bfloat16)


def load_model(path, module):
    """Loads a weight file written by write_model into `module`, a network of the same config."""
    tensors, _ = safetensors_io.read(path)
    state = {name: torch.from_numpy(a.astype("<f4")) for name, a in tensors.items()}
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path} does not hold this network's tensors: {missing + unexpected}")


@torch.no_grad()
def write_golden(path, module, arch, x, layers=True):
    """Writes `input`, `logits` and, if `layers`, `layer.NAME` for every call of a leaf module, all
    float32 and N x C x H x W or N x C, in the order of the calls. Returns the logits.

    PyTorch computes them in double and rounds at the end, so that what an engine is held against
    has no rounding errors of its own."""
    module = copy.deepcopy(module).double()
    outputs = reference.layer_outputs(module, x.double()) if layers else {}
    logits = outputs["fc"] if layers else module(x.double())
    tensors = {"input": x} | {f"layer.{name}": t for name, t in outputs.items()}
    tensors["logits"] = logits
    arrays = {name: t.numpy().astype("<f4") for name, t in tensors.items()}
    safetensors_io.write(path, arrays, {"xception.arch": arch})
    return logits.float()


def parse_size(text):
    """ "HxW" or one number for both."""
    height, _, width = text.lower().partition("x")
    return int(height), int(width or height)


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
        metavar="HxW",
        type=parse_size,
        help="size of a drawn input (default: the network's own)",
    )
    parser.add_argument("--batch", type=int, default=1, help="pictures of a drawn input")
    parser.add_argument("--seed", type=int, default=0, help="seed of whatever is drawn")
    parser.add_argument("--no-layers", action="store_true", help="only the input and the logits")


def write_golden_as_asked(args, module, arch):
    """write_golden for the options of add_golden_arguments, if they ask for it."""
    if not args.golden:
        return
    if args.input:
        x = torch.from_numpy(np.load(args.input).astype("<f4"))
    else:
        size = args.size or (PREPROCESS[arch]["size"],) * 2
        x = reference.sample_input(args.batch, *size, seed=args.seed + 1000)
    try:
        write_golden(args.golden, module, arch, x, layers=not args.no_layers)
    except RuntimeError as error:  # a size that the network's poolings do not allow, say
        raise ValueError(f"{arch} does not run on an input of {list(x.shape)}: {error}") from error
