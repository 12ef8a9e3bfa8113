"""Runs a user's Python in the fresh child, and says what became of it. Never returns.

References to what is needed afterwards are taken here, at import, before user code can patch anything.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import linecache
import os
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

from executor import figures
from executor.results import Channel, encode

FILENAME = "<handler>"
MAX_NAME = 1024
MAX_MESSAGE = 8 * 1024
MAX_TRACEBACK = 64 * 1024
# What programs that use these libraries do sooner or later.
USUAL = {
    "numpy": "import numpy\nnumpy.arange(4.0).reshape(2, 2).mean()",
    "pandas": "import pandas\nf = pandas.DataFrame({'n': [1, 2], 's': ['a', 'b']})\nf.groupby('s').sum()\nf[['n']].sum().to_dict()",
}
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_exit, _write, _compile, _exec, _loads = os._exit, os.write, compile, exec, json.loads
_TracebackException = traceback.TracebackException
_run_exitfuncs = atexit._run_exitfuncs
_join_threads = threading._shutdown  # type: ignore[attr-defined]
_monotonic, _save_figures = time.monotonic, figures.save
_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__  # whatever a metaclass says
_missing = object()
_kept: list[types.ModuleType] = []


def run(spec: dict[str, Any], channel: Channel, import_path: list[str], with_figures: bool = False) -> NoReturn:
    """`import_path` goes to the end of sys.path: behind the standard library and site packages."""
    code, deadline = 1, _monotonic() + spec["timeout"]

    def at_end() -> None:
        if with_figures:
            _save_figures(deadline)

    try:
        namespace = _prepare(spec, import_path)
        code = _play(spec, channel, namespace, at_end)
    except BaseException as error:
        code = _report(error, channel, at_end)
    _exit(code)


def touch() -> None:
    """Goes once through what every run goes through, and through the common ways of what is preloaded.

    The pages are the child's own by then. Nothing of it can be seen later.
    """
    encode({"statusCode": 200, "body": ""})
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        _text_stream(number, mode)
    types.ModuleType("__main__")
    for source in ("def handler(event):\n    return event\n", *(USUAL[name] for name in USUAL if name in sys.modules)):
        namespace: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # a library that does not work here: its users will see
            _exec(_compile(source, FILENAME, "exec", dont_inherit=True), namespace)
    _hide_ours()


def _prepare(spec: dict[str, Any], import_path: list[str]) -> dict[str, Any]:
    """A `__main__` as a new interpreter would have it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        setattr(sys, name, _text_stream(number, mode))
        setattr(sys, f"__{name}__", getattr(sys, name))
    _hide_ours()
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["main.py", *spec["args"]]
    sys.dont_write_bytecode = True
    sys.path.extend(import_path)
    _reseed()
    source = spec["code"]
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(True), FILENAME)
    gc.enable()
    return main.__dict__


def _hide_ours() -> None:
    for name in [name for name in sys.modules if name == "executor" or name.startswith("executor.")]:
        _kept.append(sys.modules.pop(name))  # the user may have a module of that name; freeing ours would cost time


def _text_stream(number: int, mode: str) -> io.TextIOWrapper:
    """Unbuffered on the way out: what was printed before a SIGKILL must have left the process."""
    if mode == "r":
        return io.TextIOWrapper(
            io.BufferedReader(io.FileIO(number, "rb", closefd=False)), encoding="utf-8", errors="surrogateescape"
        )
    raw = io.FileIO(number, "wb", closefd=False)
    errors = "backslashreplace" if number == 2 else "surrogateescape"
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)  # type: ignore[type-var]


def _reseed() -> None:
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _play(spec: dict[str, Any], channel: Channel, namespace: dict[str, Any], at_end: Callable[[], None]) -> int:
    """Executes the code, then its handler if it defines one. Returns the exit code."""
    program = _compile(spec["code"], FILENAME, "exec", dont_inherit=True)
    _exec(program, namespace)
    handler = namespace.get("handler", _missing)
    if handler is _missing:
        _end_script(at_end)
        return 0
    channel.send(handler=True)
    value = _call(handler, _loads(spec["event"]))
    _flush()
    at_end()
    channel.send_value(value)
    return 0


def _call(handler: Any, event: object) -> object:
    if isinstance(handler, type):
        raise TypeError("handler is a class; it must be a function")
    if not callable(handler):
        raise TypeError(f"handler is not callable: it is of type {type(handler).__name__}")
    value = handler(event)
    if isinstance(value, types.CoroutineType):
        import asyncio

        return asyncio.run(value)
    if isinstance(value, (types.GeneratorType, types.AsyncGeneratorType)):
        raise TypeError("handler is a generator; it must return its result")
    return value


def _end_script(at_end: Callable[[], None]) -> None:
    """What the interpreter does at its end, short of taking itself apart."""
    _join_threads()
    at_end()  # before pyplot's own exit function closes all figures
    _run_exitfuncs()
    _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: S112 - replaced or closed by user code: nothing of ours is lost
            continue


def _report(error: BaseException, channel: Channel, at_end: Callable[[], None]) -> int:
    """Tells of an uncaught exception, on stderr and on the channel. Returns the exit code."""
    if isinstance(error, SystemExit):
        return _leave(error, at_end)
    described = describe(error)
    _flush()
    _complain(described["traceback"])
    at_end()
    with contextlib.suppress(BaseException):  # it is the user's
        _run_exitfuncs()
    _flush()
    channel.send(outcome="exception", exit_code=1, error=described)
    return 1


def _leave(error: SystemExit, at_end: Callable[[], None]) -> int:
    code = error.code
    if code is not None and not isinstance(code, int):
        _complain(f"{code}\n")
        code = 1
    with contextlib.suppress(BaseException):  # an exit function of the user's
        _end_script(at_end)
    return (code or 0) & 0xFF


def _complain(text: str) -> None:
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        while data:
            data = data[_write(2, data) :]
    except OSError:
        pass  # stderr was closed by user code


def describe(error: BaseException) -> dict[str, str]:
    """Type, message and traceback of an exception, with the user's own frames only, bounded."""
    name = _name_of(type(error))[:MAX_NAME]
    try:
        shown = _TracebackException(type(error), error, error.__traceback__)
        _cut(shown, set())
        text = "".join(shown.format())
        message = str(error)
    except BaseException as problem:
        text = message = f"{name}: the exception can't be shown ({_name_of(type(problem))[:MAX_NAME]})\n"
    if len(text) > MAX_TRACEBACK:
        text = text[: MAX_TRACEBACK // 2] + "\n[...]\n" + text[-MAX_TRACEBACK // 2 :]
    return {"type": _clean(name), "message": _clean(message[:MAX_MESSAGE]), "traceback": _clean(text)}


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(shown: Any, seen: set[int]) -> None:
    """Removes our frames, and what lies between them and the user's first one, all along the chain of causes."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    frames = [frame for frame in shown.stack if not frame.filename.startswith(_HERE)]
    first = next((index for index, frame in enumerate(frames) if frame.filename == FILENAME), 0)
    shown.stack[:] = frames[first:]
    for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
        _cut(other, seen)
