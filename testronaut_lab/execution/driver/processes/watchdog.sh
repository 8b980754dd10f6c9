# Runs as root beside the keeper, with builtins only: it must work when not one more process can be started.
# Commands on stdin: `l` lists processes, `x PID... sSESSION...` kills all but PID 1, itself and those named, `k PID...` kills
# those named, `s SIGNAL PID...` sends a signal (to a group, if the number is negative), `p HEX` asks whether a TCP port is
# listened on, `n FILE` makes a file that steps can write, `g FILE` gives what is in it. For a host with another process table:
# `e PID` asks whether a process runs, `z` tells PID 1's children that do not, `o PID...` all processes but those, PID 1 and itself,
# `f PID` lists what one holds open, `c PID` gives its directory, `d PID DIR` asks whether it is that one, `i FILE` tells what a file
# is. Answers on stdout; `k` has none.

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

runs() { # PID: one that has ended has no program
  if [ -e "/proc/$1/exe" ]; then echo "N 1"; else echo "N 0"; fi
}

zombies() {
  l= found=
  IFS= read -r l </proc/1/task/1/children
  IFS=' '
  for p in $l; do [ -e "/proc/$p/exe" ] || found="$found $p"; done
  echo "N$found"
}

others() { # PID...
  keep=" 1 $self $* " found=
  for d in /proc/[0-9]*; do
    case $keep in *" ${d#/proc/} "*) ;; *) found="$found ${d#/proc/}" ;; esac
  done
  echo "N$found"
}

is_file() { # FILE: the mount and the number of the file in $mn and $in
  mn= in=
  { while read -r a b; do case $a in mnt_id:) mn=$b ;; ino:) in=$b ;; esac; done </proc/self/fdinfo/8; } 8<"$1"
}

# Of each descriptor: its number, pipe, socket, character device or other, flags, mount, number of the file, whether it has a lock.
descriptors() { # PID
  for d in /proc/$1/fd/*; do
    [ -L "$d" ] || continue
    k=o fl= mn= in= lo=0
    if [ -p "$d" ]; then k=p; elif [ -S "$d" ]; then k=s; elif [ -c "$d" ]; then k=c; elif [ -f "$d" ] || [ -d "$d" ]; then k=f; fi
    while IFS=' 	' read -r a b; do
      case $a in flags:) fl=$b ;; mnt_id:) mn=$b ;; ino:) in=$b ;; lock:) lo=1 ;; esac
    done <"/proc/$1/fdinfo/${d##*/}"
    echo "D ${d##*/} $k $fl $mn $in $lo"
  done 2>/dev/null
  echo E
}

directory() { # PID: no lines for one that is gone, or whose directory is
  { cd -P "/proc/$1/cwd" && l=$PWD && [ -n "$l" ] && [ . -ef "$l" ] || l=; } 2>/dev/null
  cd /
  while [ -n "$l" ]; do
    printf 'G%s\n' "${l%%"$nl"*}"
    case $l in *"$nl"*) l=${l#*"$nl"} ;; *) break ;; esac
  done
  echo E
}

is_in() { # PID DIR
  if [ "/proc/$1/cwd" -ef "$2" ]; then echo "N 1"; else echo "N 0"; fi
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

nl='
'
IFS=' ' read -r self rest </proc/self/stat
echo "R $self"
while IFS= read -r line; do
  case $line in
    l) list ;;
    x*) IFS=' '; sweep ${line#x} ;;
    k*) IFS=' '; kill -9 ${line#k} 2>/dev/null ;;
    n*) new_file "${line#n }" ;;
    g*) give "${line#g }" ;;
    e*) runs "${line#e }" ;;
    z) zombies ;;
    o*) IFS=' '; others ${line#o} ;;
    f*) descriptors "${line#f }" ;;
    c*) directory "${line#c }" ;;
    d*) line=${line#d }; is_in "${line%% *}" "${line#* }" ;;
    i*) { is_file "${line#i }"; } 2>/dev/null; echo "N $mn $in" ;;
    s*) IFS=' '; send ${line#s} ;;
    p*) listens "${line#p }" ;;
  esac
done
