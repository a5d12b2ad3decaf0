"""What programs and scripts say of themselves; where it can be tried, the kernel is asked too."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.plan.holdable import (
    CAUSES,
    SCRIPT_DEPTH,
    Elf,
    Unholdable,
    find_bar,
    interpreted_files,
    program_files,
    read_elf,
)

OWN = read_elf("/proc/self/exe")
assert OWN is not None
KIND, LINKER = OWN.kind, OWN.linker or "/lib/ld.so"
NOBODY = (65534, 65534)


def elf(kind: tuple[int, int, int] = KIND, linker: str | None = LINKER) -> bytes:
    """An ELF file with a program header or two, the last the dynamic linker's."""
    layout, order, machine = kind
    sign = "<" if order == 1 else ">"
    wide = layout == 2
    headers = 52 + 12 * wide
    size = 56 if wide else 32
    count = 1 + (linker is not None)
    text = b"" if linker is None else os.fsencode(linker) + b"\0"
    at = headers + count * size
    head = b"\x7fELF" + bytes((layout, order, 1)) + bytes(9)
    head += struct.pack(sign + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"),
                        3, machine, 1, 0, headers, 0, 0, headers, size, count, 0, 0, 0)
    for number, offset, length in ((1, 0, 0), (3, at, len(text)))[:count]:
        if wide:
            head += struct.pack(sign + "IIQQQQQQ", number, 4, offset, 0, 0, length, length, 1)
        else:
            head += struct.pack(sign + "IIIIIIII", number, offset, 0, 0, length, length, 4, 1)
    return head + text + bytes(16)


def written(path: Path, content: bytes | str, mode: int = 0o755) -> str:
    path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    path.chmod(mode)
    return str(path)


def refusal(path: str | Path, search: str = "/usr/bin:/bin") -> tuple[str, str]:
    with pytest.raises(Unholdable) as caught:
        program_files(str(path), search)
    assert caught.value.word in CAUSES
    return caught.value.reason, caught.value.remedy


class TestElf:
    def test_a_dynamic_program(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x", elf())
        assert program_files(path, "") == (path,)
        assert program_files("/bin/sh", "") == ("/bin/sh",)

    @pytest.mark.parametrize("layout", [1, 2])
    @pytest.mark.parametrize("order", [1, 2])
    @pytest.mark.parametrize("linker", ["/lib/ld.so.1", None])
    def test_classes_and_orders(self, layout: int, order: int, linker: str | None, tmp_path: Path) -> None:
        kind = (layout, order, 8)
        assert read_elf(written(tmp_path / "x", elf(kind, linker))) == Elf(kind, linker)

    def test_static(self, tmp_path: Path) -> None:
        assert refusal(written(tmp_path / "x", elf(linker=None)))[0] == f"{tmp_path}/x is linked statically"

    @pytest.mark.parametrize("kind", [(3 - KIND[0], *KIND[1:]), (*KIND[:2], 8), (KIND[0], 3 - KIND[1], KIND[2])])
    def test_another_machine(self, kind: tuple[int, int, int], tmp_path: Path) -> None:
        assert "another kind of machine" in refusal(written(tmp_path / "x", elf(kind)))[0]

    def test_another_c_library(self, tmp_path: Path) -> None:
        assert "of another C library" in refusal(written(tmp_path / "x", elf(linker="/lib/ld-musl-other.so.1")))[0]
        elsewhere = written(tmp_path / "y", elf(linker=f"/opt/lib/{Path(LINKER).name}"))
        assert program_files(elsewhere, "") == (elsewhere,)

    def test_nothing_of_the_kind(self, tmp_path: Path) -> None:
        whole = elf()
        broken = whole[:54] + b"\xff\xff\xff\xff" + whole[58:]  # e_phentsize and e_phnum
        for content in (b"", b"\x7fELF", b"MZ" + bytes(100), broken, b"echo hello\n"):
            assert "neither an ELF program" in refusal(written(tmp_path / "x", content))[0]

    def test_headers_beyond_the_end(self, tmp_path: Path) -> None:
        whole = elf((2, 1, KIND[2]))
        assert read_elf(written(tmp_path / "x", whole[:64])) == Elf((2, 1, KIND[2]), None)
        far = written(tmp_path / "y", whole[:32] + b"\xff" * 8 + whole[40:])
        assert "cannot be read" in refusal(far)[0]

    def test_unreadable(self, tmp_path: Path) -> None:
        for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "is not a file"),
                             (Path("/dev/zero"), "is not a file")):
            assert reason in refusal(path)[0]
        if os.geteuid():
            assert "Permission denied" in refusal(written(tmp_path / "x", elf(), 0o111))[0]


class TestPrivileges:
    @pytest.mark.parametrize(("mode", "what"), [(0o4755, "set-uid"), (0o2755, "set-gid"), (0o6755, "set-uid")])
    def test_bits(self, mode: int, what: str, tmp_path: Path) -> None:
        path = written(tmp_path / "x", elf(), mode)
        assert refusal(path)[0] == f"{path} is {what}"
        script = written(tmp_path / "y", f"#!{path}\n")
        assert refusal(script)[0] == f"{path} is {what}"
        with pytest.raises(Unholdable):
            interpreted_files(script)

    def test_bits_that_give_no_rights(self, tmp_path: Path) -> None:
        """The kernel ignores those of a script, and takes set-gid without x for mandatory locking."""
        path = written(tmp_path / "x", elf(), 0o2745)
        script = written(tmp_path / "y", f"#!{path}\n", 0o6755)
        assert program_files(script, "") == (script, path)

    @pytest.mark.usefixtures("root")
    def test_capabilities(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x", elf())
        try:
            os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
        except OSError as error:
            pytest.skip(f"no capabilities here: {error.strerror}")
        assert refusal(path) == (f"{path} has file capabilities", "take them away (setcap -r)")


class TestScripts:
    @pytest.mark.parametrize("line", ["#!{}", "#! {}\n", "#!\t{} -a b \t\n", "#!{}\techo\n# more\n"])
    def test_lines(self, line: str, tmp_path: Path) -> None:
        script = written(tmp_path / "x", line.format("/bin/sh"))
        assert program_files(script, "") == (script, "/bin/sh")

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("#!\n", "names no interpreter"),
            ("#! \t\n/bin/sh\n", "names no interpreter"),
            ("#!/" + "x" * 300, "names no interpreter"),
            ("#!sh\n", "not an absolute path"),
            ("#!/no/such\n", "/no/such cannot be read: No such file"),
            ("#!/bin/sh\r\n", "cannot be read: No such file"),
            ("#!/bin/\0sh\n", "cannot be read"),
            ("#!/etc/passwd\n", "/etc/passwd is neither"),
        ],
    )
    def test_bad_lines(self, line: str, reason: str, tmp_path: Path) -> None:
        assert reason in refusal(written(tmp_path / "x", line))[0]

    def test_scripts_of_scripts_as_deep_as_the_kernel_goes(self, tmp_path: Path) -> None:
        path = written(tmp_path / "0", "#!/bin/sh\nexit 0\n")
        for number in range(1, SCRIPT_DEPTH + 3):
            path = written(tmp_path / str(number), f"#!{path}\n")
            if number <= SCRIPT_DEPTH:
                assert len(program_files(path, "")) == number + 2
                assert subprocess.run([path], check=False).returncode == 0
            else:
                assert f"more than {SCRIPT_DEPTH} scripts" in refusal(path)[0]
                with pytest.raises(OSError, match="Too many levels"):
                    subprocess.run([path], check=False)

    def test_a_circle(self, tmp_path: Path) -> None:
        assert "lead through" in refusal(written(tmp_path / "x", f"#!{tmp_path}/x\n"))[0]


def test_in_a_word(tmp_path: Path) -> None:
    """What metrics say of a program that cannot be held."""
    set_uid = written(tmp_path / "set-uid", elf(), 0o4755)
    for word, path in (
        ("static", written(tmp_path / "static", elf(linker=None))),
        ("machine", written(tmp_path / "machine", elf((KIND[0], 3 - KIND[1], KIND[2])))),
        ("c_library", written(tmp_path / "c-library", elf(linker="/lib/ld-musl-other.so.1"))),
        ("privileged", set_uid),
        ("privileged", written(tmp_path / "leads-to-it", f"#!{set_uid}\n")),
        ("interpreter", written(tmp_path / "by-env", "#!/usr/bin/env sh\n")),
        ("interpreter", written(tmp_path / "plain", "echo hello\n")),
        ("unreadable", str(tmp_path / "none")),
    ):
        with pytest.raises(Unholdable) as caught:
            program_files(path, "/usr/bin:/bin")
        assert caught.value.word == word, path


class TestEnv:
    """env would be what is held, and every connection would pay for exec all the same."""

    @pytest.mark.parametrize("words", ["thing", "-S thing -u", "-S A=b thing --x", "-i thing"])
    def test_what_it_would_find_is_named(self, words: str, tmp_path: Path) -> None:
        thing = written(tmp_path / "thing", elf())
        script = written(tmp_path / "x", f"#!/usr/bin/env {words}\n")
        reason, remedy = refusal(script, f"/nowhere:{tmp_path}")
        assert reason == "/usr/bin/env only starts another program"
        assert remedy == f"begin {script} with #!{thing}"

    def test_what_it_would_not_find(self, tmp_path: Path) -> None:
        for words in ("thing", ""):
            script = written(tmp_path / "x", f"#!/usr/bin/env {words}\n")
            assert refusal(script, "/nowhere")[1] == f"begin {script} with #!/PATH/OF/ITS/INTERPRETER"

    @pytest.mark.usefixtures("root")
    def test_what_the_user_may_not_execute_is_passed_over(self, folder: Path) -> None:
        """As env does: what root has in a folder of its own is nothing to others."""
        closed, fine = folder / "closed", folder / "open"
        for each, mode in ((closed, 0o700), (fine, 0o755)):
            each.mkdir()
            each.chmod(mode)
            written(each / "thing", elf())
        for file, mode in (("mine", 0o700), ("thing", 0o755)):
            written(fine / file, elf(), mode)
        search = f"{closed}:{fine}"
        for user, word, expected in (((0, 0), "thing", closed / "thing"), (NOBODY, "thing", fine / "thing"),
                                     (NOBODY, "mine", "/PATH/OF/ITS/INTERPRETER")):
            script = written(folder / "x", f"#!/usr/bin/env {word}\n")
            with pytest.raises(Unholdable) as caught:
                program_files(script, search, user)
            assert caught.value.remedy == f"begin {script} with #!{expected}"

    def test_the_last_script_is_the_one_to_change(self, tmp_path: Path) -> None:
        inner = written(tmp_path / "inner", "#!/usr/bin/env sh\n")
        assert f"begin {inner} with #!" in refusal(written(tmp_path / "x", f"#!{inner}\n"))[1]

    def test_env_as_the_program(self) -> None:
        assert refusal("/usr/bin/env")[1] == "write that program as `server`"

    def test_a_worker_may_be_started_so(self, tmp_path: Path) -> None:
        script = written(tmp_path / "x", "#!/usr/bin/env thing\n")
        assert interpreted_files(script) == (script, "/usr/bin/env")
        static = written(tmp_path / "y", elf(linker=None))
        assert interpreted_files(static) == (static,)


ALLOWED = "raise SystemExit(not __import__('os').access(*map(eval, __import__('sys').argv[1:])))"


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("ids", [(65534, 65534), (1234, 65534), (1234, 7), (7, 1234), (0, 0)])
@pytest.mark.parametrize("groups", [(), (7,)])
@pytest.mark.parametrize("modes", [(0o755, 0o644), (0o711, 0o640), (0o750, 0o644), (0o705, 0o604), (0o70, 0o40),
                                   (0o755, 0o711), (0o755, 0o6)])  # fmt: skip
def test_barred_is_what_the_kernel_says(
    ids: tuple[int, int], groups: tuple[int, ...], modes: tuple[int, int], folder: Path
) -> None:
    inner = folder / "inner"
    inner.mkdir()
    file, link = inner / "file", folder / "link"
    file.write_text("")
    link.symlink_to("inner/file")
    os.chown(inner, 7, 7)
    os.chown(file, 7, 7)
    file.chmod(modes[1])
    inner.chmod(modes[0])
    python = os.path.realpath("/usr/bin/python3")
    for path in (file, link):
        for execute in (False, True):
            if execute and ids[0] == 0:
                continue  # that x is missing for everybody is told by program_of
            words = (repr(str(path)), str(os.X_OK if execute else os.R_OK))
            asked = subprocess.run([python, "-I", "-S", "-c", ALLOWED, *words], user=ids[0], group=ids[1],
                                   extra_groups=groups, cwd="/", check=False)  # fmt: skip
            found = find_bar(str(path), ids, groups, execute=execute)
            assert (found is None) == (asked.returncode == 0), (path, execute, found)
            assert found in (None, str(inner), str(file), str(link))


def test_barred_by_what_is_not_there(tmp_path: Path) -> None:
    assert find_bar(str(tmp_path / "none"), (os.geteuid() or 1, 1), ()) is not None
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert find_bar(str(loop), (os.geteuid() or 1, 1), ()) is not None


@pytest.mark.usefixtures("root")
def test_an_access_list_is_taken_to_be_open(folder: Path) -> None:
    file = folder / "file"
    file.write_text("")
    file.chmod(0o600)
    assert find_bar(str(file), NOBODY, ()) == str(file)
    # acl_ea_entry: version; user::rw-, user:65534:r--, group::---, mask::r--, other::---
    entries = ((1, 6, -1), (2, 4, 65534), (4, 0, -1), (16, 4, -1), (32, 0, -1))
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(file, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert find_bar(str(file), NOBODY, ()) is None


def test_this_python_can_be_held() -> None:
    assert program_files(sys.executable, "")[-1] == sys.executable
