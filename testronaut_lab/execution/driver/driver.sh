# Functions of the session's shell, sourced once by the driver before its loop. Everything here is parsed before a step can
# define an alias, uses builtins only, and survives the step's own options (-e -u -f -C -a), IFS, PATH and functions.
# `\command` goes past functions of the step that have a builtin's name; one named `command` itself is dropped after the step.
# The host sends `__lab_rec`, which holds the session's secret: its one word goes out as a record head, see records.py.

# __lab_line WORD: make of what the host sent, in __c, what the loop has to run. Short words stand for long texts, since a
# shell reads a FIFO byte by byte, at 0.6 us each: `+NONCE` for the step whose line is in a file, where NONCE must not stand,
# `-N` for parking copy N. WORD is put before the copy's eval, see script.py.
__lab_line() {
  case $__c in
    +*) \command . /run/lab/line ;;
    -*)
      __c=${__c#-}
      __c="( ( \\__lab_parked $__c; IFS= \\command read -r __c </run/lab/k.$__c; $1eval \"\$__c\" ) </dev/null >/dev/null 2>&1 & )"
      ;;
  esac
}

# __lab_go N STDIN: give step N its streams, or fail. The names below must not be left to a script that runs under `set -a`.
__lab_go() {
  case ${__lab_f-} in *T*) \command set -T ;; esac
  \command unset __lab_s __lab_f __lab_d __lab_i __lab_n __c
  \command exec <"/run/lab/$2" >|"/run/lab/$1.o" 2>|"/run/lab/$1.e" || \__lab_refuse streams
}

# __lab_refuse WHAT: say that the step cannot be had as it was asked for, and fail. Under `ulimit -n` no stream can be opened.
__lab_refuse() {
  { \__lab_rec "P $1"; \__lab_rec .; } >|/run/lab/ctl
  \return 1
}

# __lab_fin STATUS: keep the step's status and options, stop tracing so that nothing of ours reaches its stderr, nor what its
# DEBUG trap prints our records: under bash's `set -T` functions have that too, until then. __lab_go sets it again.
__lab_fin() {
  __lab_s=$1 __lab_f=-$-
  \command set +x
  case $__lab_f in *T*) \command set +T ;; esac
  \unset -f command >|/dev/null
}

# __lab_end NONCE PROCS: leave the step's streams, list the fds it left open, report, with the numbers of all processes, each
# after a comma, where the file PROCS tells them: a moment later there are more, when the shell parks a copy of itself. In the
# body, the directory, and behind a NUL the traps, which a copy does not have.
__lab_end() {
  \command exec <>/dev/null >&0 2>&0 || \__lab_refuse streams || \command :
  __lab_d=- __lab_n=-
  case $- in *f*) \command set +f ;; esac
  # The glob's own directory fd is listed too: the lowest that is free, 3 where nothing else is open. Asking for a closed one
  # costs twice as much as the rest, so that is done only where there are others.
  for __lab_i in /proc/self/fd/*; do
    case $__lab_i in */[0123]) ;; *) __lab_d= ;; esac
  done
  case $__lab_d in '') \__lab_held ;; esac
  case $__lab_f in *f*) \command set -f ;; esac
  while IFS= \command read -r __lab_i; do __lab_n=$__lab_n,$__lab_i; done <"$2" || \command :
  {
    \__lab_rec "S $1 $__lab_s $__lab_f $__lab_d $__lab_n"
    \command pwd || \command printf '%s\n' "$PWD"
    \command printf '\0'
    \command trap
    \__lab_rec .
  } >|/run/lab/ctl
}

# __lab_held: the fds above 2 that are open, in __lab_d behind a dash, each after a comma.
__lab_held() {
  __lab_d=-
  for __lab_i in /proc/self/fd/*; do
    case $__lab_i in
      */[012]) ;;
      *) if \command [ -e "$__lab_i" ]; then __lab_d=$__lab_d,${__lab_i##*/}; fi ;;
    esac
  done
}

# __lab_pid: this process's number in __lab_i, also in a forked copy. Reading /proc/self/stat would cost ten times as much.
__lab_pid() {
  case $- in *f*) __lab_d=f ;; *) __lab_d= ;; esac
  \command set +f
  for __lab_i in /proc/self/task/*; do __lab_i=${__lab_i##*/}; done
  case $__lab_d in f) \command set -f ;; esac
  case $__lab_i in *[!0-9]*) IFS=' ' \command read -r __lab_i __lab_d </proc/self/stat ;; esac
}

# __lab_parked N: what a parked copy says of itself: its pid, and the exported environment for a restart. It has a FIFO of its
# own, since it says so while the next step may be reporting, and that step's copy too: two writers would mix their words.
__lab_parked() {
  {
    \__lab_pid
    \__lab_rec "K $1 $__lab_i"
    \command export -p
    \__lab_rec .
  } >|"/run/lab/parked$(($1 % 2))"
}

# __lab_next: whether the last step came to its end, or there was none yet. One that said `continue` outside of a loop, in dash
# and busybox, did not.
__lab_f=-
__lab_next() {
  case ${__lab_f+x} in x) ;; *) \return 1 ;; esac
}

# __lab_ready: a new driver tells its pid.
__lab_ready() {
  {
    \__lab_pid
    \__lab_rec "R $__lab_i"
    \__lab_rec .
  } >|/run/lab/ctl
}
