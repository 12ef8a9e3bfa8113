"""Archives that are unpacked in the sandbox: all of it or nothing, and never a byte outside."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import time
import zipfile
import zlib

import pytest

from tests.executor.sandbox import Sandbox
from tests.executor.test_uploads import everything, put_last

FILES = {
    "a.txt": b"one",
    "dir/b.bin": bytes(range(256)) * 1000, "dir/sub/данные é.csv": b"x,y\n", "empty": b"", "back\\slash": b"b", "new\nline": b"n",
}  # fmt: skip


def member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], files: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in [*members, *[member(*item) for item in (files or {}).items()]]:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(
    files: dict[str, bytes] | None = None, *infos: tuple[zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in (files or {}).items():
            archive.writestr(name, data)
        for info, data in infos:
            archive.writestr(info, data)
    return buffer.getvalue()


KINDS = {
    "tar": tar(files=FILES), "tar.gz": gzip.compress(tar(files=FILES)), "tar.bz2": bz2.compress(tar(files=FILES)),
    "tar.xz": lzma.compress(tar(files=FILES)), "zip": zipped(FILES), "zip, stored": zipped(FILES, method=zipfile.ZIP_STORED),
}  # fmt: skip


def extract(sandbox: Sandbox, archive: bytes, path: str = "") -> tuple[int, dict]:
    pieces = [archive[start : start + 60_000] for start in range(0, len(archive), 60_000)]
    return put_last(sandbox, path, pieces, "?extract=1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["", "to/here"])
def test_it_is_unpacked(sandbox, kind, path):
    status, answer = extract(sandbox, KINDS[kind], path)
    below = f"{path}/" if path else ""
    assert status == 200, answer
    assert answer == {
        "path": path, "count": len(FILES), "size": sum(map(len, FILES.values())), "truncated": False,
        "files": [{"path": below + name, "size": len(FILES[name])} for name in sorted(FILES)],
    }  # fmt: skip
    for name, data in FILES.items():
        assert sandbox.file("GET", below + name).body == data
    assert not [name for name in everything(sandbox) if ".sbx" in name]
    run = sandbox.run(f"open({below + 'dir/sub/new'!r}, 'w').write('1')\nopen({below + 'a.txt'!r}, 'a').write('2')")
    assert run.outcome == "ok"
    assert sorted(item["path"] for item in run.artifacts) == [below + "a.txt", below + "dir/sub/new"]


def test_an_empty_archive_is_none_but_a_success(sandbox):
    for archive in (tar(), zipped()):
        assert extract(sandbox, archive, "")[1]["count"] == 0
    assert everything(sandbox) == []


def test_folders_are_made_dots_are_nothing_and_the_executable_bit_is_kept(sandbox):
    archive = tar(
        member("./", b"", type=tarfile.DIRTYPE), member("./void/", b"", type=tarfile.DIRTYPE), member("./a//b/./run", mode=0o4755),
        member("twice", b"1"), member("twice", b"22", mode=0o600),
    )  # fmt: skip
    assert extract(sandbox, archive)[1]["files"] == [{"path": "a/b/run", "size": 1}, {"path": "twice", "size": 2}]
    assert everything(sandbox) == ["a", "a/b", "a/b/run", "twice", "void"]
    assert stat.S_IMODE((sandbox.workspace / "a/b/run").stat().st_mode) == 0o775
    assert stat.S_IMODE((sandbox.workspace / "twice").stat().st_mode) == 0o664


def test_it_goes_into_what_is_there_and_over_files(sandbox):
    sandbox.file("PUT", "dir/old", b"old")
    sandbox.file("PUT", "dir/b.bin", b"old")
    sandbox.run("import os\nos.umask(0o077)\nos.makedirs('dir/sub')")
    assert extract(sandbox, KINDS["zip"])[0] == 200
    assert sandbox.file("GET", "dir/old").body == b"old"
    assert sandbox.file("GET", "dir/b.bin").body == FILES["dir/b.bin"]
    assert sandbox.file("GET", "dir/sub/данные é.csv").body == b"x,y\n"


IN_THE_WAY = ["os.makedirs('empty')", "open('dir', 'w').close()", "os.symlink('/tmp', 'dir')", "os.symlink('/etc/passwd', 'a.txt')",
              "os.mkfifo('a.txt')", "os.makedirs('dir'); os.symlink('/tmp', 'dir/sub')"]  # fmt: skip


@pytest.mark.parametrize("code", IN_THE_WAY)
def test_what_is_in_the_way_is_a_conflict_and_nothing_is_moved(sandbox, code):
    sandbox.run(f"import os\n{code}")
    before = everything(sandbox)
    status, answer = extract(sandbox, KINDS["tar.gz"])
    assert (status, answer["error"]) == (409, "conflict")
    assert everything(sandbox) == before


@pytest.mark.parametrize("path", ["/etc", "..", "a/../b", "a//b", "a\0b", "x" * 1025])
def test_a_bad_folder_is_refused(sandbox, path):
    status, answer = extract(sandbox, KINDS["tar"], path)
    assert (status, answer["error"]) == (400, "bad_request")
    assert everything(sandbox) == []


def zip_entry(name: str, mode: int, data: bytes = b"/etc/passwd") -> bytes:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.create_system = mode << 16, 3
    return zipped({"good": b"x"}, (info, data))


def encrypted() -> bytes:
    data = bytearray(zipped({"secret": b"x" * 100}))
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


LINK = {"linkname": "/etc", "size": 0}
GOOD = member("good", b"x" * 5000)
BAD = {
    "a symlink": tar(GOOD, member("l", b"", type=tarfile.SYMTYPE, linkname="/etc")),
    "through a symlink": tar(member("l", b"", type=tarfile.SYMTYPE, linkname="/tmp"), member("l/evil")),
    "a hard link": tar(GOOD, member("l", b"", type=tarfile.LNKTYPE, linkname="good")),
    "a hard link to outside": tar(GOOD, member("l", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "a device": tar(GOOD, member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "a block device": tar(GOOD, member("disk", b"", type=tarfile.BLKTYPE, devmajor=8)),
    "a fifo": tar(GOOD, member("fifo", b"", type=tarfile.FIFOTYPE)),
    "absolute": tar(GOOD, member("/etc/evil")),
    "upwards": tar(GOOD, member("../evil")),
    "upwards, inside": tar(GOOD, member("a/../../evil")),
    "a folder upwards": tar(GOOD, member("../evil/", b"", type=tarfile.DIRTYPE)),
    "too long": tar(GOOD, member("/".join(["d" * 200] * 6))),
    "a name too long": tar(GOOD, member("n" * 256)),
    "too deep": tar(GOOD, member("d/" * 65 + "f")),
    "not UTF-8": tar(GOOD, member("caf\udce9")),
    "a file and a folder": tar(member("x"), member("x/y")),
    "a folder and a file": tar(member("x/y"), member("x")),
    "cut in a file": tar(GOOD)[:3000],
    "cut between files": tar(GOOD, GOOD)[: 512 + 5120],
    "cut in a header": tar(GOOD, GOOD)[: 512 + 5120 + 100],
    "damaged in the middle": tar(GOOD, GOOD)[: 512 + 5120] + b"\xff" * 512 + tar(GOOD),
    "gz, cut": gzip.compress(tar(GOOD))[:-20],
    "gz, damaged": gzip.compress(tar(GOOD))[:-8] + b"\0" * 8,
    "bz2, damaged": bz2.compress(tar(GOOD))[:-30] + b"\0" * 30,
    "xz, damaged": lzma.compress(tar(GOOD))[:-40] + b"\0" * 40,
    "gz of no tar": gzip.compress(b"hello" * 1000),
    "no archive": b"hello" * 1000,
    "nothing": b"",
    "zip, absolute": zipped({"good": b"x", "/etc/evil": b"x"}),
    "zip, upwards": zipped({"good": b"x", "../evil": b"x"}),
    "zip, symlink": zip_entry("l", stat.S_IFLNK | 0o777),
    "zip, device": zip_entry("d", stat.S_IFCHR | 0o666),
    "zip, encrypted": encrypted(),
    "zip, bzip2": zipped({"good": b"x" * 1000}, method=zipfile.ZIP_BZIP2),
    "zip, lzma": zipped({"good": b"x" * 1000}, method=zipfile.ZIP_LZMA),
    "zip, cut": zipped({"good": b"x" * 1000})[:-30],
    "zip, wrong checksum": zipped({"good": b"x" * 1000}, method=zipfile.ZIP_STORED).replace(b"xxx", b"xyx", 1),
}  # fmt: skip


def test_a_bad_archive_leaves_nothing(shared):
    """Each in turn, in one sandbox: what one leaves behind would be seen by the next."""
    shared.file("PUT", "keep", b"old")
    outside = set(os.listdir(shared.home)), set(os.listdir("/tmp"))
    for name, archive in BAD.items():
        status, answer = extract(shared, archive)
        assert (status, answer["error"]) == (400, "bad_request"), (name, status, answer)
        assert everything(shared) == ["keep"], name
    assert set(os.listdir(shared.home)) == outside[0]
    assert not [name for name in set(os.listdir("/tmp")) - outside[1] if "evil" in name]
    shared.file("DELETE", "keep")


def sparse_bomb() -> bytes:
    """A GNU sparse file of 8 TiB whose data is one block."""
    info = tarfile.TarInfo("sparse")
    info.size, info.type = 512, tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    real = 8 * 2**40
    number = lambda value: b"\x80" + value.to_bytes(11, "big")  # noqa: E731
    head[386:398], head[398:410] = number(real - 512), number(512)
    head[483:495] = number(real)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(512) + bytes(1024)


def long_name_bomb() -> bytes:
    """A header that says that the name of the next file has 8 GiB; packed, it is small."""
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = 8 * 2**30 - 1, tarfile.GNUTYPE_LONGNAME
    packer = lzma.LZMACompressor(preset=0)
    return (
        packer.compress(info.tobuf(tarfile.GNU_FORMAT))
        + b"".join(packer.compress(bytes(2**20)) for _ in range(600))
        + packer.flush()
    )


def big_dictionary() -> bytes:
    """Says that it takes 1.5 GiB of memory to unpack: one byte of the block's header, which a checksum follows."""
    data = bytearray(lzma.compress(tar(GOOD)))
    size = (data[12] + 1) * 4
    data[12 + 4] = 37
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(bytes(data[12 : 12 + size - 4])))
    return bytes(data)


BOMBS = {
    "gz of zeros": lambda: gzip.compress(tar(member("zeros", bytes(64 * 2**20)))),
    "bz2 of zeros": lambda: bz2.compress(tar(member("zeros", bytes(64 * 2**20)))),
    "zip of zeros": lambda: zipped({"zeros": bytes(64 * 2**20)}),
    "many zeros": lambda: zipped({f"zeros{number}": bytes(2**20) for number in range(20)}),
    "too many files": lambda: zipped({f"f{number}": b"" for number in range(10_001)}, method=zipfile.ZIP_STORED),
    "too many folders": lambda: gzip.compress(tar(*[member(f"{n}/" + "d/" * 50 + "f") for n in range(250)])),
    "sparse": sparse_bomb,
    "a long name": long_name_bomb,
    "a big dictionary": big_dictionary,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_too_large_and_leaves_nothing(shared, name):
    begun = time.monotonic()
    status, answer = extract(shared, BOMBS[name]())
    assert (status, answer["error"]) == (413, "too_large"), answer
    assert everything(shared) == []
    assert time.monotonic() - begun < 60
    assert shared.file("PUT", "alive", b"x").status == 200
    assert shared.file("DELETE", "alive").status == 204


def test_zip_files_that_share_their_bytes_count_each(shared):
    """Ten thousand entries that all point to the same compressed megabyte."""
    one = zipped({"f0000": bytes(2**20)})
    start = one.find(b"PK\x01\x02")
    entry, end = one[start : one.find(b"PK\x05\x06")], bytearray(one[one.find(b"PK\x05\x06") :])
    entries = b"".join(entry.replace(b"f0000", b"f%04d" % number) for number in range(9999))
    end[8:10] = end[10:12] = (9999).to_bytes(2, "little")
    end[12:16] = len(entries).to_bytes(4, "little")
    status, answer = extract(shared, one[:start] + entries + bytes(end))
    assert status in (400, 413), answer
    assert everything(shared) == []


def test_what_does_not_fit_is_507_and_leaves_nothing(make_sandbox):
    sandbox = make_sandbox(tmpfs_workspace=8 * 2**20)
    status, answer = extract(sandbox, gzip.compress(tar(member("noise", os.urandom(6 * 2**20))), 1))
    assert (status, answer["error"]) == (507, "disk_full"), answer
    assert sandbox.run("import os\ndef handler(e): return os.listdir('.')").value == []


def test_user_code_that_meddles_gets_nothing_outside_and_breaks_nothing(sandbox):
    code = """
import os, time
end = time.time() + 6
print('up', flush=True)
while time.time() < end:
    for name in os.listdir('.'):
        if name.startswith('.sbx'):
            for act, args in ((os.listdir, [name]), (os.rename, [name, 'mine']), (os.symlink, ['/etc', name]), (os.rename, ['mine', name])):
                try:
                    act(*args)
                except OSError:
                    pass
    try:
        os.symlink('/tmp', 'dir')
        os.rename('dir', 'was')
    except OSError:
        pass
"""
    stream = sandbox.start(code, run_id="meddle", timeout=30)
    stream.until(b"up")
    for _ in range(20):
        status, _ = extract(sandbox, KINDS["tar"])
        assert status in (200, 400, 404, 409, 507), sandbox.log
    stream.outcome()
    assert sandbox.run("import os\ndef handler(e): return os.listdir('/tmp')").value == []
    assert sandbox.file("PUT", "alive", b"x").status == 200


def test_names_that_belong_to_uploads_under_way_are_refused(sandbox):
    reserved = zipped({"a": b"x", ".sbx-upload-mine": b"x"})
    for archive, path in ((reserved, ""), (zipped({"a": b"x"}), ".sbx-upload-mine")):
        status, answer = extract(sandbox, archive, path)
        assert (status, answer["error"]) == (400, "bad_request") and "reserved" in answer["message"]
    assert everything(sandbox) == []
    assert extract(sandbox, reserved, "below")[0] == 200
