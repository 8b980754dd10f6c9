# Runs as root beside the keeper, with builtins only: it must work when not one more process can be started.
# Commands on stdin: `l` lists processes, `x PID... sSESSION...` kills all but PID 1, itself and those named, `k PID...` kills
# those named, `s SIGNAL PID...` sends a signal (to a group, if the number is negative), `p HEX` asks whether a TCP port is
# listened on, `n FILE` makes a file that steps can write, `g FILE` gives what is in it. Answers on stdout; `k` has none.

read_stat() { # PID: state, parent, session in $st, $pp, $se, name in $nm; fails when it is gone
  st= pp= nm= se=
  { IFS= read -r st </proc/$1/stat; } 2>/dev/null || return 1
  # a name may hold newlines and brackets: what counts comes after the last bracket
  case $st in *") "*) ;; *) { while IFS= read -r l; do st="$st $l"; done </proc/$1/stat; } 2>/dev/null ;; esac
  nm=${st#*\(} nm=${nm%\)*}
  st=${st##*) }
  pp=${st#* } se=${pp#* } se=${se#* } se=${se%% *} pp=${pp%% *} st=${st%% *}
}

list() {
  for d in /proc/[0-9]*; do
    read_stat "${d#/proc/}" || continue
    printf 'P %s %s %s %s %s\n' "${d#/proc/}" "$pp" "$st" "$se" "$nm"
  done
  echo L
}

# Stop everything at once: what forks is killed one by one only if it forks slower than that. Those of the PIDs that ran are
# kept in $held, since a job that a step had stopped must stay so.
hold() { # PID...
  held=
  for p; do
    read_stat $p || continue
    case $st in T | t) ;; *) held="$held $p" ;; esac
  done
  kill -STOP -1
}

crowd() {
  set -- /proc/[0-9]*
  [ $# -gt 32 ]
}

kill_others() { # the pids to keep, padded; looks at none of those it kills, since each look costs more than the kill
  victims=
  for d in /proc/[0-9]*; do
    p=${d#/proc/}
    case $1 in *" $p "*) ;; *) victims="$victims $p" ;; esac
  done
  [ -z "$victims" ] || kill -9 $victims 2>/dev/null
}

sweep() { # the pids to keep, and the sessions, of which nothing may be stopped and everything has to be looked at
  held= guests=
  case " $*" in *" s"*) guests=1 ;; esac
  if [ -z "$guests" ]; then
    crowd && hold "$@"
    kill_others " 1 $self $* "
  fi
  sweep_all "$@"
  [ -z "$held" ] || kill -CONT $held 2>/dev/null
}

sweep_all() {
  keep=" 1 $self $* " pass=0 total=0
  while [ $pass -lt 400 ]; do
    pass=$((pass + 1)) alive=0
    [ $pass -eq 4 ] && [ -z "$held$guests" ] && hold "$@"
    for d in /proc/[0-9]*; do
      p=${d#/proc/}
      case $keep in *" $p "*) continue ;; esac
      read_stat $p || continue
      case $st in Z | X) continue ;; esac
      case $keep in *" s$se "*) continue ;; esac
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

send() { # the signal, the pids; one that is gone is fine
  g=$1
  shift
  for p; do kill -"$g" "$p" 2>/dev/null; done
  echo K
}

listens() { # the port in four hex digits
  for f in /proc/net/tcp /proc/net/tcp6; do
    [ -r $f ] || continue
    while IFS=' ' read -r n lo re st rest; do
      case "$lo $st" in *":$1 0A") echo "N 1"; return ;; esac
    done <$f
  done
  echo "N 0"
}

IFS=' ' read -r self rest </proc/self/stat
echo "R $self"
while IFS= read -r line; do
  case $line in
    l) list ;;
    x*) IFS=' '; sweep ${line#x} ;;
    k*) IFS=' '; kill -9 ${line#k} 2>/dev/null ;;
    n*) new_file "${line#n }" ;;
    g*) give "${line#g }" ;;
    s*) IFS=' '; send ${line#s} ;;
    p*) listens "${line#p }" ;;
  esac
done
