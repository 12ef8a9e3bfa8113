"""What a list of hosts may say, what it allows, and when one is part of another."""

from __future__ import annotations

import pytest

from templates_app import hosts


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("pypi.org", "pypi.org"),
        (" PyPI.org. ", "pypi.org"),
        ("*.example.com", "*.example.com"),
        ("api.example.com:8443", "api.example.com:8443"),
        ("*.example.com:443", "*.example.com:443"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_acme.example.com", "_acme.example.com"),
    ],
)
def test_one_spelling(text, entry):
    assert hosts.entry(text) == entry


@pytest.mark.parametrize(
    "text",
    [
        "", "https://pypi.org", "pypi.org/simple", "user@pypi.org", "10.0.0.1", "1.2.3", "0x7f.1", "[::1]", "::1", "::ffff:10.0.0.1",
        "*", "*.com", "a.*.example.com", "*example.com", "**.example.com", "localhost", "pypi.org:0", "pypi.org:65536", "pypi.org:",
        "pypi.org:80:80", "pypi..org", "-a.example.com", "a-.example.com", "bücher.example", "a" * 64 + ".example.com", "a b.example.com",
        "a.example.com\nb.example.com", "a\0.example.com", ".".join(["a" * 60] * 5), "example.com:８０",
    ],
)  # fmt: skip
def test_refused_with_words(text):
    with pytest.raises(ValueError, match=r".{10,}"):
        hosts.entry(text)


def test_a_list_has_each_entry_once_and_not_too_many():
    assert hosts.entries(["b.example.com", "A.example.com", "", "a.example.com."]) == ["b.example.com", "a.example.com"]
    assert len(hosts.entries(f"h{n}.example.com" for n in range(hosts.MOST))) == hosts.MOST
    with pytest.raises(ValueError, match="at most"):
        hosts.entries(f"h{n}.example.com" for n in range(hosts.MOST + 1))


@pytest.mark.parametrize(
    ("listed", "name", "port", "tunnel", "allowed"),
    [
        ("a.example.com", "a.example.com", 443, True, True),
        ("a.example.com", "A.Example.COM.", 443, True, True),
        ("a.example.com", "a.example.com", 80, False, True),
        ("a.example.com", "a.example.com", 80, True, False),
        ("a.example.com", "a.example.com", 443, False, False),
        ("a.example.com", "a.example.com", 8443, True, False),
        ("a.example.com", "b.a.example.com", 443, True, False),
        ("a.example.com", "xa.example.com", 443, True, False),
        ("*.example.com", "a.example.com", 443, True, True),
        ("*.example.com", "b.a.example.com", 443, True, True),
        ("*.example.com", "example.com", 443, True, False),
        ("*.example.com", ".example.com", 443, True, False),
        ("*.example.com", "badexample.com", 443, True, False),
        ("a.example.com:8443", "a.example.com", 8443, True, True),
        ("a.example.com:8443", "a.example.com", 8443, False, True),
        ("a.example.com:8443", "a.example.com", 443, True, False),
        ("a.example.com:80", "a.example.com", 80, True, False),
        ("a.example.com", "10.0.0.1", 443, True, False),
    ],
)
def test_what_is_allowed(listed, name, port, tunnel, allowed):
    assert hosts.allows([listed], name, port, tunnel) is allowed


@pytest.mark.parametrize(
    ("wanted", "listed", "inside"),
    [
        ("a.example.com", ["a.example.com"], True),
        ("a.example.com", ["*.example.com"], True),
        ("*.a.example.com", ["*.example.com"], True),
        ("*.example.com", ["*.example.com"], True),
        ("*.example.com", ["a.example.com"], False),
        ("*.example.com", ["*.a.example.com"], False),
        ("example.com", ["*.example.com"], False),
        ("a.example.com:443", ["a.example.com"], True),
        ("a.example.com:80", ["*.example.com"], True),
        ("a.example.com:8443", ["a.example.com"], False),
        ("a.example.com", ["a.example.com:443"], False),
        ("a.example.com:8443", ["*.example.com:8443"], True),
        ("b.example.com", ["a.example.com", "c.example.com"], False),
    ],
)
def test_what_is_part_of_a_list(wanted, listed, inside):
    assert (hosts.beyond([wanted], listed) == []) is inside
