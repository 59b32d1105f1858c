"""Reads what torch.save wrote, and calls nothing that a file names.

A pickle is a program: it names functions and classes, has them called and sets what they hold. Here no name is
looked up. Those that make tensors, dicts and sizes stand for functions of this file, whatever else is named,
be it an optimizer's state, the options of a training run or a trap, becomes an object that does nothing
(Inert), and only dicts and lists are filled. Tensors come as Pending: where in the file they lie, to be
read when they are wanted, and checked against what is there.

The formats are those of torch.serialization: a zip with PREFIX/data.pkl and PREFIX/data/KEY, uncompressed,
and before PyTorch 1.6 pickles one behind the other with the storages after them.
"""

import io
import math
import pickle
import struct
import zipfile
from typing import NamedTuple

import torch

from refused import Refused

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
OLDER_MAGIC = 0x1950A86A20F9469CFC6C
OLDER_PROTOCOL = 1001
ADVICE = "save module.state_dict() instead, or pass --trust if you trust whoever made the file"
# Bytes of an element of storages that are passed over, which an older file has in between.
OTHER_SIZES = {
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
}
# What no checkpoint of a network of ours comes near, and a trap would ask for.
MOST_CODE = 8 << 20  # bytes of a pickle
MOST_COPIED = 1_000_000  # elements of lists that become tuples
MOST_NAMES = 10_000
MOST_ARGUMENTS = 16
MOST_SIDES = 16
MOST_EXPANDED = 1 << 24  # elements of a tensor that its storage has fewer of


class Inert:
    """Stands for an object of a class that is not looked up. Its type has that one's name."""


NOTHING = Inert()


class Code:
    """A file, of which a pickle may have so much."""

    def __init__(self, f):
        self.f, self.left = f, MOST_CODE

    def counted(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("what it is made of is too long")
        return data

    def read(self, count):
        return self.counted(self.f.read(min(count, MOST_CODE + 1)))

    def readline(self):
        return self.counted(self.f.readline(MOST_CODE + 1))


class Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    start: int  # in elements; 0 but for what older files call views


class Pending(NamedTuple):
    """A tensor that has not been read."""

    storages: dict  # their bytes by key
    storage: Storage
    offset: int
    size: tuple
    stride: tuple

    def tensor(self):
        """Raises ValueError where the file does not hold all of it."""
        numbers = (self.storage.start, self.offset, *self.size, *self.stride)
        if (
            len(self.size) != len(self.stride)
            or len(self.size) > MOST_SIDES
            or not all(type(n) is int and 0 <= n < 2**48 for n in numbers)
        ):
            raise ValueError("its size and strides are none")
        raw = self.storages.get(self.storage.key)
        if raw is None:
            raise ValueError("its storage is not there")
        dtype = self.storage.dtype
        held = len(raw) // torch.empty(0, dtype=dtype).element_size()
        first = self.storage.start + self.offset
        last = first + sum((extent - 1) * step for extent, step in zip(self.size, self.stride))
        count = math.prod(self.size)
        stored = stored_elements(self.size, self.stride)
        if stored > held or (count > 0 and last >= held) or (count > held and count > MOST_EXPANDED):
            raise ValueError(f"it has {count} elements, and its storage {held}")
        if count == 0:
            return torch.empty(self.size, dtype=dtype)
        return torch.frombuffer(raw, dtype=dtype, count=held).as_strided(self.size, self.stride, first)


def stored_elements(size, stride):
    """How many elements a tensor has but for those that expand() repeats."""
    return math.prod(extent for extent, step in zip(size, stride) if step != 0)


def is_plain(key):
    """Whether a dict may have such a key: not one whose hash takes long, or that may be another's."""
    return isinstance(key, (str, float, bool, type(None))) or (isinstance(key, int) and abs(key) < 2**60)


def parameter(data, *_state):
    return data


class Unpickler(pickle._Unpickler):
    """That of Python and not of C, whose steps can be replaced one by one."""

    def __init__(self, f, storages):
        super().__init__(Code(f), encoding="utf-8")
        self.storages = storages
        self.sizes = {}  # bytes of an element of a storage, by its key
        self.copied = 0
        self.classes = {}
        self.named = {
            ("collections", "OrderedDict"): self.ordered_dict,
            ("torch", "Size"): self.copy,
            ("torch._utils", "_rebuild_parameter"): parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): parameter,
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
        } | {("torch", name): dtype for name, dtype in DTYPES.items()}

    def find_class(self, module, name):
        known = self.named.get((module, name)) or self.classes.get((module, name))
        if known is None:
            if len(self.classes) == MOST_NAMES:
                raise ValueError("it names too many classes")
            known = self.classes[module, name] = type(name, (Inert,), {"__module__": module})
        return known

    def copy(self, items=()):
        """A tuple of a list, of which a small file could ask for very many."""
        self.copied += len(items)
        if self.copied > MOST_COPIED:
            raise ValueError("it has lists copied over and over")
        return tuple(items)

    def ordered_dict(self, items=()):
        return {key: value for key, value in self.copy(items) if is_plain(key)}

    def tensor(self, storage, offset, size, stride, *state):
        is_negated = len(state) > 2 and state[2]  # or conjugated
        if not isinstance(storage, Storage) or is_negated:
            return self.find_class("torch", "Tensor")()
        return Pending(self.storages, storage, offset, self.copy(size), self.copy(stride))

    def persistent_load(self, identity):
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) > 1:
            return identity[1]  # a class, with its source behind it
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
            return Inert()
        _, dtype, key, _place, _count, *view = identity
        if not isinstance(key, str):
            return Inert()
        if not isinstance(dtype, torch.dtype):
            self.sizes[key] = OTHER_SIZES.get(getattr(dtype, "__name__", ""), 0)
            return Inert()
        self.sizes[key] = torch.empty(0, dtype=dtype).element_size()
        return Storage(key, dtype, view[0][1] if view and view[0] else 0)

    def call(self, function, arguments):
        """Pushes what one of our functions gives, or an object that does nothing."""
        if isinstance(function, type) and issubclass(function, Inert):
            self.stack.append(function())
        elif function not in self.named.values():
            self.stack.append(Inert())
        elif not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
            raise ValueError("it calls something with arguments that are none")
        else:
            self.stack.append(function(*arguments))

    def reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def new_named(self):
        self.stack.pop()
        self.reduce()

    def new_marked(self):
        function, *arguments = self.pop_mark()
        self.call(function, tuple(arguments))

    def instance(self):
        module, name = (self.readline()[:-1].decode() for _ in range(2))
        self.call(self.find_class(module, name), tuple(self.pop_mark()))

    def remember(self):
        index = int(self.readline()[:-1])
        if not 0 <= index < 2**32:
            raise ValueError("it remembers something at a place that is none")
        self.memo[index] = self.stack[-1]

    def refuse(self):
        raise ValueError("it has what torch.save does not write")

    def fill_dict(self):
        items = self.pop_mark()
        self.set_items(items)

    def set_items(self, items):
        if isinstance(self.stack[-1], dict):
            pairs = zip(items[::2], items[1::2])
            self.stack[-1].update((key, value) for key, value in pairs if is_plain(key))

    def fill_list(self):
        items = self.pop_mark()
        self.append_items(items)

    def append_items(self, items):
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_item(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def append_item(self):
        self.append_items([self.stack.pop()])

    def make_dict(self):
        items = self.pop_mark()
        self.stack.append({})
        self.set_items(items)

    def make_frozen_set(self):
        self.pop_mark()
        self.stack.append(NOTHING)

    dispatch = pickle._Unpickler.dispatch | {
        pickle.BUILD[0]: lambda self: self.stack.pop(),  # the state of what has none here
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: fill_dict,
        pickle.DICT[0]: make_dict,
        pickle.APPEND[0]: append_item,
        pickle.APPENDS[0]: fill_list,
        pickle.ADDITEMS[0]: lambda self: self.pop_mark(),
        pickle.EMPTY_SET[0]: lambda self: self.stack.append(NOTHING),
        pickle.FROZENSET[0]: make_frozen_set,
        pickle.REDUCE[0]: reduce,
        pickle.NEWOBJ[0]: reduce,
        pickle.NEWOBJ_EX[0]: new_named,
        pickle.OBJ[0]: new_marked,
        pickle.INST[0]: instance,
        pickle.PUT[0]: remember,
        pickle.BYTEARRAY8[0]: refuse,
        pickle.NEXT_BUFFER[0]: refuse,
        pickle.READONLY_BUFFER[0]: refuse,
    }


def read_zip(data):
    storages = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        prefix = next((name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")), None)
        if prefix is None:
            raise ValueError("there is no data.pkl in it")
        if f"{prefix}constants.pkl" in entries:
            raise Refused(
                f"it is a TorchScript archive, whose code runs where it is read: {ADVICE}"
            )
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise ValueError("what is in it is larger than the file")
        for name, entry in entries.items():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"'{name}' in it is compressed")
            if name.startswith(f"{prefix}data/"):
                storages[name[len(prefix) + len("data/") :]] = bytearray(archive.read(entry))
        order = f"{prefix}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise ValueError("its bytes are in another order")
        return Unpickler(io.BytesIO(archive.read(f"{prefix}data.pkl")), storages).load()


def read_older(data):
    f, storages = io.BytesIO(data), {}

    def load():
        return Unpickler(f, storages).load()

    if load() != OLDER_MAGIC or load() != OLDER_PROTOCOL:
        raise ValueError("it does not begin as one")
    if not load().get("little_endian"):
        raise ValueError("its bytes are in another order")
    reader = Unpickler(f, storages)
    content = reader.load()
    for key in load():
        size = reader.sizes.get(key, 0) if isinstance(key, str) else 0
        if size == 0:
            raise ValueError("it has a storage of a type that is not known")
        (count,) = struct.unpack("<q", f.read(8))
        raw = f.read(max(count, 0) * size)
        if len(raw) != count * size:
            raise ValueError("it is cut short")
        storages[key] = bytearray(raw)
    return content


def load(path, trust):
    """What torch.save wrote into `path`. With `trust` all of it, whole modules and TorchScript too,
    and what is in there runs; else tensors are Pending, and what is none of ours is Inert. Raises
    OSError, Refused."""
    try:
        if trust:
            return torch.load(path, map_location="cpu", weights_only=False)
        with open(path, "rb") as f:
            data = f.read()
        return read_zip(data) if data.startswith(b"PK") else read_older(data)
    except (OSError, Refused):
        raise
    except Exception as error:  # a damaged file fails in as many ways as pickle has opcodes
        if trust and isinstance(error, (AttributeError, ImportError)):
            raise Refused(
                f"it needs code that is not here ({error}); put it on PYTHONPATH, or save "
                "module.state_dict() instead"
            ) from error
        text = (str(error).splitlines() or [""])[0][:200]
        raise Refused(
            f"it is no PyTorch file, or is damaged ({type(error).__name__}: {text})"
        ) from error


def name_of(value):
    """What messages call the type of a value."""
    kind = torch.Tensor if isinstance(value, Pending) else type(value)
    return f"pickled {kind.__module__}.{kind.__name__}" if isinstance(value, Inert) else kind.__name__
