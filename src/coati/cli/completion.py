"""`coati completion SHELL`: scripts by which a shell completes coati's commands, flags and paths.

Each asks `coati _complete LINE` (`completing`) and offers what it answers.
"""

from __future__ import annotations

import argparse
from typing import Final

from coati.cli.command import Call, Command

SCRIPTS: Final = {
    "bash": r"""
_coati() {
    local one
    COMPREPLY=()
    while IFS= read -r one; do
        # Below a znode there may be more: no space behind it.
        [[ $one == /* ]] && compopt -o nospace
        printf -v one %q "$one"
        COMPREPLY+=("$one")
    done < <(coati _complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o default -F _coati coati
""",
    "zsh": r"""
#compdef coati
_coati() {
    local -a found paths others
    found=("${(@f)$(coati _complete "${words[1,CURRENT]}" 2>/dev/null)}")
    paths=("${(@M)found:#/*}")
    others=("${(@)found:#/*}")
    others=("${(@)others:#}")
    (( $#paths )) && compadd -S '' -- "${paths[@]}"
    (( $#others )) && compadd -- "${others[@]}"
    (( $#paths + $#others )) || _files
}
if [ "${funcstack[1]}" = _coati ]; then _coati "$@"; else compdef _coati coati; fi
""",
    "fish": r"""
complete -c coati -e
complete -c coati -a '(coati _complete (commandline -cp) 2>/dev/null)'
""",
}


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SCRIPTS))


def _completion(call: Call) -> None:
    call.out.text(SCRIPTS[call.options.shell].lstrip("\n"))


COMPLETION = Command(
    "completion", _flags, _completion,
    '  eval "$(coati completion bash)"                            # in ~/.bashrc\n'
    "  source <(coati completion zsh)                             # in ~/.zshrc, after compinit\n"
    "  coati completion fish > ~/.config/fish/completions/coati.fish",
)  # fmt: skip
