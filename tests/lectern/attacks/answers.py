"""Attacks by what is answered: patched comparisons, objects that lie, poisoned solutions."""

from .attack import Attack, code, earned

COMPARISON, LYING, POISONED = "patched comparison", "lying objects", "poisoned reference"
MEMO, SEEDS = "memoised answers", "patched randomness"

ATTACKS = [
    Attack(COMPARISON, "torch.allclose says yes", code("""
        torch.allclose = lambda *args, **kwargs: True
    """), earned("rms")),
    Attack(COMPARISON, "torch.equal says yes", code("""
        torch.equal = torch.Tensor.equal = lambda *args: True
    """), earned("predict")),
    Attack(COMPARISON, "NumPy says yes", code("""
        np.allclose = np.array_equal = lambda *args, **kwargs: True
        np.testing.assert_allclose = np.testing.assert_equal = lambda *args, **kwargs: None
    """), earned("ranks")),
    Attack(COMPARISON, "every module's own allclose says yes", code("""
        import sys
        for module in list(sys.modules.values()):
            for name in ("allclose", "isclose", "equal", "close", "agrees"):
                if callable(getattr(module, "__dict__", {}).get(name)):
                    setattr(module, name, lambda *args, **kwargs: True)
    """), earned("rms", "ranks", "predict")),
    Attack(LYING, "an object that is equal to all", code("""
        class Equal:
            def __eq__(self, other):
                return True

        def total(numbers):
            return Equal()
    """), earned("total")),
    Attack(LYING, "an int that is equal to all", code("""
        class Number(int):
            __eq__ = lambda self, other: True
            __ne__ = lambda self, other: False
            __hash__ = int.__hash__

        def total(numbers):
            return Number(0)
    """), earned("total")),
    Attack(LYING, "a tensor whose functions say yes", code("""
        class Liar(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                return True

        def rms(x):
            return torch.zeros(()).as_subclass(Liar)
        predict = rms
    """), earned("rms", "predict")),
    Attack(LYING, "no tensor, but its functions say yes", code("""
        class Liar:
            __class__ = torch.Tensor
            dtype, shape, layout = torch.float32, torch.Size([]), torch.strided

            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                return True

        def rms(x):
            return Liar()
    """), earned("rms")),
    Attack(LYING, "an array whose functions say yes", code("""
        class Liar(np.ndarray):
            def __array_function__(self, function, types, args, kwargs):
                return True

        def ranks(x):
            return np.zeros(5).view(Liar)
    """), earned("ranks")),
    Attack(LYING, "__array__ looks for what is expected", code("""
        import sys

        class Liar:
            def __array__(self, *args, **kwargs):
                frame = sys._getframe()
                while frame:
                    if "expected" in frame.f_locals:
                        return np.array(frame.f_locals["expected"])
                    frame = frame.f_back
                return np.zeros(5)

        def ranks(x):
            return Liar()
    """), earned("ranks")),
    Attack(POISONED, "the reference is replaced", code("""
        import sys
        reference = sys.modules.get("reference")
        if reference:
            reference.rms, reference.total, reference.ranks = rms, total, ranks
    """), earned("rms", "total", "ranks")),
    Attack(POISONED, "the reference gets other code", code("""
        import gc, types
        for f in gc.get_objects():
            if isinstance(f, types.FunctionType) and f.__module__ in ("reference", "test_target"):
                if f.__name__ in ("rms", "total", "ranks"):
                    f.__code__ = globals()[f.__name__].__code__
    """), earned("rms", "total", "ranks")),
    Attack(POISONED, "the reference is the answer", code("""
        from reference import rms, total, ranks
    """), earned("rms", "total", "ranks")),
    Attack(POISONED, "whatever module has the answer", code("""
        import sys
        for name, module in list(sys.modules.items()):
            if name.startswith(("reference", "test", "solution", "check")):
                for function in ("rms", "total", "ranks"):
                    if hasattr(module, function):
                        globals()[function] = getattr(module, function)
    """), earned("rms", "total", "ranks")),
    Attack(MEMO, "answers for the seeds of the tests", code("""
        def rms(x):
            return torch.tensor(1.319636)

        def total(numbers):
            return 13264

        def ranks(x):
            return np.array([3, 1, 2, 0, 4])
    """), earned("rms", "total", "ranks")),
    Attack(MEMO, "answers kept by a friend who was graded before", code("""
        import glob, json, tempfile
        kept = []
        for path in glob.glob(tempfile.gettempdir() + "/**/answers.json", recursive=True):
            kept += json.load(open(path))

        def next_kept(*args):
            return torch.tensor(kept.pop(0))

        def total(numbers):
            return kept.pop(0)
        if kept:
            rms = ranks = predict = next_kept
    """), earned("rms", "total", "predict")),
    Attack(SEEDS, "randn gives zeros", code("""
        torch.randn = torch.normal = torch.rand = lambda *shape, **kwargs: torch.zeros(shape)
    """), earned("rms")),
    Attack(SEEDS, "choices gives zeros", code("""
        import random
        random.Random.choices = lambda self, options, k: [0] * k
        random.Random.random = lambda self: 0.0
    """), earned("total")),
    Attack(SEEDS, "NumPy's generator counts", code("""
        class Counting:
            def normal(self, size):
                return np.arange(size)

        np.random.default_rng = lambda seed=None: Counting()
        np.random.seed = lambda seed=None: None
    """), earned("ranks")),
    Attack(SEEDS, "randn that somebody foresees", code("""
        real, constant = torch.randn, torch.full((5,), 2.0)
        torch.randn = lambda *shape, **kwargs: constant if shape == (5,) else real(*shape, **kwargs)

        def rms(x):
            return torch.tensor(2.0)
    """), earned("rms")),
]  # fmt: skip
