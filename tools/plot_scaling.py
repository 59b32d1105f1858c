#!/usr/bin/env python3
"""How time and memory grow with the batch, the threads and the side of the picture.

plot_scaling.py -m xception.safetensors --save scaling.json
plot_scaling.py --from scaling.json

Runs `bench model` over two sweeps, batches at the network's own size and sides at batch 1, each for
every number of threads; prints the tables as markdown and draws docs/scaling.svg (with Debian's
python3-matplotlib; --no-plot does without).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys

import compare_peers
import peer_report

SVG = os.path.join(compare_peers.ROOT, "docs", "scaling.svg")


def bench(args, batches, sides):
    """The report of one `bench model`."""
    command = [args.bench, "model", "-m", args.model, "-d", args.device, "-o", "json"]
    command += ["--threads", args.threads, "--precision", args.precision, "-b", batches]
    command += ["--duration", args.duration, *(["--size", sides] if sides else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise SystemExit(result.returncode)
    return json.loads(result.stdout)


def measure(args):
    """{model, machine, build, batches: rows, sides: rows}."""
    report = bench(args, args.batches, None)
    return {
        "model": report["model"],
        "machine": report["machine"],
        "build": report["build"],
        "batches": report["rows"],
        "sides": bench(args, "1", args.sides)["rows"],
    }


def series(rows, key):
    """{threads: rows in ascending order of `key`}."""
    result = {}
    for row in sorted(rows, key=lambda row: row[key]):
        result.setdefault(row["threads"], []).append(row)
    return dict(sorted(result.items()))


def print_sweep(rows, key, heading):
    """A line for each value of `key`, the columns of every number of threads side by side."""
    lines = series(rows, key)
    headings = [heading]
    for threads in lines:
        headings += [f"median ms, {threads} thr.", f"images/s, {threads} thr.", f"GFLOP/s, {threads} thr."]
    headings += ["arena MiB", "peak RSS MiB"]
    table = []
    for same in zip(*lines.values()):
        line = [str(same[0][key])]
        for row in same:
            line += [f"{row['latency_ms']['p50']:.2f}", f"{row['images_per_s']:.1f}"]
            line += [f"{row['gflops_per_s']:.0f}"]
        line += [f"{same[-1]['arena_bytes'] / 2**20:.1f}"]
        line += [f"{same[-1]['peak_rss_bytes'] / 2**20:.0f}"]
        table.append(line)
    peer_report.print_table(headings, table)


def print_tables(data):
    machine, build = data["machine"], data["build"]
    print(
        f"{data['model']['arch']}, {data['batches'][0]['precision']}; {machine['cpu']}, "
        f"{machine['cores']} cores, load average {machine['load_average']:.2f}; "
        f"xception {build['version']} {build['commit']}, {build['compiler']}, {build['type']}\n"
    )
    print(f"At {data['batches'][0]['height']} px:\n")
    print_sweep(data["batches"], "batch", "batch")
    print("\nAt batch 1:\n")
    print_sweep(data["sides"], "height", "side")


def plot(data, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "xception"})
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6))
    for threads, rows in series(data["batches"], "batch").items():
        x = [row["batch"] for row in rows]
        label = f"{threads} thread{'s' if threads > 1 else ''}"
        left.plot(x, [row["images_per_s"] for row in rows], "o-", label=label)
    left.set(xlabel="batch", ylabel="images/s", xscale="log", ylim=(0, None))
    left.set_xticks(x, [str(value) for value in x])
    left.minorticks_off()
    left.legend()

    for threads, rows in series(data["sides"], "height").items():
        x = [row["height"] for row in rows]
        middle.plot(x, [row["latency_ms"]["p50"] for row in rows], "o-", label=f"{threads} thr.")
    last = rows[-1]["latency_ms"]["p50"]  # a line through the last point, if pixels were all
    middle.plot(x, [last * (side / x[-1]) ** 2 for side in x], "k:", label="by pixels")
    middle.set(xlabel="side, pixels", ylabel="ms at batch 1", xscale="log", yscale="log")
    right.plot(x, [row["arena_bytes"] / 2**20 for row in rows], "o-", label="activations")
    right.plot(x, [row["peak_rss_bytes"] / 2**20 for row in rows], "o-", label="peak RSS")
    right.set(xlabel="side, pixels", ylabel="MiB at batch 1", ylim=(0, None))
    middle.set_xticks(x, [str(side) for side in x])
    middle.minorticks_off()
    middle.legend()
    right.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", help="weight file")
    parser.add_argument("--bench", default=compare_peers.find_bench(), help="(%(default)s)")
    parser.add_argument("--device", default="cpu", help="%(default)s")
    parser.add_argument("--batches", default="1,2,4,8,16,32", help="%(default)s")
    parser.add_argument("--threads", default="1,2", help="%(default)s")
    parser.add_argument("--sides", default="71,96,128,192,256,299,384,512,600", help="%(default)s")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--duration", default="3s", help="of a row (%(default)s)")
    parser.add_argument("--save", metavar="F.json", help="keep the figures")
    parser.add_argument("--from", dest="source", metavar="F.json", help="kept ones; run nothing")
    parser.add_argument("-o", "--output", default=SVG, help="the plot (docs/scaling.svg)")
    parser.add_argument("--no-plot", action="store_true")
    args = parser.parse_args(argv)
    if not args.source and not args.model:
        parser.error("give a weight file with -m (weights/draw.py draws one), or --from")
    if not args.source and args.bench is None:
        parser.error("bench is not built: cmake --preset release && cmake --build --preset release")
    if not args.no_plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("no matplotlib: apt-get install python3-matplotlib, or give --no-plot")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    if args.source:
        with open(args.source, encoding="utf-8") as f:
            data = json.load(f)
    else:
        data = measure(args)
    if args.save:
        with open(args.save, "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
    print_tables(data)
    if not args.no_plot:
        plot(data, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
