"""Complete words in bash, where click's own script fails on names with colons or blanks.

Bash treats a colon as the end of a word, and names of included tasks have one: ``docs:build``. The script passes the line
as typed; we split it, and return what has to stand in place of the text behind the last colon. Names are quoted.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any, Final, final

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

_SCRIPT: Final = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORDBREAKS=$COMP_WORDBREAKS %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_CURSOR: Final = "\x1f"
_SPECIAL: Final = re.compile(r"[^\w@%+=:,./-]")
_BREAKS: Final = ":="
"""The characters at which bash may end a word, and that names or options may contain."""


@final
class Bash(BashComplete):
    """Completion in bash."""

    source_template = _SCRIPT

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._typed = ""
        self._is_quoted = False

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the part of a word at the cursor."""
        line = os.environ.get("COMP_LINE")
        if line is None:  # click's script, kept in a file by a user
            return super().get_completion_args()
        *words, last = split_arg_string(line + _CURSOR)
        self._typed = last.removesuffix(_CURSOR)
        self._is_quoted = _ends_in_quotes(line)
        return words[1:], self._typed

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the line by which the script learns of a completion."""
        value = str(item.value)
        if item.type == "plain" and not self._is_quoted:
            if value.startswith(self._typed):
                value = value[self._cut() :]
            value = _SPECIAL.sub(lambda match: f"\\{match[0]}", value)
        return f"{item.type},{value}"

    def _cut(self) -> int:
        """Return the length of the part of the word that bash leaves as it is."""
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        return max((self._typed.rfind(each) + 1 for each in _BREAKS if each in breaks), default=0)


def _ends_in_quotes(line: str) -> bool:
    try:
        shlex.split(line + _CURSOR)
    except ValueError:
        return True
    return False


def use_our_bash() -> None:
    """Make click complete in bash by this module."""
    add_completion_class(Bash)
