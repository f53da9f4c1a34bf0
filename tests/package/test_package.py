"""The Debian packages: built in a clean copy, found good by lintian, holding what they should, and what an operator does with them
under a systemd of their own."""
from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from process import BUILD
from tap import Box, Skip, main, test

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 1200

# What a package holds besides its documentation below /usr/share/doc/PACKAGE.
HOLDS = {
    "wbx": """lib/systemd/system/wbxd-ctl.socket lib/systemd/system/wbxd.service lib/systemd/system/wbxd.socket
              usr/bin/wbxcat usr/bin/wbxctl usr/lib/sysusers.d/wbx.conf usr/lib/tmpfiles.d/wbx.conf usr/sbin/wbxd
              usr/share/bash-completion/completions/wbxctl usr/share/zsh/vendor-completions/_wbxctl
              usr/share/man/man1/wbxcat.1.gz usr/share/man/man1/wbxctl.1.gz usr/share/man/man5/wbxd.conf.5.gz
              usr/share/man/man7/wbx-protocol.7.gz usr/share/man/man8/wbxd.8.gz""",
    "libwbx0": "usr/lib/ARCH/libwbx.so.0 usr/lib/ARCH/libwbx.so.0.1.0",
    "libwbx-dev": """usr/include/wbx.h usr/lib/ARCH/libwbx.a usr/lib/ARCH/libwbx.so usr/lib/ARCH/pkgconfig/wbx.pc
                     usr/share/man/man3/libwbx.3.gz""",
    "python3-wbx": None,  # whatever modules the package has
}

_built: Path | None = None


def packages() -> Path:
    """The directory with the packages, built once."""
    global _built
    if _built is None:
        for tool in ("dpkg-buildpackage", "lintian", "dh", "dh_python3", "git"):
            if shutil.which(tool) is None:
                raise Skip(f"needs {tool}; ./dev package installs it")
        if subprocess.run(["dpkg-checkbuilddeps"], cwd=ROOT, capture_output=True).returncode != 0:
            raise Skip("build dependencies are missing; ./dev package installs them")
        out = Path(tempfile.mkdtemp(prefix="wbxt-package-"))
        atexit.register(shutil.rmtree, out, True)
        done = subprocess.run([ROOT / "tests/lib/package.sh", out], env=os.environ | {"DEB_BUILD_OPTIONS": "nocheck"},
                              capture_output=True, text=True, timeout=BUILD_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        _built = out
    return _built


def deb(name: str) -> Path:
    [path] = packages().glob(f"{name}_*.deb")
    return path


def run(*words: str | Path) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def files_of(name: str) -> set[str]:
    return {line.split()[5][2:] for line in run("dpkg-deb", "--contents", deb(name)).splitlines() if line[0] != "d"}


@test(seconds=BUILD_SECONDS)
def they_are_built_and_lintian_has_nothing_to_say(box: Box) -> None:
    said = [line for line in (packages() / "lintian.log").read_text().splitlines() if re.match(r"[EW]: ", line)]
    assert said == []
    assert {p.name.partition("_")[0] for p in packages().glob("*.deb") if "dbgsym" not in p.name} == set(HOLDS)


@test(seconds=BUILD_SECONDS)
def each_holds_what_it_should_and_nothing_else(box: Box) -> None:
    arch = run("dpkg-architecture", "-qDEB_HOST_MULTIARCH").strip()
    for name, holds in HOLDS.items():
        found = {f for f in files_of(name) if not f.startswith(f"usr/share/doc/{name}/")}
        if holds is None:
            assert all(f.startswith("usr/lib/python3/dist-packages/wbx/") for f in found), found
            assert any(f.endswith("/_native.abi3.so") for f in found) and any(f.endswith("/__init__.py") for f in found), found
        else:
            assert found == set(holds.replace("ARCH", arch).split()), f"{name}: {found ^ set(holds.replace('ARCH', arch).split())}"
    assert "usr/share/doc/wbx/wbxd.conf" in files_of("wbx")


@test(seconds=BUILD_SECONDS)
def the_sockets_stay_over_an_upgrade(box: Box) -> None:
    run("dpkg-deb", "--control", deb("wbx"), box.dir / "control")
    scripts = {p.name: p.read_text() for p in (box.dir / "control").iterdir()}
    for name, text in scripts.items():
        for line in text.splitlines():
            if re.search(r"deb-systemd-invoke\s+(\$_dh_action|restart|stop)", line) and ".socket" in line:
                assert name == "prerm" and '"$1" = remove' in text, f"{name}: {line}"
    assert "deb-systemd-invoke restart wbxd.service" in scripts["postinst"], scripts["postinst"]


@test(seconds=BUILD_SECONDS)
def a_systemd_installs_runs_upgrades_and_purges_them(box: Box) -> None:
    if os.getuid() != 0 or not Path("/lib/systemd/systemd").exists():
        raise Skip("needs root and systemd")
    shutil.copy(BUILD / "tests/crash/trainer", packages())
    said = subprocess.run(["unshare", "--mount", "--", "bash", str(ROOT / "tests/package/in_systemd.sh"), str(packages()), str(box.dir)],
                          capture_output=True, text=True, timeout=400)
    if said.returncode == 77:
        raise Skip("no container of systemd's can be made here: " + said.stderr.strip())
    assert said.returncode == 0 and "step: done" in said.stdout, said.stdout + said.stderr


main()
