"""Verb: from an ObjectSpec to live maps and programs, with all that was made undone on failure."""

from __future__ import annotations

from bpfctl.loader.live import LoadedObject, Map, Program
from bpfctl.loader.load import AttachTarget, LoadRequest, load
from bpfctl.loader.session import Session
from bpfctl.loader.transaction import Transaction

__all__ = ["AttachTarget", "LoadRequest", "LoadedObject", "Map", "Program", "Session", "Transaction", "load"]
