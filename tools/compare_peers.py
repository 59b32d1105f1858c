#!/usr/bin/env python3
"""Times the engine against ONNX Runtime, OpenVINO and PyTorch in one interleaved run.

compare_peers.py --arch xception --batch 1,8 --rounds 15
compare_peers.py --arch seed_depthwise --batch 1,32 --rounds 30
compare_peers.py --arch xception --load --rounds 7
compare_peers.py --arch xception --batch 1 --ours-precision bf16 --peers ort
compare_peers.py --arch xception --device cuda --precision fp16 --batch 1,8,32,128

All engines run the same drawn weights on the same pictures, and the logits of their first run must be
PyTorch's: exit status 5 where they are not. Needs `bench` built (build/release, or --bench) and the
peers from PyPI: --install puts them into .venv. On a GPU the peers are PyTorch, and our own engine with
cuDNN's convolutions in the place of ours.

How it is timed. Each engine lives in a process of its own, so that no runtime's threads or allocator
disturb another's, and is told over a pipe when to run: `bench model --step`, and peer_process.py for
the others. A process times its own runs, from pictures in memory to logits in memory. The engines take
turns, and each round begins with another one, so that a change of the machine's speed meets all of
them. After a run the threads of OpenMP and of ONNX Runtime spin for a while, waiting for
more work, and on few cores that slows down whoever comes next. So a turn begins with a pause, in which
they fall asleep, and one run that is not timed; then --runs timed ones follow, back to back, whose
median is the turn's time. The table has the median and the least of the turns, and the median over the
rounds of ours / theirs: below 1 we are faster.

With --load every repetition starts fresh processes. "load" is what a process spends from its first call
of the engine to the first logits; imports are not in it, and "process", which has them too, counts
against the peers that Python needs its start. Peak memory is the process's high-water mark at that
moment (VmHWM of /proc: the rusage of a child has in it what its parent held before exec), and "grown"
what of it was not there before the engine was called: pages of the interpreter and of imported
libraries belong to Python rather than to the engine.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import peer_process
import peer_report
from peer_process import EngineFailed
from peer_report import NAMES

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# By device, with the module that each needs.
PEERS = {
    "cpu": {"ort": "onnxruntime", "openvino": "openvino", "torch": "torch"},
    "cuda": {"cudnn": None, "torch": "torch", "inductor": "torch"},
}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "fp16", "bf16")}
VENV = "/usr/bin/python3 -m venv --system-site-packages .venv"
PIP = ".venv/bin/pip install onnxruntime onnx openvino numpy<2"
# Of max |difference| / max |logit|, against PyTorch in float32: is it the same network at all? In
# bf16 PyTorch itself differs from its float32 by up to 8e-2 (seed_depthwise, drawn weights).
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 1e-1, "bf16": 1e-1}
WORKER = os.path.join(ROOT, "tools", "peer_process.py")


class Contest:
    """The files of one network and one batch, and the engines that run them."""

    def __init__(self, args, folder, batch):
        self.args, self.folder, self.batch = args, folder, batch

    def path(self, name):
        return os.path.join(self.folder, name)

    def prepare(self, module):
        """Writes the pictures, the truth and the ONNX model of this batch."""
        import numpy as np
        import torch

        import reference

        x = reference.sample_input(self.batch, self.args.size, self.args.size, seed=1000)
        np.save(self.path("x.npy"), x.numpy())
        with torch.no_grad():
            self.truth = module(x).numpy()
        if {"ort", "openvino"} & set(self.args.engines):
            torch.onnx.export(module, x, self.path("m.onnx"), opset_version=13)

    def precision(self, engine):
        return self.args.ours_precision if engine == "ours" else self.args.precision

    def command(self, engine):
        args = self.args
        files = ["--input", self.path("x.npy"), "--logits", self.path(f"{engine}.npy")]
        common = [*files, "--threads", str(args.threads), "--precision", self.precision(engine)]
        model = self.path("m.onnx" if engine in ("ort", "openvino") else "m.safetensors")
        if engine in ("ours", "cudnn"):
            device = args.device if engine == "ours" else "cudnn"
            shape = ["-b", str(self.batch), "--size", str(args.size)]
            step = ["--step", "--network-only"] if args.network_only else ["--step"]
            return [args.bench, "model", *step, "-d", device, "-m", model, *shape, *common]
        common += ["--device", args.device]
        common += ["--network-only"] if args.network_only else []
        return [sys.executable, WORKER, engine, "--arch", args.arch, "--model", model, *common]

    def open(self, engine):
        return peer_process.Engine(self.command(engine), self.args.ours_env if engine == "ours" else None)

    def disagreement(self, engine):
        """max |difference| / max |logit| of what the engine wrote after its first run."""
        import numpy as np

        logits = np.load(self.path(f"{engine}.npy"))
        return float(np.abs(logits - self.truth).max() / np.abs(self.truth).max())


def say(text):
    print(f"compare_peers: {text}", file=sys.stderr, flush=True)


def open_all(contest, names):
    """The engines that start, by name, each after its first run; says which peers do not, and why."""
    engines = {}
    try:
        for name in names:  # one after the other: cuDNN tries its algorithms meanwhile
            try:
                engines[name] = contest.open(name)
                engines[name].wait_until_ready()
                engines[name].run()
            except EngineFailed as error:
                engines.pop(name, None)
                leave_out(name, error)
    except EngineFailed:
        for engine in engines.values():
            engine.close()
        raise
    return engines


def leave_out(name, error):
    """Says that a peer failed; without ours there is nothing to compare."""
    if name == "ours":
        raise error
    say(f"{NAMES[name]} is left out: {error}")


def rotated(names, by):
    by %= len(names)
    return names[by:] + names[:by]


def time_runs(contest, args):
    """Rows of one batch: engine, ms of every round, disagreement with PyTorch."""
    engines = open_all(contest, args.engines)
    try:
        times = {name: [] for name in engines}
        for number in range(args.rounds):
            for name in rotated(list(engines), number):
                times[name].append(engines[name].turn(args.runs))
        return [
            {
                "engine": name,
                "version": engine.ready["version"],
                "device": engine.ready["device"],
                "precision": contest.precision(name),
                "batch": contest.batch,
                "max_difference": contest.disagreement(name),
                "ms": times[name],
            }
            for name, engine in engines.items()
        ]
    finally:
        for engine in engines.values():
            engine.close()


def time_loads(contest, args):
    """Rows as of time_runs, of fresh processes: load and process time, and peak memory."""
    rows = {}
    for number in range(args.rounds):
        for name in rotated(args.engines, number):
            time.sleep(peer_process.PAUSE)
            try:
                engine = contest.open(name)
                engine.wait_until_ready()
                first = engine.run()
            except EngineFailed as error:
                leave_out(name, error)
                args.engines = [other for other in args.engines if other != name]
                continue
            elapsed = 1e3 * (time.perf_counter() - engine.begin)
            peak = engine.peak_bytes()
            engine.close()
            ready = engine.ready
            row = rows.setdefault(name, {"engine": name, "version": ready["version"]})
            row |= {"device": ready["device"], "precision": contest.precision(name), "batch": contest.batch}
            for key, value in (
                ("load_ms", ready["load_ms"] + ready["create_ms"] + first),
                ("process_ms", elapsed),
                ("peak_bytes", peak),
                ("grown_bytes", peak - ready["rss_bytes_before"]),
            ):
                row.setdefault(key, []).append(value)
            row["max_difference"] = contest.disagreement(name)
    return [rows[name] for name in args.engines if name in rows]


def compare(args):
    """Runs everything; the report."""
    import torch

    sys.path.insert(0, os.path.join(ROOT, "weights"))
    import model_file
    import reference

    low, high = reference.SIDES[args.arch]
    if not low <= args.size <= high:
        say(f"--size: {args.arch} takes {low} to {high} pixels, not {args.size}")
        raise SystemExit(2)
    torch.set_num_threads(args.threads if args.device == "cpu" else os.cpu_count())
    report = {"tool": "compare_peers", "arch": args.arch, "size": args.size}
    report |= {"device": args.device, "precision": args.precision, "threads": args.threads, "rounds": args.rounds}
    report |= {"network_only": args.network_only}
    report |= {"machine": peer_report.describe_machine(), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        say(f"drawing the weights of {args.arch}")
        module = reference.randomize(reference.build(args.arch), args.seed)
        config = {"num_classes": reference.DEFAULT_CLASSES[args.arch]}
        model_file.write_model(
            os.path.join(folder, "m.safetensors"),
            module.state_dict(),
            model_file.make_metadata(args.arch, config),
        )
        for batch in args.batch:
            contest = Contest(args, folder, batch)
            contest.prepare(module)
            say(f"{'loads' if args.load else 'runs'} at batch {batch}")
            report["rows"] += (time_loads if args.load else time_runs)(contest, args)
    keys = ["load_ms", "process_ms", "peak_bytes", "grown_bytes"] if args.load else ["ms"]
    peer_report.add_ratios(report["rows"], keys)
    return report


# --- the command line -------------------------------------------------------------------------------


def find_bench():
    folders = [os.environ.get("XCEPTION_BUILD_DIR"), "build/release", "build/ci"]
    paths = [os.path.join(ROOT, folder, "tools", "bench") for folder in folders if folder]
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def assignment(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="xception", choices=("xception", "seed_depthwise"))
    parser.add_argument("--size", type=positive, help="side in pixels (xception 299, else 32)")
    parser.add_argument("--batch", help="1,8; with --load 1")
    parser.add_argument("--rounds", type=positive, default=15, help="%(default)s")
    parser.add_argument("--runs", type=positive, default=3, help="timed in a turn (%(default)s)")
    parser.add_argument("--threads", type=positive, default=2, help="of every engine (%(default)s)")
    parser.add_argument("--device", default="cpu", choices=PEERS, help="%(default)s")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS["cuda"])
    parser.add_argument("--ours-precision", choices=PRECISIONS["cuda"],
                        help="of our engine alone (default: that of all)")  # fmt: skip
    parser.add_argument("--peers", help="of " + " or ".join(",".join(p) for p in PEERS.values()))
    parser.add_argument("--load", action="store_true", help="time loading and peak memory instead")
    parser.add_argument("--network-only", action="store_true",
                        help="time the network alone, by the GPU's clock, without copies")  # fmt: skip
    parser.add_argument("--bench", default=find_bench(), help="the program (%(default)s)")
    parser.add_argument("--ours-env", type=assignment, action="append", default=[],
                        metavar="NAME=VALUE", help="for our process alone")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--install", action="store_true", help="install the peers into .venv first")
    parser.add_argument("-o", "--output", default="md", choices=("md", "json"))
    args = parser.parse_args(argv)
    args.size = args.size or (299 if args.arch == "xception" else 32)
    args.ours_env = dict(args.ours_env)
    try:
        batches = args.batch or ("1" if args.load else "1,8")
        args.batch = [positive(text) for text in batches.split(",")]
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --batch: {error}")
    args.ours_precision = args.ours_precision or args.precision
    for precision in (args.precision, args.ours_precision):
        if precision not in PRECISIONS[args.device]:
            parser.error(f"argument --precision: {args.device} has no {precision}")
    peers = PEERS[args.device]
    default = [name for name in peers if name != "inductor"]  # which compiles for minutes
    args.engines = ["ours", *(default if args.peers is None else args.peers.split(","))]
    args.engines = [name for name in dict.fromkeys(args.engines) if name]
    unknown = [name for name in args.engines[1:] if name not in peers]
    if unknown:
        parser.error(f"argument --peers: '{unknown[0]}' is none of {', '.join(peers)}")
    if args.network_only and args.load:
        parser.error("argument --network-only: not with --load, which times whole runs")
    if args.network_only and args.device == "cpu" and args.engines[1:]:
        parser.error("argument --network-only: on the CPU the peers time whole runs; name none: --peers ''")
    if args.bench is None:
        parser.error("bench is not built: cmake --preset release && cmake --build --preset release")
    return args


def install():
    """Makes .venv where it is not there, and goes on with its Python."""
    if not os.access(os.path.join(ROOT, ".venv/bin/pip"), os.X_OK):
        subprocess.run(VENV.split(), cwd=ROOT, check=True)
    subprocess.run(PIP.split(), cwd=ROOT, check=True, stdout=sys.stderr)
    arguments = [argument for argument in sys.argv if argument != "--install"]
    python = os.path.join(ROOT, ".venv/bin/python3")
    os.execv(python, [python, *arguments])


def main(argv=None):
    args = parse_arguments(argv)
    if args.install:
        install()
    needed = [m for p, m in PEERS[args.device].items() if p in args.engines and m]
    missing = [module for module in needed if module != "torch" and not has_module(module)]
    if missing:
        say(f"{', '.join(missing)} not found by {sys.executable}; --install, or:")
        print(f"  {VENV}\n  {PIP.replace('numpy<2', repr('numpy<2'))}", file=sys.stderr)
        return 2
    if not has_module("torch"):
        say(f"PyTorch, whose logits are the measure, not found by {sys.executable}:")
        print("  apt-get install python3-torch", file=sys.stderr)
        return 2
    if args.device == "cpu" and args.precision == "bf16":
        args.engines = [name for name in args.engines if name in ("ours", "openvino")]
        say("bf16: OpenVINO alone has it among the peers")
    try:
        report = compare(args)
    except EngineFailed as error:
        say(f"nothing is compared: {error}")
        return 0 if args.ours_precision == "bf16" and "AVX512_BF16" in str(error) else 1
    if args.output == "json":
        print(json.dumps(report, indent=1))
    else:
        peer_report.print_markdown(report, args.load)
    rows = report["rows"]
    apart = [row for row in rows if not row["max_difference"] <= TOLERANCE[row["precision"]]]
    for row in apart:
        say(f"{NAMES[row['engine']]} at batch {row['batch']} disagrees with PyTorch by "
            f"{row['max_difference']:.1e} of the largest logit, more than {TOLERANCE[row['precision']]:g}")  # fmt: skip
    return 5 if apart else 0


def has_module(name):
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main())
