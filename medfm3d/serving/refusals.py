"""What a client is told when a request for inference cannot be answered."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from medfm3d.volumes.errors import causes


@contextmanager
def refusing(request: Mapping[str, Any], faults: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what is wrong with a request into an answer that says what to do; all else is raised as it is.

    Args:
        request: of inference.
        faults: errors that are the request's or the bundle's, also where others wrap them.

    Raises:
        HTTPException: if there is no such image (404), or for one of the faults (422).
    """
    if not request.get("image"):
        raise HTTPException(404, "there is no such scan in the server's folder; press Next Sample, or upload it")
    try:
        yield
    except Exception as error:
        ours = [cause for cause in causes(error) if isinstance(cause, faults)]
        if not ours:
            raise
        raise HTTPException(422, str(ours[0])) from error
