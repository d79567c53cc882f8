"""Starting MONAI Label with bundles on a folder of scans."""

import importlib.util
import ipaddress
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from medfm3d.serving.app_folder import LOG_FILE, LOGGING_FILE, write_app_folder
from medfm3d.serving.pydicom_shim import install_shim
from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.volumes import VolumeError, find_volumes
from medfm3d.volumes.paths import output_name

# What MONAI Label's datastore offers; a DICOM series is a folder, and .mhd is two files, which it cannot send.
SCAN_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
# Tells the trainings that a server starts whose they are.
PROCESS_VARIABLE = "MEDFM3D_SERVE_PROCESS"


class ServerError(ValueError):
    """A server that cannot be started: the message says why, and what to do."""


@dataclass(frozen=True)
class Studies:
    """A folder of scans.

    Attributes:
        folder: where it is.
        scans: files that are offered.
        others: scans that are not, such as DICOM series.
    """

    folder: Path
    scans: tuple[Path, ...]
    others: tuple[Path, ...]


def find_studies(folder: Path) -> Studies:
    """Return the scans of a folder.

    Raises:
        VolumeError: if it is not there, cannot be read or written, holds no scan that can be offered, or two scans of
            one name.
    """
    if not folder.is_dir():
        raise VolumeError(f"{folder}: no such folder; name the folder that holds the scans")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise VolumeError(f"{folder}: may not be read; change its permissions")
    if not os.access(folder, os.W_OK):
        raise VolumeError(
            f"{folder}: may not be written to, and MONAI Label keeps the labels in its subfolder labels; change its "
            "permissions, or copy the scans to a folder of your own"
        )
    found = find_volumes(folder)
    scans = tuple(path for path in found if path.is_file() and path.name.lower().endswith(SCAN_SUFFIXES))
    others = tuple(path for path in found if path not in scans)
    if not scans:
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and _holds_scans(path)]
        hint = f"; its subfolder {below[0].name} does: serve that" if below else ""
        unfit = f" (MONAI Label cannot offer {others[0].name}: convert it to NIfTI)" if others else ""
        raise VolumeError(f"{folder}: holds no scan named {', '.join('*' + end for end in SCAN_SUFFIXES)}{unfit}{hint}")
    names = [output_name(path) for path in scans]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise VolumeError(f"{folder}: several scans are named {', '.join(repeated[:3])}; give each its own name")
    return Studies(folder.resolve(), scans, others)


def check_address(host: str, port: int) -> None:
    """Raise ServerError unless a server may listen there: on this machine alone, at a port that is free."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ServerError(f"--host {host}: is no IP address; leave it out") from error
    if not loopback:
        raise ServerError(
            f"--host {host}: other machines could reach it, and MONAI Label would let everyone there read every scan "
            "and file of this account, save labels and start trainings. A password does not help: MONAI Label 0.8.5 "
            "refuses every token of its own login (PyJWT 2 wants the algorithm named), and Slicer fetches scans "
            f"without one. Leave --host out, and on the other machine: ssh -N -L {port}:127.0.0.1:{port} "
            f"{os.environ.get('USER', 'USER')}@{socket.gethostname()}"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another --port, or stop what uses it"
            ) from error


def check_installed() -> None:
    """Raise ServerError unless MONAI Label is installed."""
    if importlib.util.find_spec("monailabel") is None:
        raise ServerError("MONAI Label is not installed; run: pip install 'medfm3d[label]'")


def run_server(studies: Studies, bundles: Sequence[ServedBundle], work: Path, host: str, port: int) -> None:
    """Run the server in this process until it is interrupted; `work` is its folder.

    Raises:
        ServerError: if another server uses that folder, or the address cannot be used.
        ValueError: if two bundles have one name.
    """
    check_installed()
    check_address(host, port)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ServerError(f"{work}: another server uses this folder; stop it, or name another by --work") from error
    with lock:
        _run(studies, bundles, work / "app", host, port)


def _run(studies: Studies, bundles: Sequence[ServedBundle], app: Path, host: str, port: int) -> None:
    # MONAI Label reads its settings from the environment when it is imported.
    os.environ |= {
        "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{suffix}" for suffix in SCAN_SUFFIXES]),
        "MONAI_ZOO_SOURCE": "local",
        PROCESS_VARIABLE: str(os.getpid()),
    }
    install_shim()
    from monailabel import main as monai_label

    os.environ["MEDFM3D_SERVE_GREETING"] = greeting(studies, bundles, app, host, port)

    template = Path(monai_label.__file__).with_name("logging.json")
    write_app_folder(app, bundles, template)
    arguments = [
        *("start_server", "--app", str(app), "--studies", str(studies.folder), "--host", host, "--port", str(port)),
        *("--conf", "zoo_source", "local", "--conf", "sam2", "false"),
        *("--log_config", str(app / LOGGING_FILE), "--log_level", "warning"),
        *("--uvicorn_app", "medfm3d.serving.asgi:app"),
    ]
    server = monai_label.Main(loglevel="WARNING")
    server.action_start_server(server.args_parser().parse_args(arguments))


def greeting(studies: Studies, bundles: Sequence[ServedBundle], app: Path, host: str, port: int) -> str:
    """Return what to enter in Slicer, in words."""
    from medfm3d.serving.prompted_task import is_prompted

    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lines = [
        f"{len(studies.scans)} scans of {studies.folder} are served at {url}",
        "",
        "In 3D Slicer, module MONAI Label (Extensions Manager: MONAILabel):",
        f"  MONAI Label Server  {url}, then the green arrows beside it",
    ]
    for bundle in bundles:
        if not bundle.adapted:
            prompted = is_prompted(bundle.path)
            where, button = ("Smart Edit        ", "") if prompted else ("Auto Segmentation ", ", button Run")
            lines.append(f"  {where}  model {bundle.name}{button}")
            continue
        organs = ", ".join(bundle.organs)
        where = "Auto Segmentation " if bundle.trained else "not trained yet   "
        lines.append(f"  {where}  model {bundle.name} ({organs}){', button Run' if bundle.trained else ''}")
    lines.append("  Active Learning     Next Sample opens a scan; outline it, then Submit Label")
    if learners := [bundle.name for bundle in bundles if bundle.adapted]:
        lines.append(f"  Train               model {learners[0]}, button Train, once a few scans are outlined")
    if studies.others:
        lines += ["", f"not offered, convert to NIfTI: {', '.join(path.name for path in studies.others[:5])}"]
    lines += [
        "",
        "Only this machine can reach it. From another, open a tunnel there and use the same address:",
        f"  ssh -N -L {port}:127.0.0.1:{port} {os.environ.get('USER', 'USER')}@{socket.gethostname()}",
        f"Log: {app / LOG_FILE}. Stop with Ctrl-C.",
    ]
    return "\n".join(lines)


def _holds_scans(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK) and any(
        path.name.lower().endswith(SCAN_SUFFIXES) for path in folder.iterdir()
    )
