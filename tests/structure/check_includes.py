#!/usr/bin/env python3
"""Holds the sources to the include directions of docs/architecture.md.

usage: check_includes.py [ROOT]

A rule looks at everything that a file reaches, through however many of our headers, so that no detour
gets past it; the message shows the way. Exit status 1 where a rule is broken.
"""

import posixpath
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

FOLDERS = ("engine", "kernels", "tools", "tests")
SUFFIXES = {".cc", ".h", ".cu", ".cuh", ".c"}

CUDA = ["cuda*.h", "cuda/*", "cublas*", "cudnn*", "nvrtc*", "nvtx*", "cooperative_groups*",
        "device_launch_parameters.h", "mma.h"]
ONEDNN = ["dnnl*", "oneapi/dnnl/*"]
JSON = ["nlohmann/*"]
IMAGES = ["stb/*", "stb_*", "jpeglib.h", "turbojpeg.h"]

# The files of engine/ that know what a backend is. Every other one there is about graphs and files.
BACKEND_SIDE = ["engine/backend*", "engine/onednn*", "engine/cuda_*", "engine/model*",
                "engine/session*"]


class Rule:
    """`files` (but not `except_files`) must not reach `forbidden` (but may reach `allowed`).

    With `direct`, only what a file names itself counts.
    """

    def __init__(self, why, files, forbidden, except_files=(), allowed=(), direct=False):
        self.why, self.files, self.forbidden = why, files, forbidden
        self.except_files, self.allowed, self.direct = except_files, allowed, direct

    def governs(self, name):
        return matches(name, self.files) and not matches(name, self.except_files)

    def forbids(self, name):
        return matches(name, self.forbidden) and not matches(name, self.allowed)


RULES = [
    Rule("kernels know the engine's status.h and tensor.h and nothing else of it",
         ["kernels/*"], ["engine/*"],
         allowed=["engine/include/xception/status.h", "engine/include/xception/tensor.h"]),
    Rule("graphs, networks, passes and plans know no backend and no device",
         ["engine/*"], ["engine/backend*", "engine/onednn*", "engine/cuda_*"] + CUDA + ONEDNN,
         except_files=BACKEND_SIDE),
    Rule("graphs, networks, passes and plans know of kernels/ only problem.h",
         ["engine/*"], ["kernels/*"], except_files=BACKEND_SIDE, allowed=["kernels/problem.h"]),
    Rule("oneDNN is included by the CPU backend alone",
         ["engine/*", "kernels/*", "tools/*"], ONEDNN,
         except_files=["engine/onednn*", "engine/backend_cpu*"], direct=True),
    Rule("public headers are free of CUDA, oneDNN, JSON and image libraries",
         ["engine/include/*"], CUDA + ONEDNN + JSON + IMAGES),
    Rule("public headers include no private one",
         ["engine/include/*"], ["engine/*", "kernels/*"], allowed=["engine/include/*"]),
    Rule("the tools use the engine by its public headers, and its readers and writers of files and numbers",
         ["tools/*"], ["engine/*"],
         allowed=["engine/include/*", "engine/safetensors.h", "engine/atomic_file.h",
                  "engine/decimal.h", "engine/descriptor.h"], direct=True),
    Rule("nothing includes tools/", ["engine/*", "kernels/*", "tests/*"], ["tools/*"]),
    Rule("nothing includes tests/", ["engine/*", "kernels/*", "tools/*"], ["tests/*"]),
]


def matches(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def find_sources(root):
    return {path.relative_to(root).as_posix(): path
            for folder in FOLDERS
            for path in sorted((root / folder).rglob("*")) if path.suffix in SUFFIXES}


def read_includes(path):
    pattern = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
    with open(path, encoding="utf-8") as lines:
        return [(number, found.group(1)) for number, line in enumerate(lines, 1)
                if (found := pattern.match(line))]


def resolve(includer, text, sources):
    """The file of ours that an #include means, else its text as it stands."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(includer), text))
    for candidate in (beside, text, "engine/include/" + text, "tests/" + text):
        if candidate in sources:
            return candidate
    return text


def reached(start, edges):
    """(name, way) of everything that `start` reaches; way is the chain of names, start first."""
    ways = {start: [start]}
    queue = [start]
    for name in queue:
        for _, target in edges.get(name, ()):
            if target not in ways:
                ways[target] = ways[name] + [target]
                queue.append(target)
    del ways[start]
    return ways.items()


def check(root):
    """Messages about the sources below `root`, and how many files were looked at."""
    sources = find_sources(root)
    edges = {name: [(number, resolve(name, text, sources)) for number, text in read_includes(path)]
             for name, path in sources.items()}
    messages = []
    for name in sources:
        lines = {target: number for number, target in edges[name]}
        for target, way in reached(name, edges):
            for rule in RULES:
                if not rule.governs(name) or not rule.forbids(target):
                    continue
                if len(way) > 2 and (rule.direct or any(map(rule.forbids, way[1:-1]))):
                    continue  # a header on the way is told of already
                through = "".join(f" through {step}" for step in way[1:-1])
                messages.append(f"{name}:{lines[way[1]]}: includes {target}{through}: {rule.why}")
    return messages, len(sources)


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    messages, count = check(root)
    for message in messages:
        print(message)
    if count == 0:
        print(f"no sources below {root}")
        return 1
    print(f"{count} files, {len(messages)} wrong includes")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
