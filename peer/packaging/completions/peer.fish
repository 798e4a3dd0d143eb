# Completion of peer for fish.
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
