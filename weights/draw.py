#!/usr/bin/env python3
"""Draws fresh weights for a network and writes them, and on request what PyTorch makes of them.

draw.py --arch seed_depthwise --width 0.25 -o m.safetensors --golden g.safetensors --batch 3
"""

import argparse

import ending
import missing_package

if __name__ == "__main__":
    ending.end_by_signals()  # before what takes seconds to import

try:
    import model_file
    import reference
except ModuleNotFoundError as error:
    missing_package.explain(error)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", required=True, choices=reference.ARCHS)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--sep-relu", choices=("true", "false"))
    parser.add_argument("--num-classes", type=model_file.number(int, 1, reference.MOST_CLASSES))
    parser.add_argument("--bn-eps", type=float, default=1e-5)
    parser.add_argument("--pool-pad", choices=("torch", "tf_same"))
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL.safetensors")
    model_file.add_golden_arguments(parser)
    args = parser.parse_args(argv)
    model_file.check_golden_arguments(parser, args, drawn=["--seed"])

    config = {
        "num_classes": args.num_classes or reference.DEFAULT_CLASSES[args.arch],
        "width": args.width,
        "bn_eps": args.bn_eps,
        "sep_relu": args.sep_relu != "false",
        "pool_pad": args.pool_pad or "torch",
    }
    try:
        model_file.check_network_options(args.arch, args.sep_relu, args.pool_pad)
        model_file.check_targets(
            [("-o", args.output), ("--golden", args.golden)], [("the file of --input", args.input)]
        )
        golden_input = model_file.golden_input(args, args.arch)
        metadata = model_file.make_metadata(args.arch, config)
        module = reference.randomize(reference.build(args.arch, **config), args.seed or 0)
        model_file.write_model(args.output, module.state_dict(), metadata, args.dtype)
        if args.dtype != "f32":  # the golden values are those of the weights as stored
            model_file.load_model(args.output, module)
        if golden_input is not None:
            model_file.write_golden(
                args.golden, module, args.arch, golden_input, not args.no_layers
            )
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
