"""What `meson install` puts where, and programs built against it as a stranger would."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from daemon import started
from process import BUILD, SANITIZER, clean_env
from tap import WAIT_SECONDS, Box, Skip, main, test
from trainer import trainer

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str | Path, **env: str) -> str:
    done = subprocess.run([str(w) for w in words], env=clean_env(**env), capture_output=True, text=True, timeout=3 * WAIT_SECONDS)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Installed:
    """The build, installed below the box."""

    def __init__(self, box: Box) -> None:
        if SANITIZER != "none" or shutil.which("meson") is None or shutil.which("pkg-config") is None:
            raise Skip("needs a plain build, meson and pkg-config")
        self.root = box.dir / "root"
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", self.root)
        [self.pc] = self.root.rglob("wbx.pc")
        self.prefix = next(Path(line.partition("=")[2]) for line in self.pc.read_text().splitlines() if line.startswith("prefix="))
        self.usr = self.root / self.prefix.relative_to("/")
        self.lib = self.pc.parents[1]

    def pkg_config(self, *words: str) -> list[str]:
        # the sysroot goes before its own paths only: the libraries that it needs are the machine's
        return run("pkg-config", f"--define-variable=prefix={self.usr}", *words, "wbx", PKG_CONFIG_PATH=str(self.pc.parent)).split()


@test
def everything_is_where_it_is_looked_for(box: Box) -> None:
    usr = Installed(box).usr
    for name in ("bin/wbxctl", "bin/wbxcat", "sbin/wbxd", "include/wbx.h", "lib/systemd/system/wbxd.service",
                 "lib/systemd/system/wbxd.socket", "lib/systemd/system/wbxd-ctl.socket", "lib/sysusers.d/wbx.conf",
                 "lib/tmpfiles.d/wbx.conf", "share/doc/wbx/wbxd.conf", "share/bash-completion/completions/wbxctl",
                 "share/zsh/site-functions/_wbxctl"):
        assert (usr / name).is_file(), name
    unit = (usr / "lib/systemd/system/wbxd.service").read_text()
    [daemon] = re.findall(r"^ExecStart=(\S+)", unit, re.M)
    assert (usr / "sbin/wbxd").is_file() and daemon.endswith("/sbin/wbxd") and "@" not in daemon, daemon
    if shutil.which("scdoc"):
        for page in ("man1/wbxctl.1", "man1/wbxcat.1", "man3/libwbx.3", "man5/wbxd.conf.5", "man7/wbx-protocol.7", "man8/wbxd.8"):
            assert (usr / "share/man" / page).is_file(), page


@test
def bash_completes_commands_with_what_is_installed(box: Box) -> None:
    usr = Installed(box).usr
    script = f"""
        PATH={usr}/bin:$PATH
        source {usr}/share/bash-completion/completions/wbxctl
        COMP_WORDS=(wbxctl sta) COMP_CWORD=1
        $(complete -p wbxctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') wbxctl sta wbxctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert run("bash", "-c", script).split() == ["status"]


@test
def the_shared_library_shows_its_own_names_only(box: Box) -> None:
    [library] = Installed(box).root.rglob("libwbx.so.*.*")
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()]
    assert "wbx_open" in names and all(n.startswith("wbx_") for n in names), names


def logs(box: Box, program: Path, **env: str) -> None:
    daemon = started(box)
    said = run(program, WBX_SOCKET=str(daemon.socket), HOME=str(box.dir), **env)
    assert "is on the daemon's disk" in said, said
    assert len(daemon.store.rows(kind="log")) == 100
    daemon.stop()


@test
def a_c_program_is_built_with_pkg_config_and_the_shared_library(box: Box) -> None:
    have = Installed(box)
    program = box.dir / "shared"
    run("cc", ROOT / "docs/examples/log.c", *have.pkg_config("--cflags", "--libs"), "-o", program)
    assert "libwbx.so.0" in run("ldd", program, LD_LIBRARY_PATH=str(have.lib))
    logs(box, program, LD_LIBRARY_PATH=str(have.lib))


@test
def a_c_program_is_built_with_pkg_config_and_the_static_library(box: Box) -> None:
    have = Installed(box)
    for library in have.lib.glob("libwbx.so*"):
        os.unlink(library)
    program = box.dir / "static"
    run("cc", ROOT / "docs/examples/log.c", *have.pkg_config("--static", "--cflags", "--libs"), "-o", program)
    assert "libwbx" not in run("ldd", program)
    logs(box, program)


@test
def the_header_is_fit_for_cplusplus(box: Box) -> None:
    if shutil.which("c++") is None:
        raise Skip("needs c++")
    have = Installed(box)
    source = box.dir / "a.cc"
    source.write_text('#include <wbx.h>\nint main() { return wbx_close(nullptr, 0); }\n')
    run("c++", "-Wall", "-Wextra", "-Werror", source, *have.pkg_config("--cflags", "--libs"), "-o", box.dir / "a")


@test
def the_readme_s_python_example_runs(box: Box) -> None:
    daemon = started(box)
    code = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    process = trainer(box, code, socket=daemon.socket)
    assert process.wait() == 0
    rows = daemon.store.rows(kind="log")
    assert len(rows) == 101 and rows[99].body["data"]["train/reward"] == 0.99, len(rows)
    assert [r.body["data"] for r in daemon.store.rows(kind="summary")] == [{"best_reward": 0.99}]
    assert len(daemon.store.rows(kind="finish")) == 1
    daemon.stop()


main()
