"""Attacks by what stays or breaks: orphans, other submissions, resources, exits and signals."""

from lectern.attempt import Times
from lectern.sandbox import SessionLimits

from .attack import (
    Attack,
    code,
    earned,
    harmed_the_next,
    hung,
    killed_a_bystander,
    leaked,
    said,
    stopped_the_batch,
    survived,
)
from .reading import PRINT_SECRETS

ORPHANS, OTHERS = "orphan processes", "other submissions"
RESOURCES, EXITS = "resources", "exits and signals"

NAMED = """
import ctypes, os, signal, time

def call_myself():
    ctypes.CDLL(None).prctl(15, MARK.encode(), 0, 0, 0)
"""
SHORT = Times(cell=0.7, all=3)
MIB = 1 << 20

ATTACKS = [
    Attack(ORPHANS, "forked twice", NAMED + code("""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                call_myself()
                time.sleep(60)
            os._exit(0)
        os.wait()
    """), survived),
    Attack(ORPHANS, "a program that sleeps", code("""
        import subprocess
        subprocess.Popen(["/bin/sh", "-c", f"sleep 60; : {MARK}"], start_new_session=True)
    """), survived),
    Attack(ORPHANS, "deaf to signals", NAMED + code("""
        if os.fork() == 0:
            os.setsid()
            call_myself()
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            time.sleep(60)
            os._exit(0)
    """), survived),
    Attack(ORPHANS, "waits for the result and rewrites it", NAMED + code("""
        import json
        if os.fork() == 0:
            os.setsid()
            call_myself()
            path, end = COURSE + "/results/mallory.json", time.time() + 5
            while time.time() < end and not os.path.exists(path):
                time.sleep(0.001)
            time.sleep(0.01)
            points = dict.fromkeys(("rms", "total", "ranks", "predict"), 1.0)
            open(path, "w").write(json.dumps({"student": "mallory", "points": points}))
            time.sleep(60)
            os._exit(0)
    """), lambda after: earned("rms", "total", "ranks")(after) and survived(after)),
    Attack(OTHERS, "files left in shared folders", PRINT_SECRETS + code("""
        import os, tempfile
        from glob import glob
        for place in {tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp", "/dev", os.getcwd()}:
            print_files(glob(f"{place}/*{MARK}*"))
    """), leaked),
    Attack(OTHERS, "the folder of somebody else", PRINT_SECRETS + code("""
        from glob import glob
        print_files(glob("../*/*") + glob(COURSE + "/submissions/*/*"))
    """), leaked),
    Attack(OTHERS, "strings left in memory", PRINT_SECRETS + code("""
        import gc
        for each in gc.get_objects():
            if type(each) is list:
                print_secrets(repr([v for v in each if type(v) is str]).encode())
    """), leaked),
    Attack(OTHERS, "the memory itself", PRINT_SECRETS + code("""
        import ctypes, os
        libc = ctypes.CDLL(None)

        class Part(ctypes.Structure):
            _fields_ = [("base", ctypes.c_size_t), ("length", ctypes.c_size_t)]

        page = ctypes.create_string_buffer(1 << 18)
        ours = Part(ctypes.addressof(page), len(page))
        for centre in {id(each) >> 26 for each in (object(), [], "x" * 50, {}, print_secrets)}:
            for start in range(centre << 26, (centre + 1) << 26, len(page)):
                theirs = Part(start, len(page))
                parts = ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0
                if libc.process_vm_readv(os.getpid(), *parts) > 0:
                    print_secrets(page.raw)
    """), leaked),
    Attack(OTHERS, "a segment of shared memory", PRINT_SECRETS + code("""
        import ctypes, zlib
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        segment = libc.shmget(zlib.crc32(MARK.encode()) >> 1, 4096, 0)
        if segment >= 0:
            print_secrets(ctypes.string_at(libc.shmat(segment, None, 0), 100))
    """), leaked),
    Attack(OTHERS, "a socket without a file", PRINT_SECRETS + code("""
        import socket
        line = socket.socket(socket.AF_UNIX)
        line.connect("\\0" + MARK)
        print_secrets(line.recv(100))
    """), leaked),
    Attack(OTHERS, "the kernel's key ring", PRINT_SECRETS + code("""
        import ctypes
        libc, found = ctypes.CDLL(None), ctypes.create_string_buffer(100)
        key = libc.syscall(250, 10, -3, b"user", MARK.encode(), 0)
        if key > 0:
            libc.syscall(250, 11, key, found, 100)
            print_secrets(found.raw)
    """), leaked),
    Attack(OTHERS, "ends a process of somebody else", code("""
        import os, signal
        from glob import glob
        for path in glob("/proc/[0-9]*/cmdline"):
            try:
                if f"bystander-{MARK}".encode() in open(path, "rb").read():
                    os.kill(int(path.split("/")[2]), signal.SIGKILL)
            except OSError:
                pass
    """), killed_a_bystander),
    Attack(OTHERS, "ends all processes of its group", code("""
        import os, signal
        os.kill(0, signal.SIGKILL)
    """), stopped_the_batch),
    Attack(OTHERS, "spoils functions for whoever comes next", code("""
        torch.Tensor.square = torch.Tensor.mean = torch.Tensor.sqrt = lambda self, *args: self
        np.argsort = np.sort = lambda x: np.zeros(len(x))
        torch.Tensor.__gt__ = lambda self, other: self
    """), harmed_the_next),
    Attack(OTHERS, "stops whoever started it", code("""
        import os, signal
        os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGTERM)
    """), stopped_the_batch),
    Attack(RESOURCES, "a loop without end", code("""
        while True:
            pass
    """), hung, stopped="time", times=SHORT),
    Attack(RESOURCES, "one instruction without end", code("""
        10 ** 10 ** 9
    """), hung, stopped="time", times=SHORT),
    Attack(RESOURCES, "many processors' time", code("""
        import os, time

        def burn():
            while time.process_time() < 0.4:
                pass

        for _ in range(5):
            if os.fork() == 0:
                burn()
                os._exit(0)
        for _ in range(5):
            os.wait()
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", stopped="time", limits=SessionLimits(cpu=0.9)),
    Attack(RESOURCES, "memory in one piece", code("""
        kept = b"x" * (500 << 20)
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", stopped="memory", limits=SessionLimits(memory=200 * MIB)),
    Attack(RESOURCES, "memory of many processes", code("""
        import os, time
        for _ in range(6):
            if os.fork() == 0:
                kept = b"x" * (80 << 20)
                time.sleep(0.8)
                os._exit(0)
        for _ in range(6):
            if os.wait()[1]:
                raise MemoryError
        print("HE" + "LD", flush=True)
    """), said("HELD"), limits=SessionLimits(memory=250 * MIB), never="HELD"),
    Attack(RESOURCES, "memory in files that have no name", code("""
        import os, time
        files = [os.memfd_create("kept") for _ in range(4)]
        for file in files:
            for _ in range(100):
                os.write(file, bytes(1 << 20))
        time.sleep(0.2)
        print("HE" + "LD", flush=True)
    """), said("HELD"), limits=SessionLimits(memory=200 * MIB), never="HELD"),
    Attack(RESOURCES, "memory that processes share", code("""
        import mmap, os, time
        kept = mmap.mmap(-1, 250 << 20)
        child = os.fork()
        for _ in range(250):
            kept.write(bytes(1 << 20))
        if child == 0:
            time.sleep(0.4)
            os._exit(0)
        time.sleep(0.2)
        print("HE" + "LD", flush=True)
        os.wait()
    """), said("HELD"), limits=SessionLimits(memory=120 * MIB), never="HELD"),
    Attack(RESOURCES, "processes", NAMED + code("""
        for _ in range(40):
            if os.fork() == 0:
                call_myself()
                time.sleep(60)
                os._exit(0)
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", limits=SessionLimits(processes=16)),
    Attack(RESOURCES, "threads", code("""
        import threading, time
        for _ in range(200):
            threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", limits=SessionLimits(processes=32)),
    Attack(RESOURCES, "disk in few files", code("""
        import tempfile
        for place in (tempfile.gettempdir(), "."):
            with open(f"{place}/{MARK}-large", "wb") as file:
                for _ in range(60):
                    file.write(bytes(1 << 20))
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", limits=SessionLimits(disk=32 * MIB)),
    Attack(RESOURCES, "disk in many files", code("""
        import os, tempfile
        folder = tempfile.mkdtemp()
        for number in range(12_000):
            os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD"),
    Attack(RESOURCES, "output", code("""
        import sys
        for _ in range(300):
            sys.stdout.write("x" * 10_000 + "\\n")
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", stopped="output"),
    Attack(RESOURCES, "output of processes, past Python", code("""
        import os
        for _ in range(2):
            if os.fork() == 0:
                for _ in range(100):
                    os.write(2, b"x" * 10_000 + b"\\n")
                os._exit(0)
        os.wait(), os.wait()
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD", stopped="output"),
    Attack(RESOURCES, "open files", code("""
        import os
        kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(600)]
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD"),
    Attack(RESOURCES, "sockets and pipes", code("""
        import os, socket
        kept = [socket.socketpair() for _ in range(200)] + [os.pipe() for _ in range(100)]
        print("HE" + "LD", flush=True)
    """), said("HELD"), never="HELD"),
    Attack(EXITS, "os._exit with code 0", code("""
        import os

        def rms(x):
            os._exit(0)
        total = ranks = predict = rms
    """), stopped_the_batch, stopped="crash"),
    Attack(EXITS, "kills itself", code("""
        import os, signal

        def rms(x):
            os.kill(os.getpid(), signal.SIGKILL)
        total = ranks = predict = rms
    """), stopped_the_batch, stopped="crash"),
    Attack(EXITS, "reads at address 0", code("""
        import ctypes

        def rms(x):
            return ctypes.string_at(0)
        total = ranks = predict = rms
    """), stopped_the_batch, stopped="crash"),
    Attack(EXITS, "aborts", code("""
        import os
        os.abort()
    """), stopped_the_batch, stopped="crash"),
    Attack(EXITS, "stops itself", code("""
        import os, signal
        os.kill(os.getpid(), signal.SIGSTOP)
    """), hung, stopped="time", times=SHORT),
    Attack(EXITS, "closes all files", code("""
        import os
        os.closerange(0, 256)
    """), stopped_the_batch, way="line", times=Times(cell=5, all=6)),
    Attack(EXITS, "waits for ever, deaf to signals", code("""
        import signal, threading
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        threading.Lock().acquire() and threading.Event().wait()
    """), hung, stopped="time", times=SHORT),
]  # fmt: skip
