"""Shell completion: verbs, sweeps, studies, and all that Hydra knows of an override.

The shell's function asks `besom completion offers` with the line so far in COMP_LINE, as Hydra's own completion does.
Hydra answers for `app override ...`; here the verbs before the overrides are taken off first.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from besom.config.load import shipped
from besom.errors import BesomError

# In bash a word ends at `=` too: of `optimizer=ad` it replaces `ad` alone.
BASH = """\
_besom() {
    local line=${COMP_LINE:0:COMP_POINT} offer typed=
    local word=${line##*[[:space:]]}
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && typed=${word%"${word##*=}"}
    COMPREPLY=()
    while IFS= read -r offer; do
        [[ $offer == *[=./] ]] || offer+=" "
        COMPREPLY+=("${offer#"$typed"}")
    done < <(COMP_LINE=$line "${COMP_WORDS[0]/#\\~/$HOME}" completion offers 2> /dev/null)
}
complete -o nospace -o default -F _besom besom
"""

ZSH = """\
_besom() {
    local -a offers open closed
    offers=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" ${(Q)words[1]} completion offers 2> /dev/null)}")
    open=(${(M)offers:#*[=./]})
    closed=(${offers:#*[=./]})
    compadd -Q -S '' -a open
    compadd -Q -a closed
    (( $#offers )) || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _besom besom
"""

FISH = """\
function __besom_offers
    set -lx COMP_LINE (commandline -cp)
    set -l words (commandline -cpo)
    eval $words[1] completion offers 2> /dev/null
end
complete -c besom -f -a '(__besom_offers)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def offers(line: str, usage: str, hydra: Callable[[str], list[str]]) -> list[str]:
    """What may stand where `line` ends, in place of its last word.

    `usage` is besom's help: its verbs, and which of them are followed by a study, are read there. `hydra` completes
    the overrides of besom's app.
    """
    *before, word = _words(line)
    match before[1:]:
        case []:
            found = [*_verbs(usage)]
        case ["train", *given]:
            found = [*_overrides(given, word, hydra)]
        case ["sweep", *given]:
            found = [*_sweep(given, word, hydra)]
        case ["completion"]:
            found = [*SCRIPTS]
        case [verb] if verb in _verbs(usage, "[STUDY", "STUDY"):
            found = _studies()
        case _:
            found = []
    return sorted({one for one in found if one.startswith(word)} - {""})


def _words(line: str) -> list[str]:
    """The last one is being typed, and may be empty."""
    *whole, last = re.split(r"\s+", line)
    try:
        return [*shlex.split(" ".join(whole)), last]
    except ValueError:  # within quotes
        return [*whole, last]


def _verbs(usage: str, *behind: str) -> list[str]:
    """Those of the help, or those with one of these words behind them."""
    lines = re.findall(r"^  besom (\S+) +(\S*)", usage, re.MULTILINE)
    fitting = [verbs for verbs, next_word in lines if not behind or next_word.startswith(behind)]
    return [verb for verbs in fitting for verb in verbs.split("|")]


def _sweep(given: list[str], word: str, hydra: Callable[[str], list[str]]) -> Iterator[str]:
    name, overrides = (given[0], given[1:]) if given and "=" not in given[0] else ("digits", given)
    if not given and "=" not in word:
        yield from (file.stem for folder in (Path("sweeps"), shipped("sweeps")) for file in folder.glob("*.yaml"))
    yield "dry_run=true"
    file = Path(name)
    if file.suffix in (".yaml", ".yml"):
        os.environ["BESOM_SWEEPS"] = str(file.absolute().parent)  # as `besom sweep FILE` does
    yield from _overrides(["--multirun", f"sweeps={file.stem}", "hydra/sweeper=besom", *overrides], word, hydra)


def _overrides(given: list[str], word: str, hydra: Callable[[str], list[str]]) -> Iterator[str]:
    # a value decides nothing of what is offered next, and of one that is searched Hydra makes no config
    kept = [one for one in given if re.fullmatch(r"--multirun|[\w./@~+-]+=[\w./-]+", one)]
    for offer in hydra(" ".join(["besom", *kept, word])):
        if "=" in offer or offer.endswith((".", "/")):
            yield offer
        else:  # a group that has options, and groups under it
            yield from (f"{offer}=", f"{offer}/")


def _studies() -> list[str]:
    from besom.study.lookup import names
    from besom.system.locks import absolute

    try:
        return names(absolute("sqlite:///optuna.db"))
    except BesomError:  # nothing has been swept here
        return []
