# Completion of shoehorn's commands, their options and files, for bash.
_shoehorn() {
  local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  local IFS=$' \t\n'
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    # Under "Subcommands:" a line has a command and what it does.
    mapfile -t COMPREPLY < <(compgen -W "$("$program" --help 2>/dev/null |
      sed -n '/^Subcommands:/,/^$/ s/^  \([a-z][a-z0-9-]*\) .*/\1/p') --help --version" -- "$word")
    return
  fi
  # An option that takes one of some words has them in its help: --schedule TEXT:{linear,cosine,constant}
  if [[ $before == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$("$program" "$command" --help 2>/dev/null |
      grep -E -- "(^  |,)$before( |,)" | grep -o '{[^}]*}' | tr '{},' '   ')" -- "$word")
    ((${#COMPREPLY[@]} == 0)) || return
  fi
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$("$program" "$command" --help 2>/dev/null |
      grep -E '^  -' | grep -oE -- '(^  |,)--?[A-Za-z][A-Za-z0-9-]*' | tr -d ' ,')" -- "$word")
    return
  fi
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$word")
}
complete -F _shoehorn shoehorn
