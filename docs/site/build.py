"""Builds the documentation: `make docs`, or `python docs/site/build.py [FOLDER]`.

The pages are copied to FOLDER/docs (build/docs), and those that are generated from the code are written beside them. Zensical
makes FOLDER/site of both, and stops at a link to a page or heading that does not exist. Nothing is fetched.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import reference

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
# Pages that lie at the top of the checkout, where people look for them.
FROM_THE_TOP = {"README.md": "index.md", **{name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}}


def stage(folder: Path) -> Path:
    """Write all pages, and the configuration, below `folder`; return the configuration."""
    pages = folder / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(CHECKOUT / "docs", pages, ignore=shutil.ignore_patterns("site", "*.json"))
    for page in pages.rglob("*.md"):
        page.write_text(_links_within_docs(page.read_text(), depth=len(page.relative_to(pages).parts) - 1))
    for name, page_name in FROM_THE_TOP.items():
        (pages / page_name).write_text((CHECKOUT / name).read_text().replace("](docs/", "]("))
    reference.write(pages / "reference")
    return Path(shutil.copy(HERE / "mkdocs.yml", folder / "mkdocs.yml"))


def _links_within_docs(text: str, depth: int) -> str:
    """Links to the pages of `FROM_THE_TOP`, which lie a folder further down in the site."""
    up = "../" * (depth + 1)
    names = "|".join(re.escape(name) for name in FROM_THE_TOP)
    return re.sub(rf"\]\({re.escape(up)}({names})", lambda link: f"]({up[3:]}{FROM_THE_TOP[link[1]]}", text)


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    config = stage(folder)
    zensical = [str(Path(sys.executable).parent / "zensical"), "build", "--clean", "--strict", "--config-file", config.name]
    ended = subprocess.run(zensical, cwd=folder, capture_output=True, text=True)
    print(re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout + ended.stderr).partition("Traceback")[0], end="")
    if ended.returncode == 0:
        print(f"the documentation is in {folder / 'site' / 'index.html'}")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "build"))
