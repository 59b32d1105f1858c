"""Whether a whole pickled module computes what the network does that is exported in its place.

Its tensors do not tell what its code does between them. The code has run when the module was read, so
running the module too asks for no more trust.
"""

import copy

import torch

import reference
from refused import Refused

# Where the pooling of xception meets even and odd sides, whose padding differs.
SIDES = {"seed": 32, "seed_depthwise": 32, "xception": 96}
# Of the largest logit. Both compute in double.
ROUNDING = 1e-5
OPTIONS = {
    "seed": "--sep-relu and --bn-eps",
    "seed_depthwise": "--sep-relu and --bn-eps",
    "xception": "--pool-pad and --bn-eps",
}


@torch.no_grad()
def logits_of(module, picture):
    """What a copy of `module` makes of `picture` in double. Raises what its code raises."""
    output = copy.deepcopy(module).double().eval()(picture)
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"its output is a {type(output).__name__}")
    return output


def check(given, network, state, arch, say):
    """Raises Refused where `given`, a module as the file has it, gives other logits than `network`, of
    reference.py, with the tensors of `state`. Where `given` cannot be run, `say` is called with that."""
    side = SIDES[arch]
    picture = reference.sample_input(1, side, side).double()
    network.load_state_dict(state, strict=False)
    expected = logits_of(network, picture)
    try:
        found = logits_of(given, picture)
        if found.shape != expected.shape:
            raise ValueError(f"its output is {list(found.shape)}, not {list(expected.shape)}")
    except Exception as error:  # whatever its code raises
        text = (str(error).splitlines() or [""])[0][:200]
        say(
            f"the module cannot be compared with {arch}, since it does not run on a {side} x {side} picture "
            f"({type(error).__name__}: {text}); its tensors do not tell of {OPTIONS[arch]}"
        )
        return
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if difference <= ROUNDING * largest or not torch.isfinite(expected).all():
        return
    raise Refused(
        f"its module gives other logits than {arch} with its tensors, by {difference:.2g} where the largest is "
        f"{largest:.2g}; try other values of {OPTIONS[arch]} (a head of several layers has ReLU between them, and "
        f"nothing stands behind the head), or save module.state_dict() to leave out what its code does"
    )
