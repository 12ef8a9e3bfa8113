"""The list of system calls, as a list. What it does is in the contract suite."""

import json

import pytest

from runtime.drivers import seccomp

PROFILE = json.loads(seccomp.profile_text())
ALLOW, REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def names(action, **wanted):
    return {
        name
        for rule in PROFILE["syscalls"]
        if rule["action"] == action and all(rule.get(key) == value for key, value in wanted.items())
        for name in rule["names"]
    }


def test_what_is_not_listed_is_unknown():
    assert PROFILE["defaultAction"] == REFUSE and PROFILE["defaultErrnoRet"] == 38


def test_native_calls_only():
    assert all(item["subArchitectures"] == [] for item in PROFILE["archMap"])


def test_no_call_is_both_allowed_and_refused():
    conditional = {name for rule in PROFILE["syscalls"] if "args" in rule for name in rule["names"]}
    assert conditional == {"personality", "socket", "clone"}
    assert names(ALLOW) & names(REFUSE) <= conditional


@pytest.mark.parametrize(
    "name",
    [
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
        "process_madvise",
        "kcmp",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "memfd_secret",
        "name_to_handle_at",
        "open_by_handle_at",
        "fanotify_init",
        "mount",
        "mount_setattr",
        "umount2",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "open_tree",
        "pivot_root",
        "chroot",
        "setns",
        "unshare",
        "quotactl",
        "quotactl_fd",
        "swapon",
        "swapoff",
        "reboot",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "acct",
        "syslog",
        "vhangup",
        "settimeofday",
        "clock_settime",
        "iopl",
        "ioperm",
        "migrate_pages",
        "move_pages",
        "mbind",
        "set_mempolicy",
        "set_mempolicy_home_node",
        "vmsplice",
        "statmount",
        "listmount",
    ],
)
def test_refused_aloud(name):
    assert name in names(REFUSE, errnoRet=1) and name not in names(ALLOW)


@pytest.mark.parametrize("name", ["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"])
def test_said_to_be_unknown(name):
    assert name in names(REFUSE, errnoRet=38) and name not in names(ALLOW)


def test_socket_families():
    rules = [rule for rule in PROFILE["syscalls"] if rule["names"] == ["socket"]]
    allowed = {rule["args"][0]["value"] for rule in rules if rule["action"] == ALLOW}
    refused = {
        rule["args"][0]["value"] for rule in rules if rule.get("errnoRet") == 97 and rule["args"][0]["op"][-2:] == "EQ"
    }
    beyond = [rule["args"][0]["value"] for rule in rules if rule["args"][0]["op"] == "SCMP_CMP_GT"]
    assert allowed == {1, 2, 10, 16} and allowed | refused == set(range(17)) and beyond == [16]


def test_for_gvisor_clone3_is_left_to_its_kernel_and_what_that_does_not_refuse_is_bounded():
    rules = json.loads(seccomp.profile_text(own_kernel=True))["syscalls"]
    always = {name for rule in rules if rule["action"] == ALLOW and "args" not in rule for name in rule["names"]}
    assert always - names(ALLOW) == {"clone3"}
    assert names(ALLOW) - always - {"personality", "socket", "clone"} == {
        "setpriority", "sched_setaffinity", "mknod", "mknodat"
    }  # fmt: skip
    # For the executor, before it gives up the right to them.
    exact = {rule["names"][0]: rule["args"] for rule in rules if rule["names"] in (["mount"], ["unshare"])}
    # MS_NOSUID, MS_NODEV and MS_NOEXEC, no more and no less; and CLONE_NEWPID.
    assert exact == {
        "mount": [{"index": 3, "value": 2 | 4 | 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        "unshare": [{"index": 0, "value": 0x20000000, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
    }
    assert not any("clone3" in rule["names"] for rule in rules if rule["action"] == REFUSE)
    kinds = [rule["args"][0] for rule in rules if rule["names"] == ["mknodat"]]
    assert {oct(item["valueTwo"]) for item in kinds} == {"0o0", "0o100000", "0o10000", "0o140000"}
    assert {(item["index"], item["value"], item["op"]) for item in kinds} == {(2, 0o170000, "SCMP_CMP_MASKED_EQ")}
    assert json.loads(seccomp.profile_text()) == PROFILE


def test_it_compiles():
    pytest.importorskip("pyseccomp", exc_type=Exception)
    program = seccomp.compiled()
    assert len(program) % 8 == 0 and len(program) > 8 * 100
