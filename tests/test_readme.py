"""The README's code runs as printed, and its two commands are the ones that the project keeps true."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_code_blocks_run(capsys, standard_promotion):
    """In order and in one namespace, as a reader would; what a comment `# → …` promises is what is printed."""
    namespace = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README block {number}", "exec"), namespace)
        printed = capsys.readouterr().out
        for promise in re.findall(r"# → (.*)", block):
            assert promise in printed


def test_there_are_blocks_and_the_two_commands():
    assert BLOCKS
    lines = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0].splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) == 2
    assert commands[0].endswith("scripts/train.py")
    assert commands[1].endswith("-m pytest -q")


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert targets
    for target in targets:
        assert (Path(__file__).parent.parent / target).exists(), target
