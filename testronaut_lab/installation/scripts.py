"""The constant scripts that the rows of `strategies.py` run in the install container. They get names as arguments."""

from __future__ import annotations

# Prints the version of an installed Python package, in its environment.
PYTHON_VERSION = "import importlib.metadata as m, sys; print('installed', m.version(sys.argv[1]))"

# Prints the programs that the package itself brought, not those of its dependencies.
PYTHON_FILES = """
import importlib.metadata, os, sys
folder = os.path.join(sys.prefix, "bin")
for file in importlib.metadata.distribution(sys.argv[1]).files or ():
    path = os.path.normpath(str(file.locate()))
    if os.path.dirname(path) == folder:
        print(path)
"""

# Prints all packages in its environment.
PYTHON_PACKAGES = """
import importlib.metadata
for found in importlib.metadata.distributions():
    print("package", found.metadata["Name"], found.version)
"""

# Adds the environment's packages to the image's own python by a .pth file, and checks that it finds the package.
PYTHON_IMPORTING = """
import glob, os, site, subprocess, sys
home, name = sys.argv[1:]
[packages] = glob.glob(os.path.join(home, "lib", "python3*", "site-packages"))
folder = next(each for each in site.getsitepackages() if os.path.isdir(each) or each.startswith("/usr/local"))
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "testronaut-lab-" + os.path.basename(home) + ".pth"), "w") as file:
    file.write(packages + "\\n")
sys.exit(subprocess.call([sys.executable, "-c", "import importlib.metadata as m, sys; m.version(sys.argv[1])", name]))
"""

# Prints the version of the image's python, the processor and the version of glibc.
PYTHON_RUNTIME = """
import platform, sys
name, version = platform.libc_ver()
print("runtime", platform.python_version(), platform.machine(), version if name == "glibc" else "")
"""

# Prints the files of those dependencies of a Debian package whose names begin like its own name.
DEB_FAMILY = """
stem() { printf '%s' "$1" | sed 's/[-.0-9].*//'; }
needs() {
    dpkg-query -W -f '${Depends},${Pre-Depends}' "$1" 2>/dev/null | tr ',|' '\\n\\n' | sed 's/^ *//;s/[ (:].*//'
}
family=$(stem "$1") seen=" $1 " todo=$1
while [ -n "$todo" ]; do
    next=
    for package in $todo; do
        for name in $(needs "$package"); do
            case $seen in *" $name "*) continue ;; esac
            [ "$(stem "$name")" = "$family" ] || continue
            seen="$seen$name " next="$next $name"
            dpkg -L "$name" 2>/dev/null
        done
    done
    todo=$next
done
"""

# Prints the version of the one package at the top of the tool's folder: npm puts dependencies below the requested package.
NODE_VERSION = """
const fs = require("fs"), path = require("path"), top = path.join(process.argv[1], "lib", "node_modules");
const below = (folder) => fs.readdirSync(folder).filter((name) => !name.startsWith(".")).map((name) => path.join(folder, name));
const all = below(top).flatMap((each) => path.basename(each).startsWith("@") ? below(each) : [each]);
for (const each of all) console.log("installed " + JSON.parse(fs.readFileSync(path.join(each, "package.json"))).version);
"""

# Prints the version of the image's node, and the version that the package asks for.
NODE_RUNTIME = """
const fs = require("fs"), path = require("path"), top = path.join(process.argv[1], "lib", "node_modules");
const below = (folder) => fs.readdirSync(folder).filter((name) => !name.startsWith(".")).map((name) => path.join(folder, name));
const all = below(top).flatMap((each) => path.basename(each).startsWith("@") ? below(each) : [each]);
for (const each of all) {
  const engines = JSON.parse(fs.readFileSync(path.join(each, "package.json"))).engines || {};
  console.log("runtime " + process.version + " " + (engines.node || ""));
}
"""

# Prints the package and all packages below it, with the names in their manifests.
NODE_PACKAGES = """
const fs = require("fs"), path = require("path");
const names = (folder) => { try { return fs.readdirSync(folder); } catch (error) { return []; } };
const walk = (folder) => {
  for (const name of names(folder).filter((name) => !name.startsWith("."))) {
    const each = path.join(folder, name);
    if (name.startsWith("@")) { walk(each); continue; }
    try {
      const manifest = JSON.parse(fs.readFileSync(path.join(each, "package.json")));
      console.log("package " + manifest.name + " " + manifest.version);
    } catch (error) { continue; }
    walk(path.join(each, "node_modules"));
  }
};
walk(path.join(process.argv[1], "lib", "node_modules"));
"""

# Prints the packages of the system, from the package database that the image has.
SYSTEM_PACKAGES = """
if command -v dpkg-query >/dev/null; then
    dpkg-query -W -f '${db:Status-Status} dpkg ${binary:Package} ${Version}\\n' | while read -r status line; do
        [ "$status" = installed ] && printf '%s\\n' "$line"
    done
elif command -v rpm >/dev/null; then
    rpm -qa --qf 'rpm %{NAME} %{VERSION}-%{RELEASE}.%{ARCH}\\n'
elif [ -r /lib/apk/db/installed ]; then
    while IFS= read -r line; do
        case $line in P:*) name=${line#P:} ;; V:*) printf 'apk %s %s\\n' "$name" "${line#V:}" ;; esac
    done </lib/apk/db/installed
fi
true
"""

# Prints the executable files at the top of a folder and in its bin, for tools without a package manager.
EXECUTABLES = """
for path in "$1"/* "$1"/bin/*; do
    [ -f "$path" ] && [ -x "$path" ] && printf '%s\\n' "$path"
done
true
"""

# Prints executable files further down, if none is at the top.
NESTED = 'find "$1" -mindepth 2 -maxdepth 6 -type f -perm -100'

# Prints the image's processor, and the first bytes of a file in hex.
HEAD = """
uname -m
head -c 4096 "$1" | od -An -v -tx1
"""

# Runs a script; sh runs a script whose first line names no interpreter.
RUN_SCRIPT = """
read -r first <"$1"
case $first in '#!'*) exec "$1" "$2" ;; *) exec sh "$1" "$2" ;; esac
"""

# Finds a program on the PATH. `command -v` would find the shell's builtin kill, time or printf.
WHICH = """
case $1 in /*) [ -f "$1" ] && [ -x "$1" ] && printf '%s\\n' "$1"; exit ;; esac
IFS=:
for folder in $PATH; do
    [ -f "$folder/$1" ] && [ -x "$folder/$1" ] && printf '%s\\n' "$folder/$1" && exit
done
exit 1
"""

# Links programs into a folder of the PATH. Never replaces an existing file.
LINK = """
folder=/usr/local/bin
case :$PATH: in *:"$folder":*) ;; *) folder=${PATH%%:*} ;; esac
mkdir -p "$folder" || exit
for program do
    link=$folder/${program##*/}
    [ "$(readlink "$link")" = "$program" ] && continue
    if [ -e "$link" ] || [ -L "$link" ]; then echo "conflict: $link is there already" >&2; exit 1; fi
    ln -s "$program" "$link" || exit
done
"""

# Prints the shared libraries that a program needs and does not find; nothing if the image has no ldd.
MISSING_LIBRARIES = """
command -v ldd >/dev/null || exit 0
ldd "$1" 2>/dev/null | while read -r name arrow what rest; do
    [ "$arrow $what" = "=> not" ] && printf '%s\\n' "$name"
done
true
"""
