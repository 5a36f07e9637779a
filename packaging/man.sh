#!/usr/bin/env bash
# The manual page, in roff, from what the program says of itself: man.sh PROGRAM [ARGUMENT...], called with --help.
set -euo pipefail

help_of() { "$@" --help </dev/null; }
# Text as it stands.
verbatim() {
  printf '.nf\n'
  sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^[.']/\\\\\&&/"
  printf '.fi\n'
}

overview=$(help_of "$@")
printf '.TH SHOEHORN 1 "" "shoehorn %s" "User Commands"\n' "$("$@" --version)"
printf '.SH NAME\nshoehorn \\- fit a large language model into a small machine\n'
printf '.SH SYNOPSIS\n.B shoehorn\n.I COMMAND\n[\\fIOPTION\\fR]...\n'
printf '.SH DESCRIPTION\n'
verbatim <<<"$overview"
printf '.SH COMMANDS\n'
for command in $(sed -n '/^Subcommands:/,/^$/ s/^  \([a-z][a-z0-9-]*\) .*/\1/p' <<<"$overview"); do
  # What needs libtorch is no part of a device's package, and has nothing to say there.
  text=$(help_of "$@" "$command" 2>/dev/null) || continue
  printf '.SS shoehorn %s\n' "$command"
  verbatim <<<"$text"
done
printf '.SH "EXIT STATUS"\n0: done. 1: failed, the reason is on stderr. 2: wrong usage.\n'
printf '.SH ENVIRONMENT\n'
printf '.TP\n.B SHOEHORN_ISA\nThe instruction set to use in place of the best one that the CPU has; a wrong name lists them.\n'
printf '.TP\n.B HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE\nAs the Hugging Face tools have them, for pull and hf:OWNER/NAME.\n'
