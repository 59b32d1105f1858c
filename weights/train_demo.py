#!/usr/bin/env python3
"""Trains the demo model: seed_depthwise at a small width on Fashion-MNIST, on the CPU.

Gray pictures are replicated to three channels and stay 28 x 28, a size that the network takes as it
is. docs/demo-model.md has the command and the log of the model in this folder.
"""

import argparse
import os
import time

import ending
import missing_package

if __name__ == "__main__":
    ending.end_by_signals()  # before what takes seconds to import

try:
    import numpy as np
    import torch
    import torch.nn.functional as F

    import fashion_mnist
    import model_file
    import reference
except ModuleNotFoundError as error:
    missing_package.explain(error)

MEAN, STD = 0.2860, 0.3530  # of the training pictures scaled to 0..1


def to_input(pictures):
    """uint8 N x 28 x 28 to the network's input, N x 3 x 28 x 28."""
    x = (torch.from_numpy(pictures.copy()).float() / 255 - MEAN) / STD
    return x[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def augment(x, generator):
    """Mirrors half of the pictures and moves the batch by up to two pixels."""
    mirror = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    x = torch.where(mirror, x.flip(3), x)
    dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
    padded = F.pad(x, (2, 2, 2, 2), value=-MEAN / STD)  # black
    return padded[:, :, dy : dy + 28, dx : dx + 28].contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(module, pictures, labels):
    """Percentage of pictures whose largest logit is that of their label."""
    module.eval()
    right = 0
    for i in range(0, len(pictures), 500):
        guess = module(to_input(pictures[i : i + 500])).argmax(1).numpy()
        right += int((guess == labels[i : i + 500]).sum())
    return 100 * right / len(pictures)


def start(module, path):
    """Loads the model `path` to go on with. Raises OSError, ValueError."""
    try:
        model_file.load_model(path, module)
    except ValueError as error:
        raise ValueError(f"--start '{path}' does not fit: {error}") from error


def train(module, args, save):
    """Trains `module` and calls save() after every epoch."""
    pictures, labels = fashion_mnist.load(args.data, "train")
    test_pictures, test_labels = fashion_mnist.load(args.data, "t10k")
    targets = torch.from_numpy(labels.astype(np.int64))
    generator = torch.Generator().manual_seed(args.seed)
    optimizer = torch.optim.AdamW(module.parameters(), args.rate, weight_decay=0.05, foreach=True)
    steps = len(pictures) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.rate, total_steps=steps * args.epochs, pct_start=0.2
    )
    if args.start:
        start(module, args.start)
    else:  # the block that runs eight times begins as the identity, or gradients would explode
        torch.nn.init.zeros_(module.block4.feature[8].weight)
    for epoch in range(1, args.epochs + 1):
        begin, total = time.monotonic(), 0.0
        module.train()
        # Its batch norms see eight distributions but keep one mean and variance. In the last third
        # it is trained with those, so that what is learnt holds for inference too.
        module.block4.train(epoch <= args.epochs - args.epochs // 3)
        order = torch.randperm(len(pictures), generator=generator)
        for step in range(steps):
            chosen = order[step * args.batch : (step + 1) * args.batch]
            x = augment(to_input(pictures[chosen.numpy()]), generator)
            loss = F.cross_entropy(module(x), targets[chosen], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss)
        right = accuracy(module, test_pictures, test_labels)
        save()
        ending.print_line(
            f"epoch {epoch:2} loss {total / steps:.4f} test {right:.2f} % ({time.monotonic() - begin:.0f} s)"
        )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default=fashion_mnist.DATA, help="folder of the .gz files (%(default)s)"
    )
    whole = model_file.number(int, 1, 60_000)
    parser.add_argument("--width", type=model_file.number(float, *reference.WIDTHS), default=0.125)
    parser.add_argument("--epochs", type=whole, default=6)
    parser.add_argument("--batch", type=whole, default=128)
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", metavar="M.safetensors", help="a model to train further")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument(
        "-o",
        "--output",
        metavar="DEMO.safetensors",
        default=os.path.join(os.path.dirname(__file__), "demo.safetensors"),
        help="the model, written after every epoch (%(default)s)",
    )
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    config = {"num_classes": len(fashion_mnist.LABELS), "width": args.width}
    module = reference.build("seed_depthwise", **config).to(memory_format=torch.channels_last)
    metadata = model_file.make_metadata(
        "seed_depthwise", config, fashion_mnist.LABELS, {"mean": [MEAN] * 3, "std": [STD] * 3}
    )
    try:
        model_file.check_targets([("-o", args.output)], [])  # and not after the first epoch
        train(module, args, lambda: model_file.write_model(args.output, module.state_dict(), metadata))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
