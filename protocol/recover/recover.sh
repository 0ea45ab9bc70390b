#!/bin/sh
# Restores every stream of this snapshot with stock tools. Read RECOVER.md first.
# Needs: a POSIX shell with the usual small tools (coreutils or busybox), age, zstd.
set -u
umask 077
LC_ALL=C
export LC_ALL

usage='usage: sh recover.sh IDENTITY_FILE OUT_DIR [CAPSULE_FILE]

IDENTITY_FILE  your age (or ssh) identity; `-` if the snapshot is sealed with a passphrase
OUT_DIR        a new or empty directory, which is filled with a tar or an SQL script per source
CAPSULE_FILE   the capsule, if it is not in this folder (erasable snapshots); or set CAPSULE

Exit codes: 0 all restored, 1 failed, 2 usage, 3 some of it is missing or damaged.'

say() { printf '%s\n' "$*" >&2; }
die() {
    say "Error: $1"
    if [ $# -gt 1 ]; then say "Hint: $2"; fi
    exit 1
}
refuse() { die "the manifest is malformed: $1" 'nothing was restored; was this snapshot made by a later version?'; }

# is_number TEXT: whether it is a decimal number that any shell can count with.
is_number() {
    case $1 in
        '' | *[!0-9]* | 0?*) return 1 ;;
    esac
    [ "${#1}" -le 18 ]
}

# is_cid TEXT: whether it is the CID of a raw SHA-256 block, and so safe in a path.
is_cid() {
    case $1 in
        bafkrei*[!a-z2-7]*) return 1 ;;
        bafkrei*) [ "${#1}" -eq 59 ] ;;
        *) return 1 ;;
    esac
}

# is_file TEXT: whether it is a plain file name that is safe to write.
is_file() {
    case $1 in
        '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]* | load.sh | *.part) return 1 ;;
    esac
    [ "${#1}" -le 128 ]
}

# field NAME JSON: prints a numeric field of compact JSON. Quotes inside of JSON strings are
# escaped, so `"NAME":` stands nowhere but at the field.
field() {
    case $2 in
        *"\"$1\":"*) ;;
        *) return 1 ;;
    esac
    value=${2#*"\"$1\":"}
    value=${value%%[!0-9]*}
    is_number "$value" && printf '%s\n' "$value"
}

# cid_of FILE: sets `cid_found` to the CID of its bytes: base32 of 01 55 12 20 and the SHA-256.
cid_of() {
    case $hasher in
        sha256sum) digest=$(sha256sum <"$1") ;;
        shasum) digest=$(shasum -a 256 <"$1") ;;
        *) return 1 ;;
    esac || return 1
    hex=01551220${digest%% *}000
    cid_found=b
    set -- a b c d e f g h i j k l m n o p q r s t u v w x y z 2 3 4 5 6 7
    while [ -n "$hex" ]; do
        rest=${hex#?????}
        bits=$((0x${hex%"$rest"}))
        hex=$rest
        eval "cid_found=\$cid_found\${$((bits / 32768 + 1))}\${$((bits / 1024 % 32 + 1))}"
        eval "cid_found=\$cid_found\${$((bits / 32 % 32 + 1))}\${$((bits % 32 + 1))}"
    done
    # 60 digits were made, of which the last two are filling.
    cid_found=${cid_found%??}
}

# unseal FILE LEN_MAX OUT: decrypts and decompresses one sealed object; says why not in `why`.
unseal() {
    if ! "$age" -d -i "$ids" -o "$work/frame" "$1" 2>"$work/err" </dev/null; then
        why='age cannot open it'
        while read -r line; do
            why="$why (${line#age: })"
            break
        done <"$work/err"
        return 1
    fi
    rm -f "$work/failed"
    { zstd -q -d -c <"$work/frame" 2>/dev/null || : >"$work/failed"; } | head -c $(($2 + 1)) >"$3" ||
        die "cannot write to $work" 'is the disk full? set TMPDIR to a directory with room'
    size=$(wc -c <"$3")
    if [ "$size" -gt "$2" ]; then
        why="it holds more than $2 bytes"
        return 1
    elif [ -e "$work/failed" ]; then
        why='zstd cannot decompress it'
        return 1
    fi
}

# fetch CID LEN OUT: opens the sealed object of that name; it must hold LEN bytes.
fetch() {
    object=$here/s/${1#"${1%??}"}/$1
    if [ ! -f "$object" ]; then
        why='it is missing'
        return 1
    fi
    if [ -n "$hasher" ]; then
        if ! cid_of "$object"; then
            why='it cannot be read'
            return 1
        elif [ "$cid_found" != "$1" ]; then
            why='its bytes were changed'
            return 1
        fi
    fi
    unseal "$object" "$2" "$3" || return 1
    if [ "$size" -ne "$2" ]; then
        why="it holds $((size)) bytes, not $2"
        return 1
    fi
}

# damaged WHAT: reports damage of the current stream, and remembers it.
damaged() {
    say "Damaged: stream $number ($file): $1: $why"
    damage=$((damage + 1))
    : >"$work/damaged-$file"
}

# append FILE: adds it to the file of the current stream.
append() {
    cat "$1" >>"$out/$file.part" || die "cannot write $out/$file.part" 'is the disk full?'
}

# lost WHAT LEN: reports LEN bytes of the current stream as damaged.
lost() {
    damaged "$1"
    # Zeros keep the rest of a tar in its place; of a table, rows are left out.
    case $file in
        *.tar) head -c "$2" /dev/zero >>"$out/$file.part" || die "cannot write $out/$file.part" 'is the disk full?' ;;
    esac
}

# check_list SEGMENTS BYTES: whether the list that was fetched is well-formed and holds that much.
check_list() {
    line=0
    sum=0
    while read -r cid len rows hash more <&4; do
        line=$((line + 1))
        if ! is_cid "$cid" || ! is_number "$len" || ! is_number "$rows" || [ -z "$hash" ] || [ -n "$more" ]; then
            why="line $line is malformed"
            return 1
        fi
        sum=$((sum + len))
    done 4<"$work/list"
    if [ "$line" -ne "$1" ] || [ "$sum" -ne "$2" ]; then
        why="it has $line segments of $sum bytes, not $1 of $2"
        return 1
    fi
}

# restore_list CID LEN SEGMENTS BYTES: appends all segments of one list to the current stream.
restore_list() {
    if ! fetch "$1" "$2" "$work/list" || ! check_list "$3" "$4"; then
        lost "list $1 ($3 segments, $4 bytes)" "$4"
        return
    fi
    while read -r cid len rows hash <&4; do
        if fetch "$cid" "$len" "$work/piece"; then
            append "$work/piece"
        else
            lost "segment $cid ($len bytes, $rows rows)" "$len"
        fi
    done 4<"$work/list"
}

# end_stream: refuses a stream that is longer or shorter than its lists.
end_stream() {
    [ "$bytes" -eq 0 ] || refuse "the lists before line $line have another length than their stream"
}

# check_manifest: refuses what must not be acted on, and counts the streams.
check_manifest() {
    streams=0
    sources=0
    line=0
    bytes=0
    while read -r word a b c d more <&3; do
        line=$((line + 1))
        case $line:$word in
            1:souverain)
                case "$a $b $c" in
                    'manifest 1 ') ;;
                    *) die 'the snapshot is of another format version' 'get the program that RECOVER.md names' ;;
                esac
                ;;
            1:*) refuse 'its first line' ;;
            2:snapshot) ;;
            *:source)
                # Only the start of the JSON is looked at, up to its first space.
                case $a in
                    '{"engine":"tree",'*) eval "engine_$sources=tar" ;;
                    '{"engine":"sqlite",'*) eval "engine_$sources=sqlite" ;;
                    '{"engine":"postgres",'*) eval "engine_$sources=postgres" ;;
                    *) eval "engine_$sources=unknown" ;;
                esac
                sources=$((sources + 1))
                ;;
            *:stream)
                end_stream
                { is_number "$a" && [ "$a" -eq "$streams" ]; } || refuse "the number in line $line"
                is_file "$b" || refuse "the file name in line $line"
                bytes=$(field bytes "$c $d $more") || refuse "the length in line $line"
                source=$(field source "$c $d $more") || refuse "the source in line $line"
                [ "$source" -lt "$sources" ] || refuse "the source in line $line"
                streams=$((streams + 1))
                ;;
            *:list)
                if [ "$streams" -eq 0 ] || ! is_cid "$a" || [ -n "$more" ] ||
                    ! is_number "$b" || ! is_number "$c" || ! is_number "$d"; then
                    refuse "the list in line $line"
                fi
                bytes=$((bytes - d))
                ;;
            *) refuse "the keyword in line $line" ;;
        esac
    done 3<"$work/manifest"
    end_stream
    if [ "$line" -lt 2 ] || [ -n "$(tail -c 1 "$work/manifest")" ]; then
        refuse 'it ends early'
    fi
}

# restore: writes all streams to FILE.part.
restore() {
    damage=0
    while read -r word a b c d more <&3; do
        case $word in
            stream)
                number=$a
                file=$b
                source=$(field source "$c $d $more")
                say "stream $((number + 1)) of $streams: $file, $(field bytes "$c $d $more") bytes"
                if [ ! -e "$out/$file.part" ]; then
                    eval "printf '%s\\n' \"\$engine_$source\"" >"$work/engine-$file"
                    printf '%s\n' "$file" >>"$work/files"
                fi
                : >>"$out/$file.part" || die "cannot write $out/$file.part"
                ;;
            list) restore_list "$a" "$b" "$c" "$d" ;;
        esac
    done 3<"$work/manifest"
}

# finish: gives the complete files their names, and says how to load them.
finish() {
    : >>"$work/files"
    write_load_sh >"$out/load.sh" || die "cannot write $out/load.sh"
    while read -r file <&3; do
        if [ -e "$work/damaged-$file" ]; then
            printf '%s\n' "$out/$file.part  incomplete"
            continue
        fi
        mv "$out/$file.part" "$out/$file" || die "cannot rename $out/$file.part"
        read -r engine <"$work/engine-$file"
        case $engine in
            tar) printf '%s\n' "sh $out/load.sh tar $file NEW_DIRECTORY" ;;
            sqlite) printf '%s\n' "sh $out/load.sh sqlite $file NEW_DATABASE.db" ;;
            postgres) printf '%s\n' "sh $out/load.sh postgres $file CONNECTION" ;;
            *) printf '%s\n' "$out/$file  of a kind that this script does not know" ;;
        esac
    done 3<"$work/files"
}

write_load_sh() {
    cat <<'LOAD'
#!/bin/sh
# Loads what recover.sh restored, with stock clients.
set -u
umask 077

usage='usage: sh load.sh tar FILE.tar DIRECTORY          extracts it into a new or empty directory
       sh load.sh sqlite FILE.sql DATABASE.db     makes a new SQLite database
       sh load.sh postgres FILE.sql CONNECTION    fills an empty PostgreSQL database

FILE is looked for beside this script. CONNECTION is what psql takes: a name or a URL.
Keep passwords out of it: PGPASSFILE and PGPASSWORD work.'

die() {
    printf 'Error: %s\n' "$1" >&2
    exit 1
}
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is not installed"; }

if [ $# -ne 3 ]; then
    printf '%s\n' "$usage" >&2
    exit 2
fi
case $0 in
    */*) here=${0%/*} ;;
    *) here=. ;;
esac
file=$here/${2##*/}
target=$3
case $target in
    -*) target=./$target ;;
esac
case $file in
    *.part) die "$file is incomplete; rename it if you want what there is of it" ;;
esac
[ -f "$file" ] || die "$file is not there"

case $1 in
    tar)
        need tar
        mkdir -p "$target" || exit 1
        [ -z "$(ls -A "$target")" ] || die "$target is not empty"
        # GNU tar leaves extended attributes out unless it is told otherwise.
        case $(tar --version 2>/dev/null) in
            *'GNU tar'*) tar -x -p --xattrs '--xattrs-include=*' -f "$file" -C "$target" ;;
            *) tar -x -p -f "$file" -C "$target" ;;
        esac
        ;;
    sqlite)
        need sqlite3
        [ ! -e "$target" ] || die "$target exists"
        if ! sqlite3 -batch -bail "$target" <"$file"; then
            rm -f "$target" "$target-journal" "$target-wal" "$target-shm"
            die "$file could not be loaded; $target was removed"
        fi
        ;;
    postgres)
        need psql
        psql -X -q -v ON_ERROR_STOP=1 -1 -f "$file" -d "$3" >/dev/null
        ;;
    *)
        printf '%s\n' "$usage" >&2
        exit 2
        ;;
esac
LOAD
}

case ${1-} in
    -h | --help)
        printf '%s\n' "$usage"
        exit 0
        ;;
esac
if [ $# -lt 2 ] || [ $# -gt 3 ] || [ -z "$1" ] || [ -z "$2" ]; then
    say "$usage"
    exit 2
fi
identity=$1
out=$2
capsule=${3:-${CAPSULE:-}}
case $0 in
    */*) here=${0%/*} ;;
    *) here=. ;;
esac
case $identity in
    -?*) identity=./$identity ;;
esac
case $out in
    -*) out=./$out ;;
esac
case $capsule in
    -*) capsule=./$capsule ;;
esac

age=${AGE:-age}
for tool in "$age" zstd mktemp head tail wc cat mv rm ls mkdir; do
    command -v "$tool" >/dev/null 2>&1 ||
        die "$tool is not installed" 'age: https://age-encryption.org (Debian: apt install age), zstd: https://zstd.net (apt install zstd)'
done
hasher=
for tool in sha256sum shasum; do
    if command -v "$tool" >/dev/null 2>&1; then
        hasher=$tool
        break
    fi
done
[ -n "$hasher" ] || say 'Note: neither sha256sum nor shasum is installed; the bytes are not checked against their CIDs.'

[ -f "$here/manifest.age" ] || die "$here/manifest.age is not there" 'run recover.sh in the folder of a snapshot, all of which was fetched'
if [ -z "$capsule" ] && [ -f "$here/capsule.age" ]; then
    capsule=$here/capsule.age
fi
if [ -n "$capsule" ]; then
    [ -f "$capsule" ] || die "$capsule is not there"
elif [ "$identity" = - ]; then
    die 'there is no capsule in this folder' 'this snapshot is erasable: give the capsule file of the node that made it as third argument'
fi
[ "$identity" = - ] || [ -r "$identity" ] || die "cannot read $identity"
mkdir -p "$out" || exit 1
[ -z "$(ls -A "$out")" ] || die "$out is not empty" 'name a new directory'

# The class identities are kept in memory where there is a file system for that.
if [ -z "${TMPDIR:-}" ] && [ -d /dev/shm ] && [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/recover.XXXXXX") || die 'cannot make a temporary directory' 'set TMPDIR'
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -n "$capsule" ]; then
    ids=$work/ids
    if [ "$identity" = - ]; then
        "$age" -d -o "$ids" "$capsule"
    else
        "$age" -d -i "$identity" -o "$ids" "$capsule"
    fi || die "cannot open $capsule" 'is this identity one of the recipients of the snapshot? (age1pq keys need age 1.3)'
    read -r line <"$ids" || line=
    case $line in
        '# souverain capsule 1') ;;
        '# souverain capsule '*) die 'the capsule is of another format version' ;;
        *) die 'the capsule holds something else' ;;
    esac
else
    ids=$identity
fi

if ! unseal "$here/manifest.age" 67108864 "$work/manifest"; then
    die "cannot open $here/manifest.age: $why" 'is it damaged, or is the snapshot erasable and this not its capsule?'
fi
check_manifest
restore
finish
if [ "$damage" -gt 0 ]; then
    say "$damage parts are missing or damaged; the files they belong to are named .part. See RECOVER.md."
    exit 3
fi
say "All $streams streams are restored in $out. The lines on stdout load them."
