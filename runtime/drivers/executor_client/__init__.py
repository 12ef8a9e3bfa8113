"""The one module that talks to an executor: `ExecutorClient` for threads, `AsyncExecutorClient` for an event loop."""

from runtime.drivers.executor_client.aio import AsyncExecutorClient
from runtime.drivers.executor_client.events import Artifact, Event, Output, Result, RunError, Started
from runtime.drivers.executor_client.protocol import FileEntry, FileInfo, Health, RunRequest, SelfReport
from runtime.drivers.executor_client.sync import ExecutorClient, FileBody

__all__ = [
    "Artifact",
    "AsyncExecutorClient",
    "Event",
    "ExecutorClient",
    "FileBody",
    "FileEntry",
    "FileInfo",
    "Health",
    "Output",
    "Result",
    "RunError",
    "RunRequest",
    "SelfReport",
    "Started",
]
