"""Fetches the one script that the viewer shows volumes with: NiiVue, at a fixed version, verified, into the package.

The build runs it (`tools/build_hook.py`), so that an installed medfm3d needs no network. It uses the standard library
alone: a build has nothing else. `MEDFM3D_NIIVUE` names a tarball to take instead of npm's, for machines that cannot
reach npm; `MEDFM3D_NIIVUE=none` builds without a viewer, and `medfm3d view` then says what it lacks.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

VERSION = "0.69.0"
TARBALL = f"https://registry.npmjs.org/@niivue/niivue/-/niivue-{VERSION}.tgz"
INTEGRITY = "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
MEMBER = "package/dist/niivue.umd.js"  # a plain script: pages opened from disk load no ES modules
SCRIPT_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
PLACE = Path("medfm3d/evaluation/viewer/vendor/niivue.js")  # under the repository's root; git ignores it
TIMEOUT_S = 120


def vendor_niivue(root: str | Path) -> Path | None:
    """Put NiiVue's script into the package and return its path, or None if a build without it was asked for.

    Nothing is fetched if it is there already.

    Args:
        root: of the repository, or of an unpacked source distribution.

    Raises:
        RuntimeError: if the tarball cannot be had, or is not the one that is meant.
    """
    script = Path(root) / PLACE
    if script.is_file() and hashlib.sha256(script.read_bytes()).hexdigest() == SCRIPT_SHA256:
        return script
    given = os.environ.get("MEDFM3D_NIIVUE")
    if given == "none":
        script.unlink(missing_ok=True)
        return None
    tarball = Path(given).read_bytes() if given else _fetch()
    if "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode() != INTEGRITY:
        raise RuntimeError(f"{given or TARBALL}: is not NiiVue {VERSION} as npm lists it ({INTEGRITY})")
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        content = archive.extractfile(MEMBER).read()
    script.parent.mkdir(parents=True, exist_ok=True)
    partial = script.with_suffix(".partial")
    partial.write_bytes(content)
    return partial.replace(script)


def _fetch() -> bytes:
    """Return the tarball from npm, by its own client where there is one, which knows proxies and mirrors."""
    try:
        if (npm := shutil.which("npm")) is not None:
            with tempfile.TemporaryDirectory() as folder:
                command = [npm, "pack", "--silent", f"@niivue/niivue@{VERSION}"]
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT_S)
                (tarball,) = Path(folder).glob("*.tgz")
                return tarball.read_bytes()
        with urllib.request.urlopen(TARBALL, timeout=TIMEOUT_S) as answer:
            return answer.read()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise RuntimeError(
            f"{TARBALL}: cannot be fetched ({error}); download it elsewhere and set MEDFM3D_NIIVUE to the file, or "
            "MEDFM3D_NIIVUE=none to install medfm3d without its viewer"
        ) from error


if __name__ == "__main__":
    print(vendor_niivue(Path(__file__).resolve().parents[1]))
