# Completion of peer for bash.
_peer_complete() {
    local kind word line
    COMPREPLY=()
    # COMP_POINT counts bytes.
    line="$(LC_ALL=C; printf '%s' "${COMP_LINE:0:COMP_POINT}")"
    {
        IFS= read -r kind
        while IFS= read -r word; do
            COMPREPLY[${#COMPREPLY[@]}]="$word"
        done
    } < <("$1" completions --of bash -- "$line" 2>/dev/null)
    if [ "$kind" = files ]; then
        compopt -o filenames -o default 2>/dev/null
    elif [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[/=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _peer_complete peer
