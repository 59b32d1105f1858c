"""Reads and writes safetensors files with nothing but NumPy.

The format (https://github.com/huggingface/safetensors, README, "Format"): 8 bytes with the length
of the header, little-endian; the header, JSON; the tensors, raw and row-major. What this module
writes pads the header with spaces so that the data begins at a multiple of 8.
"""

import hashlib
import json
import math
import os
import stat
import struct

import numpy as np

import ending

HEADER_LIMIT = 100_000_000
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
MOST_SIDES = 32  # of an array of NumPy; no network has more than four
ITEM_SIZES = {name: np.dtype(d).itemsize for name, d in DTYPES.items()} | {"BF16": 2}


def to_bfloat16(array):
    """The upper halves of float32 values as uint16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(array, dtype="<f4").view("<u4")
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def from_bfloat16(halves):
    return (halves.astype("<u4") << 16).view("<f4")


def target_of(path):
    """The file that is to be replaced by what is written to `path`: where it is a symbolic link, what
    that points to. Raises OSError for what a file must not take the place of: devices, pipes."""
    if not os.path.basename(path):
        raise OSError(f"'{path}' names no file")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return os.path.realpath(path)
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is no regular file and is not replaced; choose another path")
    return os.path.realpath(path)


def open_beside(target):
    """(name, file) of a new file in the folder of `target`, with the permissions of that if it is
    there, to be written and renamed. Nothing that stands there is opened. Raises OSError."""
    mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else None
    folder, name = os.path.split(target)
    for number in range(1, 1000):
        tail = f".{os.getpid()}{'' if number == 1 else f'-{number}'}.part"
        room = 255 - len(os.fsencode(tail))  # a name has at most 255 bytes
        temporary = os.path.join(folder, os.fsdecode(os.fsencode(name)[:room]) + tail)
        ending.unfinished.add(temporary)
        try:
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode & 0o666
            )
        except FileExistsError:
            ending.unfinished.discard(temporary)
            continue
        if mode is not None:
            os.fchmod(descriptor, mode)
        return temporary, open(descriptor, "wb")
    raise OSError(f"{folder} has too many files named {name}.*.part; remove them")


def write(path, tensors, metadata=None, bfloat16=()):
    """Writes `tensors`, a dict from name to array, in its order; `metadata` maps str to str.

    The names in `bfloat16` are float32 arrays to be stored as BF16. The file appears under its name
    when it is complete: it is written beside it first, and a symbolic link stays one. Returns the
    SHA-256 of the data section in hexadecimal, which the metadata key "xception.sha256" gets too if
    it is there. Raises OSError."""
    target = target_of(path)
    header, blobs, offset, sha = {}, [], 0, hashlib.sha256()
    names = {np.dtype(d): name for name, d in DTYPES.items()}
    for name, array in tensors.items():
        dtype = "BF16" if name in bfloat16 else names[array.dtype]
        blob = (to_bfloat16(array) if name in bfloat16 else np.ascontiguousarray(array)).tobytes()
        end = offset + len(blob)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
        sha.update(blob)
        blobs.append(blob)
    if metadata is not None:
        if "xception.sha256" in metadata:
            metadata = metadata | {"xception.sha256": sha.hexdigest()}
        header = {"__metadata__": metadata} | header
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    temporary, f = open_beside(target)
    try:
        with f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.writelines(blobs)
        os.replace(temporary, target)
    except BaseException as error:
        os.remove(temporary)
        if isinstance(error, OSError):
            raise OSError(f"cannot write '{path}': {error.strerror}") from error
        raise
    finally:
        ending.unfinished.discard(temporary)
    return sha.hexdigest()


def without_repetition(pairs):
    """A JSON object as a dict. Raises ValueError where a name stands in it twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name is there twice")
    return result


def entry_of(name, value):
    """(name, dtype, shape, begin, end) of a tensor in a header. Raises ValueError, KeyError and
    TypeError."""
    dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"the type of '{name}' is no string")
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"a number of '{name}' is no whole one")
    return name, dtype, shape, begin, end


def check_places(entries, data_bytes):
    """Raises ValueError where the entries, in the order of their places, are not all of the data."""
    position = 0
    for name, dtype, shape, begin, end in entries:
        if dtype not in ITEM_SIZES:
            raise ValueError(f"tensor '{name}' has the type {dtype}, which is not supported")
        if len(shape) > MOST_SIDES:
            raise ValueError(f"tensor '{name}' has more than {MOST_SIDES} dimensions")
        if math.prod(side for side in shape if side > 0) * ITEM_SIZES[dtype] >= 2**63:
            raise ValueError(f"the shape of tensor '{name}' overflows 64 bits")
        if begin != position or end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
            raise ValueError(
                f"tensor '{name}' of shape {list(shape)} and type {dtype} "
                f"does not fit its place, bytes {begin} to {end}"
            )
        position = end
    if position != data_bytes:
        raise ValueError(
            f"its tensors take {position} bytes of data, but the file has {data_bytes}"
            + ("; it was cut short" if position > data_bytes else "")
        )


def read(path):
    """(tensors, metadata) of a file; BF16 comes back as float32. Raises ValueError, saying what
    is wrong, if the file is not a sound safetensors file, or not what its checksum is of."""
    with open(path, "rb") as f:
        data = f.read()
    if len(data) < 8:
        raise ValueError(f"no safetensors file: it has only {len(data)} bytes")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(HEADER_LIMIT, len(data) - 8):
        raise ValueError(f"no safetensors file, or cut short: its header would have {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=without_repetition)
        if not isinstance(header, dict):
            raise ValueError("it is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("__metadata__ is no object")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("a value of __metadata__ is no string")
        entries = [entry_of(name, value) for name, value in header.items()]
        entries.sort(key=lambda entry: entry[3:])
    except UnicodeDecodeError as error:
        raise ValueError("no safetensors file: its header is no UTF-8 text") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no safetensors file: its header is wrong ({str(error)[:200]})") from error

    check_places(entries, len(data) - 8 - length)
    tensors = {}
    for name, dtype, shape, begin, end in entries:
        raw = data[8 + length + begin : 8 + length + end]
        array = np.frombuffer(raw, DTYPES.get(dtype, "<u2"))
        tensors[name] = (from_bfloat16(array) if dtype == "BF16" else array).reshape(shape)
    sha256 = metadata.get("xception.sha256")
    if sha256 is not None and sha256 != hashlib.sha256(data[8 + length :]).hexdigest():
        raise ValueError("its data are not those that its xception.sha256 is of: the file is damaged")
    return tensors, metadata
