"""Read a pickle as data: plain values, and inert records of everything else. Nothing in it is called or imported.

A pickle is a program for a small machine. This one makes lists, dicts, texts and numbers; where the program names a
class or calls it, it notes the name and the arguments.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from ...runtime.errors import ConfigError
from .bounded_pickle import BoundedPickle

_MAX_STEPS = 500_000  # HRNet-W48 with its moving average and the state of Adam has 204,000
_PRICES = {"GLOBAL": 10, "INST": 10}  # of those that take long; a checkpoint names each class once
_MAX_MADE = 64 << 20  # bytes of texts and entries of dicts that calls make out of what is there already
_MAX_ARRAY = 100_000
_MAX_DEPTH, _MAX_PARTS = 20, 100_000
DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")
_MARK = object()


@dataclass(eq=False, slots=True)
class Inert:
    """What stands for an object of a class, or for the class.

    Attributes:
        name: module and class.
        args: what it would have been made from; None for the class itself.
        state: what it would have been set to.
    """

    name: str
    args: Any = None
    state: Any = None
    items: list[Any] = field(default_factory=list)


def load(file: IO[bytes], label: str) -> Any:
    """The next pickle of a file, which is left behind it.

    Raises:
        ConfigError: it is damaged, or too long to be a checkpoint's.
    """
    return _run(_Machine(), file, label)


def _run(machine: _Machine, file: IO[bytes], label: str) -> Any:
    try:
        return machine.run(file)
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}") from error
    except Exception as error:  # an unpickler meets damage with exceptions of every kind
        raise ConfigError(f"{label}: damaged, or no checkpoint of torch.save ({type(error).__name__})") from error


def classes(file: IO[bytes], label: str) -> set[str]:
    """The names of all classes and functions in the next pickle of a file; raises as `load`."""
    machine = _Machine()
    _run(machine, file, label)
    return machine.names


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}
        self.names: set[str] = set()
        self._made = 0

    def run(self, file: IO[bytes]) -> Any:
        count = 0
        for code, arg, _ in pickletools.genops(BoundedPickle(file)):  # type: ignore[arg-type]
            name = code.name
            count += _PRICES.get(name, 1)
            if count > _MAX_STEPS:
                raise ConfigError("a pickle of too many steps for a checkpoint")
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _VALUES:
                self.stack.append(arg)
            else:
                _STEPS[name](self, arg)
        raise ValueError("no end")

    def marked(self) -> list[Any]:
        """What lies above the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def made(self, kind: Any, args: Any) -> Any:
        """What a call would have given."""
        name = kind.name if isinstance(kind, Inert) else "?"
        if name in DICTS:
            pairs = args[0] if isinstance(args, tuple) and args and isinstance(args[0], list) else []
            self._count(64 * len(pairs))
            return {_key(pair[0]): pair[1] for pair in pairs}
        if name in ("builtins.bytes", "__builtin__.bytes") and args == ():
            return b""  # in old protocols, as of an array without elements
        if name == "_codecs.encode" and isinstance(args, tuple) and args[1:] == ("latin1",):
            self._count(len(args[0]))
            return args[0].encode("latin1")
        return Inert(name, args)

    def _count(self, size: int) -> None:
        """A call on the same long list again and again takes few steps and much memory."""
        self._made += size
        if self._made > _MAX_MADE:
            raise ConfigError("a pickle that makes too much for a checkpoint")

    def put(self, arg: Any) -> None:
        self.memo[len(self.memo) if arg is None else arg] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, list):
            holder.extend(items)
        elif isinstance(holder, set):
            holder.update(map(_key, items))
        elif isinstance(holder, Inert):
            holder.items.extend(items)

    def set_items(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, dict):
            for i in range(0, len(items), 2):
                holder[_key(items[i])] = items[i + 1]

    def set_item(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self.set_items(items)

    def make_dict(self) -> None:
        items = self.marked()
        self.stack.append({})
        self.set_items(items)

    def name_class(self, name: str) -> None:
        self.names.add(name)
        self.stack.append(Inert(name))

    def name_stacked_class(self) -> None:
        name = self.stack.pop()
        self.name_class(f"{self.stack.pop()}.{name}")

    def storage(self, on_stack: bool) -> None:
        self.stack.append(Inert("storage", self.stack.pop() if on_stack else None))

    def build(self, state: Any) -> None:
        if isinstance(self.stack[-1], Inert):
            self.stack[-1].state = state

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def instance(self, code: str, arg: Any) -> None:
        """The calls of an old protocol and of new ones."""
        if code == "INST":
            items = tuple(self.marked())
            self.name_class(arg.replace(" ", "."))
            self.stack.append(self.made(self.stack.pop(), items))
        elif code == "OBJ":
            kind, *args = self.marked()
            self.stack.append(self.made(kind, tuple(args)))
        else:
            if code == "NEWOBJ_EX":
                self.stack.pop()  # the keyword arguments
            args = self.stack.pop()
            self.stack.append(self.made(self.stack.pop(), args))


def _key(value: Any) -> Any:
    """A key of a dict; hashing nested tuples could exhaust the stack, so these become their own name."""
    plain = value is None or isinstance(value, str | bytes | int | float)
    return value if plain else f"<{type(value).__name__}>"


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, arg: None,
    "FRAME": lambda m, arg: None,
    "EMPTY_LIST": lambda m, arg: m.stack.append([]),
    "EMPTY_DICT": lambda m, arg: m.stack.append({}),
    "EMPTY_SET": lambda m, arg: m.stack.append(set()),
    "LIST": lambda m, arg: m.stack.append(m.marked()),
    "TUPLE": lambda m, arg: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m, arg: m.tuple_of(1),
    "TUPLE2": lambda m, arg: m.tuple_of(2),
    "TUPLE3": lambda m, arg: m.tuple_of(3),
    "FROZENSET": lambda m, arg: m.stack.append(set(map(_key, m.marked()))),
    "DICT": lambda m, arg: m.make_dict(),
    "APPEND": lambda m, arg: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, arg: m.extend(m.marked()),
    "ADDITEMS": lambda m, arg: m.extend(m.marked()),
    "SETITEM": lambda m, arg: m.set_item(),
    "SETITEMS": lambda m, arg: m.set_items(m.marked()),
    "POP": lambda m, arg: m.stack.pop(),
    "POP_MARK": lambda m, arg: m.marked(),
    "DUP": lambda m, arg: m.stack.append(m.stack[-1]),
    "PUT": lambda m, arg: m.put(int(arg)),
    "BINPUT": lambda m, arg: m.put(arg),
    "LONG_BINPUT": lambda m, arg: m.put(arg),
    "MEMOIZE": lambda m, arg: m.put(None),
    "GET": lambda m, arg: m.stack.append(m.memo[int(arg)]),
    "BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "LONG_BINGET": lambda m, arg: m.stack.append(m.memo[arg]),
    "GLOBAL": lambda m, arg: m.name_class(arg.replace(" ", ".")),
    "STACK_GLOBAL": lambda m, arg: m.name_stacked_class(),
    "REDUCE": lambda m, arg: m.instance("REDUCE", arg),
    "BUILD": lambda m, arg: m.build(m.stack.pop()),
    "PERSID": lambda m, arg: m.storage(False),
    "BINPERSID": lambda m, arg: m.storage(True),
    "NEWOBJ": lambda m, arg: m.instance("NEWOBJ", arg),
    "NEWOBJ_EX": lambda m, arg: m.instance("NEWOBJ_EX", arg),
    "INST": lambda m, arg: m.instance("INST", arg),
    "OBJ": lambda m, arg: m.instance("OBJ", arg),
}


def plain(value: Any) -> Any:
    """A value with numpy's arrays and numbers as lists and numbers; other inert records stay.

    Raises:
        ConfigError: it is too large, or too deep.
    """
    return _plain(value, 0, [0])


def _plain(value: Any, depth: int, count: list[int]) -> Any:
    count[0] += 1
    if depth > _MAX_DEPTH or count[0] > _MAX_PARTS:
        raise ConfigError("the checkpoint's own description is too large")
    if isinstance(value, dict):
        return {key: _plain(v, depth + 1, count) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, depth + 1, count) for v in value]
    if not isinstance(value, Inert):
        return value
    if re.fullmatch(r"numpy\.(_?core)\.multiarray\._reconstruct", value.name):
        return _array(value)
    if re.fullmatch(r"numpy\.(_?core)\.multiarray\.scalar", value.name) and len(value.args or ()) == 2:
        found = _numbers(value.args[0], value.args[1], 1)
        return found[0] if found else value
    return value


def _array(record: Inert) -> Any:
    """A numpy array from its state: version, shape, dtype, order, data."""
    if not isinstance(record.state, tuple) or len(record.state) != 5:
        return record
    _, shape, dtype, fortran, data = record.state
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and 0 <= n <= _MAX_ARRAY for n in shape):
        return record
    if len(shape) > 4:
        return record
    size = math.prod(shape)
    flat = data if isinstance(data, list) else _numbers(dtype, data, size)
    if flat is None or len(flat) != size or size > _MAX_ARRAY:
        return record
    array = np.empty(size, dtype=object)
    array[:] = flat
    return array.reshape(shape, order="F" if fortran else "C").tolist()


def _numbers(dtype: Any, data: Any, count: int) -> list[Any] | None:
    """Numbers or texts from their bytes; None if the type is another one or the sizes do not fit."""
    code = dtype.args[0] if isinstance(dtype, Inert) and dtype.name == "numpy.dtype" and dtype.args else None
    order = dtype.state[1] if code is not None and isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "|"
    if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]|[US]\d{1,4}", code) or order not in "<>|=":
        return None
    kind = np.dtype(f"{order}{code}" if order in "<>" else code)
    if not isinstance(data, bytes) or len(data) != kind.itemsize * count or kind.itemsize == 0:
        return None
    array = np.frombuffer(data, kind)
    if kind.kind == "f" and kind.itemsize < 8:  # 0.025, not 0.02500000037252903
        return [float(str(v)) for v in array]
    found: list[Any] = array.tolist()
    return [v.decode("latin1") if isinstance(v, bytes) else v for v in found]
