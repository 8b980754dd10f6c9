# Functions of the shell of one step under the plain driver, sourced before the step. Parsed before a step can define an alias,
# builtins only, past the step's functions by `\command`; what they say goes to a file that steps can write and not read.

# __lab_begin NONCE: the step's shell tells its pid.
__lab_begin() {
  \command printf '@%s B %s\n' "$1" "$$" >>/run/lab.state
}

# __lab_note NONCE TAG: what could not be done for the step.
__lab_note() {
  \command printf '@%s %s\n' "$1" "$2" >>/run/lab.state
}

# __lab_go STDIN: the names below must not be left to a script that runs under `set -a`.
__lab_go() {
  \command unset __lab_s __lab_n __lab_i __lab_d __lab_q __c
  \command exec <"/run/lab/$1"
}

# __lab_fin NONCE STATUS ARGUMENTS: tell the options as the step left them, then take them away: this shell ends now anyway.
__lab_fin() {
  \unset -f command >|/dev/null
  {
    \command printf '@%s J %s\n@%s S %s\n@%s args\n%s\n@%s options\n' "$1" "${!-}" "$1" "$2" "$1" "$3" "$1"
    \command set +o
  } >>/run/lab.state
  \command set +x +v +e +u +f +C +a
  __lab_s=$2
}

# __lab_keep NONCE FUNCTION...: tell what the next step's shell starts with, and what is known of the rest.
__lab_keep() {
  __lab_n=$1
  \command shift
  \command exec >>/run/lab.state 2>/dev/null # for good: a redirection that is undone would be a descriptor more
  \command printf '@%s cwd\n' "$__lab_n"
  \command pwd || \command printf '%s\n' "$PWD"
  \command printf '@%s oldpwd\n%s\n@%s umask\n' "$__lab_n" "${OLDPWD-}" "$__lab_n"
  \command umask
  \command printf '@%s env\n' "$__lab_n"
  \command export -p
  \command printf '@%s functions\n' "$__lab_n"
  for __lab_i in "$@"; do \command -V "$__lab_i"; done
  case ${BASH_VERSION-} in ?*) \command declare -F; \command printf '@%s shopt\n' "$__lab_n"; \command shopt -p ;; esac
  \command printf '@%s aliases\n' "$__lab_n"
  \command alias
  \command printf '@%s traps\n' "$__lab_n"
  \command trap
  \command printf '@%s limits\n' "$__lab_n"
  \command ulimit -a
  \command printf '@%s descriptors\n' "$__lab_n"
  for __lab_i in /proc/self/fd/*; do
    case $__lab_i in
      */[012]) ;;
      *) if \command [ -e "$__lab_i" ]; then \command printf '%s\n' "${__lab_i##*/}"; fi ;;
    esac
  done
  \command printf '@%s variables\n' "$__lab_n"
  case ${BASH_VERSION-} in ?*) \command set -o posix ;; esac
  \command set
  \command printf '@%s .\n' "$__lab_n"
  \command trap - EXIT
}
