# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tracker_global_optspecs
    string join \n config= listen= data-dir= store= legacy-ttl= no-legacy-auth max-connections= max-connections-per-ip= rate-limit-logins= rate-limit-registrations= registration= trusted-door= allow-announce= max-catalogue-mib= metrics= no-mdns lang= log= log-format= h/help V/version
end

function __fish_tracker_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tracker_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tracker_using_subcommand
    set -l cmd (__fish_tracker_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tracker -n "__fish_tracker_needs_command" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_needs_command" -l listen -d 'Address and port to listen on, or several; port 0 takes any free one; sockets that systemd hands over come first' -r
complete -c tracker -n "__fish_tracker_needs_command" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_needs_command" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_needs_command" -l legacy-ttl -d 'How long a user of the exercise\'s clients stays listed without a request' -r
complete -c tracker -n "__fish_tracker_needs_command" -l max-connections -d 'Most connections at a time' -r
complete -c tracker -n "__fish_tracker_needs_command" -l max-connections-per-ip -d 'Most connections from one IP address at a time [default: 1024; from this machine itself as many as --max-connections]' -r
complete -c tracker -n "__fish_tracker_needs_command" -l rate-limit-logins -d 'Wrong passwords a minute for one user from one IP address, and fifty times as many for all users from there; 2.5 times that at once; 0 for no limit' -r
complete -c tracker -n "__fish_tracker_needs_command" -l rate-limit-registrations -d 'Registrations a minute from one IP address; five times that at once, and twenty times that a day; 0 for no limit' -r
complete -c tracker -n "__fish_tracker_needs_command" -l registration -d 'Who may make an account: everybody, or only the administrator with `tracker user add`' -r -f -a "open\t''
closed\t''"
complete -c tracker -n "__fish_tracker_needs_command" -l trusted-door -d 'Key of a machine through which many people come, or of several: the people behind it are counted each for themselves' -r
complete -c tracker -n "__fish_tracker_needs_command" -l allow-announce -d 'Addresses beyond the local network at which peers may be found, or several: `peer serve --announce` names them' -r
complete -c tracker -n "__fish_tracker_needs_command" -l max-catalogue-mib -d 'Memory that the list of all users\' files may take; the fuller it is, the less one user or address may have of it' -r
complete -c tracker -n "__fish_tracker_needs_command" -l metrics -d 'Serve /metrics (Prometheus) and /healthz over HTTP there; a port alone is on 127.0.0.1' -r
complete -c tracker -n "__fish_tracker_needs_command" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_needs_command" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_needs_command" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_needs_command" -l no-legacy-auth -d 'Don\'t let the IP address that logged in speak for a user of the exercise\'s clients'
complete -c tracker -n "__fish_tracker_needs_command" -l no-mdns -d 'Don\'t announce the tracker on the local network (mDNS)'
complete -c tracker -n "__fish_tracker_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_needs_command" -s V -l version -d 'Print version'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "user" -d 'List, make, change and remove accounts'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "room" -d 'List and delete rooms'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "status" -d 'Show how the running tracker does'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "backup" -d 'Write everything that the tracker keeps to a new file, while it runs: accounts, rooms, key, who is online'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "restore" -d 'Put a backup into the data folder, while no tracker runs on it'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "new" -d 'Begin anew without the key or the accounts when they are lost for good, while no tracker runs on it'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "identity" -d 'Show the fingerprint of the tracker\'s key, or carry the key to another tracker of the same database'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "migrate" -d 'Copy all accounts and rooms from a data folder to an empty PostgreSQL database, or back, while no tracker runs on either'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "export" -d 'Write users or peers as the JSON files of the original exercise'
complete -c tracker -n "__fish_tracker_needs_command" -f -a "config" -d 'Print the effective configuration and where each value comes from'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -f -a "list" -d 'Show all accounts, whether they are online, and their keys'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -f -a "add" -d 'Make an account; without --password-file its password is made up and printed, to be handed on as an invitation'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -f -a "remove" -d 'Remove an account; its sessions end, and it leaves its rooms'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -f -a "reset-password" -d 'Give an account another password; without --password-file it is made up and printed; its sessions end'
complete -c tracker -n "__fish_tracker_using_subcommand user; and not __fish_seen_subcommand_from list add remove reset-password unbind" -f -a "unbind" -d 'Release an account from its machine: the next login ties it to another; its sessions end, and it leaves its rooms'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -l json -d 'As one JSON list'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l password-file -d 'File with the password; `-` is standard input' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l password-file -d 'File with the password; `-` is standard input' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from reset-password" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand user; and __fish_seen_subcommand_from unbind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -f -a "list" -d 'Show all rooms, their owners, and how many members they have'
complete -c tracker -n "__fish_tracker_using_subcommand room; and not __fish_seen_subcommand_from list delete" -f -a "delete" -d 'End a room: its members are told, and its name is free'
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -l json -d 'As one JSON list'
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand room; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand status" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand status" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand status" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand status" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand status" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand status" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand status" -l json -d 'As one JSON object'
complete -c tracker -n "__fish_tracker_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand backup" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand restore" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand new" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand new" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand new" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand new" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand new" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand new" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand new" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -f -a "export" -d 'Write the secret key to a new file that only its owner may read'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and not __fish_seen_subcommand_from export import" -f -a "import" -d 'Make an exported key this tracker\'s own, while none runs on the data folder'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -l replace -d 'Put another key that is there aside; everybody who knows the tracker by it has to trust it again'
complete -c tracker -n "__fish_tracker_using_subcommand identity; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l from -d 'Where they are: a data folder, or the address of a database' -r
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l to -d 'Where they are to be' -r
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand export" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand export" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand export" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand export" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand export" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand export" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tracker -n "__fish_tracker_using_subcommand config" -l config -d 'Read options from this TOML file; each long option is a key there, the command line comes first' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand config" -l data-dir -d 'Folder for accounts and the tracker\'s key, made if it isn\'t there [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]' -r -F
complete -c tracker -n "__fish_tracker_using_subcommand config" -l store -d 'Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE' -r
complete -c tracker -n "__fish_tracker_using_subcommand config" -l lang -d 'The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]' -r
complete -c tracker -n "__fish_tracker_using_subcommand config" -l log -d 'How much to log: off, error, warn, info, debug or trace' -r
complete -c tracker -n "__fish_tracker_using_subcommand config" -l log-format -d 'In what form to log' -r -f -a "text\t'One line for people'
json\t'One JSON object a line'"
complete -c tracker -n "__fish_tracker_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
