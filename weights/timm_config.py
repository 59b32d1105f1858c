"""config.json as timm publishes it beside a weight file, in the words of our own metadata.

The engine reads it by the same rules (docs/weight-file.md) where the file does not say which network it is.
"""

import os
import stat

import json_text
import model_file
import reference
from refused import Refused

# timm's and Cadene's names.
ALIASES = {"legacy_xception": "xception"}
# Of pretrained_cfg, which has much else; the last two are timm's names of our resize_mode and size.
TAKEN = (*model_file.SEED_PREPROCESS, "crop_mode", "input_size")


def beside(path):
    """What config.json in the folder of `path` says, as our metadata keys without their prefix and values
    that are no texts; {} where there is none, or one of no network of ours. `preprocess` has timm's own
    names. Raises Refused."""
    name = os.path.join(os.path.dirname(path), "config.json")
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            return {}  # a folder, or a pipe, which would be waited for
        with open(name, "rb") as f:
            config = json_text.parse(f.read(json_text.MOST_BYTES + 1).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"config.json beside it cannot be read ({error.strerror}); repair or remove it") from error
    except ValueError as error:
        raise Refused(f"config.json beside it is no JSON ({error}); repair or remove it") from error
    if not isinstance(config, dict):
        raise Refused("config.json beside it is no JSON object; repair or remove it")
    arch = config.get("architecture")
    arch = ALIASES.get(arch, arch) if isinstance(arch, str) else None
    if arch not in reference.ARCHS:
        return {}  # of something else
    result = {"arch": arch, "labels": labels_of(config), "preprocess": {}}
    if json_text.is_number(config.get("num_classes")):
        result["num_classes"] = int(config["num_classes"])
    if isinstance(config.get("pretrained_cfg"), dict):
        pretrained = config["pretrained_cfg"]
        result["preprocess"] = {key: pretrained[key] for key in TAKEN if key in pretrained}
    return result


def labels_of(config):
    """Names of the classes, or the descriptions that it may have of them."""
    labels = config.get("label_names")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return []
    descriptions = config.get("label_descriptions")
    if not isinstance(descriptions, dict):
        return labels
    described = (descriptions.get(label) for label in labels)
    return [text if isinstance(text, str) else label for label, text in zip(labels, described)]


def with_our_names(preprocess):
    """A preprocess object with our names for what may have timm's; ours go before those. Raises ValueError."""
    result = dict(preprocess)
    if "crop_mode" in result:
        mode = result.pop("crop_mode")
        result.setdefault("resize_mode", mode)
    if "input_size" in result:
        shape = result.pop("input_size")
        if not isinstance(shape, list) or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
            raise ValueError(f"its input_size is {shape}, where [3, side, side] should be")
        result.setdefault("size", shape[1])
    return result
