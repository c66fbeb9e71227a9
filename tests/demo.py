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
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import netlab

BPFCTL = [sys.executable, "-m", "bpfctl"]
PROTOCOLS = {socket.IPPROTO_ICMP: "ICMP", socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}
BURST_PAUSE = 0.0005  # seconds between two packets of the stream

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def style(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def heading(text: str) -> None:
    print(f"\n{style(text, '1')}")


def say(text: str) -> None:
    print(f"  {text}", flush=True)


class DemoFailed(Exception):
    """A command failed or a promise was not kept."""


class Shell(NamedTuple):
    """Runs bpfctl in the folder of the test objects, on the demo's bpffs."""

    bpffs: Path

    def quietly(self, line: str) -> str:
        """The output of one bpfctl command; DemoFailed with its error when it fails."""
        done = subprocess.run(
            [*BPFCTL, *shlex.split(line)],
            check=False,
            capture_output=True,
            text=True,
            cwd=netlab.TESTDATA,
            env={**os.environ, "TC_BPF_MNT": str(self.bpffs)},
        )
        if done.returncode:
            raise DemoFailed(f"bpfctl {line}\n{done.stderr}")
        return done.stdout

    def __call__(self, line: str) -> None:
        """Shows the command, runs it, shows what it prints."""
        say(style(f"$ bpfctl {line}", "36"))
        for text in self.quietly(line).splitlines():
            say(f"  {text}")


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
            self._sender.sendto(bytes(64), self._target)
            self.sent += 1

    def _halt(self) -> None:
        self._stop.set()
        self._thread.join()

    def received(self) -> int:
        """Ends the stream; the number of datagrams that came through."""
        self._halt()
        return netlab.drain(self._receiver, self.sent)


def counters(shell: Shell, pin: Path) -> dict[int, tuple[int, int]]:
    """{IP protocol: (packets received, packets sent)}, summed over the CPUs."""
    raise NotImplementedError


def show_counters(shell: Shell, pin: Path) -> None:
    say(style(f"$ bpfctl -j map dump pinned {pin}", "36") + "   (256 protocols; those that were seen:)")
    say("  protocol   received, counted by XDP   sent, counted by tc")
    for protocol, (received, sent) in sorted(counters(shell, pin).items()):
        say(f"  {PROTOCOLS.get(protocol, protocol):<10} {received:>24} {sent:>21}")


def demo(stack: ExitStack) -> None:
    names = (f"demo-{os.getpid()}", f"demo-{os.getpid()}-peer")
    heading("1. A network of its own")
    lab = stack.enter_context(netlab.lab(names))
    shell = Shell(stack.enter_context(netlab.private_bpffs()))
    ns = f"-n {lab.a.namespace}"
    say(f"namespace {lab.a.namespace:<18} device {lab.a.device}  {lab.a.address}")
    say(f"namespace {lab.b.namespace:<18} device {lab.b.device}  {lab.b.address}")
    say(f"bpffs     {shell.bpffs}")

    heading("2. XDP, old generation: a legacy `maps` section, its map pinned (PIN_GLOBAL_NS)")
    shell(f"{ns} link set dev v0 xdp obj proto_counters.bpf.o sec xdp")

    heading("3. tc, new generation: BTF `.maps`, shares that map through its pin")
    shell(f"{ns} qdisc add dev v0 clsact")
    shell(f"{ns} filter add dev v0 egress bpf da obj proto_report.bpf.o sec tc")

    heading("4. Both are attached")
    shell(f"{ns} link show dev v0")
    shell(f"{ns} filter show dev v0 egress")

    heading("5. Real packets")
    pin = shell.bpffs / "tc" / "globals" / "proto_counters"
    say(f"UDP       20 datagrams sent, {netlab.send_udp(lab.b, lab.a, 20)} received")
    say(f"ICMP      10 echo requests, {netlab.ping(lab.b, lab.a, 10)} replies")
    say(f"TCP       5 connections tried, {netlab.knock_tcp(lab.b, lab.a, 5)} refused by the other side")
    show_counters(shell, pin)

    heading("6. Another program, while traffic runs")
    replace_under_traffic(shell, lab, pin)

    heading("7. All off again")
    shell(f"{ns} link set dev v0 xdp off")
    shell(f"{ns} filter del dev v0 egress")
    shell(f"{ns} qdisc del dev v0 clsact")
    shell(f"{ns} link show dev v0")


def replace_under_traffic(shell: Shell, lab: netlab.Lab, pin: Path) -> None:
    """Exchanges the XDP program in mid-stream; DemoFailed if a packet or a count is lost."""
    before = counters(shell, pin)[socket.IPPROTO_UDP][0]
    with Stream(lab.b, lab.a) as stream:
        shell(f"-force -n {lab.a.namespace} link set dev v0 xdp obj proto_counters_v2.bpf.o sec xdp")
        shell(f"-n {lab.a.namespace} link show dev v0")
        received = stream.received()
    counted = counters(shell, pin)[socket.IPPROTO_UDP][0] - before
    say(f"{stream.sent} sent, {received} received, {counted} counted: {stream.sent - received} lost")
    if not stream.sent == received == counted:
        raise DemoFailed("packets were lost while the program was replaced")


def interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    if os.geteuid():
        print("the demo makes namespaces and loads programs: run it as root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, interrupted)
    stack = ExitStack()
    try:
        demo(stack)
        status = 0
    except KeyboardInterrupt:
        print("\ninterrupted")
        status = 130
    except DemoFailed as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        status = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # nothing may interrupt the cleaning up
        stack.close()
    say("namespaces, bpffs and the pinned map are gone: nothing is left behind")
    return status


if __name__ == "__main__":
    sys.exit(main())
