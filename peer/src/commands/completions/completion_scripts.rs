//! The scripts of `peer completions`, one for each shell.
//!
//! They read lines one by one: unquoted command substitution, as most such scripts have it, would expand `*` in the name
//! of a file that somebody shares.

/// For bash, from 3.2 on. It passes the line itself: its own words are split at `=` and `:` as well. `compopt` is missing
/// before 4.0.
pub(super) const BASH_SCRIPT: &str = r#"# Completion of peer for bash.
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
"#;

/// For zsh, as a file of `$fpath` or sourced.
pub(super) const ZSH_SCRIPT: &str = r#"#compdef peer
# Completion of peer for zsh.
_peer() {
    local kind line value
    local -a whole whole_shown open open_shown
    {
        IFS= read -r kind
        while IFS= read -r line; do
            value="${line%%$'\t'*}"
            if [[ "$value" == */ ]]; then
                open+=("$value") open_shown+=("${line/$'\t'/  -- }")
            else
                whole+=("$value") whole_shown+=("${line/$'\t'/  -- }")
            fi
        done
    } < <("${(Q)words[1]}" completions --of zsh -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    if [[ "$kind" == files ]]; then
        _files
        return
    fi
    (( ${#whole} )) && compadd -l -d whole_shown -a whole
    (( ${#open} )) && compadd -l -S '' -d open_shown -a open
    (( ${#whole} + ${#open} ))
}
if [[ "${funcstack[1]}" == _peer ]]; then
    _peer "$@"
else
    compdef _peer peer
fi
"#;

/// For fish, which escapes what it inserts.
pub(super) const FISH_SCRIPT: &str = r#"# Completion of peer for fish.
function __peer_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l reply ($words[1] completions --of fish -- $words "$current" 2>/dev/null)
    if test "$reply[1]" = files
        __fish_complete_path "$current"
    else if set -q reply[2]
        printf '%s\n' $reply[2..-1]
    end
end
complete --command peer --no-files --keep-order --arguments '(__peer_complete)'
"#;
