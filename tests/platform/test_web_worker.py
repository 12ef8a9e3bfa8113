"""A thread of the web server stays with its client for a while, and never keeps others from being served."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from sandbox_platform.supervisor import gunicorn_conf, web_worker
from sandbox_platform.supervisor.web_worker import Worker
from tests.api.client import eventually


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Says which thread it is."""
    body = str(threading.get_ident()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def worker() -> Worker:
    config = Config()
    config.set("threads", web_worker.SHARE)  # one thread may wait for its client
    made = Worker(1, os.getpid(), [], None, 30, config, Logger(config))
    made.wsgi = application
    return made


def free(worker: Worker) -> bool:
    """Whether another thread may wait."""
    taken = worker._seats.acquire(blocking=False)
    if taken:
        worker._seats.release()
    return taken


class Client:
    """A connection, and what becomes of the thread that is given it."""

    def __init__(self, worker: Worker, pool: ThreadPoolExecutor) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._connection = http.client.HTTPConnection(*listener.getsockname())
            self._connection.connect()
            accepted, address = listener.accept()
        self.accepted = accepted
        conn = TConn(worker.cfg, accepted, address, accepted.getsockname())
        conn.init()
        self.served: Future[tuple[bool, TConn]] = pool.submit(worker.handle, conn)

    def ask(self) -> bytes:
        self._connection.request("GET", "/")
        return self._connection.getresponse().read()

    def flood(self) -> None:
        """Asks more than is answered."""
        self._connection.sock.settimeout(0.1)
        with suppress(TimeoutError):  # nobody serves it any more
            self._connection.sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
            self._connection.sock.recv(4096)

    def leave(self) -> None:
        self._connection.close()


@pytest.fixture
def connect(worker: Worker) -> Iterator[Callable[[], Client]]:
    made: list[Client] = []
    with ThreadPoolExecutor(4) as pool:

        def one() -> Client:
            made.append(Client(worker, pool))
            return made[-1]

        yield one
        for client in made:
            client.leave()
    for client in made:
        client.accepted.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_worker, "LINGER", 0.02)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_worker, "LINGER", 60)


def test_it_is_the_one_that_serves() -> None:
    assert gunicorn_conf.worker_class == f"{Worker.__module__}.{Worker.__qualname__}"


@pytest.mark.usefixtures("patient")
def test_a_client_that_asks_again_is_served_by_the_same_thread(connect: Callable[[], Client]) -> None:
    client = connect()
    assert len({client.ask() for _ in range(3)}) == 1
    assert not client.served.done()


@pytest.mark.usefixtures("impatient")
def test_a_silent_one_goes_back_to_the_main_thread_with_its_connection(connect: Callable[[], Client]) -> None:
    client = connect()
    client.ask()
    keep, conn = client.served.result(10)
    assert keep and conn.sock is client.accepted


@pytest.mark.usefixtures("patient")
def test_one_that_leaves_is_let_go_at_once(connect: Callable[[], Client]) -> None:
    client = connect()
    client.ask()
    client.leave()
    assert client.served.result(10)[0] is False


@pytest.mark.usefixtures("patient")
def test_no_more_threads_wait_than_can_be_spared(connect: Callable[[], Client], worker: Worker) -> None:
    first, second = connect(), connect()
    first.ask()
    eventually(lambda: not free(worker))
    second.ask()
    assert second.served.result(10)[0], "its connection is kept, without a thread"
    assert not first.served.done()
    first.leave()
    first.served.result(10)
    third = connect()
    third.ask()
    assert third.ask(), "the seat is free again"


@pytest.mark.usefixtures("patient")
def test_where_threads_are_few_none_waits(connect: Callable[[], Client], worker: Worker) -> None:
    few = Config()
    few.set("threads", web_worker.SHARE - 1)
    assert not free(Worker(1, os.getpid(), [], None, 30, few, Logger(few)))


@pytest.mark.usefixtures("patient")
def test_where_others_wait_for_a_thread_it_goes_to_them(connect: Callable[[], Client], worker: Worker) -> None:
    worker.futures.extend(Future() for _ in range(worker.cfg.threads + 1))
    client = connect()
    client.ask()
    assert client.served.result(10)[0]


@pytest.mark.usefixtures("patient")
def test_one_who_never_stops_asking_does_not_keep_it(
    connect: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_worker, "LINGER", 0.2)
    client = connect()
    while not client.served.done():
        client.flood()
    assert client.served.result()[0]


@pytest.mark.usefixtures("patient")
def test_at_a_stop_nobody_waits(connect: Callable[[], Client], worker: Worker) -> None:
    client = connect()
    worker.alive = False
    client.ask()
    assert client.served.result(10)[0] is False
