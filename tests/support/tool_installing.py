"""Installing tools as a plan writes them, on a real engine, and running what came out; the images are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.container.image.cache import list_images, remove_images
from testronaut_lab.container.image.local import ResolvedImage
from testronaut_lab.container.owner import Claim
from testronaut_lab.installation.installer import InstalledImage, install
from testronaut_lab.model.plan import ToolSpec
from testronaut_lab.planfile import parse_plan


class Workshop:
    """`folder` is the one that paths are relative to; `lines` is everything that was reported."""

    def __init__(self, engine: Engine, base: ResolvedImage, folder: Path, prefix: str) -> None:
        self.engine, self.base, self.folder, self.prefix = engine, base, folder, prefix
        self.lines: list[str] = []
        self.keys: set[str] = set()

    def tools(self, *written: object) -> tuple[ToolSpec, ...]:
        return parse_plan({"image": "x", "tools": list(written), "steps": ["true"]}, root=self.folder).tools

    def install(self, *written: object) -> InstalledImage:
        found = install(
            self.engine, self.base, self.tools(*written), lambda _, line: self.lines.append(line), claim=Claim(self.prefix)
        )
        self.keys.add(found.key)
        return found

    def run(self, image: InstalledImage, *argv: str) -> str:
        """What an exact argv says in a container of the image, without network and as a user of no rights."""
        said: bytes = self.engine.client.containers.run(
            image.id, list(argv), network_mode="none", user="1000:1000", cap_drop=["ALL"], remove=True, stderr=True
        )
        return said.decode()


@contextmanager
def open_workshop(engine: Engine, base: ResolvedImage, folder: Path, prefix: str) -> Iterator[Workshop]:
    shop = Workshop(engine, base, folder, prefix)
    try:
        yield shop
    finally:
        remove_images(engine, [image for image in list_images(engine) if image.key in shop.keys])
