"""The keeper of one agent of the process runtime, run as ``python -I -S shim.py keep <folder>``; it outlives the
worker. With ``once`` it runs one command beside the agent and answers when it is over.

The job is JSON on stdin, the answer JSON on stdout. Standard library only, and little of it: this is what every
agent costs beside itself. The keeper is the subreaper of all that the agent starts, so nothing gets away from it
while it lives; when it is killed the agent dies with it (PR_SET_PDEATHSIG), and ``state.json`` tells the next
start what else to look for.
"""

import fcntl
import json
import os
import signal
import sys
import time

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # which -I leaves out

from shim_tree import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    WATCH_S,
    Group,
    boot_id,
    prctl,
    send,
    session,
    start_time,
)

GRACE_S = 10.0
BACKOFF_S = (1, 2, 4, 8, 16, 30)
CALM_S = 60  # an agent that ran this long begins again with the shortest pause


class Log:
    """``log``, ``log.1``, ...: at most ``files`` of ``size`` bytes. A full disk loses lines, never the agent.

    Each line begins with a byte that marks the time, and the time: ``RunDir`` takes both off again."""

    def __init__(self, path, size, files):
        self.path, self.size, self.files = path, size, files
        self.ended = True
        self.open()

    def open(self):
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.measure()

    def measure(self):
        self.room = self.size - os.fstat(self.descriptor).st_size

    def stamped(self, data):
        """``data`` with the time before each line that begins in it."""
        now = time.time()
        stamp = b"\x1e%s.%03dZ " % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)).encode(), now % 1 * 1_000)
        first, self.ended = self.ended, data.endswith(b"\n")
        body = data[:-1] if self.ended else data
        return (stamp if first else b"") + body.replace(b"\n", b"\n" + stamp) + (b"\n" if self.ended else b"")

    def write(self, data):
        data = self.stamped(data)
        try:
            while data:
                if self.room <= 0:
                    self.rotate()
                written = os.write(self.descriptor, data[: self.room])
                self.room -= written
                data = data[written:]
        except OSError:
            pass

    def rotate(self):
        """The next file is there before the old one is let go: where the disk has no room for it, nothing changes."""
        following = os.open(f"{self.path}.next", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        for number in range(self.files - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            if os.path.exists(older):
                os.replace(older, f"{self.path}.{number}")
        os.replace(f"{self.path}.next", self.path)
        os.dup2(following, self.descriptor, inheritable=False)
        os.close(following)
        self.measure()


class Keeper:
    """Runs the agent, starts it again when it ends, and writes down what it sees."""

    def __init__(self, folder, job, held):
        self.folder, self.file, self.held = folder, os.path.join(folder, "state.json"), held
        self.log = Log(os.path.join(folder, "log"), job["log_size"], job["log_files"])
        self.group = Group(job, self.log.write)
        self.state = {
            "boot": boot_id(),
            "shim": [os.getpid(), start_time(os.getpid())],
            "restarts": 0,
            "exit_code": None,
            "oom_killed": False,
            "started_at": None,
            "strays": [],
        }

    def record(self, phase):
        """Later failures are let be: what stands there still names this keeper, which is what counts. A folder that was
        removed and made anew is another keeper's, and so is the state in it."""
        try:
            if os.path.samestat(os.fstat(self.held), os.stat(os.path.join(self.folder, "held"))):
                self.write(phase)
        except OSError as error:
            self.log.write(f"zcplatform: the state could not be written: {error.strerror}\n".encode())

    def write(self, phase):
        self.state.update(phase=phase, uid=self.group.uid, oom_killed=self.group.oom_killed)
        temporary = self.file + ".tmp"
        try:
            with open(temporary, "w") as file:
                json.dump(self.state, file)
            os.replace(temporary, self.file)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)  # a full disk leaves no half file, and needs the room
            raise

    def first(self):
        """The first start. No agent without a state: nobody would find its keeper again."""
        self.write("starting")
        failure = self.begin()
        if failure:
            os.unlink(self.file)
        return failure

    def begin(self):
        failure = self.group.spawn()
        if failure is None:
            self.state["started_at"] = time.time()
            self.record("running")
        return failure

    def run(self):
        """From a started agent to the moment when we were told to stop it."""
        pauses = 0
        while True:
            began = time.monotonic()
            self.attend()
            self.state["exit_code"] = self.group.code
            if self.group.told_to_stop:
                break
            pauses = 0 if time.monotonic() - began > CALM_S else pauses
            self.record("waiting")
            self.pause(BACKOFF_S[min(pauses, len(BACKOFF_S) - 1)])
            pauses += 1
            if self.group.told_to_stop:
                break
            self.state["restarts"] += 1
            if failure := self.begin():
                self.log.write(f"zcplatform: {failure['path']} {failure['text']}\n".encode())
                self.group.code = 127
        self.record("exited")

    def attend(self):
        """Until the main process is gone, and everything it left behind too."""
        deadline = None
        while self.group.code is None:
            tree = self.group.tick(WATCH_S if deadline is None else deadline - time.monotonic())
            if tree is not None:
                self.note_strays(tree)
            if self.group.told_to_stop and deadline is None:
                deadline = time.monotonic() + self.grace()
                send(-self.group.pid, signal.SIGTERM)
            elif deadline is not None and time.monotonic() >= deadline:
                self.group.kill()
        self.group.kill()

    def note_strays(self, tree):
        """Write down what has left our session: the next start's only way to find it when we are killed."""
        away = [pid for pid in sorted(tree) if session(pid) not in (os.getpid(), None)]
        strays = [[pid, start] for pid in away if (start := start_time(pid)) is not None]
        if strays != self.state["strays"]:
            self.state["strays"] = strays
            self.record("running")

    def pause(self, seconds):
        until = time.monotonic() + seconds
        while not self.group.told_to_stop and (left := until - time.monotonic()) > 0:
            self.group.tick(left)

    def grace(self):
        try:
            with open(os.path.join(self.folder, "grace")) as file:
                return float(file.read())
        except (OSError, ValueError):
            return GRACE_S


def answer(value):
    """Say it, and let go of what ties us to whoever asked."""
    os.write(1, json.dumps(value).encode())
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)


def keep(folder, job):
    """Answers {} when the agent runs, {"already": true} when another keeper has it, or the failure."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    held = os.open(os.path.join(folder, "held"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        answer({"already": True})
        return
    keeper = Keeper(folder, job, held)
    failure = keeper.first()
    os.dup2(keeper.log.descriptor, 2)
    answer(failure or {})
    if failure is None:
        keeper.run()


# --- once: a command beside the agent ----------------------------------------------------------------------


def once(job):
    """Answers one line of JSON, then the output, which is cut at ``cap`` bytes."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    output, lost = bytearray(), []

    def sink(data):
        room = job["cap"] - len(output)
        output.extend(data[:room])
        if len(data) > room:
            lost.append(True)

    group = Group(job, sink)
    deadline = time.monotonic() + job["timeout_s"]
    if failure := group.spawn():
        group.code = 127 if failure["type"] == "missing" else 126
        sink(f"{failure['path']}: {failure['text']}\n".encode())
    while group.code is None and not group.told_to_stop and (left := deadline - time.monotonic()) > 0:
        group.tick(left)
    timed_out = group.code is None
    group.kill()
    result = {"exit_code": None if timed_out else group.code, "timed_out": timed_out, "truncated": bool(lost)}
    sys.stdout.buffer.write(json.dumps(result).encode() + b"\n" + bytes(output))


def main(mode, folder):
    job = json.load(sys.stdin)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if mode == "keep":
        keep(folder, job)
    else:
        once(job)


if __name__ == "__main__":
    main(*sys.argv[1:3])
