"""Runs services: settings, logs, health, metrics, drain, gRPC server, auth. Knows no service by name."""

import os

# Children are started by exec, never by a bare fork: gRPC's fork handlers have nothing to do but warn. Read at import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from eventlog.work import Work as Work

from runtime.rpc import Caller as Caller
from runtime.rpc import Problem as Problem
from runtime.rpc import caller as caller
from runtime.run import House as House
from runtime.run import main as main
from runtime.run import serve as serve
from runtime.service import Runtime as Runtime
from runtime.service import Service as Service
from runtime.settings import Settings as Settings
