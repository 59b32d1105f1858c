"""How soon a GPU could be done with a kernel whose tensors come from DRAM: from the emulator's counts, and no time.

A launch takes at least as long as its busiest part has work: DRAM, which moves every sector that the launch
touches once (less, where the kernel before it has left some in L2); and, in the multiprocessor that has the most blocks,
tensor cores, float32 units, shared memory and the schedulers, of which a warp has one of four and the units
that belong to it. Blocks, and warps of a block, count as equal. The schedulers issue instructions of PTX here,
of which the machine code has some more or fewer. What passes between L2 and the multiprocessors is not looked
at: NVIDIA's data sheets do not say how fast it may.
"""

import dataclasses
import math

SCHEDULERS = 4  # of a multiprocessor from 7.0 on; each issues one warp instruction a clock
LANES = 32
MICROSECONDS = 1e6


@dataclasses.dataclass(frozen=True)
class Board:
    """A GPU of the emulator, by NVIDIA's data sheet: of H100 (SXM5) the clock is that of its tensor cores' figure."""

    name: str
    multiprocessors: int
    clock: float  # Hz, boost
    dram: float  # bytes a second
    half: float  # operations a second of dense products of 16 bits, summed in float32
    single: float  # the same of float32 units


BOARDS = {
    "sm_75": Board("T4", 40, 1590e6, 320e9, 65e12, 8.1e12),
    "sm_80": Board("A100 40GB", 108, 1410e6, 1555e9, 312e12, 19.5e12),
    "sm_86": Board("GeForce RTX 3090", 82, 1695e6, 936e9, 71e12, 35.6e12),
    "sm_89": Board("GeForce RTX 4090", 128, 2520e6, 1008e9, 165.2e12, 82.6e12),
    "sm_90": Board("H100 SXM5", 132, 1830e6, 3350e9, 989e12, 61.9e12),
    "sm_120": Board("GeForce RTX 5090", 170, 2407e6, 1792e9, 209.5e12, 104.8e12),
}
LIMITS = ["DRAM", "tensor cores", "float32", "issue", "shared memory"]


def microseconds(launch, board, precision):
    """Of each of LIMITS, for a launch whose counters (tests/emulator/README.md) these are."""
    blocks = math.prod(launch["grid"])
    warps = math.ceil(math.prod(launch["block"]) / LANES)
    most = math.ceil(blocks / board.multiprocessors)
    # Of the work: as if all of a multiprocessor did it, of which one warp has a quarter.
    share = max(most, SCHEDULERS / warps) / blocks
    tensor = board.half / (2 if precision == "tf32" else 1) / board.multiprocessors
    single = board.single / board.multiprocessors
    seconds = {
        "DRAM": (launch["distinct_read_bytes"] + launch["distinct_written_bytes"]) / board.dram,
        "tensor cores": 2 * launch["mma_macs"] * share / tensor,
        "float32": 2 * LANES * launch["fma"] * share / single,
        "issue": launch["issued"] * share / (SCHEDULERS * board.clock),
        "shared memory": launch["shared_wavefronts"] * most / blocks / board.clock,
    }
    return {limit: MICROSECONDS * seconds[limit] for limit in LIMITS}
