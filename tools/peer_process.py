#!/usr/bin/env python3
"""An engine in a process of its own, which runs when it is told to: both ends of the pipe.

peer_process.py ort|openvino|torch --model F --input X.npy ... is the end that runs, for the engines
that have Python; `bench model --step` is ours. It says "ready" and a JSON object, then runs once for
every line of standard input and answers with the milliseconds. Engine is the other end.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "weights")
PAUSE = 0.05  # seconds before a turn, in which the threads of whoever ran before fall asleep


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_ort(args, x):
    import onnxruntime

    before = resident_bytes(), time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(args.model, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return before, onnxruntime.__version__, lambda: session.run(None, {name: x})[0]


def open_openvino(args, x):
    import openvino

    before = resident_bytes(), time.perf_counter()
    hint = {"fp32": "f32", "bf16": "bf16"}[args.precision]
    core = openvino.Core()
    model = core.read_model(args.model)
    model.reshape(list(x.shape))
    options = {
        "INFERENCE_NUM_THREADS": args.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    version = openvino.__version__.partition("-")[0]
    return before, version, lambda: request.infer({0: x}, share_inputs=True)[0]


def open_torch(args, x):
    import torch

    sys.path.insert(0, WEIGHTS)
    import model_file
    import reference

    before = resident_bytes(), time.perf_counter()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(args.precision, torch.float32)
    module = reference.build(args.arch)
    model_file.load_model(args.model, module)
    if args.device != "cpu" and args.arch == "xception":
        # Batch norms into the convolutions before them. The seed's repeated blocks it would fold
        # once for each repetition.
        from torch.fx.experimental.optimization import fuse

        module = fuse(module)
    module = module.to(args.device, dtype, memory_format=torch.channels_last)
    if args.engine == "inductor":
        module = torch.compile(module)
    images = torch.from_numpy(x).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run():
        return module(images.to(args.device, dtype)).float().cpu().numpy()

    version = torch.__version__.partition("a")[0]
    if not args.network_only:
        return before, version, run
    return before, version, run, time_network(module, images.to(args.device, dtype))


def time_network(module, images):
    """A function that runs the module in a CUDA graph on pictures that are on the device, and gives
    the milliseconds by the device's clock."""
    import torch

    graph = torch.cuda.CUDAGraph()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run():
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # chooses algorithms, which may not happen in a capture
                module(images)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            module(images)
    return run


OPEN = {"ort": open_ort, "openvino": open_openvino, "torch": open_torch, "inductor": open_torch}


def work(args):
    import numpy as np

    x = np.load(args.input)
    (rss, start), version, run, *network = OPEN[args.engine](args, x)
    load_ms = 1e3 * (time.perf_counter() - start)
    ready = {"version": version, "device": args.device, "load_ms": load_ms, "create_ms": 0, "rss_bytes_before": rss}
    print("ready", json.dumps(ready), flush=True)
    logits = None
    for _ in sys.stdin:
        elapsed = None
        if logits is None or not network:
            start = time.perf_counter()
            result = run()
            elapsed = 1e3 * (time.perf_counter() - start)
        if logits is None:
            logits = result
            if args.logits:
                np.save(args.logits, logits)
        print(f"{network[0]() if network else elapsed:.6f}", flush=True)


class EngineFailed(Exception):
    """An engine that does not start or stops; the text is what it said."""


class Engine:
    """A process that runs when it is told to, from wait_until_ready() on."""

    def __init__(self, command, environment=None):
        self.begin = time.perf_counter()
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # a pipe might fill up
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env=os.environ | (environment or {}),
            )
        except OSError as error:
            self.errors.close()
            raise EngineFailed(str(error)) from error

    def wait_until_ready(self):
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.fail()
        self.ready = json.loads(line[len("ready ") :])

    def fail(self):
        self.close()
        raise EngineFailed(self.said or "it ended without a word")

    def run(self):
        """Milliseconds of one run."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.fail()
        return float(line)

    def turn(self, runs):
        """The median milliseconds of `runs` runs, after the pause and a run that is not timed."""
        time.sleep(PAUSE)
        self.run()
        return median(self.run() for _ in range(runs))

    def peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as f:
            line = next(line for line in f if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        if not self.errors.closed:
            self.errors.seek(0)
            self.said = (self.errors.read().strip().splitlines() or [""])[-1]
            self.errors.close()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=OPEN)
    parser.add_argument("--arch", required=True, help="for PyTorch, which builds it")
    parser.add_argument("--model", required=True, help=".onnx; .safetensors for PyTorch")
    parser.add_argument("--input", required=True, help="pictures, float32 .npy, N x 3 x H x W")
    parser.add_argument("--logits", help=".npy for the logits of the first run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of PyTorch")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "fp16", "bf16"))
    parser.add_argument("--network-only", action="store_true",
                        help="time the network alone, in a CUDA graph")  # fmt: skip
    work(parser.parse_args(argv))


if __name__ == "__main__":
    main()
