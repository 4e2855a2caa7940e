"""The code of README and docs/uses.md runs as printed, and the README's two commands are those that are kept true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "docs/uses.md")


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(page, capsys, standard_promotion):
    """In order and in one namespace, as a reader would; what a comment `# → …` promises is what is printed."""
    namespace = {}
    assert blocks(page)
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page} block {number}", "exec"), namespace)
        printed = capsys.readouterr().out
        for promise in re.findall(r"# → (.*)", block):
            assert promise in printed


def test_the_two_commands():
    lines = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0].splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) == 2
    assert commands[0].endswith("scripts/train.py")
    assert commands[1].endswith("-m pytest -q")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert ((ROOT / page).parent / target).exists(), target
