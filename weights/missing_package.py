"""What the scripts of this folder say where Python lacks what they are written with."""

import os
import sys


def explain(missing):
    """Ends the program with status 2 for a ModuleNotFoundError of PyTorch or NumPy, else raises it."""
    if missing.name not in ("torch", "numpy"):
        raise missing
    script = os.path.basename(sys.argv[0])
    print(f"{script}: {sys.executable} has no {missing.name}, which it needs; install it "
          f"(Debian: apt-get install python3-torch, then /usr/bin/python3 weights/{script} ...)",
          file=sys.stderr)  # fmt: skip
    sys.exit(2)
