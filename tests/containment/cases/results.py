"""What user code says of itself: results, output, exit codes; and that no run inherits anything of the one before."""

from __future__ import annotations

from tests.containment.cases.case import inside, outside
from tests.containment.targets import Ours


@outside("A20", "results that are printed stay output")
def fake_results(target: Ours) -> str:
    code = 'import json\nprint(json.dumps({"t": "result", "outcome": "ok", "return_value": "forged"}))\ndef handler(event): return 1'
    done = target.run(code)
    return "" if done.result.return_value == "1" and "forged" in done.stdout else f"gave {done.result.return_value}"


@outside("A22, A23", "what is no strict JSON, or too much of it, is refused")
def bad_results(target: Ours) -> str:
    bad = {"float('nan')": "invalid_result", "{1, 2}": "invalid_result", "object()": "invalid_result",
           "'x' * (100 << 20)": "output_limit", "deep(100000)": "invalid_result"}  # fmt: skip
    deep = "def deep(n):\n    found = []\n    for _ in range(n): found = [found]\n    return found\n"
    found = []
    for value, wanted in bad.items():
        outcome = target.run(f"{deep}def handler(event): return {value}", 30).outcome
        if outcome not in (wanted, "oom", "exception"):
            found.append(f"{value}: {outcome}")
    return "; ".join(found)


@outside("A25", "a flood of output is drained and cut, and does not hold the program")
def flood(target: Ours) -> str:
    done = target.run("import os\nfor _ in range(200): os.write(1, b'x' * (1 << 20))", 60)
    # Past its beginning a flood is sampled, 128 KiB each 50 ms or so: a follower gets a small part of it.
    kept = len(done.stdout)
    ok = done.outcome == "ok" and done.result.stdout_bytes == 200 << 20 and kept <= 20 << 20
    return "" if ok else f"{done.outcome}, kept {kept}"


@outside("A27", "exit codes are told as they are")
def exit_codes(target: Ours) -> str:
    wanted = {"import os; os._exit(7)": 7, "import sys; sys.exit('x')": 1, "raise SystemExit": 0, "1/0": 1,
              "import os; os.kill(os.getpid(), 11)": 139, "import os; os.kill(os.getpid(), 9)": 137}  # fmt: skip
    got = {code: target.run(code).result.exit_code for code in wanted}
    return "; ".join(f"{code}: {got[code]}" for code in wanted if got[code] != wanted[code])


trace_me = inside(
    "A28", "a child can't be traced to hide that it lives", 'syscall("ptrace(TRACEME)", 101, 117, 0, 0, 0, 0)'
)


@outside("A31", "what a run changes of the interpreter is gone in the next")
def pristine(target: Ours) -> str:
    target.run("""
import builtins, json, os, signal, sys
builtins.print = None; json.dumps = None; sys.modules["decimal"] = None; os.environ["X"] = "1"; os.chdir("/tmp"); os.umask(0)
sys.addaudithook(lambda *a: None); signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("/workspace/sitecustomize.py", "w").write("raise SystemExit(9)"); open("/workspace/json.py", "w").write("evil = 1")
""")
    done = target.run("import os, json, decimal, signal\nassert not hasattr(json, 'evil')\n"
                      "print(os.getcwd(), 'X' in os.environ, os.umask(0), signal.getsignal(15) == signal.SIG_DFL)")  # fmt: skip
    target.run("import os\nfor n in ('sitecustomize.py', 'json.py'): os.unlink('/workspace/' + n)")
    return "" if done.stdout.split() == ["/workspace", "False", "2", "True"] else done.stdout + done.stderr[-200:]
