//! Which client certificates the tracker takes, as the protocol's specification says.

use std::path::Path;
use std::process::Command;

use tests::Lab;

/// Connects with the certificate over TLS and asks for an account: the reply's code, or "refused" for a handshake
/// that fails.
const CLIENT: &str = r#"
import json, socket, ssl, sys
host, port, certificate, key, user = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(certificate, key)
try:
    with context.wrap_socket(socket.create_connection((host, int(port)), timeout=30)) as stream:
        stream.sendall(json.dumps({"action": "REGISTER", "user": user, "password": "x"}).encode())
        print(json.loads(stream.makefile().readline())["code"])
except (ssl.SSLError, ConnectionError) as why:
    print("refused", why, file=sys.stderr)
    print("refused")
"#;

fn made(folder: &Path, args: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]);
    let made = openssl.args(["-days", "3650", "-subj", "/CN=vizinho"]).args(args).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{args:?}: {}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn certificates_are_taken_as_the_specification_says() {
    const NO_AUTHORITY: [&str; 2] = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let ed25519 = ["-newkey", "ed25519"];
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let usage = |usage: &'static str| [&ed25519[..], &NO_AUTHORITY, &["-addext", usage]].concat();
    let lab = Lab::start();
    let (host, port) = lab.address().rsplit_once(':').unwrap();
    for (number, (args, expected)) in [
        ([&ed25519[..], &NO_AUTHORITY].concat(), "ok"),
        ([&p256[..], &NO_AUTHORITY].concat(), "ok"),
        ([&["-newkey", "rsa:2048"][..], &NO_AUTHORITY].concat(), "ok"),
        (usage("extendedKeyUsage=clientAuth,serverAuth"), "ok"),
        (usage("extendedKeyUsage=clientAuth"), "refused"),
        // What openssl makes unless told otherwise is an authority.
        (ed25519.to_vec(), "refused"),
    ]
    .into_iter()
    .enumerate()
    {
        made(lab.path(), &args);
        let user = format!("user{number}");
        let asked = Command::new("python3")
            .args(["-c", CLIENT, host, port, "cert.pem", "key.pem", &user])
            .current_dir(lab.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&asked.stdout);
        assert_eq!(said.trim_end(), expected, "{args:?}: {}", String::from_utf8_lossy(&asked.stderr));
    }
}
