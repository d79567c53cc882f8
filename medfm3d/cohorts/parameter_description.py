"""A description of an object's parameters as plain JSON values, equal for equal parameters in every run.

What the keys of cached volumes are made of: two transforms have the same description only if they do the same.
"""

import enum
import functools
import hashlib
import logging
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ReferenceResolver
from monai.data import ImageReader

from medfm3d.cohorts.errors import CohortError

CONFIG_REFERENCES = ReferenceResolver._vars  # where MONAI puts what @ refers to in an expression of a config


def describe_parameters(value: Any) -> Any:
    """Describe a transform, or any value it may have as a parameter, by its class and all its attributes.

    Functions are described by their byte code, what they close over and the values they read of their module, so a
    lambda that is changed, or that refers to another value of a bundle's config, has another description. Functions
    and classes that they call are not looked into.

    Raises:
        CohortError: the value, or something in it, has no description that is the same in every run.
    """
    return _describe(value, ())


def _describe(value: Any, within: tuple[int, ...]) -> Any:
    if id(value) in within:
        return {"enclosing": len(within) - within.index(id(value))}
    inner = (*within, id(value))
    match value:
        case None | bool() | int() | str():
            return value
        case float() | complex() | bytes() | slice() | types.EllipsisType():
            return {type(value).__name__: repr(value)}
        case enum.Enum():
            return {"enum": f"{_name(type(value))}.{value.name}"}
        case Path() | torch.dtype() | torch.device() | np.dtype():
            return {type(value).__name__: str(value)}
        case np.generic() | np.ndarray() | torch.Tensor():
            return _array(value)
        case list() | tuple():
            return [_describe(item, inner) for item in value]
        case set() | frozenset():
            return {"set": sorted((_describe(item, inner) for item in value), key=repr)}
        case Mapping():
            return {"mapping": [[_describe(key, inner), _describe(item, inner)] for key, item in value.items()]}
        case functools.partial():
            return {"partial": _describe([value.func, value.args, value.keywords], inner)}
        case type() | types.BuiltinFunctionType() | np.ufunc():
            return {"name": _name(value)}
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            parts = [value.__code__, value.__defaults__, value.__kwdefaults__, cells, _values_read(value)]
            return {"function": _describe(parts, inner)}
        case types.MethodType():
            return {"method": _describe([value.__func__, value.__self__], inner)}
        case types.CodeType():
            return {"code": _describe([value.co_code, value.co_consts, value.co_names], inner)}
        case logging.Logger():  # says nothing about what is computed
            return {"logger": value.name}
    if hasattr(value, "__dict__"):
        return {"class": _name(type(value)), "attributes": _describe(_parameters(value), inner)}
    raise CohortError(
        f"{value!r} of {_name(type(value))} has no description that is the same in every run: "
        "give the transform plain parameters, or keep it out of the part that is cached"
    )


def _values_read(function: types.FunctionType) -> dict[str, Any]:
    """The module's values that a function names; of all that a bundle's config holds, those that it refers to by @."""
    names, constants, codes = set(), set(), [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        constants.update(constant for constant in code.co_consts if isinstance(constant, str))
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    read = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    if CONFIG_REFERENCES in read:
        referred = read[CONFIG_REFERENCES]
        read[CONFIG_REFERENCES] = {name: referred[name] for name in sorted(constants) if name in referred}
    code_of_its_own = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    return {name: value for name, value in read.items() if not isinstance(value, code_of_its_own)}


def _parameters(value: Any) -> dict[str, Any]:
    """An object's attributes, without per-thread state and the files that a MONAI reader read last."""
    return {
        name: attribute
        for name, attribute in sorted(vars(value).items())
        if not isinstance(attribute, threading.local) and not (isinstance(value, ImageReader) and name == "filenames")
    }


def _array(value: np.generic | np.ndarray | torch.Tensor) -> dict[str, Any]:
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if array.dtype == object:
        raise CohortError("an array of Python objects has no description that is the same in every run")
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"array": [str(array.dtype), list(array.shape), digest]}


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', value.__name__)}"
