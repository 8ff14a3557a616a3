"""Keeps `grpc.aio` initialised: its last object, when collected, joins a thread that may wait for the collector's."""

from __future__ import annotations

import grpc

grpc.aio.init_grpc_aio()
