"""config.json as timm publishes it beside a weight file, in the words of our own metadata.

The engine reads it by the same rules (docs/weight-file.md) where the file does not say which network it is.
"""

import json
import os
import stat

import json_text
import reference
from refused import Refused

# timm's and Cadene's names.
ALIASES = {"legacy_xception": "xception"}

# Of pretrained_cfg; the last two are timm's names of our resize_mode and size.
TAKEN = ("crop_pct", "interpolation", "mean", "std", "crop_mode", "input_size")


def metadata_beside(path):
    """Our metadata keys, with the values of config.json in the folder of `path`; {} where there is none,
    or one of no network of ours.
    Raises OSError, Refused."""
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
    metadata = {"xception.arch": arch}
    if json_text.is_number(config.get("num_classes")):
        metadata["xception.num_classes"] = str(int(config["num_classes"]))
    if labels := labels_of(config):
        metadata["xception.labels"] = json.dumps(labels, ensure_ascii=False)
    try:
        if preprocess := preprocess_of(config):
            metadata["xception.preprocess"] = json.dumps(preprocess)
    except ValueError as error:
        raise Refused(f"config.json beside it: {error}") from error
    return metadata


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


def preprocess_of(config):
    pretrained = config.get("pretrained_cfg")
    if not isinstance(pretrained, dict):
        return {}
    return with_our_names({key: pretrained[key] for key in TAKEN if key in pretrained})


def with_our_names(preprocess):
    """A preprocess object with our names for what may have timm's. Raises ValueError."""
    result = dict(preprocess)
    if "crop_mode" in result:
        result["resize_mode"] = result.pop("crop_mode")
    if "input_size" in result:
        shape = result.pop("input_size")
        if not isinstance(shape, list) or len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
            raise ValueError(f"its input_size is {shape}, where [3, side, side] should be")
        result["size"] = shape[1]
    return result
