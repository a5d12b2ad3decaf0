#!/bin/sh
# What a server was given, as text: `=== NAME` and then the value, for each thing.
# probe answer             to the client
# probe datagram FILE      takes a datagram, then writes to FILE
# probe accept FILE        writes to FILE, then accepts one client
# Further arguments are only looked at. Everything comes from /proc, where it stands as it was at the start. Another
# process looks, so that this one's descriptors stay as they are; but its state is read before anything is forked,
# which blocks signals for a moment.

look() { # PID STATUS FILE
    me=/proc/$1
    [ -z "$3" ] || exec >"$3.new" 2>&1
    printf '=== status\n%s\n' "$2"
    echo '=== descriptors'
    ls -l "$me/fd"
    grep flags "$me/fdinfo/0" "$me/fdinfo/1" "$me/fdinfo/2"
    for item in cmdline environ stat limits; do
        echo "=== $item"
        cat "$me/$item"
        echo
    done
    echo '=== places'
    readlink "$me/cwd" "$me/root"
    echo '=== pid'
    echo "$1"
    [ -z "$3" ] || mv "$3.new" "$3"
    exit 0
}

[ "$1" = look ] && look "$2" "$3" "$4"
mode=$1 file=$2 probe=$0 status=
[ "$mode" = answer ] && file=
while IFS= read -r line; do
    status="$status$line
"
done </proc/$$/status
[ "$mode" = datagram ] && dd bs=2048 count=1 of=/dev/null 2>/dev/null
sh "$probe" look $$ "$status" "$file"
[ "$mode" = accept ] && exec python3 -c 'import socket; socket.socket(fileno=0).accept()'
exit 0
