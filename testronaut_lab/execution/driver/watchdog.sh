# Runs as root beside the keeper, with builtins only: it must work when not one more process can be started.
# Commands on stdin: `l` lists processes, `x PID... sSESSION...` kills all but PID 1, itself and those named,
# `k SIGNAL PID...` sends a signal (to a group, if the number is negative), `n HEX` asks whether a TCP port is listened on.
# Answers on stdout.

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

sweep() { # the pids to keep, and the sessions
  keep=" 1 $self $* " pass=0 total=0
  while [ $pass -lt 400 ]; do
    pass=$((pass + 1)) alive=0
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
    k*) IFS=' '; send ${line#k} ;;
    n*) listens "${line#n }" ;;
  esac
done
