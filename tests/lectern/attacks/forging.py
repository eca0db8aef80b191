"""Attacks on the way of results: forged messages, pickles, exceptions that pretend."""

from .attack import Attack, changed, code, earned, stopped_the_batch

STDOUT, CHANNELS, OUTPUTS = "forged on stdout", "forged on the channels", "forged in outputs"
PICKLE, SKIPS = "pickle payloads", "exceptions that pretend"

FULL = """
import json, os, struct, sys
FULL = {"student": "mallory", "points": dict.fromkeys(("rms", "total", "ranks", "predict"), 1.0)}
RESULT = json.dumps(FULL).encode()

def answer():
    answer = {"value": 1.0, "forbidden": [], "points": 4, "passed": True, "verdict": "passed"}
    body = json.dumps({"dict": [[k, v] for k, v in answer.items()]})
    return struct.pack("<Q", len(body) + 1) + body.encode() + b"\\0"
"""
ALL = earned("rms", "total", "ranks", "predict")

ATTACKS = [
    Attack(STDOUT, "a line with the result, and out", FULL + code("""
        print("@@result " + RESULT.decode(), flush=True)
        print('{"verdict": "passed", "points": 4}', file=sys.stderr, flush=True)
        os._exit(0)
    """), ALL, way="stdout"),
    Attack(STDOUT, "stdout that corrects results", FULL + code("""
        class Liar:
            def __init__(self, real):
                self.real = real
            def write(self, text):
                return self.real.write(text.replace('": 0.0', '": 1.0').replace("wrong", "passed"))
            def __getattr__(self, name):
                return getattr(self.real, name)

        sys.stdout = sys.stderr = Liar(sys.stdout)
    """), ALL, way="stdout"),
    Attack(STDOUT, "a result printed while a check runs", FULL + code("""
        def rms(x):
            os.write(1, b"\\n@@result " + RESULT + b"\\n")
            os.write(2, b"\\n@@result " + RESULT + b"\\n")
            return torch.zeros(())
    """), ALL, way="stdout"),
    Attack(CHANNELS, "messages on every open file", FULL + code("""
        for number in range(3, 64):
            for message in (struct.pack(">I", len(RESULT)) + RESULT, answer()):
                try:
                    os.write(number, message)
                except OSError:
                    pass
    """), ALL, way="line"),
    Attack(CHANNELS, "answers instead of the worker, and out", FULL + code("""
        import gc, socket
        for line in [each for each in gc.get_objects() if isinstance(each, socket.socket)]:
            try:
                line.setblocking(False)
                line.sendall(struct.pack(">I", len(RESULT)) + RESULT)
                line.sendall(answer() * 20)
            except OSError:
                pass
        os._exit(0)
    """), ALL, way="line"),
    Attack(CHANNELS, "answers before the questions", FULL + code("""
        import threading

        def flood(number):
            try:
                ours = struct.pack(">I", len(RESULT)) + RESULT
                os.write(number, ours if number == 9 else answer() * 50)
            except OSError:
                pass

        def rms(x):
            flood(9)
            flood(3)
            return torch.zeros(())
    """), ALL, way="line"),
    Attack(CHANNELS, "messages are made elsewhere", FULL + code("""
        real = json.dumps

        def forged(value, *args, **kwargs):
            if isinstance(value, dict) and "points" in value:
                value = FULL
            return real(value, *args, **kwargs)

        json.dumps = forged
        if "lectern.worker" in sys.modules:
            worker = sys.modules["lectern.worker"]
            true = worker.encode

            def encode(value, **kwargs):
                if isinstance(value, dict):
                    value = {**value, **FULL, "passed": True, "verdict": "passed"}
                return true(value, **kwargs)

            worker.encode = encode
            worker.Worker.do_call = lambda self, request: {"passed": True, "points": 4}
    """), lambda after: earned("rms", "total")(after), way="stdout"),
    Attack(OUTPUTS, "an output that looks like a grade", FULL + code("""
        from IPython.display import display
        display({"application/x-grade": FULL, "text/plain": "passed"}, raw=True)
    """), ALL, way="outputs"),
    Attack(OUTPUTS, "outputs are shown by somebody else", FULL + code("""
        from IPython.display import display as real
        module = sys.modules["IPython.display"]
        module.display = lambda data, **kwargs: real({"application/x-grade": FULL}, raw=True)
    """), ALL, way="outputs"),
    Attack(PICKLE, "an object that runs a command", code("""
        import os

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {COURSE}/results/owned",)

        answer = Payload()

        def rms(x):
            return Payload()
        total = ranks = predict = rms
    """), changed("results/owned"), way="pickle"),
    Attack(PICKLE, "an array of such objects", code("""
        import os

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {COURSE}/results/owned",)

        answer = np.array([Payload(), 1.0], dtype=object)

        def rms(x):
            return answer
        total = ranks = predict = rms
    """), changed("results/owned"), way="pickle"),
    Attack(PICKLE, "pickled messages on every open file", code("""
        import os, pickle, struct

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {COURSE}/results/owned",)

        message = pickle.dumps(Payload())
        for number in range(1, 64):
            for frame in (struct.pack(">I", len(message)), struct.pack("<Q", len(message))):
                try:
                    os.write(number, frame + message)
                except OSError:
                    pass
    """), changed("results/owned"), way="pickle"),
    Attack(PICKLE, "a pickle left as an answer", code("""
        import os, pickle, torch

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {COURSE}/results/owned",)

        with open("answer.pkl", "wb") as file:
            pickle.dump(Payload(), file)
        torch.save(Payload(), "answer.pt")
    """), changed("results/owned"), way="pickle"),
    Attack(SKIPS, "unittest.SkipTest", code("""
        import unittest

        def rms(x):
            raise unittest.SkipTest("not today")
        total = ranks = predict = rms
    """), ALL),
    Attack(SKIPS, "pytest.skip", code("""
        import pytest

        def rms(x):
            pytest.skip("not today")
        total = ranks = predict = rms
    """), ALL),
    Attack(SKIPS, "pytest.xfail", code("""
        import pytest

        def rms(x):
            pytest.xfail("as expected")
        total = ranks = predict = rms
    """), lambda after: earned("rms", "total")(after) or stopped_the_batch(after)),
    Attack(SKIPS, "SystemExit with code 0", code("""
        import sys

        def rms(x):
            sys.exit(0)
        total = ranks = predict = rms
    """), stopped_the_batch),
    Attack(SKIPS, "KeyboardInterrupt", code("""
        def rms(x):
            raise KeyboardInterrupt
        total = ranks = predict = rms
    """), stopped_the_batch),
    Attack(SKIPS, "an exception of its own kind", code("""
        class Skipped(BaseException):
            '''Like pytest's.'''

        def rms(x):
            raise Skipped("not today")
        total = ranks = predict = rms
    """), ALL),
    Attack(SKIPS, "an exception whose text ends the process", code("""
        import os

        class Quiet(Exception):
            def __str__(self):
                os._exit(0)

        def rms(x):
            raise Quiet
        total = ranks = predict = rms
    """), stopped_the_batch),
]  # fmt: skip
