"""Reads what torch.save wrote without running code that is in it.

A pickle names functions and classes and has them called. Here it gets those that make tensors and what holds
them. Whatever else it names, be it an optimizer's state, the options of a training run or a trap, becomes an
object that does nothing (Inert), so that the weights beside it can be read all the same.
"""

import pickle
import types

import torch
from torch import serialization

from refused import Refused

# Nothing here does more with its arguments than to make a tensor, a size or a dict of them.
CALLED = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.serialization", "_get_layout"),
}


class Inert:
    """Stands for an object of a class that is not looked up. Its type has that one's name."""

    def __new__(cls, *_arguments, **_named):
        return super().__new__(cls)

    def __init__(self, *_arguments, **_named):
        pass

    def nothing(self, *_arguments, **_named):
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = nothing


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in CALLED:
            return super().find_class(module, name)
        return type(name, (Inert,), {"__module__": module})


def name_of(value):
    """What messages call the type of a value."""
    kind = type(value)
    return f"pickled {kind.__module__}.{kind.__name__}" if isinstance(value, Inert) else kind.__name__


# What torch.load takes for the module `pickle`.
READER = types.SimpleNamespace(
    __name__="pickled", Unpickler=Unpickler, load=lambda f, **named: Unpickler(f, **named).load()
)


def load(path, trust):
    """What torch.save wrote into `path`, on the CPU. With `trust` all of it, whole modules and
    TorchScript too, and what is in there runs. Raises OSError, Refused."""
    try:
        if trust:
            return torch.load(path, map_location="cpu", weights_only=False)
        with open(path, "rb") as f:
            return load_inert(f)
    except (OSError, Refused):
        raise
    except (AttributeError, ImportError) as error:
        raise Refused(
            f"it needs code that is not here ({error}); put it on PYTHONPATH, or save "
            "module.state_dict() instead"
        ) from error
    except Exception as error:  # a damaged file fails in as many ways as pickle has opcodes
        text = (str(error).splitlines() or [""])[0][:200]
        raise Refused(
            f"it is no PyTorch file, or is damaged ({type(error).__name__}: {text})"
        ) from error


def load_inert(f):
    """The two halves of torch.load, which itself is not to be relied on: that of PyTorch 1.13 takes no
    other pickle module than its own, whatever it is given, and all of them run TorchScript."""
    if not serialization._is_zipfile(f):
        return serialization._legacy_load(f, "cpu", READER, encoding="utf-8")
    with serialization._open_zipfile_reader(f) as archive:
        if "constants.pkl" in archive.get_all_records():
            raise Refused(
                "it is a TorchScript archive, whose code runs where it is read; save "
                "module.state_dict() instead, or pass --trust if you trust whoever made the file"
            )
        return serialization._load(archive, "cpu", READER, encoding="utf-8")
