"""Builds the wheel of tiercel: a PEP 517 backend that needs nothing but CMake.

It calls CMake for the extension alone and zips it with the package's Python files.
Nothing is downloaded, with build isolation or without.

  pip install .
  pip install . --config-settings build-dir=build/release   # takes what is built there
  pip install . --config-settings cmake-args="-DTIERCEL_HWLOC=OFF"

build-dir   a build tree, relative to the source. One that is configured is taken as it
            is and `ninja tiercel_python` brings it up to date; otherwise it is made there.
            Default: build/pip, or a temporary one where the source cannot be written to.
cmake-args  more arguments for configuring, split as a shell would.
"""

import base64
import hashlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE_FILES = ("__init__.py", "__init__.pyi", "_errors.py", "_results.py", "py.typed")


def project_version():
    """CMakeLists.txt is where the version is kept."""
    text = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"project\(tiercel VERSION ([0-9.]+)", text).group(1)


def metadata_text():
    return (
        "Metadata-Version: 2.1\n"
        "Name: tiercel\n"
        f"Version: {project_version()}\n"
        "Summary: Tiered store for Engram tables: DRAM cache and NVMe\n"
        "License: Apache-2.0\n"
        "Requires-Python: >=3.9\n"
        "Requires-Dist: numpy\n"
        "Description-Content-Type: text/markdown\n"
        "\n" + (ROOT / "README.md").read_text()
    )


def wheel_tag():
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{version}-{version}-{platform}"


def run(*command):
    print("+", shlex.join(map(str, command)), flush=True)
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise SystemExit(
            f"tiercel: {command[0]} was not found. The build needs cmake, ninja, a C++20 "
            "compiler, pybind11 and the libraries that scripts/install-deps.sh installs."
        ) from None


def configure(build_dir, more_arguments):
    run(
        "cmake", "-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        "-DCMAKE_UNITY_BUILD=ON",
        "-DTIERCEL_BUILD_PYTHON=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DTIERCEL_BUILD_TESTS=OFF",
        "-DTIERCEL_BUILD_BENCH=OFF",
        "-DTIERCEL_BUILD_TOOLS=OFF",
        "-DTIERCEL_BUILD_EXAMPLES=OFF",
        "-DTIERCEL_CUDA=OFF",
        *more_arguments,
    )  # fmt: skip


def build_extension(build_dir, cmake_arguments):
    """Builds it and returns the path of the shared object."""
    if not (build_dir / "CMakeCache.txt").exists():
        configure(build_dir, shlex.split(cmake_arguments))
    elif cmake_arguments:
        run("cmake", str(build_dir), *shlex.split(cmake_arguments))
    run("cmake", "--build", str(build_dir), "--target", "tiercel_python",
        "-j", str(os.cpu_count() or 1))  # fmt: skip
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extension = build_dir / "python" / "tiercel" / f"_tiercel{suffix}"
    if not extension.exists():
        raise SystemExit(
            f"tiercel: {build_dir} has built no {extension.name}: it is configured for another "
            f"Python than {sys.executable}. Give another build-dir."
        )
    return extension


def writable_build_dir(config_settings):
    """A folder to build in, and one to delete afterwards or None."""
    asked = (config_settings or {}).get("build-dir")
    if asked:
        return ROOT / asked, None
    build_dir = ROOT / "build" / f"pip-{wheel_tag()}"
    try:
        build_dir.mkdir(parents=True, exist_ok=True)
    except OSError:
        temporary = pathlib.Path(tempfile.mkdtemp(prefix="tiercel-pip-"))
        return temporary, temporary
    return build_dir, None


def strip(extension, to):
    """Debug sections make it ten times as large, and are in the build tree."""
    try:
        run("strip", "--strip-debug", "-o", str(to), str(extension))
    except (SystemExit, subprocess.CalledProcessError):
        shutil.copyfile(extension, to)


class WheelWriter:
    """A wheel: a zip with a list of its files and their hashes."""

    def __init__(self, path, info_dir):
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.record_name = f"{info_dir}/RECORD"
        self.record = []

    def add(self, name, data, mode=0o644):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(data)}")
        self._write(name, data, mode)

    def close(self):
        self.record.append(f"{self.record_name},,")
        self._write(self.record_name, "\n".join(self.record).encode() + b"\n", 0o644)
        self.zip.close()

    def _write(self, name, data, mode):
        entry = zipfile.ZipInfo(name)  # 1980: the same input makes the same wheel.
        entry.external_attr = (0o100000 | mode) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(entry, data)


def info_files():
    wheel = (
        "Wheel-Version: 1.0\nGenerator: tiercel build_backend\n"
        f"Root-Is-Purelib: false\nTag: {wheel_tag()}\n"
    )
    return {
        "METADATA": metadata_text().encode(),
        "WHEEL": wheel.encode(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
    }


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    build_dir, temporary = writable_build_dir(config_settings)
    try:
        extension = build_extension(build_dir, (config_settings or {}).get("cmake-args", ""))
        stripped = build_dir / f"stripped{os.getpid()}.so"
        strip(extension, stripped)
        binary = stripped.read_bytes()
        stripped.unlink()
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    info_dir = f"tiercel-{project_version()}.dist-info"
    name = f"tiercel-{project_version()}-{wheel_tag()}.whl"
    writer = WheelWriter(os.path.join(wheel_directory, name), info_dir)
    for file in PACKAGE_FILES:
        writer.add(f"tiercel/{file}", (ROOT / "python" / "tiercel" / file).read_bytes())
    writer.add(f"tiercel/{extension.name}", binary, 0o755)
    for file, data in info_files().items():
        writer.add(f"{info_dir}/{file}", data)
    writer.close()
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info_dir = f"tiercel-{project_version()}.dist-info"
    folder = pathlib.Path(metadata_directory) / info_dir
    folder.mkdir()
    for file, data in info_files().items():
        (folder / file).write_bytes(data)
    return info_dir


def build_sdist(sdist_directory, config_settings=None):
    """The files that git knows, and the PKG-INFO."""
    base = f"tiercel-{project_version()}"
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True
    ).stdout
    with tarfile.open(os.path.join(sdist_directory, f"{base}.tar.gz"), "w:gz") as archive:
        for name in filter(None, listed.decode().split("\0")):
            archive.add(ROOT / name, f"{base}/{name}", recursive=False)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as info:
            info.write(metadata_text())
            info.flush()
            archive.add(info.name, f"{base}/PKG-INFO")
    return f"{base}.tar.gz"
