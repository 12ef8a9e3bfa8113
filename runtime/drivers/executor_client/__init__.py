"""The one module that talks to an executor: `ExecutorClient` for threads, `AsyncExecutorClient` for an event loop."""

from runtime.drivers.executor_client.aio import AsyncExecutorClient
from runtime.drivers.executor_client.events import Artifact, Event, Output, Result, RunError, Started
from runtime.drivers.executor_client.file_values import FileEntry, FileInfo, FilePage, Unpacked
from runtime.drivers.executor_client.health import Health, SelfReport
from runtime.drivers.executor_client.patience import Patience
from runtime.drivers.executor_client.requests import RunRequest
from runtime.drivers.executor_client.sync import ExecutorClient, FileBody, Upload

__all__ = [
    "Artifact",
    "AsyncExecutorClient",
    "Event",
    "ExecutorClient",
    "FileBody",
    "FileEntry",
    "FileInfo",
    "FilePage",
    "Health",
    "Output",
    "Patience",
    "Result",
    "RunError",
    "RunRequest",
    "SelfReport",
    "Started",
    "Unpacked",
    "Upload",
]
