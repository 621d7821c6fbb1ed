"""Imports the package's classes when Keras is imported, so that `import mixmo_keras` costs nothing before.

TensorFlow takes seconds to import, which a command line that prints its help must not wait for. But a saved model names its
classes, and Keras finds those that were registered: `keras.models.load_model` after nothing but `import mixmo_keras` has to
know them all.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Collection

_PACKAGE = __name__.partition(".")[0]


def follow(then: Callable[[], object], without: Collection[str]) -> None:
    """Calls a function as soon as Keras is imported: now, where it is; else before the first module that needs Keras.

    Args:
        then: The function.
        without: The names of the modules and rooms of this package that do without Keras until they are used.
    """
    if "keras" in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Follower(then, without))


class _Follower(importlib.abc.MetaPathFinder):
    """Does something once, after Keras was found as it would be found without this, or before a module that needs it."""

    def __init__(self, then: Callable[[], object], without: Collection[str]):
        self.then, self.without = then, without
        self.asking = False

    def find_spec(self, fullname, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if fullname == "keras":
            if self.asking:
                return None
            self.asking = True  # the other finders
            try:
                spec = importlib.util.find_spec("keras")
            finally:
                self.asking = False
            if spec is not None and spec.loader is not None:  # who only asks where Keras is imports nothing
                spec.loader = _ThenMore(spec.loader, self.now)
            return spec
        if package == _PACKAGE and rest.partition(".")[0] not in self.without:
            importlib.import_module("keras")  # which comes by the branch above
            return importlib.util.spec_from_loader(fullname, _Present()) if fullname in sys.modules else None
        return None

    def now(self) -> None:
        """Keras is there."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self.then()


class _ThenMore(importlib.abc.Loader):
    """A module's own loader, with something to do afterwards."""

    def __init__(self, loader, then: Callable[[], object]):
        self.loader, self.then = loader, then

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.then()


class _Present(importlib.abc.Loader):
    """Gives the module that was imported meanwhile."""

    def create_module(self, spec):
        return sys.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        pass
