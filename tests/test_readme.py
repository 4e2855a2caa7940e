"""The code of README and docs runs as printed, and the README's two commands are those that are kept true."""

import re
from pathlib import Path

import pytest
from cases import some

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "docs/uses.md", "docs/poisson.md")


BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
"""Code, and the output that stands right under it."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
CUT = "…"


@pytest.mark.parametrize("page", some(PAGES, 1))
def test_code_blocks_run(page, capsys, standard_promotion, tmp_path, monkeypatch):
    """In order and in one namespace, as a reader would; what a comment `# → …` promises is what is printed.

    Output under a block is what it prints, but for numbers, which may be a quarter off: training rounds in another way
    on another processor. Output that is cut short is not compared.
    """
    monkeypatch.chdir(tmp_path)  # where pictures go
    namespace = {}
    blocks = BLOCK.findall((ROOT / page).read_text())
    assert blocks
    for number, (block, output) in enumerate(blocks):
        exec(compile(block, f"{page} block {number}", "exec"), namespace)
        printed = capsys.readouterr().out
        for promise in re.findall(r"# → (.*)", block):
            assert promise in printed
        if output and CUT not in output:
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", output)
            assert [*map(float, NUMBER.findall(printed))] == pytest.approx([*map(float, NUMBER.findall(output))], 0.25)


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
