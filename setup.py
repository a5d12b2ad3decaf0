"""The compiled core, and the executable file of the command. Metadata and tools are in pyproject.toml; FASTINETD_BUILD
chooses release, debug, asan or gcov."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

from distutils.ccompiler import new_compiler  # isort: skip  (setuptools' own: Python 3.12 has none)
from distutils.command.build_scripts import build_scripts  # isort: skip
from distutils.sysconfig import customize_compiler  # isort: skip

PACKAGE = Path("fastinetd")
HEADERS = [str(path) for path in sorted(PACKAGE.rglob("*.h")) + sorted(PACKAGE.rglob("*.pxd"))]
FLAGS = {
    "release": ["-O2"],
    "debug": ["-O0", "-g"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
    "gcov": ["-O0", "-g", "--coverage"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-sign-compare"]
LINK = {"asan": ["-fsanitize=address,undefined"], "gcov": ["--coverage"]}

build = os.environ.get("FASTINETD_BUILD", "release")
if build not in FLAGS:
    raise SystemExit(f"setup.py: FASTINETD_BUILD={build}: expected one of {', '.join(FLAGS)}")
checks = build == "debug"

core = [
    Extension(".".join(path.with_suffix("").parts), [str(path)], depends=HEADERS, include_dirs=["fastinetd"],
              extra_compile_args=[*FLAGS[build], *WARNINGS, "-fstack-protector-strong"],
              extra_link_args=LINK.get(build, []))
    for path in sorted(PACKAGE.rglob("*.pyx"))
]  # fmt: skip
directives = {"language_level": 3, "binding": True, "embedsignature": False, "boundscheck": checks, "wraparound": False,
              "initializedcheck": checks, "cdivision": True, "auto_pickle": False, "autotestdict": False}  # fmt: skip

# No module for Python: it is loaded into other programs, whatever C library they have, so it is never instrumented.
stage = Extension(
    "fastinetd.stage._stage", ["fastinetd/stage/stage.c"], depends=HEADERS,
    extra_compile_args=["-O2", *WARNINGS, "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-lto",
                        "-fno-sanitize=all", "-fno-tree-loop-distribute-patterns", "-mgeneral-regs-only",
                        "-fvisibility=hidden"],
    # Few segments: each fork of a held program copies them.
    extra_link_args=["-nostdlib", "-Wl,--no-undefined", "-Wl,-z,now,-z,noseparate-code"],
)  # fmt: skip
known = os.uname().machine in ("x86_64", "aarch64")


class Modules(build_py):
    """The first step of a build. What an earlier one has left would be installed, too: modules that are gone, and
    extensions that were built with other flags."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class Build(build_ext):
    def get_libraries(self, ext: Extension) -> list[str]:
        return [] if ext is stage else super().get_libraries(ext)


LAUNCHER = "fastinetd/cli/launcher.c"


class Launcher(build_scripts):
    """The command, where others have a script. It finds the interpreter's library from the interpreter."""

    def run(self) -> None:
        interpreter = Path(sys.executable).resolve()
        library = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME") or "")
        there = library.is_file() and ".so" in library.suffixes
        texts = {
            "PYTHON_NAME": f"python{sys.version_info[0]}.{sys.version_info[1]}",
            "PYTHON_FILE": str(interpreter),
            "PYTHON_LIBRARY": os.path.relpath(library, interpreter.parent) if there else "",
        }
        compiler = new_compiler()
        customize_compiler(compiler)
        objects = compiler.compile(
            [LAUNCHER], output_dir=self.get_finalized_command("build").build_temp, depends=HEADERS,
            include_dirs=[sysconfig.get_path("include"), sysconfig.get_path("platinclude")],
            macros=[(name, '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"') for name, text in texts.items()],
            extra_preargs=["-O2", *WARNINGS, "-fstack-protector-strong"],
        )  # fmt: skip
        compiler.link_executable(objects, "fastinetd", output_dir=self.build_dir, libraries=["dl"])


setup(
    scripts=[LAUNCHER],
    ext_modules=[*cythonize(core, compiler_directives=directives), *([stage] if known else [])],
    cmdclass={"build_py": Modules, "build_ext": Build, "build_scripts": Launcher},
)
