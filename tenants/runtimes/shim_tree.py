"""One main process and all that it started, as its subreaper sees it: spawned, watched, killed. Used by the shim,
and the readings of /proc by the runtime too. Standard library only."""

import ctypes
import errno
import functools
import json
import os
import resource
import select
import signal
import time
import warnings  # noqa: F401 - os.execvpe imports it when the new uid may no longer be able to read it

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WATCH_S = 0.5
MARK = "AGENT_RUN"  # in the environment of an agent that has the caller's uid: how to find what it left behind
KILL_S = 10  # what can't be killed in this time hangs in the kernel
OPEN_FILES = 8192
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None, use_errno=True)


class Unreachable(Exception):
    """The uid can't get to a path; the first component that stops it."""


def prctl(option, value):
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


# --- what /proc says ---------------------------------------------------------------------------------------


def stat_fields(pid):
    """Fields 3 and following of /proc/<pid>/stat, after the name, which may hold anything; None when gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def has_ended(fields):
    """Whether ``fields`` are a zombie's. A process whose first thread has ended is shown as one, and the others run."""
    return fields[0] in (b"Z", b"X") and int(fields[17]) < 2


def start_time(pid):
    """Ticks since boot; with the boot's id it tells a process from a later one with the same pid. None when it is
    gone or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and not has_ended(fields) else None


def running(pid):
    """A thread of the process by which its memory can be seen; the first thread's is gone when that has ended."""
    fields = stat_fields(pid)
    if fields and fields[0] in (b"Z", b"X"):
        try:
            threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
        except OSError:
            threads = []
        for thread in threads:
            fields = stat_fields(thread)
            if fields and fields[0] not in (b"Z", b"X"):
                return thread
    return pid


def session(pid):
    fields = stat_fields(pid)
    return int(fields[3]) if fields else None


@functools.cache
def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def descendants(pid):
    """The pids below ``pid``, zombies left out."""
    found, queue = [], [pid]
    while queue:
        for child in children(queue.pop()):
            queue.append(child)
            if start_time(child) is not None:
                found.append(child)
    return found


def children(pid):
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def resident(pid):
    """Bytes of memory that the process holds."""
    return resident_of(pid) or resident_of(running(pid))


def resident_of(thread):
    try:
        with open(f"/proc/{thread}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def proportional(pid):
    """The same with shared pages divided among those who share them: exact, and dearer to read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
    except (OSError, StopIteration):
        return resident(pid)


def cpu_us(pid):
    """Microseconds of CPU that the process used, and those of its children that it has waited for."""
    fields = stat_fields(pid)
    return sum(map(int, fields[11:15])) * 1_000_000 // TICKS if fields else 0


# --- the child, between fork and exec ----------------------------------------------------------------------


def check_reach(path):
    """Raise Unreachable with the first component of ``path`` that this uid may not enter, or may not use if it is
    the last. What does not exist is for exec to tell."""
    for way in (path, os.path.realpath(path)):
        parts = way.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            part = "/" + "/".join(parts[:count])
            try:
                os.stat(part)
            except PermissionError:
                raise Unreachable(os.path.dirname(part)) from None
            except OSError:
                return
        if not os.access(way, os.X_OK) and not os.access(way, os.R_OK):
            raise Unreachable(way)


def become(job, uid, keeper):
    """Turn the forked child into the agent; never returns normally."""
    os.setpgid(0, 0)
    os.umask(0o077)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if uid is not None:
        # A wall against a fork bomb; wider than the plan, since the kernel counts threads and the uid's exec too.
        resource.setrlimit(resource.RLIMIT_NPROC, (4 * job["pids"], 4 * job["pids"]))
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of uid, which clears it
    if os.getppid() != keeper:
        os._exit(1)
    if uid is not None:
        for path in job["paths"]:
            check_reach(path)
    os.chdir(job["cwd"])
    mark = {MARK: job["mark"]} if uid is None else {}
    os.execvpe(job["argv"][0], job["argv"], {"PATH": PATH, **job["env"], **mark})


class Group:
    """One main process, everything it started, and the pipe that all of it writes to."""

    def __init__(self, job, sink):
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.job, self.sink = job, sink
        self.pid, self.code, self.oom_killed = 0, None, False
        self.uid = job["uid"]
        self.out, self.into = os.pipe()
        self.wake, wake = os.pipe()
        for descriptor in (self.out, self.wake, wake):
            os.set_blocking(descriptor, False)
        self.told_to_stop = False
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.on_term)
        self.poll = select.poll()
        self.poll.register(self.out, select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        self.next_watch = 0.0

    def on_term(self, *_):
        self.told_to_stop = True

    def spawn(self):
        """None, or what went wrong as {"type", "path", "text"}."""
        self.code, keeper = None, os.getpid()
        report, reported = os.pipe()
        pid = os.fork()
        if pid == 0:
            failure = {"type": "failed", "path": "", "text": ""}
            try:
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(self.into, 1)
                os.dup2(self.into, 2)
                become(self.job, self.uid, keeper)
            except Unreachable as error:
                failure = {"type": "unreachable", "path": str(error), "text": "may not be entered"}
            except OSError as error:
                missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC)
                kind = "missing" if missing else "failed"
                failure = {"type": kind, "path": self.job["argv"][0], "text": error.strerror or ""}
            except Exception as error:
                failure = {"type": "failed", "path": self.job["argv"][0], "text": f"{type(error).__name__}: {error}"}
            finally:
                os.write(reported, json.dumps(failure).encode())
                os._exit(127)
        os.close(reported)
        with os.fdopen(report, "rb") as file:
            told = file.read()
        if told:
            os.waitpid(pid, 0)
            return json.loads(told)
        self.pid = pid
        return None

    def tick(self, seconds):
        """Wait up to ``seconds`` for output or the end of a process and take both in; watch when it is time, and
        then give the tree that was seen."""
        self.poll.poll(max(0, min(seconds, self.next_watch - time.monotonic()) * 1000))
        self.drain()
        self.reap()
        if time.monotonic() < self.next_watch:
            return None
        self.next_watch = time.monotonic() + WATCH_S
        return self.watch()

    def drain(self):
        for descriptor, sink in ((self.wake, None), (self.out, self.sink)):
            for _ in range(64):  # a flood must not keep the keeper from its other duties
                try:
                    data = os.read(descriptor, 65536)
                except BlockingIOError:
                    break
                if sink:
                    sink(data)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code

    def watch(self):
        """Memory and number of processes against the plan. This is a guard that looks twice a second, no wall."""
        tree, limit = descendants(os.getpid()), self.job["memory_mb"] * 1_048_576
        if sum(map(resident, tree)) > limit and sum(map(proportional, tree)) > limit:
            self.oom_killed = True
            self.sink(b"zcplatform: killed, over the memory limit of %d MB\n" % self.job["memory_mb"])
            self.kill()
        elif len(tree) > self.job["pids"]:
            self.sink(b"zcplatform: killed, over the limit of %d processes\n" % self.job["pids"])
            self.kill()
        return tree

    def kill(self):
        """SIGKILL for all of it, again and again until nothing is left: what forks is caught by the next round."""
        deadline = time.monotonic() + KILL_S
        while (tree := descendants(os.getpid())) and time.monotonic() < deadline:
            for pid in tree:
                send(pid, signal.SIGKILL)
            time.sleep(0.002)
            self.reap()
        self.reap()
        self.drain()


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
