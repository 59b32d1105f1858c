#!/usr/bin/env python3
"""Counts what each kernel of a network does, on the emulator of tests/emulator: no GPU is needed.

kernel_counters.py -m xception.safetensors --build build/ci -b 8 --precision fp16 --device sm_90

Prints a markdown table, a row for each operation with its shapes, and then the rows that miss a
bound: the exit status is 1 where some do. docs/kernels.md says what the columns mean. These are counts,
and no times; --bound prints in their place how soon each kernel could be done at the soonest on the board
that the device stands for (gpu_bound.py), and --speed how fast the emulator itself is, on one core.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

import gpu_bound

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FLOAT_BYTES = 4
ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
COALESCED = 0.95  # least share of the moved sectors' bytes that lanes asked for
TRAFFIC = 1.03  # most bytes from and to DRAM over the least
CONFLICTS = 1.05  # most wavefronts of shared memory over the least
MMA = 40  # least share of mma in per cent: fp16 products of 728 to 728 channels from batch 8 on
DEPTHWISE = 14  # most lane instructions an output: fp16 depthwise convolutions from batch 8 on


def elements(shape):
    return math.prod(int(extent) for extent in shape.split("x"))


def run(args):
    """(layers of the plan, counters of the launch of each)."""
    with tempfile.TemporaryDirectory() as folder:
        counters = os.path.join(folder, "counters.jsonl")
        emulator = os.path.join(args.build, "tests", "emulator")
        if not os.path.exists(emulator):
            raise SystemExit(f"{emulator} is not there: build the tests with a CUDA toolkit first")
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": emulator,
            "XC_EMULATOR_DEVICE": args.device,
            "XC_EMULATOR_COUNTERS": counters,
        }
        if args.speed:
            environment["XC_EMULATOR_THREADS"] = "1"
        command = [os.path.join(args.build, "tools", "bench"), "layer", "-m", args.model]
        command += ["-d", "cuda", "-b", str(args.batch), "--precision", args.precision]
        command += ["-r", "1", "--warmup-ms", "0", "-o", "json"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(done.returncode)
        layers = json.loads(done.stdout)["rows"]
        with open(counters, encoding="utf-8") as f:
            launches = [json.loads(line) for line in f]
    return layers, launches[-len(layers) :]


def weight_bytes(operation, precision, device):
    """Of one weight: strips of a depthwise convolution keep float32."""
    strips = " s2" in operation or (precision == "bf16" and device == "sm_75")
    return FLOAT_BYTES if "depthwise" in operation and strips else ELEMENT_BYTES[precision]


def least_bytes(layer, precision, device, is_result):
    """What the operation must read and write: its tensors as they are kept, without padding, each once."""
    size = ELEMENT_BYTES[precision]
    operation, output = layer["operation"], elements(layer["output"])
    n, p, q, k = (int(extent) for extent in layer["output"].split("x"))
    source = elements(layer["inputs"][0])
    read = sum(elements(shape) for shape in layer["inputs"][1:]) * size
    if "conv1x1" in operation:  # with a stride it skips pixels
        source = n * p * q * int(layer["inputs"][0].split("x")[3])
    read += source * size
    if layer["macs"] > 0:
        read += layer["macs"] // (n * p * q) * weight_bytes(operation, precision, device)
        shift = "+bn" in operation or "depthwise" not in operation  # only those have no bias either
        second_norm = operation.partition("+relu")[2].count("+bn")
        read += k * FLOAT_BYTES * (shift + 2 * second_norm)  # scale and shift of a second norm
    return read, output * (FLOAT_BYTES if is_result else size)


def ratio(a, b):
    return a / b if b else 1.0


class Row:
    """A layer's counts as the table shows them."""

    def __init__(self, layer, launch, precision, device, is_result):
        self.name, self.operation = layer["name"], layer["operation"]
        self.shape = f"{layer['inputs'][0]} -> {layer['output']}"
        self.blocks = math.prod(launch["grid"])
        self.mma = 100 * launch["mma"] / launch["warp_instructions"]
        self.per_output = launch["lane_instructions"] / elements(layer["output"])
        self.load = ratio(launch["load_bytes"], launch["load_sector_bytes"])
        self.store = ratio(launch["store_bytes"], launch["store_sector_bytes"])
        self.shared = ratio(launch["shared_wavefronts"], launch["shared_wavefronts_ideal"])
        moved = launch["distinct_read_bytes"] + launch["distinct_written_bytes"]
        self.megabytes = moved / 1e6
        self.traffic = moved / sum(least_bytes(layer, precision, device, is_result))
        is_dense = layer["macs"] > 0 and "depthwise" not in self.operation
        sides = [layer["inputs"][0].split("x"), layer["output"].split("x")]
        is_large = int(sides[0][0]) >= 8
        is_middle = is_large and all(int(side[3]) == 728 for side in sides)
        # Of those that issue mma.sync: a wgmma is one instruction, counted as the many it stands for.
        issues_mma = "wgmma" not in layer["implementation"]
        self.least_mma = MMA if is_dense and is_middle and issues_mma and precision == "fp16" else 0
        is_bound = is_large and "depthwise" in self.operation and precision == "fp16"
        self.most_per_output = DEPTHWISE if is_bound else math.inf

    def cells(self, times):
        return [
            self.name, times, self.operation, self.shape, self.blocks, f"{self.mma:.0f}",
            f"{self.per_output:.1f}", f"{self.load:.3f}", f"{self.store:.3f}",
            f"{self.megabytes:.2f}", f"{self.traffic:.3f}", f"{self.shared:.3f}",
        ]  # fmt: skip

    def misses(self):
        if self.load < COALESCED:
            yield f"loads {self.load:.3f} < {COALESCED}"
        if self.store < COALESCED:
            yield f"stores {self.store:.3f} < {COALESCED}"
        if self.traffic > TRAFFIC:
            yield f"DRAM {self.traffic:.3f} > {TRAFFIC}"
        if self.shared > CONFLICTS:
            yield f"wavefronts {self.shared:.3f} > {CONFLICTS}"
        if self.mma < self.least_mma:
            yield f"mma {self.mma:.1f} % < {self.least_mma} %"
        if self.per_output > self.most_per_output:
            yield f"lane instructions an output {self.per_output:.1f} > {self.most_per_output}"


HEADINGS = [
    "layer", "times", "operation", "shapes", "blocks", "mma %", "lane instr./output", "load",
    "store", "DRAM MB", "of least", "wavefronts",
]  # fmt: skip


def print_table(headings, rows):
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def print_bounds(title, layers, launches, board, precision):
    """What each launch and all of them take at least where tensors come from DRAM, and by what."""
    rows, total = {}, 0.0
    for layer, launch in zip(layers, launches):
        bounds = gpu_bound.microseconds(launch, board, precision)
        limit = max(bounds, key=bounds.get)
        total += bounds[limit]
        shape = f"{layer['inputs'][0]} -> {layer['output']}"
        figures = [f"{value:.2f}" for value in bounds.values()]
        cells = [layer["operation"], shape, math.prod(launch["grid"]), *figures, limit]
        rows.setdefault((layer["operation"], shape), [layer["name"], 0, cells])[1] += 1
    print(f"{title}: bounds for {board.name}, in microseconds, of tensors that come from DRAM; no times\n")
    headings = ["layer", "times", "operation", "shapes", "blocks", *gpu_bound.LIMITS, "limited by"]
    print_table(headings, [[name, times, *cells] for name, times, cells in rows.values()])
    batch = int(layers[0]["inputs"][0].split("x")[0])
    print(f"\nall {len(layers)} launches, one after the other: {total:.0f} us,", end=" ")
    print(f"{1e6 * batch / total:.0f} pictures a second")


def print_speed(layers, launches):
    """Million lane instructions a second, of all layers of each kernel."""
    kernels = {}
    for layer, launch in zip(layers, launches):
        totals = kernels.setdefault(layer["implementation"].split()[0], [0, 0.0])
        totals[0] += launch["lane_instructions"]
        totals[1] += layer["median_ms"]
    rows = [(name, f"{count / ms / 1e3:.0f}") for name, (count, ms) in kernels.items()]
    print_table(["kernel", "million lane instructions a second"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "ci"))
    parser.add_argument("-b", "--batch", type=int, default=1)
    parser.add_argument("--precision", choices=ELEMENT_BYTES, default="fp16")
    parser.add_argument("--device", default="sm_90", help="a GPU of the emulator")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--bound", action="store_true", help="say how soon a GPU could be done")
    instead.add_argument("--speed", action="store_true", help="time the emulator")
    args = parser.parse_args()
    if args.bound and args.device not in gpu_bound.BOARDS:
        parser.error(f"--bound knows no board of {args.device}: {', '.join(gpu_bound.BOARDS)}")

    title = f"{os.path.basename(args.model)}, batch {args.batch}, {args.precision}, {args.device}"
    layers, launches = run(args)
    if args.bound:
        print_bounds(title, layers, launches, gpu_bound.BOARDS[args.device], args.precision)
        return 0
    if args.speed:
        print_speed(layers, launches)
        return 0
    rows = {}
    for i, (layer, launch) in enumerate(zip(layers, launches)):
        row = Row(layer, launch, args.precision, args.device, i + 1 == len(layers))
        rows.setdefault((row.operation, row.shape), [row, 0])[1] += 1
    print(f"{title}: {len(layers)} launches\n")
    print_table(HEADINGS, [row.cells(times) for row, times in rows.values()])
    missed = [(row.name, miss) for row, _ in rows.values() for miss in row.misses()]
    print(f"\n{len(missed)} bounds are missed" + (":" if missed else ""))
    for name, miss in missed:
        print(f"- {name}: {miss}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
