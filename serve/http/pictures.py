# SPDX-License-Identifier: Apache-2.0
"""Pictures as clients want them: in other formats than that in which edges make them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

from PIL import Image

from edgegen.serve.control.jobs import Delivery
from edgegen.serve.http.errors import FailedError

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
"""Media types by the format that a request names."""


def recoded(png: bytes, output_format: str, compression: int) -> bytes:
    """Return a picture in a format.

    Args:
        png: The picture as an edge made it.
        output_format: One of :data:`MEDIA_TYPES`.
        compression: Of JPEG and WebP, from 0 (small) to 100 (good).

    Raises:
        FailedError: If what the edge made is no picture.
    """
    if output_format == "png":
        return png
    written = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as picture:
            # Pillow takes 0 for no value at all.
            picture.convert("RGB").save(written, format=output_format.upper(), quality=max(compression, 1))
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise FailedError("An edge made something that is no picture, so it can not be given another format.") from None
    return written.getvalue()


async def delivered(png: Sequence[bytes], delivery: Delivery) -> list[bytes]:
    """Return pictures as they are handed over; other requests go on meanwhile."""
    if delivery.output_format == "png":
        return list(png)
    return await asyncio.to_thread(
        lambda: [recoded(one, delivery.output_format, delivery.output_compression) for one in png]
    )
