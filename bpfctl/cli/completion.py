"""``completion SHELL``: the script that makes a shell complete bpfctl's words."""

from __future__ import annotations

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens, unknown

_SHELLS = ("bash", "zsh", "fish")


@words_command("completion", "{ bash | zsh | fish }", keywords="bash zsh fish")
def completion(app: App, words: list[str]) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(bpfctl completion bash)"
    """
    from bpfctl.cli.clicked import completion_script

    tokens = Tokens(words)
    shell = tokens.value("bash, zsh or fish")
    tokens.end()
    script = completion_script(shell) if shell in _SHELLS else None
    if script is None:
        raise unknown(shell, ", ".join(_SHELLS))
    app.output.text(script)
