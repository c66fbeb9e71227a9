"""`make demo`: both generations of object files on one device, with real packets.

Everything happens in two network namespaces and a bpffs of the demo's own, which are gone at its end,
also after Ctrl-C.  Each step prints the very command that it runs.  Needs root.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import netlab

ROOT = Path(__file__).parent.parent
BPFCTL = [sys.executable, "-m", "bpfctl"]
PROTOCOLS = {socket.IPPROTO_ICMP: "ICMP", socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}
BURST = 5  # datagrams
BURST_PAUSE = 0.001  # seconds between two bursts
REPLACEMENTS = 25  # of the program, back and forth, after the one that is shown

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def style(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def heading(text: str) -> None:
    print(f"\n{style(text, '1')}")


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def say_command(line: str) -> None:
    say(style(f"$ bpfctl {line}", "36"))


class DemoFailed(Exception):
    """A command failed or a promise was not kept."""


class Stage(NamedTuple):
    """Where it all happens: the network, and the bpffs that the commands use."""

    lab: netlab.Lab
    bpffs: Path

    @property
    def pin(self) -> Path:
        """The map that both programs count in."""
        return self.bpffs / "tc" / "globals" / "proto_counters"

    @property
    def namespace_option(self) -> str:
        return f"-n {self.lab.a.namespace}"

    @property
    def dump_command(self) -> str:
        return f"-j map dump pinned {self.pin}"

    def quietly(self, line: str) -> str:
        """The output of one bpfctl command; DemoFailed with its error when it fails.

        NS in the line stands for ``-n`` and the namespace of the device.
        """
        done = subprocess.run(
            [*BPFCTL, *shlex.split(line.replace("NS", self.namespace_option))],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TC_BPF_MNT": str(self.bpffs)},
        )
        if done.returncode:
            raise DemoFailed(f"bpfctl {line}\n{done.stderr}")
        return done.stdout

    def shell(self, line: str) -> None:
        """Shows the command, runs it, shows what it prints."""
        say_command(line.replace("NS", self.namespace_option))
        for text in self.quietly(line).splitlines():
            say(f"  {text}")

    def counters(self) -> dict[int, tuple[int, int]]:
        """{IP protocol: (packets received, packets sent)} of those seen, summed over the CPUs."""
        seen = {}
        for entry in json.loads(self.quietly(self.dump_command)):
            packets = [_packets(value["value"]) for value in entry["values"]]
            received, sent = (sum(column) for column in zip(*packets, strict=True))
            if received or sent:
                seen[_number(entry["key"])] = (received, sent)
        return seen


def _packets(value: list[str]) -> tuple[int, int]:
    """Words 0 and 2 of a ``struct traffic`` (testdata/proto_counters.h): packets received and sent."""
    return _number(value[0:8]), _number(value[16:24])


def _number(octets: list[str]) -> int:
    return int.from_bytes((int(octet, 16) for octet in octets), sys.byteorder)


class Stream:
    """A steady flow of UDP datagrams from one side to the other, in a thread of its own."""

    def __init__(self, source: netlab.Side, target: netlab.Side) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._target = (target.address, netlab.UDP_PORT)
        self._receiver = netlab.open_udp_receiver(target)
        self._sender = netlab.open_socket(source, socket.SOCK_DGRAM)
        self.sent = 0

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt()
        self._sender.close()
        self._receiver.close()

    def _send(self) -> None:
        while not self._stop.wait(BURST_PAUSE):
            for _ in range(BURST):
                self._sender.sendto(bytes(64), self._target)
                self.sent += 1

    def _halt(self) -> None:
        self._stop.set()
        self._thread.join()

    def received(self) -> int:
        """Ends the stream; the number of datagrams that came through."""
        self._halt()
        return netlab.drain(self._receiver, self.sent)


def set_up(stack: ExitStack) -> Stage:
    heading("1. A network of its own")
    names = (f"demo-{os.getpid()}", f"demo-{os.getpid()}-peer")
    stage = Stage(stack.enter_context(netlab.lab(names)), stack.enter_context(netlab.private_bpffs()))
    for side in stage.lab:
        say(f"namespace {side.namespace:<18} device {side.device}  {side.address}")
    say(f"bpffs     {stage.bpffs}")
    return stage


def attach_both(stage: Stage) -> None:
    heading("2. XDP, old generation: a legacy `maps` section, its map pinned (PIN_GLOBAL_NS)")
    stage.shell("NS link set dev v0 xdp obj testdata/proto_counters.bpf.o sec xdp")

    heading("3. tc, new generation: BTF `.maps`, shares that map through its pin")
    stage.shell("NS qdisc add dev v0 clsact")
    stage.shell("NS filter add dev v0 egress bpf da obj testdata/proto_report.bpf.o sec tc")

    heading("4. Both are attached")
    stage.shell("NS link show dev v0")
    stage.shell("NS filter show dev v0 egress")


def send_packets(stage: Stage) -> None:
    """Each protocol a number of packets of its own; DemoFailed if the counters say otherwise."""
    heading("5. Real packets, counted in one map: those received by XDP, those sent by tc")
    a, b = stage.lab
    say(f"UDP   20 datagrams sent, {netlab.send_udp(b, a, 20)} received")
    say(f"ICMP  10 echo requests, {netlab.ping(b, a, 10)} replies")
    say(f"TCP   5 connections tried, {netlab.knock_tcp(b, a, 5)} refused")
    say_command(stage.dump_command)
    counters = stage.counters()
    say("  protocol   received       sent   (of 256 protocols, those seen)")
    for protocol, (received, sent) in sorted(counters.items()):
        say(f"  {PROTOCOLS.get(protocol, protocol):<10} {received:>8} {sent:>10}")
    if counters != {socket.IPPROTO_UDP: (20, 0), socket.IPPROTO_ICMP: (10, 10), socket.IPPROTO_TCP: (5, 5)}:
        raise DemoFailed("the counters do not say what was sent")


def replace_under_traffic(stage: Stage) -> None:
    """Exchanges the XDP program in mid-stream; DemoFailed if a packet or a count is lost."""
    heading("6. Another program, while traffic runs")
    replace = "-force NS link set dev v0 xdp obj testdata/{}.bpf.o sec xdp"
    a, b = stage.lab
    before = stage.counters()[socket.IPPROTO_UDP][0]
    with Stream(b, a) as stream:
        stage.shell(replace.format("proto_counters_v2"))
        stage.shell("NS link show dev v0")
        say(f"and {REPLACEMENTS} times more, back and forth ...")
        for turn in range(REPLACEMENTS):
            stage.quietly(replace.format("proto_counters_v2" if turn % 2 else "proto_counters"))
        received = stream.received()
    counted = stage.counters()[socket.IPPROTO_UDP][0] - before
    lost = style(f"{stream.sent - received} lost", "1")
    say(f"{stream.sent} datagrams sent, {counted} counted by XDP, {received} received: {lost}")
    if not stream.sent == received == counted:
        raise DemoFailed("packets were lost while the program was replaced")


def detach(stage: Stage) -> None:
    heading("7. All off again")
    stage.shell("NS link set dev v0 xdp off")
    stage.shell("NS filter del dev v0 egress")
    stage.shell("NS qdisc del dev v0 clsact")
    stage.shell("NS link show dev v0")


def interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(stack: ExitStack) -> int:
    """The exit status of the demo, whose undoing is left on ``stack``."""
    try:
        stage = set_up(stack)
        attach_both(stage)
        send_packets(stage)
        replace_under_traffic(stage)
        detach(stage)
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)
        return 130
    except BrokenPipeError:  # nobody reads any more: neither what follows nor Python's last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DemoFailed as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    if os.geteuid():
        print("the demo makes namespaces and loads programs: run it as root", file=sys.stderr)
        return 1
    for number in _STOPPING:
        signal.signal(number, interrupted)
    start = time.monotonic()
    print(style("bpfctl: one network device, object files of both generations", "1"), flush=True)
    stack = ExitStack()
    try:
        status = run(stack)
    finally:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)  # nothing may interrupt the cleaning up
        stack.close()
    say(f"namespaces, bpffs and pinned map are gone, after {time.monotonic() - start:.1f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
