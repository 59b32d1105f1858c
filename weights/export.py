#!/usr/bin/env python3
"""Turns a PyTorch checkpoint into the one .safetensors file that the engine reads.

  export.py checkpoint.pth -o model.safetensors --labels labels.txt

Reads .pth and .pt (zip and older), .safetensors, and with --trust whole pickled modules. Exit
status: 0 written; 2 wrong usage, or a file (standard output too) that cannot be read or written; 3 the
checkpoint is refused; 129, 130 or 143 ended by SIGHUP, Ctrl-C or SIGTERM. docs/weight-file.md describes what is written.
"""

import argparse
import os
import sys

import ending
import missing_package

if __name__ == "__main__":
    ending.end_by_signals()  # before what takes seconds to import

try:
    import checkpoint
    import json_text
    import model_file
    import reference
    import timm_config
    import whole_module
except ModuleNotFoundError as error:
    missing_package.explain(error)


def three_numbers(text):
    try:
        values = [model_file.plain(float, v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"expected three numbers a,b,c, got '{text}'")
    return values


def two_sides(text):
    try:
        values = [model_file.plain(int, v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 2 or not 0 <= values[0] <= values[1]:
        raise argparse.ArgumentTypeError(f"expected MIN,MAX, got '{text}'")
    return values


EPSILON = model_file.number(float, *model_file.BN_EPS)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", help="the checkpoint")
    parser.add_argument("-o", "--output", required=True, metavar="DST.safetensors")
    parser.add_argument(
        "--dtype",
        choices=("f32", "f16", "bf16"),
        default="f32",
        help="type of the stored weights (%(default)s)",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="allow pickled code in SRC to run: it can do whatever you can",
    )

    network = parser.add_argument_group(
        "the network, where the tensors or SRC's metadata do not tell"
    )
    network.add_argument("--arch", choices=reference.ARCHS)
    network.add_argument("--bn-eps", type=EPSILON, metavar="E", help="default 1e-5")
    network.add_argument("--pool-pad", choices=("torch", "tf_same"), help="xception; default torch")
    network.add_argument(
        "--sep-relu",
        choices=("true", "false"),
        help="seed networks: ReLUs inside SeparableConv2d; default true",
    )
    network.add_argument(
        "--no-head", action="store_true", help="SRC has no head: the network ends in features"
    )
    network.add_argument("--labels", metavar="FILE", help="class names, one a line")

    image = parser.add_argument_group("preprocessing, where it differs from the network's own")
    image.add_argument("--image-size", type=model_file.number(int, 1, 16384), dest="size", metavar="S")
    image.add_argument("--resize-mode", choices=model_file.CHOICES["resize_mode"])
    image.add_argument("--crop-pct", type=model_file.number(float, 0.01, 1), metavar="P")
    image.add_argument("--interpolation", choices=model_file.CHOICES["interpolation"])
    image.add_argument("--mean", type=three_numbers, metavar="R,G,B")
    image.add_argument("--std", type=three_numbers, metavar="R,G,B")
    image.add_argument(
        "--keep",
        type=two_sides,
        metavar="MIN,MAX",
        help="take pictures with both sides in this range as they are; 0,0: none",
    )

    model_file.add_golden_arguments(parser.add_argument_group("golden file"))
    return complete_arguments(parser, parser.parse_args(argv))


def complete_arguments(parser, args):
    """With args.preprocess, what the options say of it; ends where options contradict each other."""
    model_file.check_golden_arguments(parser, args)
    args.preprocess = {
        key: getattr(args, key)
        for key in ("size", "resize_mode", "crop_pct", "interpolation", "mean", "std")
        if getattr(args, key) is not None
    }
    if args.std and min(args.std) <= 0:
        parser.error("--std needs numbers above 0")
    if args.keep:
        args.preprocess |= {"keep_min": args.keep[0], "keep_max": args.keep[1]}
    return args


def known_value(known, key, parse, default):
    """The value of a key of SRC's own metadata."""
    try:
        return parse(known[key]) if key in known else default
    except ValueError as error:
        raise checkpoint.Refused(f"its metadata '{key}' is '{known[key][:100]}' ({error})") from error


def json_object(text):
    value = json_text.parse(text)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def string_list(text):
    value = json_text.parse(text)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("no JSON list of strings")
    return value


def one_of(*words):
    def parse(text):
        if text not in words:
            raise ValueError(f"known are {' and '.join(words)}")
        return text

    return parse


def configure(args, tensors, known, beside):
    """(arch, build()'s arguments) from the options, else the metadata `known`, else config.json, which says
    what is in `beside`, else the tensors."""
    if known.get("xception.schema", model_file.SCHEMA) != model_file.SCHEMA:
        raise checkpoint.Refused(f"its metadata are of schema {known['xception.schema']}: take a later xception")
    unknown = [key for key in known if key.startswith("xception.") and key not in model_file.KEYS]
    if unknown:
        raise checkpoint.Refused(f"its metadata has '{unknown[0]}'; known are {', '.join(model_file.KEYS)}")
    arch = args.arch or known.get("xception.arch") or beside.get("arch") or checkpoint.guess_arch(tensors)
    arch = timm_config.ALIASES.get(arch, arch)
    if arch not in reference.ARCHS:
        raise checkpoint.Refused(
            f"the file says it is '{arch}'; known networks are {', '.join(reference.ARCHS)}"
        )
    model_file.check_network_options(arch, args.sep_relu, args.pool_pad)
    sep_relu = args.sep_relu or known_value(
        known, "xception.sep_relu", one_of("true", "false"), "true"
    )
    known_pad = known_value(known, "xception.pool_pad", one_of("torch", "tf_same"), "torch")
    if known_pad != "torch" and arch != "xception":
        raise checkpoint.Refused(f"its metadata 'xception.pool_pad' is '{known_pad}', which {arch} does not have")
    width_of = json_text.number(float, *reference.WIDTHS)
    width = known_value(known, "xception.width", width_of, None) or checkpoint.guess_width(tensors)
    if not reference.WIDTHS[0] <= width <= reference.WIDTHS[1]:
        raise checkpoint.Refused(f"its tensors are of width {width:g}, and known are those from 0.001 to 16")
    num_classes, head = (0, []) if args.no_head else checkpoint.guess_head(tensors)
    layers = [num_classes] if head is None else [outputs for _, outputs in head]
    checkpoint.check_size(tensors, arch, width, layers)
    classes_of = json_text.number(int, 0, reference.MOST_CLASSES)
    for who, told in (
        ("it", known_value(known, "xception.num_classes", classes_of, num_classes)),
        ("config.json beside it", beside.get("num_classes", num_classes)),
    ):
        if told not in (num_classes, max(num_classes, 2)) and not args.no_head:
            raise checkpoint.Refused(f"{who} says that it has {told} classes, and its head has {num_classes} outputs")
    return arch, {
        "num_classes": num_classes,
        "head": head,
        "without_bias": checkpoint.layers_without_bias(tensors, head),
        "width": 1.0 if arch == "xception" else width,
        "bn_eps": args.bn_eps or known_value(known, "xception.bn_eps", json_text.number(float, *model_file.BN_EPS), 1e-5),
        "sep_relu": sep_relu == "true" or arch == "xception",
        "pool_pad": args.pool_pad or known_pad,
    }


def read_labels(path):
    """As xception-infer reads them: lines end in a line feed, before which a carriage return goes."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            lines = f.read().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"--labels '{path}' is no UTF-8 text ({error.reason})") from error
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def class_names(args, outputs, source):
    """Those of the options, else of the source's metadata, else of config.json beside it. Raises ValueError,
    Refused."""
    if args.labels is None and args.no_head:
        return []  # the ones it knows are of the head
    if args.labels is not None:
        labels = read_labels(args.labels)
    else:
        own = known_value(source.metadata, "xception.labels", string_list, [])
        labels = own or source.beside.get("labels", [])
    classes, why = (2, ", as a head of one output has") if outputs == 1 else (outputs, "")
    count = f"{classes} classes{why}"
    if args.labels is not None and len(labels) != classes:
        raise ValueError(f"--labels '{args.labels}' has {len(labels)} lines, the model has {count}; give one line for each")
    if labels and len(labels) != classes:
        raise checkpoint.Refused(
            f"{'it' if own else 'config.json beside it'} names {len(labels)} labels for {count}; give others with --labels"
        )
    return labels


def preprocessing(args, arch, source):
    """What the options say, else key by key the source's metadata, config.json beside it, and the network's
    own. Raises ValueError for what options say, Refused for the others."""
    result = model_file.PREPROCESS[arch]
    model_file.check_preprocess(arch, result | args.preprocess)
    own = known_value(source.metadata, "xception.preprocess", json_object, {})
    for where, given in (
        ("config.json beside it", source.beside.get("preprocess", {})),
        ("its metadata 'xception.preprocess'", own),
    ):
        try:
            given = timm_config.with_our_names(given)
            result = result | given
            if result["keep_max"] == 0 and "keep_min" not in given:
                result["keep_min"] = 0  # switched off by one of the two
            model_file.check_preprocess(arch, result | args.preprocess)
        except ValueError as error:
            raise checkpoint.Refused(f"{where}: {error}") from error
    result = result | args.preprocess
    if args.crop_pct is not None and result["resize_mode"] != "center":
        raise ValueError(f"--crop-pct belongs to --resize-mode center, and here it is {result['resize_mode']}")
    return result


def say(text):
    """On standard error, as one line: a file's names may be long, and have control characters in them."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[:2000])
    print(f"export.py: {text}", file=sys.stderr)


def export(args):
    """Writes what the options ask for, and returns the metadata written."""
    model_file.check_targets(
        [("-o", args.output), ("--golden", args.golden)],
        [
            ("the checkpoint", args.source),
            ("the file of --labels", args.labels),
            ("the file of --input", args.input),
        ],
    )
    source = checkpoint.read(args.source, args.trust, say, args.arch)
    tensors = checkpoint.canonical_names(source.tensors)
    arch, config = configure(args, tensors, source.metadata, source.beside)
    module = reference.build(arch, **config)
    state = checkpoint.fit(tensors, module)
    if source.module is not None:
        whole_module.check(source.module, module, state, arch, say)
    metadata = model_file.make_metadata(
        arch, config, class_names(args, config["num_classes"], source), preprocessing(args, arch, source)
    )
    golden_input = model_file.golden_input(args, arch)
    try:
        model_file.write_model(args.output, state, metadata, args.dtype)
    except ValueError as error:
        raise checkpoint.Refused(str(error)) from error
    if golden_input is not None:  # of the weights as they are stored
        model_file.load_model(args.output, module)
        model_file.write_golden(args.golden, module, arch, golden_input, not args.no_layers)
    return metadata


def main(argv=None):
    args = parse_arguments(argv)
    try:
        metadata = export(args)
    except checkpoint.Refused as error:
        say(f"{args.source} is refused: {error}")
        return 3
    except (OSError, ValueError) as error:
        say(error)
        return 2
    try:
        ending.print_line(
            f"{args.output}: {metadata['xception.arch']}, width {metadata['xception.width']}, "
            f"{metadata['xception.num_classes']} classes, bn_eps {metadata['xception.bn_eps']}, "
            f"{args.dtype}, {os.path.getsize(args.output)} bytes"
        )
    except OSError as error:
        say(f"{args.output} is written, but {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
