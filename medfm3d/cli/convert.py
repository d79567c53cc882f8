"""`medfm3d convert`: label maps to DICOM SEG and RTSTRUCT, and back."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from medfm3d.cli.options import JsonFile, parse_organs, write_result
from medfm3d.cli.segment_report import UNCODED
from medfm3d.inference import read_plan
from medfm3d.volumes import VOLUME_SUFFIXES, VolumeWarning, read_label, write_volume
from medfm3d.volumes.paths import RTSTRUCT_SUFFIX, SEG_SUFFIX, dicom_labels_suffix, volume_suffix

if TYPE_CHECKING:
    from medfm3d.volumes.dicom_labels import MadeBy

BY_HAND = "hand"


def convert(
    mask: Annotated[Path, typer.Option(help="A label map (NIfTI, NRRD, MetaImage), or a DICOM SEG or RTSTRUCT file.")],
    series: Annotated[Path, typer.Option(help="Folder of the DICOM series that it was drawn on.")],
    output: Annotated[
        Path, typer.Option(help=f"File to write: NAME{SEG_SUFFIX}, NAME{RTSTRUCT_SUFFIX}, or a label map.")
    ],
    organs: Annotated[
        str | None,
        typer.Option(
            help="Organs and their ids in the label map, such as liver=1,spleen=2; from DICOM, all that the file "
            "outlines if left out.",
            metavar="NAME=ID,...",
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that made the label map, which names the organs, too.")
    ] = None,
    made_by: Annotated[
        str | None,
        typer.Option(help=f"What made the label map, instead of --bundle: {BY_HAND}, or a program such as tool=1.2."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Write a label map as DICOM SEG or RTSTRUCT of its series, or outlines in one of these as a label map."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", VolumeWarning)
        result = run_conversion(
            mask,
            series,
            output,
            organs=None if organs is None else parse_organs(organs),
            bundle=bundle,
            made_by=made_by,
        )
    console = Console()
    for warning in said:
        if issubclass(warning.category, VolumeWarning):
            console.print(f"[yellow]remark[/] {escape(str(warning.message))}", highlight=False, soft_wrap=True)
    if result["uncoded"]:
        console.print(UNCODED.format(escape(", ".join(result["uncoded"]))), highlight=False, soft_wrap=True)
    named = ",".join(f"{organ}={number}" for organ, number in result["organs"].items())
    console.print(f"{escape(str(output))}: {escape(named)}", highlight=False, soft_wrap=True)
    write_result(result, json_file)


def run_conversion(
    mask: Path,
    series: Path,
    output: Path,
    *,
    organs: Mapping[str, int] | None = None,
    bundle: Path | None = None,
    made_by: str | None = None,
) -> dict[str, Any]:
    """Convert one file; see `convert`.

    Returns:
        `output`, `organs` with their label values, and those of them that are `uncoded`.
    """
    # Loads highdicom, which other commands need not wait for.
    from medfm3d.volumes.dicom_labels import read_dicom_labels, read_source_series, uncoded_organs, write_dicom_labels

    to_dicom = dicom_labels_suffix(output) is not None
    if not to_dicom and volume_suffix(output) is None:
        known = ", ".join((SEG_SUFFIX, RTSTRUCT_SUFFIX, *VOLUME_SUFFIXES))
        raise ValueError(f"--output {output}: cannot be written by that name; supported are {known}")
    source = read_source_series(series)
    if bundle is not None:
        organs = read_plan(bundle).organs if organs is None else organs
    if volume_suffix(mask) is None:
        found = read_dicom_labels(mask, source)
        organs = dict(found.values if organs is None else organs)
        labels = found.label_map(organs)
    else:
        if organs is None:
            raise ValueError("--organs NAME=ID,... or --bundle must name the organs: a label map holds numbers alone")
        labels = read_label(mask)
    if to_dicom:
        write_dicom_labels(labels, organs, source, output, _made_by(bundle, made_by))
    else:
        write_volume(labels, output)
    uncoded = uncoded_organs(organs) if to_dicom else []
    return {"output": str(output), "organs": dict(organs), "uncoded": uncoded}


def _made_by(bundle: Path | None, text: str | None) -> "MadeBy":
    from medfm3d.volumes.dicom_labels import MadeBy, made_by_bundle

    if (bundle is None) == (text is None):
        raise ValueError(
            f"DICOM wants to know what made the outlines: name it by --bundle DIR, --made-by {BY_HAND} or --made-by "
            "PROGRAM=VERSION, one of these"
        )
    if bundle is not None:
        return made_by_bundle(bundle)
    if text == BY_HAND:
        return MadeBy("by hand", "0", automatic=False)
    name, separator, version = text.partition("=")
    if not separator:
        raise ValueError(f"--made-by {text}: expected {BY_HAND} or PROGRAM=VERSION, such as tool=1.2")
    return MadeBy(name.strip(), version.strip())
