# Runs as root beside the keeper, with builtins only: it must work when not one more process can be started.
# Commands on stdin: `l` lists processes, `x PID...` kills all but PID 1, itself and those named, `n FILE` makes a file that
# steps can write, `g FILE` gives what is in it. Answers on stdout.

read_stat() { # PID: state, parent in $st, $pp, name in $nm; fails when it is gone
  st= pp= nm=
  { IFS= read -r st </proc/$1/stat; } 2>/dev/null || return 1
  # a name may hold newlines and brackets: what counts comes after the last bracket
  case $st in *") "*) ;; *) { while IFS= read -r l; do st="$st $l"; done </proc/$1/stat; } 2>/dev/null ;; esac
  nm=${st#*\(} nm=${nm%\)*}
  st=${st##*) }
  pp=${st#* } pp=${pp%% *} st=${st%% *}
}

list() {
  for d in /proc/[0-9]*; do
    read_stat "${d#/proc/}" || continue
    printf 'P %s %s %s %s\n' "${d#/proc/}" "$pp" "$st" "$nm"
  done
  echo L
}

sweep() { # the pids to keep
  keep=" 1 $self $* " pass=0 total=0
  while [ $pass -lt 400 ]; do
    pass=$((pass + 1)) alive=0
    for d in /proc/[0-9]*; do
      p=${d#/proc/}
      case $keep in *" $p "*) continue ;; esac
      read_stat $p || continue
      case $st in Z | X) continue ;; esac
      alive=$((alive + 1))
      kill -9 $p 2>/dev/null
    done
    [ $alive -eq 0 ] && { echo "W $total"; return; }
    total=$((total + alive))
  done
  echo "F $alive"
}

# A file that steps can write and not read, in a directory where they can do nothing else.
new_file() { umask 044; : >|"$1"; echo N; }

give() { # a file's lines
  while IFS= read -r l || [ -n "$l" ]; do printf 'G%s\n' "$l"; done <"$1"
  echo E
}

IFS=' ' read -r self rest </proc/self/stat
echo "R $self"
while IFS= read -r line; do
  case $line in
    l) list ;;
    x*) IFS=' '; sweep ${line#x} ;;
    n*) new_file "${line#n }" ;;
    g*) give "${line#g }" ;;
  esac
done
