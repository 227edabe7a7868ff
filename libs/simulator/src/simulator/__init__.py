"""Pretend model providers: real wire protocols, real edits, misbehaviour on request, and a bill of their own.

They never call out, and no service can tell them from a provider.
"""

from simulator.bill import BillLine, BillRead, read_bill
from simulator.misbehaviour import Misbehaviour, Mode
from simulator.pace import INSTANT, WATCHABLE, Pace
from simulator.serving import Simulator, serve, start

__all__ = [
    "INSTANT",
    "WATCHABLE",
    "BillLine",
    "BillRead",
    "Misbehaviour",
    "Mode",
    "Pace",
    "Simulator",
    "read_bill",
    "serve",
    "start",
]
