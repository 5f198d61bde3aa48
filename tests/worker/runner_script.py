"""A child process that speaks just enough of the runner's part; told what to do by payloads.

``ok`` ends with success, ``die`` kills the process, ``exit`` exits with 3, ``hang`` never ends,
``spawn`` starts a grandchild that would outlive everything and answers with its process id.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from fastworker.core.ids import split_ids
from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import Assign, Message, Outcome, RunnerReady, RunnerStop


def main() -> None:
    descriptors = dict(argument.split("=", 1) for argument in sys.argv[1:])
    data = socket.socket(fileno=int(descriptors["--data-fd"]))
    control = socket.socket(fileno=int(descriptors["--control-fd"]))
    threading.Thread(target=end_with_parent, args=(control,), daemon=True).start()
    say(data, RunnerReady(pid=os.getpid(), tasks=[["play", 0, "()"]]))
    stream = data.makefile("rb")
    while length := stream.read(4):
        for message in decode(stream.read(int.from_bytes(length, "big"))):
            if isinstance(message, RunnerStop):
                sys.exit(0)
            if isinstance(message, Assign):
                play(data, message)


def end_with_parent(control: socket.socket) -> None:
    control.recv(1)
    os.killpg(0, signal.SIGKILL)


def play(data: socket.socket, message: Assign) -> None:
    for job_id, token, payload in zip(
        split_ids(message.ids), message.tokens, message.payloads, strict=True
    ):
        value = payload
        match payload:
            case b"die":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"exit":
                os._exit(3)
            case b"hang":
                continue
            case b"spawn":
                child = subprocess.Popen(["sleep", "1000"], pass_fds=[data.fileno()])
                value = str(child.pid).encode()
        say(data, ended(job_id, token, value))


def ended(job_id: bytes, token: int, value: bytes) -> Outcome:
    return Outcome(
        ids=job_id,
        tokens=[token],
        statuses=bytes([STATUS_NUMBERS[TaskStatus.SUCCESS]]),
        values=[value],
        started_at=[time.time()],
        finished_at=[time.time()],
    )


def say(data: socket.socket, message: Message) -> None:
    frame = encode([message])
    data.sendall(len(frame).to_bytes(4, "big") + frame)


if __name__ == "__main__":
    main()
